"""One suite for the nucleus port: the fake that ships, and the real one through awsiot's client, on both profiles."""

import queue
from collections.abc import Mapping

import pytest

from edge_component.contracts.limits import LIMITS
from edge_component.nucleus_errors import NucleusRefusedError, NucleusUnavailableError
from edge_component.nucleus_port import topic_matches
from tests.conformance.nucleus_port.conftest import WAIT_S, World, await_connection, eventually

TOPIC = "$aws/rules/edgewright_ingest/edgewright/v1/station-jfk/heartbeat"


def test_a_publish_arrives_as_it_was(world: World) -> None:
    world.nucleus.publish(TOPIC, b"\x00binary\xff")
    assert world.published() == [(TOPIC, b"\x00binary\xff")]


def test_the_largest_publish_goes_through_and_a_larger_one_is_refused_here(world: World) -> None:
    world.nucleus.publish(TOPIC, b"x" * LIMITS.publish_bytes_max)
    with pytest.raises(NucleusRefusedError, match="holds at most"):
        world.nucleus.publish(TOPIC, b"x" * (LIMITS.publish_bytes_max + 1))
    world.nucleus.publish(TOPIC, b"after")  # the connection was not spent on it
    assert [len(payload) for _, payload in world.published()] == [LIMITS.publish_bytes_max, 5]


def test_a_topic_that_is_not_allowed_is_refused_for_good(world: World) -> None:
    with pytest.raises(NucleusRefusedError, match="UnauthorizedError") as refusal:
        world.nucleus.publish(world.refused_topic, b"x")
    assert "accessControl" in refusal.value.remedy
    assert world.published() == []


def test_offline_is_unavailable_and_passes(world: World) -> None:
    world.set_online(False)
    with pytest.raises(NucleusUnavailableError, match="ServiceError"):
        world.nucleus.publish(TOPIC, b"1")
    assert world.nucleus.connected
    world.set_online(True)
    world.nucleus.publish(TOPIC, b"2")
    assert world.published() == [(TOPIC, b"2")]


def test_the_configuration_is_read_and_its_changes_are_told_whole(world: World) -> None:
    told: queue.Queue[Mapping] = queue.Queue()
    assert world.nucleus.configuration()["heartbeat_s"] == 60
    world.nucleus.on_configuration_change(told.put)
    assert told.get(timeout=WAIT_S)["heartbeat_s"] == 60
    world.set_configuration({"heartbeat_s": "5", "window_s": 10})
    latest = told.get(timeout=WAIT_S)
    while latest.get("window_s") is None:
        latest = told.get(timeout=WAIT_S)
    assert (latest["heartbeat_s"], latest["window_s"]) == ("5", 10)


def test_a_lost_nucleus_is_unavailable_then_found_again(world: World) -> None:
    connections: queue.Queue[bool] = queue.Queue()
    world.nucleus.on_connection(connections.put)
    world.lose_connection()
    await_connection(connections, False)
    assert not world.nucleus.connected
    for act in (lambda: world.nucleus.publish(TOPIC, b"1"), world.nucleus.configuration):
        with pytest.raises(NucleusUnavailableError):
            act()
    world.restore_connection()
    await_connection(connections, True)
    world.nucleus.publish(TOPIC, b"2")
    assert world.published() == [(TOPIC, b"2")]


def test_a_change_missed_while_away_is_told_after_the_reconnection(world: World) -> None:
    told: queue.Queue[Mapping] = queue.Queue()
    world.nucleus.on_configuration_change(told.put)
    told.get(timeout=WAIT_S)
    world.lose_connection()
    eventually(lambda: not world.nucleus.connected, "disconnected")
    world.set_configuration({"heartbeat_s": 7})
    assert told.empty()
    world.restore_connection()
    assert told.get(timeout=WAIT_S)["heartbeat_s"] == 7


def test_states_are_reported(world: World) -> None:
    world.nucleus.report_running()
    eventually(lambda: world.states() == ["RUNNING"], "RUNNING reported")
    world.nucleus.report_errored()
    eventually(lambda: world.states() == ["RUNNING", "ERRORED"], "ERRORED reported")


def test_closing_twice_is_closing_once(world: World) -> None:
    world.nucleus.close()
    world.nucleus.close()
    assert not world.nucleus.connected
    with pytest.raises(NucleusUnavailableError):
        world.nucleus.publish(TOPIC, b"1")


def test_a_local_publish_is_heard_by_other_components_as_it_was(world: World) -> None:
    world.nucleus.publish_local("edgewright/out", b"\x00binary\xff")
    eventually(lambda: world.heard_locally() == [("edgewright/out", b"\x00binary\xff")], "heard")
    with pytest.raises(NucleusRefusedError, match="UnauthorizedError"):
        world.nucleus.publish_local(world.refused_topic, b"x")
    with pytest.raises(NucleusRefusedError, match="holds at most"):
        world.nucleus.publish_local("edgewright/out", b"x" * (LIMITS.publish_bytes_max + 1))


def test_what_others_publish_locally_is_told_and_heard_again_after_a_reconnection(world: World) -> None:
    heard: queue.Queue[tuple[str, bytes]] = queue.Queue()
    world.nucleus.subscribe_local("edgewright/in/+", lambda topic, payload: heard.put((topic, payload)))
    for payload in (b"before", b"after"):

        def is_heard(said: bytes = payload) -> bool:
            world.say_locally("edgewright/elsewhere", b"not asked for")
            world.say_locally("edgewright/in/a", said)  # local topics keep nothing: said until somebody listens
            try:
                return heard.get(timeout=0.2) == ("edgewright/in/a", said)
            except queue.Empty:
                return False

        eventually(is_heard, "heard locally")
        world.lose_connection()
        eventually(lambda: not world.nucleus.connected, "disconnected")
        with pytest.raises(NucleusUnavailableError):
            world.nucleus.publish_local("edgewright/out", b"1")
        world.restore_connection()
        eventually(lambda: world.nucleus.connected, "connected again")


@pytest.mark.parametrize(
    ("topic_filter", "topic", "is_covered"),
    [
        ("a/b", "a/b", True),
        ("a/b", "a/b/c", False),
        ("a/+", "a/b", True),
        ("a/+", "a/b/c", False),
        ("a/#", "a/b/c", True),
        ("a/#", "a", True),
        ("a/#/c", "a/b/c", False),
        ("#", "a", True),
    ],
)
def test_filters_cover_as_in_mqtt(topic_filter: str, topic: str, is_covered: bool) -> None:
    assert topic_matches(topic_filter, topic) is is_covered
