"""A nucleus that is slow, answers late or strangely, ends streams, forgets tokens: the runtime's side of it, frame by frame."""

import base64
import logging
import queue
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from edge_component.nucleus import GreengrassNucleus
from edge_component.nucleus_errors import NucleusRefusedError, NucleusUnavailableError
from simulator.nucleus.profile import JAVA, LITE
from tests.conformance.nucleus_port.conftest import COMPONENT, WAIT_S, IpcWorld, await_connection, eventually
from tests.conformance.nucleus_port.scripted import HANG_UP, SILENCE, Request, ScriptedNucleus, connect

Connect = Callable[..., GreengrassNucleus]
TOPIC = "edgewright/in"


def silent(_request: Request) -> bytes:
    return SILENCE


def service_error(request: Request) -> bytes:
    return request.refuse("ServiceError")


def binary(topic: str, payload: bytes) -> dict:
    return {"binaryMessage": {"message": base64.b64encode(payload).decode(), "context": {"topic": topic}}}


@pytest.fixture
def server(tmp_path: Path) -> Iterator[ScriptedNucleus]:
    scripted = ScriptedNucleus(tmp_path / "gg-ipc.socket")
    yield scripted
    scripted.close()


@pytest.fixture
def connected(server: ScriptedNucleus) -> Iterator[Connect]:
    made: list[GreengrassNucleus] = []

    def make(**options: object) -> GreengrassNucleus:
        made.append(connect(server.path, **options))
        assert made[-1].wait_connected(WAIT_S)
        return made[-1]

    yield make
    for nucleus in made:
        nucleus.close()


@pytest.mark.parametrize("failure", [silent, service_error], ids=["silence", "ServiceError"])
def test_a_state_is_told_until_it_is_taken(server: ScriptedNucleus, connected: Connect, failure) -> None:
    server.answer("UpdateState", failure, failure, Request.respond)
    nucleus = connected()
    nucleus.report_running()
    eventually(lambda: server.count("UpdateState") == 3, "told until it was taken")
    nucleus.publish("t", b"after")
    nucleus.report_errored()
    eventually(lambda: server.count("UpdateState") == 4, "taken once, and told no more")
    told = [request.payload["state"] for request in server.requests if request.operation == "UpdateState"]
    assert told == ["RUNNING", "RUNNING", "RUNNING", "ERRORED"]
    assert len(server.greetings) == 1, "all of it on one connection"


def test_what_is_refused_again_and_again_is_asked_at_growing_intervals_and_said_once(
    server: ScriptedNucleus, connected: Connect, caplog: pytest.LogCaptureFixture
) -> None:
    waits_count = 0

    def random() -> float:
        nonlocal waits_count
        waits_count += 1
        return 0.5

    server.answer("UpdateState", service_error)
    nucleus = connected(random=random)
    nucleus.report_running()
    eventually(lambda: server.count("UpdateState") >= 6, "tried on")
    nucleus.close()
    assert waits_count >= server.count("UpdateState") - 2, "each time after a wait"
    assert sum("UpdateState" in record.message for record in caplog.records) == 1


def test_a_subscription_that_was_not_answered_is_made_once_more_and_the_first_one_ended(
    server: ScriptedNucleus, connected: Connect
) -> None:
    server.answer("SubscribeToTopic", silent, Request.respond)
    heard: queue.Queue[bytes] = queue.Queue()
    connected().subscribe_local(TOPIC, lambda _topic, payload: heard.put(payload))
    eventually(lambda: server.count("SubscribeToTopic") == 2, "asked again")
    first, second = [request for request in server.requests if request.operation == "SubscribeToTopic"]
    eventually(lambda: first.stream_id in server.ended(), "a late answer to the first one would be heard twice")
    server.send(second.event("SubscriptionResponseMessage", binary(TOPIC, b"x")))
    assert heard.get(timeout=WAIT_S) == b"x"
    assert second.stream_id not in server.ended()


@pytest.mark.parametrize("operation", ["SubscribeToTopic", "SubscribeToConfigurationUpdate"])
def test_a_stream_that_the_nucleus_ends_is_begun_anew_on_the_same_connection(
    server: ScriptedNucleus, connected: Connect, operation: str
) -> None:
    connected().subscribe_local(TOPIC, lambda _topic, _payload: None)
    for turn in range(1, 4):
        eventually(lambda number=turn: server.count(operation) == number, "subscribed")
        server.send([request for request in server.requests if request.operation == operation][-1].end())
    eventually(lambda: server.count(operation) == 4, "subscribed once more")
    assert len(server.greetings) == 1


def test_a_stream_that_ends_with_its_answer_is_begun_anew_after_waits(
    server: ScriptedNucleus, connected: Connect
) -> None:
    waits_count = 0

    def random() -> float:
        nonlocal waits_count
        waits_count += 1
        return 0.5

    server.answer("SubscribeToTopic", lambda request: request.respond() + request.end())
    nucleus = connected(random=random)
    nucleus.subscribe_local(TOPIC, lambda _topic, _payload: None)
    eventually(lambda: server.count("SubscribeToTopic") >= 6, "tried on")
    nucleus.close()
    assert waits_count >= server.count("SubscribeToTopic") - 2


def test_two_events_in_one_packet_are_both_heard_also_right_behind_the_answer(
    server: ScriptedNucleus, connected: Connect
) -> None:
    def answer(request: Request) -> bytes:
        events = (request.event("SubscriptionResponseMessage", binary(TOPIC, b"%d" % number)) for number in range(3))
        return request.respond() + b"".join(events)

    server.answer("SubscribeToTopic", answer)
    heard: queue.Queue[bytes] = queue.Queue()
    connected().subscribe_local(TOPIC, lambda _topic, payload: heard.put(payload))
    assert [heard.get(timeout=WAIT_S) for _ in range(3)] == [b"0", b"1", b"2"]


@pytest.mark.parametrize(
    ("shape", "document"),
    [("SubscriptionResponseMessage", {}), ("SomethingNew", {"a": 1})],
    ids=["empty", "unknown shape"],
)
def test_a_strange_event_costs_neither_the_stream_nor_what_follows(
    server: ScriptedNucleus, connected: Connect, shape: str, document: dict
) -> None:
    heard: queue.Queue[bytes] = queue.Queue()
    connected().subscribe_local(TOPIC, lambda _topic, payload: heard.put(payload))
    eventually(lambda: server.count("SubscribeToTopic") == 1, "subscribed")
    (request,) = [request for request in server.requests if request.operation == "SubscribeToTopic"]
    server.send(request.event(shape, document) + request.event("SubscriptionResponseMessage", binary(TOPIC, b"y")))
    assert heard.get(timeout=WAIT_S) == b"y"
    assert server.count("SubscribeToTopic") == 1
    assert request.stream_id not in server.ended()


@pytest.mark.parametrize(
    ("message", "payload"), [({"binaryMessage": {"message": "eA=="}}, b"x"), ({"jsonMessage": {"message": 5}}, b"5")]
)
def test_where_a_nucleus_names_no_topic_the_filter_stands_for_it(
    server: ScriptedNucleus, connected: Connect, message: dict, payload: bytes
) -> None:
    """As the Java nucleus did not, before its messages had a context."""
    server.answer("SubscribeToTopic", lambda r: r.respond() + r.event("SubscriptionResponseMessage", message))
    heard: queue.Queue[tuple[str, bytes]] = queue.Queue()
    connected().subscribe_local(TOPIC, lambda topic, told: heard.put((topic, told)))
    assert heard.get(timeout=WAIT_S) == (TOPIC, payload)


def test_what_was_refused_is_tried_again_when_the_configuration_has_changed(
    server: ScriptedNucleus, connected: Connect
) -> None:
    """An accessControl that is merged reaches a running component on the Java nucleus."""
    server.answer("SubscribeToTopic", lambda request: request.refuse("UnauthorizedError"), Request.respond)
    nucleus = connected()
    nucleus.subscribe_local(TOPIC, lambda _topic, _payload: None)
    eventually(lambda: server.count("SubscribeToTopic") == 1, "refused")
    nucleus.publish("t", b"")
    (updates,) = [request for request in server.requests if request.operation == "SubscribeToConfigurationUpdate"]
    event = {"configurationUpdateEvent": {"componentName": COMPONENT, "keyPath": ["accessControl"]}}
    server.send(updates.event("ConfigurationUpdateEvents", event))
    eventually(lambda: server.count("SubscribeToTopic") == 2, "tried again")


def test_two_callbacks_of_one_filter_share_a_stream(server: ScriptedNucleus, connected: Connect) -> None:
    heard: queue.Queue[tuple[str, bytes]] = queue.Queue()
    nucleus = connected()
    nucleus.subscribe_local(TOPIC, lambda _topic, payload: heard.put(("first", payload)))
    eventually(lambda: server.count("SubscribeToTopic") == 1, "subscribed")
    nucleus.subscribe_local(TOPIC, lambda _topic, payload: heard.put(("second", payload)))
    nucleus.subscribe_local("edgewright/other", lambda _topic, _payload: None)
    eventually(lambda: server.count("SubscribeToTopic") == 2, "the other one is subscribed")
    request = next(request for request in server.requests if request.payload.get("topic") == TOPIC)
    server.send(request.event("SubscriptionResponseMessage", binary(TOPIC, b"x")))
    assert {heard.get(timeout=WAIT_S), heard.get(timeout=WAIT_S)} == {("first", b"x"), ("second", b"x")}


def test_an_answer_that_comes_too_late_disturbs_nobody(server: ScriptedNucleus, connected: Connect) -> None:
    server.answer("PublishToIoTCore", silent, Request.respond)
    nucleus = connected()
    with pytest.raises(NucleusUnavailableError, match="TimeoutError"):
        nucleus.publish("t", b"1")
    (late,) = [request for request in server.requests if request.operation == "PublishToIoTCore"]
    server.send(late.respond())
    nucleus.publish("t", b"2")
    assert len(server.greetings) == 1


@pytest.mark.parametrize("shape", ["BrandNewError", "SubscribeToTopicResponse"])
def test_an_error_that_the_sdk_does_not_know_is_unavailable_and_passes(
    server: ScriptedNucleus, connected: Connect, shape: str
) -> None:
    server.answer("PublishToIoTCore", lambda request: request.refuse(shape), Request.respond)
    nucleus = connected()
    with pytest.raises(NucleusUnavailableError, match="UnmappedDataError"):
        nucleus.publish("t", b"1")
    nucleus.publish("t", b"2")
    assert len(server.greetings) == 1


def test_a_connection_that_is_dropped_in_mid_call_ends_the_call_and_is_made_anew(
    server: ScriptedNucleus, connected: Connect
) -> None:
    server.answer("PublishToIoTCore", lambda _request: HANG_UP, Request.respond)
    nucleus = connected(call_s=10_000)
    connections: queue.Queue[bool] = queue.Queue()
    nucleus.on_connection(connections.put)
    with pytest.raises(NucleusUnavailableError):
        nucleus.publish("t", b"1")
    await_connection(connections, False)
    await_connection(connections, True)
    nucleus.publish("t", b"2")


def test_a_nucleus_that_accepts_and_does_not_greet_is_left_and_found_once_it_does(
    server: ScriptedNucleus, caplog: pytest.LogCaptureFixture
) -> None:
    server.greets = False
    nucleus = connect(server.path, connect_s=0.05)
    try:
        eventually(lambda: len(server.greetings) >= 5, "tried on")
        assert not nucleus.connected
        server.greets = True
        assert nucleus.wait_connected(WAIT_S)
    finally:
        nucleus.close()
    assert sum("not reachable" in record.message for record in caplog.records) == 1


def test_neither_threads_nor_descriptors_pile_up(server: ScriptedNucleus, connected: Connect) -> None:
    nucleus = connected()
    connections: queue.Queue[bool] = queue.Queue()
    nucleus.on_connection(connections.put)
    nucleus.subscribe_local(TOPIC, lambda _topic, _payload: None)

    def turn() -> None:
        subscribed_count = server.count("SubscribeToTopic")
        server.hang_up()
        await_connection(connections, False)
        await_connection(connections, True)
        eventually(lambda: server.count("SubscribeToTopic") > subscribed_count, "subscribed anew")

    def kept() -> tuple[int, int]:
        """Of the client: the server's own threads end, its descriptors stay until it is closed."""
        server_descriptors_count = len(server.greetings)
        return (
            len([thread for thread in threading.enumerate() if thread not in server.threads]),
            len(list(Path("/proc/self/fd").iterdir())) - server_descriptors_count,
        )

    turn()
    before = kept()
    for _ in range(20):
        turn()
    # Fewer may be left: what earlier tests had forgotten is closed whenever the garbage collector comes by.
    eventually(
        lambda: all(now <= then for now, then in zip(kept(), before, strict=True)), f"{kept()} is {before} again"
    )


def test_refused_greetings_leave_no_descriptors(tmp_path: Path) -> None:
    world = IpcWorld(tmp_path, JAVA)
    try:
        world.services.tokens._components.clear()
        descriptors = Path("/proc/self/fd")
        world.drop_connections()
        eventually(lambda: not world.nucleus.connected, "disconnected")
        before = len(list(descriptors.iterdir()))
        assert not world.nucleus.wait_connected(1.0)  # a dozen attempts by then
        eventually(lambda: len(list(descriptors.iterdir())) <= before + 3, "those of one attempt at most")
    finally:
        world.close()


def test_a_lite_that_has_forgotten_the_token_is_greeted_by_name(tmp_path: Path) -> None:
    """Its tokens live in the memory of ggipcd: where that restarts, every running component's token is refused for ever."""
    world = IpcWorld(tmp_path, LITE)
    try:
        connections: queue.Queue[bool] = queue.Queue()
        world.nucleus.on_connection(connections.put)
        world.lose_connection()
        await_connection(connections, False)
        world.services.tokens._components.clear()
        world.restore_connection()
        await_connection(connections, True)
        assert world.nucleus.configuration()["heartbeat_s"] == 60
    finally:
        world.close()


def test_a_refused_call_stays_refused(server: ScriptedNucleus, connected: Connect) -> None:
    server.answer("PublishToIoTCore", lambda request: request.refuse("UnauthorizedError"))
    with pytest.raises(NucleusRefusedError):
        connected().publish("t", b"1")


@pytest.fixture(autouse=True)
def log_level(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, "edge_component")
