"""A model is retired on a device: it serves no more, its neighbour serves on, and neither a reboot nor an older version, nor
a nucleus that only claims to have run the removal, brings it back.
"""

from typing import Any

import pytest

from edge_component.client import Client
from edge_component.client.errors import ClientError
from simulator.processes import CommandFailedError
from tests.cloud.publishing.conftest import write_compilation
from tests.scenarios.installation import LINEAR, ROW, Installation, Station, wait_for

pytestmark = pytest.mark.slow

ABSENT = 4
"""Exit code where what is named is not there."""


def undeploy(station: Station, *options: str) -> Any:
    return station.installation.world.edgewright("undeploy", "linear", "--from", station.group, *options)


def held(station: Station) -> list[str]:
    return [model.active.name for model in station.heartbeat().models]


def neighbour(installation: Installation) -> None:
    """Publish another model, which shares nothing with ``linear`` but the device."""
    folder = write_compilation(installation.world.folder / "other", slope=5.0, model_name="other")
    installation.world.edgewright("publish", str(folder), "--version", "1.0.0")


def ask(station: Station, name: str) -> float:
    with Client(station.work / "infer.sock", deadline_s=5.0) as client:
        return float(client.infer(name, {"x": ROW}).outputs["y"][0, 0])


def test_a_retired_model_is_gone_and_stays_gone(installation: Installation, station: Station) -> None:
    neighbour(installation)
    station.deploy("1.0.0", "--wait", model="other")
    first, process_id = station.serving(), station.heartbeat().process_id
    second = installation.publish()
    station.change_to(second)
    told = undeploy(station, "--wait")
    assert [device["status"] for device in told["devices"]] == ["SUCCEEDED"]
    assert station.log(LINEAR).splitlines()[-1] == f"edgewright: {LINEAR} 0.0.1 deactivated"
    assert held(station) == ["other"]
    with pytest.raises(ClientError):
        station.serving()
    assert ask(station, "other") == 30.0
    assert station.heartbeat().process_id == process_id, "no restart"
    wait_for(lambda: "Retired here: linear." in station.in_the_cloud()["status_sentence"], "health to show it")
    assert station.in_the_cloud()["status"] == "ok"
    assert "deactivated" in station.outcomes(second)
    again = undeploy(station, "--wait")
    assert again["deployments"][0]["is_new"] is False
    station.nucleus("power-off")
    station.nucleus("power-on")
    wait_for(lambda: station.component().get("state") == "RUNNING", "the removal to have run again")
    assert station.log(LINEAR).splitlines()[-1] == f"edgewright: {LINEAR} 0.0.1 already-gone"
    wait_for(lambda: held(station) == ["other"], "the runtime to be back")
    assert ask(station, "other") == 30.0
    assert "older-release" in station.fail_to_change_to(first) + station.log(LINEAR), "its floor has outlived it"
    assert held(station) == ["other"]
    station.change_to(second)
    assert station.serving() == second


def test_a_removal_that_only_claims_to_have_run_is_found_and_repaired(station: Station) -> None:
    station.nucleus("surprise", daemon_dies_after="record")
    told = undeploy(station, "--wait")
    assert [device["status"] for device in told["devices"]] == ["SUCCEEDED"], "Greengrass's word"
    assert sorted(held(station)) == ["linear", "other"], "the truth"
    wait_for(lambda: held(station) == ["other"], "the repair")
    wait_for(lambda: station.in_the_cloud()["status"] == "ok", "all to be well again")
    assert station.events("repair")[-1]["sentence"].endswith(f"because {station.name} never let go of the model.")


def test_a_device_that_never_had_the_model_takes_its_removal_well(installation: Installation, station: Station) -> None:
    fresh = installation.start_station("station-fresh")
    with pytest.raises(CommandFailedError) as caught:
        undeploy(fresh)
    assert caught.value.exit_code == ABSENT
    assert f"{fresh.group} is not asked to run {LINEAR}" in str(caught.value)
    told = undeploy(fresh, "--force", "--wait")
    assert [device["status"] for device in told["devices"]] == ["SUCCEEDED"]
    assert fresh.log(LINEAR).splitlines() == [f"edgewright: {LINEAR} 0.0.1 already-gone"]
