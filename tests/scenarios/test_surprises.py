"""The device end against what the real nucleus was seen to do: late starts, reboots, upgrades, false successes, outages.

Everything is a process and every word goes through its real door; only the nucleus is the simulated one, with the
habits that were measured (simulator/README.md). One station lives through all of it but the first.
"""

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest

from edge_component.client import Client
from edge_component.contracts.envelope import Envelope
from simulator.mqtt import CLOUD_NAME, Message, MqttClient, credentials_for
from simulator.processes import CommandFailedError
from tests.scenarios.installation import LINEAR, ROW, RUNTIME, Installation, Station, checked, wait_for

pytestmark = pytest.mark.slow

RUNTIME_DELAY_S = 4.0
HAND_OVER_DELAY_S = 4.0
CLIENT_DEADLINE_S = 20.0
STILL_PENDING = 5
"""Exit code of ``edgewright deploy --wait`` where devices have not finished."""


def test_the_hand_over_waits_for_a_runtime_that_does_not_listen_yet(installation: Installation) -> None:
    late = installation.start_station("station-late")
    version = installation.publish()
    late.nucleus("surprise", start_delay_s={RUNTIME: RUNTIME_DELAY_S})
    late.deploy(version)
    wait_for(lambda: late.component().get("process_id"), "the hand-over to begin")
    assert not (late.work / "admin.sock").exists(), "nobody listens yet"
    late.deploy(version, "--wait")
    late.wait_reported(version)
    assert late.serving() == version
    assert late.log(LINEAR).splitlines() == [f"edgewright: {LINEAR} {version} activated"], "by its first attempt"
    assert late.outcomes() == ["activated"]


def test_after_a_power_cut_the_same_model_serves_and_its_startup_finds_nothing_to_do(station: Station) -> None:
    version, before, told_count = station.serving(), station.heartbeat(), len(station.events("activation"))
    station.nucleus("power-off")
    assert station.nucleus()["running"] is False
    station.nucleus("power-on")
    wait_for(lambda: station.component().get("state") == "RUNNING", "the startup to have run again")
    answer = station.ask()
    assert answer.model == before.models[0].active
    assert station.heartbeat().process_id != before.process_id
    assert station.log(LINEAR).splitlines()[-1] == f"edgewright: {LINEAR} {version} already-active"
    told = wait_for(lambda: two_more(station, told_count), "what came of it to be told")
    assert [event["outcome"] for event in told] == ["restored", "already-active"]
    assert {event["version"] for event in told} == {version}


def two_more(station: Station, told_count: int) -> list[dict[str, Any]]:
    told = station.events("activation")[told_count:]
    return told if len(told) >= 2 else []


class Application:
    """Asks without a pause; ``slowest_s`` of the answers. An unanswered request ends it and is kept."""

    def __init__(self, station: Station) -> None:
        self.answered_count = 0
        self.slowest_s = 0.0
        self.failure: BaseException | None = None
        self._socket = station.work / "infer.sock"
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, name="application")
        self._thread.start()

    def stop(self) -> None:
        self._stop.set()
        self._thread.join()

    def _run(self) -> None:
        try:
            with Client(self._socket, deadline_s=CLIENT_DEADLINE_S) as client:
                while not self._stop.wait(0.002):
                    asked_at_s = time.monotonic()
                    checked(client.infer("linear", {"x": ROW}))
                    self.slowest_s = max(self.slowest_s, time.monotonic() - asked_at_s)
                    self.answered_count += 1
        except BaseException as error:  # noqa: BLE001 - told to the test's own thread
            self.failure = error


@contextmanager
def asking(station: Station) -> Iterator[Application]:
    application = Application(station)
    try:
        yield application
    finally:
        application.stop()
    assert application.failure is None, repr(application.failure)


def test_a_runtime_upgrade_under_an_unchanged_model_costs_no_answer(
    installation: Installation, station: Station
) -> None:
    before, hand_overs = station.heartbeat(), station.log(LINEAR)
    upgraded = installation.publish_runtime()
    with asking(station) as application:
        station.deploy(upgraded, "--wait", model="runtime")
        wait_for(lambda: station.in_the_cloud()["runtime_version"] == upgraded, "the upgrade to be reported")
        count = application.answered_count
        wait_for(lambda: application.answered_count > count, "an answer of the new one")
    assert application.slowest_s < CLIENT_DEADLINE_S
    after = station.heartbeat()
    assert (after.runtime_version, after.models[0].active) == (upgraded, before.models[0].active)
    assert after.process_id != before.process_id
    assert station.log(LINEAR) == hand_overs, "the model's startup does not run for a runtime's sake"
    assert station.outcomes()[-1] == "restored"
    assert station.events("restart")[-1]["sentence"] == (
        f"The runtime was upgraded from {before.runtime_version} to {upgraded}: "
        f"process {before.process_id} became {after.process_id}."
    )


def test_a_success_whose_activation_never_ran_is_found_and_repaired(
    installation: Installation, station: Station
) -> None:
    old, new = station.serving(), installation.publish()
    station.nucleus("surprise", daemon_dies_after="record")
    told = station.deploy(new, "--wait")
    assert [device["status"] for device in told["devices"]] == ["SUCCEEDED"], "Greengrass's word"
    assert station.serving() == old, "the truth"
    found = wait_for(lambda: diverged(station), "the difference to be found")
    assert [model["version"] for model in found["models"]] == [old]
    assert {one["component_name"]: one["version"] for one in found["wanted"]}[LINEAR] == new
    assert found["status_sentence"] == f"Greengrass reports linear {new} as SUCCEEDED, but {old} serves."
    station.wait_reported(new)
    assert station.serving() == new
    wait_for(lambda: station.in_the_cloud()["status"] == "ok", "all to be well again")
    assert station.outcomes(new) == ["activated"]
    assert [event["sentence"] for event in installation.world.edgewright("get", "events", "--kind", "repair")] == [
        f"Deploying {LINEAR} {new} again with a configuration nonce (try 1), because it does not serve on {station.name}."
    ]


def diverged(station: Station) -> Any:
    device = station.in_the_cloud()
    return device if device["status"] == "diverged" else None


class Witness:
    """Listens beside the cloud, with a session that outlasts the broker; keeps a station's messages as they came."""

    def __init__(self, installation: Installation, thing_name: str) -> None:
        address = installation.world.broker.address
        self.messages: list[Envelope] = []
        self._client = MqttClient(address, "witness", credentials_for(address, CLOUD_NAME), persistent=True)
        self._client.connect()
        self._client.subscribe(f"$aws/rules/+/edgewright/v1/{thing_name}/+", self._hear)

    def windows(self) -> set[str]:
        """Ids of the windows."""
        return {str(message.body["window_id"]) for message in self.messages if message.kind == "window"}

    def gaps(self) -> dict[str, list[int]]:
        """Sequence numbers that are missing between the first and the last, by epoch."""
        found: dict[str, set[int]] = {}
        for message in self.messages:
            found.setdefault(message.epoch, set()).add(message.sequence)
        return {epoch: sorted(set(range(min(numbers), max(numbers))) - numbers) for epoch, numbers in found.items()}

    def close(self) -> None:
        self._client.disconnect()

    def _hear(self, message: Message) -> None:
        self.messages.append(Envelope.from_bytes(message.payload))


@pytest.fixture
def witness(installation: Installation, station: Station) -> Iterator[Witness]:
    heard = Witness(installation, station.name)
    yield heard
    heard.close()


def test_with_the_broker_gone_a_deployment_ends_well_and_nothing_that_was_to_be_told_is_lost(
    installation: Installation, station: Station, witness: Witness
) -> None:
    broker = installation.world.broker
    if not broker.traits.keeps_sessions_over_restart:
        pytest.skip("mosquitto is not installed, and no other broker keeps sessions: apt install mosquitto")
    old, new = station.serving(), installation.publish()
    since_ms, already_asked_count = station.start_counting()
    station.ask()
    station.nucleus("surprise", start_delay_s={LINEAR: HAND_OVER_DELAY_S})
    deployment = station.deploy(new)["deployments"][0]["deployment_id"]
    wait_for(lambda: is_handing_over(station, new), "the hand-over to be under way")
    broker.stop()
    try:
        wait_for(lambda: station.nucleus()["last_deployment"]["id"] == deployment, "the device to be done, alone")
        assert station.nucleus()["last_deployment"]["status"] == "SUCCEEDED"
        assert station.serving() == new
        station.close_windows()
        assert station.heartbeat().outbox.queued_count >= 3, "activation, windows and heartbeats wait on the device"
        assert station.reported() == old, "the cloud cannot know yet"
        with pytest.raises(CommandFailedError) as caught:
            station.deploy(new, "--wait", "--timeout-s", "1")
        assert caught.value.exit_code == STILL_PENDING
    finally:
        broker.start()
    station.nucleus("surprise", start_delay_s={LINEAR: 0.0})
    again = station.deploy(new, "--wait")
    assert (again["deployments"][0]["deployment_id"], again["deployments"][0]["is_new"]) == (deployment, False)
    assert [device["status"] for device in again["devices"]] == ["SUCCEEDED"]
    station.wait_reported(new)
    assert station.serving() == new
    station.close_windows()
    heard = wait_for(lambda: witness.windows() if station.heartbeat().outbox.queued_count == 0 else None, "the rest")
    asked_count = station.asked_count - already_asked_count
    stored = wait_for(lambda: all_of(installation, station, since_ms, asked_count), "every prediction to be counted")
    assert sum(record_count for _, _, record_count in stored) == asked_count
    assert {version for _, version, _ in stored} == {old, new}
    assert {window_id for window_id, _, _ in stored} <= heard
    assert station.heartbeat().outbox.dropped_count == 0
    assert list(witness.gaps().values()) == [[]], "one outbox, every number of it"
    assert station.outcomes(new) == ["activated"]


def is_handing_over(station: Station, version: str) -> bool:
    component = station.component()
    return component["version"] == version and component["process_id"] is not None


def all_of(installation: Installation, station: Station, since_ms: int, count: int) -> list[tuple[str, str, int]]:
    """The windows that ended later, once they count as many records; else none."""
    stored = installation.stored_windows(station.name, since_ms)
    return stored if sum(record_count for _, _, record_count in stored) >= count else []
