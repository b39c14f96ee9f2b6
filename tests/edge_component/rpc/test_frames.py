"""Frames as RFC 9113 lays them out, read and written."""

import pytest
from hypothesis import given, strategies as st

from edge_component.rpc import frames
from tests.edge_component.rpc import raw_client

streams = st.integers(0, 2**31 - 1)


@given(st.integers(0, 255), st.integers(0, 255), streams, st.integers(0, frames.FRAME_BYTES_MAX), st.binary(max_size=9))
def test_a_head_is_read_as_it_was_written(kind: int, flags: int, stream: int, size: int, before: bytes) -> None:
    written = frames.head(kind, flags, stream, size)
    assert written == size.to_bytes(3, "big") + bytes((kind, flags)) + stream.to_bytes(4, "big")
    assert frames.read_head(bytearray(before + written), len(before)) == (kind, flags, stream, size)


def test_the_reserved_bit_is_passed_over() -> None:
    assert frames.read_head(bytearray(b"\0\0\0\0\0\xff\xff\xff\xff"), 0)[2] == 2**31 - 1


@given(st.integers(0, 255), streams, st.binary(max_size=50))
def test_a_whole_frame(flags: int, stream: int, payload: bytes) -> None:
    assert frames.frame(frames.Kind.PING, flags, stream, payload) == raw_client.frame(6, flags, stream, payload)


@given(st.dictionaries(st.integers(0, 2**16 - 1), st.integers(0, 2**32 - 1), max_size=8))
def test_settings_are_read_as_they_were_written(values: dict[int, int]) -> None:
    written = frames.settings(values)
    assert dict(frames.read_settings(written[9:])) == values
    assert written[3:9] == b"\x04\0\0\0\0\0"


def test_the_frames_that_a_server_writes() -> None:
    assert frames.window_update(3, 70_000) == raw_client.frame(8, 0, 3, raw_client.number(70_000))
    assert frames.reset(5, frames.Code.CANCEL) == raw_client.frame(3, 0, 5, raw_client.number(8))
    goodbye = raw_client.number(7) + raw_client.number(11) + b"too much"
    assert frames.go_away(7, frames.Code.ENHANCE_YOUR_CALM, "too much") == raw_client.frame(7, 0, 0, goodbye)


@given(st.binary(max_size=30), st.integers(0, 255), st.binary(min_size=5, max_size=5) | st.none())
def test_padding_and_priority_are_taken_off(block: bytes, padding: int, priority: bytes | None) -> None:
    flags = frames.Flag.PADDED | (frames.Flag.PRIORITY if priority is not None else 0)
    payload = bytes((padding,)) + (priority or b"") + block + bytes(padding)
    assert frames.without_padding(flags, payload) == block
    assert frames.without_padding(0, payload) == payload


@pytest.mark.parametrize("payload", [b"", b"\x01", b"\x05abcd", b"\xff" * 200])
def test_more_padding_than_payload(payload: bytes) -> None:
    with pytest.raises(ValueError, match="padding"):
        frames.without_padding(frames.Flag.PADDED, payload)
