"""Messages out of data however it is cut, and memory that is used again only once nobody looks at it."""

import gzip
import zlib
from collections.abc import Iterator
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given, strategies as st

from edge_component.rpc.errors import CallEnded, GrpcCode
from edge_component.rpc.messages import ALIGNMENT_BYTES, KEPT_BYTES, MESSAGE_BYTES, SMALL_BYTES, Incoming, Memory
from tests.edge_component.rpc.raw_client import message

LARGEST = 100_000
PACK = {b"gzip": gzip.compress, b"deflate": zlib.compress, b"identity": bytes}


def pieces_of(data: bytes, cuts: list[int]) -> Iterator[bytes]:
    places = sorted({cut % (len(data) + 1) for cut in cuts} | {0, len(data)})
    return (data[begin:end] for begin, end in pairwise(places))


def feed(incoming: Incoming, pieces: Iterator[bytes], *, directly: bool) -> None:
    """As the reading thread does: some of it straight into a message's own memory."""
    for piece in pieces:
        room = incoming.room(len(piece)) if directly else None
        if room is None:
            incoming.take(memoryview(piece))
            continue
        half = len(piece) // 2
        for part in (piece[:half], piece[half:]):
            incoming.room(len(part))[: len(part)] = part  # type: ignore[index]
            incoming.filled(len(part))


contents = st.lists(
    st.binary(max_size=60) | st.binary(min_size=1, max_size=4).map(lambda seed: seed * 10_000), max_size=6
)


@given(
    contents, st.lists(st.integers(0, 200_000), max_size=30), st.sampled_from(sorted(PACK)), st.booleans(), st.data()
)
def test_messages_are_found_however_their_data_is_cut(
    sent: list[bytes], cuts: list[int], encoding: bytes, directly: bool, data: st.DataObject
) -> None:
    packed = [data.draw(st.booleans(), "packed") and encoding != b"identity" for _ in sent]
    stream = b"".join(
        message(PACK[encoding](content), 1) if is_packed else message(content)
        for content, is_packed in zip(sent, packed, strict=True)
    )
    incoming = Incoming(encoding, LARGEST, Memory())
    feed(incoming, pieces_of(stream, cuts), directly=directly)
    assert [bytes(whole) for whole in incoming.whole] == sent
    assert incoming.held_bytes == sum(len(content) + MESSAGE_BYTES for content in sent)
    assert not incoming.is_broken_off
    incoming.release_all()
    assert incoming.held_bytes == 0


@given(st.binary(min_size=1, max_size=50), st.data())
def test_a_part_of_a_message_is_none(content: bytes, data: st.DataObject) -> None:
    whole = message(content)
    incoming = Incoming(b"identity", LARGEST, Memory())
    incoming.take(memoryview(whole)[: data.draw(st.integers(1, len(whole) - 1))])
    assert not incoming.whole
    assert incoming.is_broken_off


@pytest.mark.parametrize(
    ("encoding", "sent", "status"),
    [
        (b"identity", b"\0" + (LARGEST + 1).to_bytes(4, "big"), GrpcCode.RESOURCE_EXHAUSTED),
        (b"identity", b"\0\xff\xff\xff\xff", GrpcCode.RESOURCE_EXHAUSTED),
        (b"gzip", b"\1\xff\xff\xff\xff", GrpcCode.RESOURCE_EXHAUSTED),
        (b"gzip", message(gzip.compress(bytes(LARGEST + 1)), 1), GrpcCode.RESOURCE_EXHAUSTED),
        (b"deflate", message(zlib.compress(bytes(50_000_000)), 1), GrpcCode.RESOURCE_EXHAUSTED),
        (b"identity", message(b"x", 1), GrpcCode.INTERNAL),
        (b"gzip", message(b"x", 1), GrpcCode.INTERNAL),
        (b"gzip", message(b"", 1), GrpcCode.INTERNAL),
        (b"gzip", message(gzip.compress(b"x" * 100)[:-9], 1), GrpcCode.INTERNAL),
        (b"gzip", message(zlib.compress(b"x"), 1), GrpcCode.INTERNAL),
        (b"deflate", message(gzip.compress(b"x"), 1), GrpcCode.INTERNAL),
    ],
)
def test_a_message_that_cannot_be_taken(encoding: bytes, sent: bytes, status: GrpcCode) -> None:
    with pytest.raises(CallEnded) as ended:
        Incoming(encoding, LARGEST, Memory()).take(memoryview(sent))
    assert ended.value.status == status


def test_a_message_may_have_just_what_it_may() -> None:
    incoming = Incoming(b"gzip", LARGEST, Memory())
    incoming.take(memoryview(message(bytes(LARGEST)) + message(gzip.compress(bytes(LARGEST)), 1)))
    assert [len(whole) for whole in incoming.whole] == [LARGEST, LARGEST]


@given(
    st.lists(
        st.tuples(st.integers(1, 3 * SMALL_BYTES) | st.just(KEPT_BYTES + 1), st.integers(0, 300), st.booleans()),
        max_size=30,
    )
)
def test_memory_is_used_again_only_when_nobody_looks_at_it(asked: list[tuple[int, int, bool]]) -> None:
    memory = Memory()
    looked_at: list[tuple[memoryview, int]] = []
    for turn, (size, aligned_at, gives_back) in enumerate(asked):
        memory.aligned_at = aligned_at
        taken = memory.take(size)
        assert len(taken) == size
        if size > SMALL_BYTES:
            address = np.frombuffer(taken, np.uint8).ctypes.data
            assert (address + aligned_at) % ALIGNMENT_BYTES == 0
        taken[:] = bytes((turn,)) * size
        looked_at.append((taken, turn))
        for seen, mark in looked_at:
            assert seen[0] == mark
            assert seen[-1] == mark
        if gives_back:
            memory.give_back(looked_at.pop(turn % len(looked_at))[0])


def test_a_large_message_lies_where_the_last_one_did() -> None:
    memory = Memory()
    first = memory.take(500_000)
    address = np.frombuffer(first, np.uint8).ctypes.data
    memory.give_back(first)
    assert abs(np.frombuffer(memory.take(400_000), np.uint8).ctypes.data - address) < ALIGNMENT_BYTES
    assert memory.take(10).obj is not None
    memory.give_back(b"bytes are nobody's to give back")
