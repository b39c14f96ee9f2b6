"""The codec's law, and that damage is always a FrameError."""

import contextlib
import struct
import zlib

import pytest
from hypothesis import given, strategies as st

from simulator.nucleus.errors import FrameError
from simulator.nucleus.eventstream import OVERHEAD_BYTES, Flags, Message, MessageType, decode, encode, frame_length

NAMES = st.text(min_size=1, max_size=40).filter(lambda name: len(name.encode()) < 256)
VALUES = st.one_of(st.booleans(), st.integers(-(2**31), 2**31 - 1), st.text(max_size=200), st.binary(max_size=200))
MESSAGES = st.builds(Message, st.dictionaries(NAMES, VALUES, max_size=8), st.binary(max_size=2_000))


@given(MESSAGES)
def test_what_is_encoded_is_decoded(message: Message) -> None:
    assert decode(encode(message)) == message


@given(MESSAGES, st.data())
def test_one_flipped_bit_is_always_noticed(message: Message, data: st.DataObject) -> None:
    frame = bytearray(encode(message))
    bit = data.draw(st.integers(0, len(frame) * 8 - 1))
    frame[bit // 8] ^= 1 << bit % 8
    with pytest.raises(FrameError):
        decode(bytes(frame))


@given(MESSAGES, st.data())
def test_a_cut_frame_is_always_noticed(message: Message, data: st.DataObject) -> None:
    frame = encode(message)
    with pytest.raises(FrameError):
        decode(frame[: data.draw(st.integers(0, len(frame) - 1))])


@given(st.binary(max_size=64))
def test_headers_of_any_bytes_decode_or_are_refused(headers: bytes) -> None:
    lengths = struct.pack(">II", OVERHEAD_BYTES + len(headers), len(headers))
    body = lengths + struct.pack(">I", zlib.crc32(lengths)) + headers
    with contextlib.suppress(FrameError):
        decode(body + struct.pack(">I", zlib.crc32(body)))


@pytest.mark.parametrize(
    ("header", "value"),
    [
        (b"\x02\x7f", 127), (b"\x03\xff\xfe", -2), (b"\x05" + (2**40).to_bytes(8, "big"), 2**40),
        (b"\x08" + (1).to_bytes(8, "big"), 1), (b"\x09" + bytes(16), bytes(16)), (b"\x00", True), (b"\x01", False),
    ],
)  # fmt: skip
def test_types_that_rpc_never_uses_are_read_all_the_same(header: bytes, value: object) -> None:
    headers = b"\x01x" + header
    lengths = struct.pack(">II", OVERHEAD_BYTES + len(headers), len(headers))
    body = lengths + struct.pack(">I", zlib.crc32(lengths)) + headers
    assert decode(body + struct.pack(">I", zlib.crc32(body))).headers == {"x": value}


def test_the_prelude_alone_stops_an_oversize_frame() -> None:
    frame = encode(Message(payload=bytes(9_990)))
    with pytest.raises(FrameError, match="10006"):
        frame_length(frame[:12], limit_bytes=10_000)


def test_the_rpc_headers_are_read() -> None:
    message = Message({":message-type": 5, ":message-flags": 1, ":stream-id": 0, "svcuid": "x"})
    assert (message.type, message.flags, message.stream_id) == (MessageType.CONNECT_ACK, Flags.CONNECTION_ACCEPTED, 0)
    with pytest.raises(FrameError):
        _ = Message({":message-type": 9}).type
    with pytest.raises(FrameError):
        _ = Message({":stream-id": "1"}).stream_id


@pytest.mark.parametrize("headers", [{"": 1}, {"n": 2**31}, {"n": "x" * 32_768}, {"x" * 256: 1}])
def test_what_does_not_fit_the_format_is_refused(headers: dict[str, int | str]) -> None:
    with pytest.raises(FrameError):
        encode(Message(headers))
