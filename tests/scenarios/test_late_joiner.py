"""A runtime's configuration is set for a group; a device that joins it later gets the models and not the configuration.

That is Greengrass's doing (a configuration update that is repeated restarts a component on Lite), and it is said.
"""

import pytest

from tests.scenarios.installation import PACE, Installation, Station, wait_for

pytestmark = pytest.mark.slow

LACKS = "/heartbeat_s, /probation_s, /window_s"


def test_who_joins_later_serves_and_is_named_as_not_configured(installation: Installation, station: Station) -> None:
    process_id = station.heartbeat().process_id
    version = installation.publish()
    station.change_to(version)
    assert station.heartbeat().process_id == process_id, "a rollout restarts nobody for the configuration's sake"
    work = installation.world.start_device("station-late", [station.group], PACE, {})
    late = Station(installation, "station-late", work)
    late.wait_reported(version)
    assert late.heartbeat().configuration is not None
    wait_for(lambda: LACKS in late.in_the_cloud()["status_sentence"], "the difference to be said")
    assert late.in_the_cloud()["status"] == "ok", "it serves"
    assert station.in_the_cloud()["status_sentence"] == "Serves what is wanted."
