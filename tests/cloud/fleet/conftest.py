from collections.abc import Iterator
from pathlib import Path

import pytest

from cloud.fleet.database import Database


@pytest.fixture
def database(tmp_path: Path) -> Iterator[Database]:
    opened = Database(tmp_path / "fleet.db")
    yield opened
    opened.close()
