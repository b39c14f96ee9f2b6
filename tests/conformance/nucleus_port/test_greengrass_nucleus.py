"""What only the real nucleus port can meet: a nucleus that is away, restarts, refuses, or lacks an operation."""

import dataclasses
import queue
from collections.abc import Callable, Mapping

import pytest

from edge_component.nucleus_address import SOCKET_VARIABLE, TOKEN_VARIABLE, NucleusAddress
from edge_component.nucleus_errands import describe
from edge_component.nucleus_errors import NoNucleusError
from simulator.nucleus.profile import JAVA, LITE
from tests.conformance.nucleus_port.conftest import WAIT_S, IpcWorld, await_connection, eventually

MakeWorld = Callable[..., IpcWorld]
TOPIC = "$aws/rules/edgewright_ingest/edgewright/v1/station-jfk/heartbeat"


def warnings_in(caplog: pytest.LogCaptureFixture, text: str) -> list[str]:
    return [record.message for record in caplog.records if text in record.message]


def test_a_nucleus_that_is_away_at_the_start_is_said_once_and_found_later(
    make_ipc_world: MakeWorld, caplog: pytest.LogCaptureFixture
) -> None:
    world = make_ipc_world(is_listening=False)
    world.nucleus.report_running()
    assert not world.nucleus.wait_connected(0.3)  # several attempts by then
    assert len(warnings_in(caplog, "not reachable")) == 1
    assert [record.name for record in caplog.records if record.name.startswith("aws")] == []
    world.restore_connection()
    assert world.nucleus.wait_connected(WAIT_S)
    eventually(lambda: world.states() == ["RUNNING"], "the state is told once there is somebody to tell")


def test_twenty_restarts_of_the_nucleus_leave_one_working_connection(make_ipc_world: MakeWorld) -> None:
    world = make_ipc_world()
    connections: queue.Queue[bool] = queue.Queue()
    world.nucleus.on_connection(connections.put)
    for turn in range(20):
        world.drop_connections()
        await_connection(connections, False)
        await_connection(connections, True)
        world.nucleus.publish(TOPIC, str(turn).encode())
    assert [payload for _, payload in world.published()] == [str(turn).encode() for turn in range(20)]


def test_a_wrong_token_is_said_once_and_tried_on(make_ipc_world: MakeWorld, caplog: pytest.LogCaptureFixture) -> None:
    world = make_ipc_world(JAVA, is_listening=False)
    world.services.tokens._components.clear()
    world.restore_connection()
    assert not world.nucleus.wait_connected(0.3)
    assert len(warnings_in(caplog, "not reachable")) == 1


@pytest.mark.parametrize("profile", [LITE, JAVA], ids=lambda profile: profile.name)
def test_without_configuration_events_everything_else_works(
    make_ipc_world: MakeWorld, caplog: pytest.LogCaptureFixture, profile
) -> None:
    poor = dataclasses.replace(profile, operations=profile.operations - {"SubscribeToConfigurationUpdate"})
    world = make_ipc_world(poor)
    told: queue.Queue[Mapping] = queue.Queue()
    world.nucleus.on_configuration_change(told.put)
    assert told.get(timeout=WAIT_S)["heartbeat_s"] == 60
    world.nucleus.publish(TOPIC, b"x")
    world.drop_connections()
    eventually(lambda: len(warnings_in(caplog, "nucleus: connected")) == 2, "reconnected")
    assert len(warnings_in(caplog, "SubscribeToConfigurationUpdate does not work here")) == 1


def test_a_callback_that_fails_costs_nobody_the_connection(
    make_ipc_world: MakeWorld, caplog: pytest.LogCaptureFixture
) -> None:
    world = make_ipc_world()
    told: queue.Queue[Mapping] = queue.Queue()

    def fail(document: Mapping) -> None:
        raise RuntimeError("mine")

    world.nucleus.on_configuration_change(fail)
    world.nucleus.on_configuration_change(told.put)
    assert told.get(timeout=WAIT_S)
    world.nucleus.publish(TOPIC, b"x")
    assert warnings_in(caplog, "a callback failed")


@pytest.mark.parametrize("missing", [SOCKET_VARIABLE, TOKEN_VARIABLE])
def test_a_process_that_greengrass_did_not_start_is_told_so(missing: str) -> None:
    environment = {SOCKET_VARIABLE: "/gg.socket", TOKEN_VARIABLE: "token"}
    assert NucleusAddress.from_environment(environment) == NucleusAddress("/gg.socket", "token")
    with pytest.raises(NoNucleusError, match=missing) as refusal:
        NucleusAddress.from_environment({**environment, missing: ""})
    assert "com.edgewright.Runtime" in refusal.value.remedy


def test_an_error_without_text_is_named_by_type_and_repr() -> None:
    class SilentError(RuntimeError):
        message = None

        def __str__(self) -> str:
            return ""

    assert describe(SilentError("inside")) == "SilentError: SilentError('inside')"


def test_local_subscriptions_are_made_anew_after_a_restart_and_a_refused_one_is_said(
    make_ipc_world: MakeWorld, caplog: pytest.LogCaptureFixture
) -> None:
    world = make_ipc_world()
    heard: queue.Queue[bytes] = queue.Queue()
    connections: queue.Queue[bool] = queue.Queue()
    world.nucleus.on_connection(connections.put)
    world.nucleus.subscribe_local("edgewright/in", lambda _topic, payload: heard.put(payload))
    world.nucleus.subscribe_local("forbidden/#", lambda _topic, payload: heard.put(payload))
    for turn in range(3):
        eventually(lambda: len(world.services.topics._subscribers) == 2, "the allowed one is subscribed")
        world.say_locally("edgewright/in", str(turn).encode())
        assert heard.get(timeout=WAIT_S) == str(turn).encode()
        world.drop_connections()
        await_connection(connections, False)
        await_connection(connections, True)
    assert warnings_in(caplog, "SubscribeToTopic forbidden/#")


def test_a_json_message_of_another_component_is_heard_as_its_text(make_ipc_world: MakeWorld) -> None:
    world = make_ipc_world()
    heard: queue.Queue[bytes] = queue.Queue()
    world.nucleus.subscribe_local("edgewright/in", lambda _topic, payload: heard.put(payload))
    eventually(lambda: len(world.services.topics._subscribers) == 2, "subscribed")
    world.call(
        world.services.topics.publish,
        "com.example.Sensor",
        "edgewright/in",
        {"jsonMessage": {"message": {"x": [1, 2]}, "context": {"topic": "edgewright/in"}}},
    )
    assert heard.get(timeout=WAIT_S) == b'{"x": [1, 2]}'
