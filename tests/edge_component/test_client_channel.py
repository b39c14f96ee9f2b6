"""The client's end of a channel, over memory and messages of the test's own: whatever a runtime may answer is an answer or typed."""

import fcntl
import itertools
import os
import resource
import socket
import struct
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from edge_component.client.answers import AskAgainError
from edge_component.client.channel import Channel
from edge_component.client.connection import receive
from edge_component.client.errors import InputError, ModelFailedError, ProtocolError
from edge_component.contracts.codec import to_bytes
from edge_component.contracts.fastpath import (
    ANSWER_HEAD,
    MODEL_NAMED,
    REQUEST_HEAD,
    Failure,
    Kind,
    Opened,
    Region,
    pack_failed,
)
from edge_component.contracts.heartbeat import ModelRef
from edge_component.contracts.manifest import TensorSpec
from edge_component.serving.channel import SEALS

MODEL = ModelRef("scale", "1.0.0", "0" * 64)
NEXT = ModelRef("scale", "1.1.0", "1" * 64)
ROW = np.array([[1, 2, 3]], np.float32)


OPENED = Opened(
    7, MODEL, 3, (Region(TensorSpec("x", "float32", (-1, 3)), 0, 1024),),
    (Region(TensorSpec("y", "float32", (-1, 3)), 1024, 1024),), 2, 2048,
)  # fmt: skip


def over(opened: Opened, size_bytes: int, seals: int = SEALS) -> Channel:
    """A channel over so much memory."""
    descriptor = os.memfd_create("test", os.MFD_ALLOW_SEALING)
    os.ftruncate(descriptor, size_bytes)
    fcntl.fcntl(descriptor, fcntl.F_ADD_SEALS, seals)
    try:
        return Channel(opened, descriptor)
    finally:
        os.close(descriptor)


@pytest.fixture
def channel() -> Channel:
    return over(OPENED, OPENED.size_bytes)


def test_memory_that_could_be_taken_away_or_is_too_small_is_not_touched() -> None:
    for size_bytes, seals in ((OPENED.size_bytes, fcntl.F_SEAL_GROW), (OPENED.size_bytes - 1, SEALS), (0, SEALS)):
        with pytest.raises(ValueError, match=r"sealed|mmap"):
            over(OPENED, size_bytes, seals)
    for descriptor in (os.open("/", os.O_RDONLY), os.open("/dev/zero", os.O_RDWR)):
        with pytest.raises(ValueError, match="Invalid"):
            Channel(OPENED, descriptor)
        os.close(descriptor)


@pytest.mark.parametrize("changed", [
    {"slot_bytes": 2047}, {"slot_bytes": 0, "inputs": (), "outputs": ()}, {"slot_bytes": 2**62, "slot_count": 4},
    {"slot_bytes": 0, "slot_count": 10**9, "inputs": (), "outputs": ()}, {"slot_count": 257},
    {"inputs": (Region(TensorSpec("x", "float32", (3,)), 2**62, 12),)},
    {"outputs": (Region(TensorSpec("y", "bfloat16", (3,)), 0, 6),)},
], ids=str)  # fmt: skip
def test_a_layout_that_cannot_be_is_refused(changed: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=r"slot|type|large"):
        over(replace(OPENED, **changed), 1_048_576)


def reply(asked: bytearray, flags: int = 0, generation: int = 3, shift: int = 0, rows: int = 1) -> bytes:
    _, _, number, sequence, _ = REQUEST_HEAD.unpack_from(asked)
    head = ANSWER_HEAD.pack(Kind.ANSWER, flags, number, (sequence + shift) & 0xFF, generation, 5)
    return head + struct.pack("<2I", rows, 3)


def test_slots_alternate_and_the_sequence_never_repeats_its_neighbour(channel: Channel) -> None:
    heads = [REQUEST_HEAD.unpack_from(channel.request({"x": ROW}, 1.0)) for _ in range(600)]
    assert [slot for _, slot, _, _, _ in heads[:4]] == [0, 1, 0, 1]
    sequences = [sequence for _, _, _, sequence, _ in heads]
    assert all((after - before) % 256 == 1 for before, after in itertools.pairwise(sequences))


@pytest.mark.parametrize(("left_s", "deadline_us"), [(1.0, 1_000_000), (1e-9, 1), (-1.0, 1), (1e9, 0xFFFFFFFF)])
def test_the_deadline_is_told_with_each_request(channel: Channel, left_s: float, deadline_us: int) -> None:
    for _ in range(3):
        assert REQUEST_HEAD.unpack_from(channel.request({"x": ROW}, left_s))[4] == deadline_us


def test_a_named_answer_is_remembered(channel: Channel) -> None:
    for asked_of, name in ((9, to_bytes(NEXT.to_document())), (9, b"")):
        asked = channel.request({"x": ROW}, 1.0)
        message = reply(asked, MODEL_NAMED if name else 0, asked_of) + name
        answer = channel.answer(message, len(message), True)
        assert (answer.model, answer.run_us, answer.outputs["y"].shape) == (NEXT, 5, (1, 3))


@pytest.mark.parametrize("changed", [
    {"shift": -1}, {"shift": 1}, {"generation": 4}, {"flags": 2}, {"rows": 1_000_000},
])  # fmt: skip
def test_an_answer_to_something_else_is_never_taken(channel: Channel, changed: dict[str, int]) -> None:
    asked = channel.request({"x": ROW}, 1.0)
    message = reply(asked, **changed)
    with pytest.raises(ProtocolError):
        channel.answer(message, len(message), True)


@pytest.mark.parametrize("size", [*range(1, 24), 25, 40])
def test_messages_of_other_sizes_are_typed_errors(channel: Channel, size: int) -> None:
    message = (reply(channel.request({"x": ROW}, 1.0), MODEL_NAMED) + b"{" * 20)[:size]
    with pytest.raises(ProtocolError):
        channel.answer(message, size, True)


def test_hung_up_failed_and_ask_again_are_told_apart(channel: Channel) -> None:
    channel.request({"x": ROW}, 1.0)
    with pytest.raises(ConnectionResetError):
        channel.answer(b"", 0, True)
    for body in (b"", b"{}", b"[" * 60_000):
        message = pack_failed(7, 1, Failure("run-failed", "because"))[:8] + body
        with pytest.raises(ProtocolError):
            channel.answer(message, len(message), True)
    for code, kind in (("run-failed", ModelFailedError), ("stale-channel", AskAgainError)):
        message = pack_failed(7, 1, Failure(code, "because"))
        with pytest.raises(kind):
            channel.answer(message, len(message), True)


def test_a_descriptor_for_which_there_is_no_room_is_said_to_be_that() -> None:
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    limits = resource.getrlimit(resource.RLIMIT_NOFILE)
    with ours, theirs:
        socket.send_fds(theirs, [b"opened"], [ours.fileno()])
        lowest_free = os.dup(ours.fileno())
        os.close(lowest_free)
        resource.setrlimit(resource.RLIMIT_NOFILE, (lowest_free, limits[1]))
        try:
            with pytest.raises(OSError, match="Too many open files"):
                receive(ours)
        finally:
            resource.setrlimit(resource.RLIMIT_NOFILE, limits)


def test_an_empty_input_whose_size_no_request_can_say_is_refused_by_name() -> None:
    free = replace(OPENED, inputs=(Region(TensorSpec("x", "float32", (-1, -1)), 0, 1024),))
    with pytest.raises(InputError, match=r"x has shape \(4294967296, 0\)"):
        over(free, free.size_bytes).request({"x": np.empty((2**32, 0), np.float32)}, 1.0)
