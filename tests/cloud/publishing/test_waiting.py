"""Waiting for what devices say of a deployment: who is asked, when it ends, and what comes of it."""

from dataclasses import replace
from typing import Any

import pytest

from cloud.errors import DeniedError, UnavailableError
from cloud.publishing.deploy import DeployPorts, deploy, find_target
from cloud.publishing.deployment import Wish
from cloud.publishing.errors import DeploymentFailedError, DeploymentPendingError, DeploymentReplacedError
from cloud.publishing.memory_fleet import MemoryDeployments
from cloud.publishing.waiting import DeviceStatus, check_outcome, wait_for_devices
from tests.cloud.publishing.stations import WEATHER, say, stations


@pytest.fixture
def ports() -> DeployPorts:
    return stations()


def test_waiting_ends_when_every_device_has_finished(ports: DeployPorts) -> None:
    deployed = [deploy(find_target(name, ports), Wish(WEATHER, "1.0.0"), ports) for name in ("stations", "canary")]
    say(ports, "ewr", "0", "SUCCEEDED")
    say(ports, "jfk", "0", "FAILED", "startup exited 1")
    say(ports, "lga", "1", "SUCCEEDED")
    statuses = wait_for_devices(deployed, ports, deadline_s=1e9)
    assert [(each.thing_name, each.status) for each in statuses] == [
        ("ewr", "SUCCEEDED"), ("jfk", "FAILED"), ("lga", "SUCCEEDED"),
    ]  # fmt: skip
    with pytest.raises(DeploymentFailedError, match="1 of 3 devices failed: jfk: FAILED startup exited 1"):
        check_outcome(statuses)


def test_who_is_done_is_not_asked_again(ports: DeployPorts, monkeypatch: pytest.MonkeyPatch) -> None:
    deployed = deploy(find_target("stations", ports), Wish(WEATHER, "1.0.0"), ports)
    say(ports, "ewr", deployed.deployment_id, "SUCCEEDED")
    asked, truly = list[str](), MemoryDeployments.effective

    def effective(self: MemoryDeployments, thing_name: str) -> Any:
        asked.append(thing_name)
        if asked.count("jfk") == 3:
            say(ports, "jfk", deployed.deployment_id, "FAILED")
        return truly(self, thing_name)

    monkeypatch.setattr(MemoryDeployments, "effective", effective)
    statuses = wait_for_devices([deployed], ports, deadline_s=1e9)
    assert [each.status for each in statuses] == ["SUCCEEDED", "FAILED"]
    assert asked == ["ewr", "jfk", "jfk", "jfk"]


def test_a_call_that_is_throttled_ends_no_waiting(ports: DeployPorts, monkeypatch: pytest.MonkeyPatch) -> None:
    deployed = deploy(find_target("canary", ports), Wish(WEATHER, "1.0.0"), ports)
    say(ports, "lga", deployed.deployment_id, "SUCCEEDED")
    throttled, truly = [UnavailableError("ThrottlingException")] * 3, MemoryDeployments.effective

    def effective(self: MemoryDeployments, thing_name: str) -> Any:
        if throttled:
            raise throttled.pop()
        return truly(self, thing_name)

    monkeypatch.setattr(MemoryDeployments, "effective", effective)
    assert [each.reason for each in wait_for_devices([deployed], ports, deadline_s=1)] == ["ThrottlingException"]
    assert [each.status for each in wait_for_devices([deployed], ports, deadline_s=1e9)] == ["SUCCEEDED"]


def test_waiting_ends_at_the_deadline_and_says_who_is_missing(ports: DeployPorts) -> None:
    deployed = deploy(find_target("stations", ports), Wish(WEATHER, "1.0.0"), ports)
    say(ports, "ewr", deployed.deployment_id, "SUCCEEDED")
    say(ports, "jfk", "an older one", "SUCCEEDED")
    statuses = wait_for_devices([deployed], ports, deadline_s=3)
    assert DeviceStatus("jfk", "WAITING", "") in statuses
    with pytest.raises(DeploymentPendingError, match=r"jfk \(WAITING\)") as caught:
        check_outcome(statuses)
    assert caught.value.exit_code == 5


def test_all_succeeded_is_no_error() -> None:
    check_outcome([DeviceStatus("ewr", "SUCCEEDED", ""), DeviceStatus("jfk", "COMPLETED", "")])


def test_waiting_ends_when_a_later_deployment_takes_this_one_s_place(ports: DeployPorts) -> None:
    """Devices never answer for a deployment that another has replaced: waiting longer is in vain."""
    deployed = deploy(find_target("stations", ports), Wish(WEATHER, "1.0.0"), ports)
    say(ports, "ewr", deployed.deployment_id, "SUCCEEDED")
    deploy(find_target("stations", ports), Wish(WEATHER, "1.1.0"), ports)
    statuses = wait_for_devices([deployed], ports, deadline_s=1e9)
    assert [(one.thing_name, one.status) for one in statuses] == [("ewr", "SUCCEEDED"), ("jfk", "REPLACED")]
    with pytest.raises(DeploymentReplacedError, match="1 of 2 devices: jfk") as caught:
        check_outcome(statuses)
    assert "edgewright get deployments" in caught.value.remedy


def test_a_thousand_devices_that_are_missing_make_no_wall_of_names() -> None:
    missing = [DeviceStatus(f"device-{index:04}", "WAITING", "") for index in range(1_000)]
    with pytest.raises(DeploymentPendingError, match=r"1000 of 1000 .* and 990 more") as pending:
        check_outcome(missing)
    with pytest.raises(DeploymentFailedError, match=r"and 990 more") as failed:
        check_outcome([replace(one, status="FAILED", reason="disk full") for one in missing])
    assert max(len(str(pending.value)), len(str(failed.value))) < 1_000


def test_credentials_that_end_while_waiting_end_the_waiting_alone(
    ports: DeployPorts, monkeypatch: pytest.MonkeyPatch
) -> None:
    deployed = deploy(find_target("stations", ports), Wish(WEATHER, "1.0.0"), ports)

    def effective(self: MemoryDeployments, thing_name: str) -> Any:
        raise DeniedError("the token has expired (ExpiredTokenException)", "Check the credentials.")

    monkeypatch.setattr(MemoryDeployments, "effective", effective)
    with pytest.raises(DeniedError, match=r"the deployment goes on, but .*ExpiredToken") as caught:
        wait_for_devices([deployed], ports, deadline_s=1e9)
    assert "Run the same command again" in caught.value.remedy
