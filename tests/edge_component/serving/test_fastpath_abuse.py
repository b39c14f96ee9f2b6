"""A hostile neighbour on the socket: it is answered or hung up on, and the good client beside it notices nothing."""

import errno
import fcntl
import json
import mmap
import os
import socket
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings, strategies as st

from edge_component.contracts.fastpath import (
    MESSAGE_BYTES_MAX,
    REQUEST_HEAD,
    Failure,
    Hello,
    Kind,
    Open,
    Opened,
    pack_control,
    unpack_control,
    unpack_failure,
)
from tests.edge_component.serving.conftest import ROW, Door
from tests.edge_component.waiting import wait_until


@pytest.fixture
def guarded(door: Door) -> Iterator[Door]:
    """The good client asks before, and again after, whatever the test does; then everything has been let go of."""
    good = door.client()
    good.infer("scale", {"x": ROW})
    yield door
    np.testing.assert_array_equal(good.infer("scale", {"x": ROW}).outputs["y"], ROW * 2)
    good.close()
    wait_until(lambda: door.listener.connections_count() == 0)
    assert door.router.open_tally_count() == 0


def refusal(connection: socket.socket) -> Failure:
    return Failure.read(unpack_control(connection.recv(MESSAGE_BYTES_MAX), Kind.REFUSED)[1])


def opened(connection: socket.socket, **asked: object) -> tuple[Opened, int]:
    connection.send(pack_control(Kind.OPEN, Open("scale", **asked).to_document()))  # type: ignore[arg-type]
    message, descriptors, _, _ = socket.recv_fds(connection, MESSAGE_BYTES_MAX, 1)
    return Opened.read(unpack_control(message, Kind.OPENED)[1]), descriptors[0]


def open_descriptors() -> int:
    return sum(1 for _ in Path("/proc/self/fd").iterdir())


FIRST_MESSAGES = {
    "a request": REQUEST_HEAD.pack(Kind.REQUEST, 0, 0, 1, 0),
    "noise": os.urandom(100),
    "too large": b"\1" * (MESSAGE_BYTES_MAX + 1),
    "not JSON": b"\1{",
    "deep nesting": b"\1" + b"[" * 50_000,
    "another schema": b"\1" + json.dumps({"schema": "edgewright.heartbeat/1"}).encode(),
    "an open": pack_control(Kind.OPEN, Open("scale").to_document()),
}


@pytest.mark.parametrize("message", FIRST_MESSAGES.values(), ids=FIRST_MESSAGES.keys())
def test_a_first_message_that_is_no_hello_is_refused_and_hung_up_on(guarded: Door, message: bytes) -> None:
    with guarded.raw() as connection:
        connection.send(message)
        assert refusal(connection).code == "protocol-violation"
        assert connection.recv(10) == b""


def test_a_client_from_the_future_is_told_which_versions_there_are(guarded: Door) -> None:
    with guarded.raw() as connection:
        connection.send(pack_control(Kind.HELLO, Hello(versions=(7, 8)).to_document()))
        failure = refusal(connection)
    assert failure.code == "unsupported-protocol"
    assert "[1]" in failure.message
    with guarded.raw() as connection:
        connection.send(pack_control(Kind.HELLO, Hello(versions=(1, 9), extra={"new": True}).to_document()))
        assert unpack_control(connection.recv(MESSAGE_BYTES_MAX), Kind.WELCOME)[1]["version"] == 1


@pytest.mark.parametrize(
    ("message", "code"),
    [
        (b"\x63", "protocol-violation"),
        (b"\x10", "protocol-violation"),
        (bytes((Kind.OPEN,)) + b"{}", "protocol-violation"),
        (bytes((Kind.ANSWER,)) * 50, "protocol-violation"),
        (b"\x10" * (MESSAGE_BYTES_MAX + 1), "protocol-violation"),
        (pack_control(Kind.CLOSE, {"channel": 5}), "unknown-channel"),
        (pack_control(Kind.OPEN, Open("nobody").to_document()), "unknown-model"),
        (pack_control(Kind.OPEN, Open("scale", {"x": 2**60}).to_document()), "channel-limit"),
        (pack_control(Kind.OPEN, Open("scale", {}, 2**62).to_document()), "channel-limit"),
    ],
)
def test_a_control_message_that_cannot_be_followed_is_refused(guarded: Door, message: bytes, code: str) -> None:
    with guarded.greeted() as connection:
        connection.send(message)
        assert refusal(connection).code == code


@pytest.mark.parametrize(
    ("slot", "dimensions", "code"),
    [
        (0, (2, 3), None),
        (2, (1, 3), "protocol-violation"),
        (255, (1, 3), "protocol-violation"),
        (0, (1,), "protocol-violation"),
        (0, (1, 3, 1), "protocol-violation"),
        (0, (), "protocol-violation"),
        (0, (1, 4), "input-shape"),
        (0, (0xFFFFFFFF, 3), "input-shape"),
    ],
)
def test_a_request_with_impossible_numbers_is_answered_by_its_name(
    guarded: Door, slot: int, dimensions: tuple[int, ...], code: str | None
) -> None:
    with guarded.greeted() as connection:
        channel, descriptor = opened(connection)
        os.close(descriptor)
        head = REQUEST_HEAD.pack(Kind.REQUEST, slot, channel.channel, 9, 0)
        connection.send(head + b"".join(size.to_bytes(4, "little") for size in dimensions))
        answer = connection.recv(MESSAGE_BYTES_MAX)
        if code is None:
            assert answer[0] == Kind.ANSWER
        else:
            assert answer[0] == Kind.FAILED
            assert unpack_failure(answer[8:]).code == code


def test_the_memory_cannot_be_resized_by_the_client(guarded: Door) -> None:
    with guarded.greeted() as connection:
        channel, descriptor = opened(connection)
        for size in (0, channel.size_bytes - 1, channel.size_bytes + 1):
            with pytest.raises(PermissionError):
                os.ftruncate(descriptor, size)
        with pytest.raises(PermissionError):
            fcntl.fcntl(descriptor, fcntl.F_ADD_SEALS, fcntl.F_SEAL_WRITE)
        os.close(descriptor)


def test_a_client_that_scribbles_during_its_own_request_harms_itself_only(guarded: Door) -> None:
    with guarded.greeted() as connection:
        channel, descriptor = opened(connection)
        with mmap.mmap(descriptor, channel.size_bytes) as memory:
            os.close(descriptor)
            request = REQUEST_HEAD.pack(Kind.REQUEST, 0, channel.channel, 1, 0) + b"\1\0\0\0\3\0\0\0"
            for _ in range(200):
                connection.send(request)
                memory[:] = os.urandom(16) * (channel.size_bytes // 16)
                assert connection.recv(MESSAGE_BYTES_MAX)[0] == Kind.ANSWER


def test_clients_that_vanish_in_mid_request_leak_nothing(guarded: Door) -> None:
    before = open_descriptors()
    for _ in range(50):
        with guarded.greeted() as connection:
            channel, descriptor = opened(connection)
            os.close(descriptor)
            connection.send(REQUEST_HEAD.pack(Kind.REQUEST, 0, channel.channel, 1, 0) + b"\1\0\0\0\3\0\0\0")
    wait_until(lambda: open_descriptors() <= before + 1)


def test_clients_that_vanish_before_their_channel_is_open_leak_nothing(guarded: Door) -> None:
    followers_count = len(guarded.router.route("scale").followers)
    before = open_descriptors()
    for _ in range(40):
        with guarded.greeted() as connection:
            connection.send(pack_control(Kind.OPEN, Open("scale").to_document()))
    wait_until(lambda: guarded.listener.connections_count() <= 1)
    assert len(guarded.router.route("scale").followers) == followers_count
    wait_until(lambda: open_descriptors() <= before + 1)


def test_a_channel_that_there_is_no_memory_for_is_refused_and_leaks_nothing(
    guarded: Door, monkeypatch: pytest.MonkeyPatch
) -> None:
    tallies_count, before = guarded.router.open_tally_count(), open_descriptors()

    def refuse(*_: object) -> None:
        raise OSError(errno.ENOMEM, "Cannot allocate memory")

    with guarded.greeted() as connection, monkeypatch.context() as out_of_memory:
        out_of_memory.setattr("edge_component.serving.channel.mmap.mmap", refuse)
        for _ in range(3):
            connection.send(pack_control(Kind.OPEN, Open("scale").to_document()))
            assert refusal(connection).code == "channel-limit"
        assert guarded.router.open_tally_count() == tallies_count
        assert open_descriptors() <= before + 2, "this connection's two ends, and nothing else"


def test_a_flood_of_silent_connections_is_bounded(guarded: Door) -> None:
    limit = guarded.config.connections_max
    connections = [guarded.raw() for _ in range(limit + 20)]
    wait_until(lambda: guarded.listener.connections_count() == limit)
    assert refusal(connections[-1]).code == "busy"
    for connection in connections:
        connection.close()


@settings(max_examples=200, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(messages=st.lists(st.binary(min_size=1, max_size=64), min_size=1, max_size=5), greeted=st.booleans())
def test_no_bytes_end_the_server(door: Door, messages: list[bytes], greeted: bool) -> None:
    with door.greeted() if greeted else door.raw() as connection:
        try:
            for message in messages:
                connection.send(message)
        except (BrokenPipeError, ConnectionResetError):
            pass  # it hung up on us, as it should
    assert door.client().infer("scale", {"x": ROW}).model.version == "1.0.0"
    door.clients.pop().close()
