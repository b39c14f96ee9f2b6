"""Deployments to a single thing: by its shadow, on the Java nucleus; Lite never hears of them."""

import json
from dataclasses import dataclass, field
from typing import Any

import pytest

from simulator.nucleus.shadow_deployments import SHADOW_NAME
from tests.simulator.nucleus.conftest import Run
from tests.simulator.nucleus.world import FAST_JAVA, World, until

BASE = "com.example.Base"
PREFIX = f"$aws/things/station/shadow/name/{SHADOW_NAME}"


@dataclass
class Shadow:
    """The thing's, as AWS keeps it; ``reports`` is what the device has said of each configuration, in order."""

    world: World
    desired: dict[str, Any] = field(default_factory=dict)
    reported: dict[str, Any] = field(default_factory=dict)
    reports: list[tuple[str, str]] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.world.cloud.answers[f"{PREFIX}/get"] = lambda *_: self.tell("get/accepted")
        self.world.cloud.answers[f"{PREFIX}/update"] = self.take

    def tell(self, verb: str) -> None:
        state = {"desired": self.desired, "reported": self.reported}
        self.world.cloud.deliver(f"{PREFIX}/{verb}", json.dumps({"state": state}).encode())

    def take(self, _topic: str, payload: bytes) -> None:
        self.reported = json.loads(payload)["state"]["reported"]
        arn = self.reported["fleetConfigurationArnForStatus"]
        self.reports.append((arn.rpartition(":")[2], self.reported["status"]))
        self.tell("update/accepted")

    def desire(self, revision: int, status: str = "SUCCEEDED") -> None:
        document = {
            "deploymentId": f"deployment-{revision}",
            "configurationArn": f"arn:aws:greengrass:us-east-1:123456789012:configuration:thing/station:{revision}",
            "components": {BASE: {"version": f"{revision}.0.0"}},
        }
        self.desired = {"fleetConfig": json.dumps(document), "desiredStatus": status}
        if self.world.cloud.connected:
            self.tell("update/accepted")


WAITS = {"install": "while ! test -e go; do sleep 0.05; done", "run": "exec sleep 1000"}


def let_go(world: World) -> None:
    folder = world.device.places.work(BASE)
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "go").touch()


def publish(world: World) -> Shadow:
    for revision in (1, 2):
        world.publish(BASE, f"{revision}.0.0", {"run": "exec sleep 1000"})
    world.publish(BASE, "3.0.0", {"install": "exit 1", "run": "exec sleep 1000"})
    return Shadow(world)


def test_what_the_shadow_desires_is_carried_out_once_and_reported(run: Run) -> None:
    async def scenario(world: World) -> None:
        shadow = publish(world)
        shadow.desire(1)
        shadow.tell("update/accepted")  # AWS repeats itself
        await until(lambda: shadow.reports == [("1", "IN_PROGRESS"), ("1", "SUCCEEDED")])
        shadow.desire(3)
        await until(lambda: shadow.reports[2:] == [("3", "IN_PROGRESS"), ("3", "FAILED")])
        assert world.component(BASE)["version"] == "1.0.0"
        assert "THING_DEPLOYMENT" in [status["trigger"] for status in world.statuses()]

    run(scenario, FAST_JAVA)


def test_what_has_ended_before_a_restart_is_not_done_again_and_what_had_not_is(run: Run) -> None:
    async def scenario(world: World) -> None:
        shadow = publish(world)
        shadow.desire(1)
        await until(lambda: shadow.reports[-1:] == [("1", "SUCCEEDED")])
        await world.device.restart_nucleus()
        shadow.reported = {**shadow.reported, "status": "IN_PROGRESS"}
        await world.device.restart_nucleus()
        await until(lambda: shadow.reports[2:] == [("1", "IN_PROGRESS"), ("1", "SUCCEEDED")])

    run(scenario, FAST_JAVA)


def test_a_report_that_was_lost_is_made_with_the_next_connection(run: Run) -> None:
    async def scenario(world: World) -> None:
        shadow = publish(world)
        world.publish(BASE, "2.0.0", WAITS)
        shadow.desire(2)
        await until(lambda: shadow.reports == [("2", "IN_PROGRESS")])
        world.cloud.online(False)
        let_go(world)
        await until(lambda: world.device.verdicts)
        assert shadow.reports == [("2", "IN_PROGRESS")]
        world.cloud.online(True)
        await until(lambda: shadow.reports[1:] == [("2", "SUCCEEDED")])

    run(scenario, FAST_JAVA)


def test_one_that_is_canceled_before_it_began_is_left(run: Run) -> None:
    async def scenario(world: World) -> None:
        shadow = publish(world)
        world.publish(BASE, "1.0.0", WAITS)
        shadow.desire(1)
        await until(lambda: shadow.reports == [("1", "IN_PROGRESS")])
        shadow.desire(2)
        shadow.desire(2, "CANCELED")
        let_go(world)
        await until(lambda: shadow.reports[1:] == [("1", "SUCCEEDED")])
        shadow.desire(3)
        await until(lambda: shadow.reports[-1:] == [("3", "FAILED")])
        assert "2" not in dict(shadow.reports)

    run(scenario, FAST_JAVA)


@pytest.mark.parametrize(
    "document", [b"no JSON", b'{"state": {"desired": {"fleetConfig": "{"}}}', b'{"state": 5}', b"{}"]
)
def test_a_shadow_that_cannot_be_read_changes_nothing(run: Run, document: bytes) -> None:
    async def scenario(world: World) -> None:
        shadow = publish(world)
        world.cloud.deliver(f"{PREFIX}/update/accepted", document)
        shadow.desire(1)
        await until(lambda: shadow.reports[-1:] == [("1", "SUCCEEDED")])

    run(scenario, FAST_JAVA)


def test_lite_never_hears_of_it(run: Run) -> None:
    async def scenario(world: World) -> None:
        shadow = publish(world)
        shadow.desire(1)
        assert await world.deploy({BASE: "2.0.0"}) == "SUCCEEDED"
        assert shadow.reports == []
        assert not [message for message in world.cloud.published if message.topic.startswith(PREFIX)]

    run(scenario)
