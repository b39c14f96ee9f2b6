"""One installation for all scenarios of a module, and one station in it that serves a first version."""

from collections.abc import Iterator

import pytest

from tests.scenarios.installation import Installation, Station, installed


@pytest.fixture(scope="module")
def installation(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Installation]:
    with installed(tmp_path_factory.mktemp("installation") / "world") as made:
        yield made


@pytest.fixture(scope="module")
def station(installation: Installation) -> Station:
    made = installation.start_station("station-ewr")
    made.install(installation.publish())
    return made
