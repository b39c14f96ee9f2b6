"""What a header block says is what hpack says of it, however often the same block came before; and what we write, hpack reads."""

import tracemalloc
from urllib.parse import unquote_to_bytes

import hpack
import pytest
from hypothesis import example, given, strategies as st

from edge_component.rpc.errors import ConnectionBroken, GrpcCode
from edge_component.rpc.headers import (
    ANSWERED,
    BLOCK_BYTES_MAX,
    BLOCKS_KEPT,
    DETAILS_BYTES_MAX,
    NOT_GRPC,
    RESPONSE,
    HeaderReader,
    ending,
    read_fields,
    read_timeout,
)

NAMES = [b":path", b":method", b"grpc-timeout", b"x-request-id", b"authorization", b"te", b"b" * 300]
VALUES = [b"", b"POST", b"/t.T/Echo", b"10S", b"trailers", b"v" * 900]

fields = st.lists(st.tuples(st.sampled_from(NAMES), st.sampled_from(VALUES) | st.binary(max_size=5)), max_size=6)
head = st.tuples(fields, st.sampled_from([None, None, None, 0, 40, 400, 4096]), st.booleans())


@given(st.lists(head, min_size=1, max_size=5), st.lists(st.integers(0, 4), max_size=40))
def test_a_block_says_what_hpack_says_of_it(
    heads: list[tuple[list[tuple[bytes, bytes]], int | None, bool]], order: list[int]
) -> None:
    """A few heads over and over, in any order, while the encoder's table grows, shrinks and forgets."""
    encoder, decoder, reader = hpack.Encoder(), hpack.Decoder(), HeaderReader()
    for turn in order:
        sent, table_bytes, huffman = heads[turn % len(heads)]
        if table_bytes is not None:
            encoder.header_table_size = table_bytes
        block = encoder.encode(sent, huffman=huffman)
        expected = tuple((bytes(name), bytes(value)) for name, value in decoder.decode(block, raw=True))
        assert reader.read(block).fields == expected


OPERATIONS = {
    "a reference": b"\xbe", "another": b"\xbf", "of the first table": b"\x83",
    "kept": b"\x40\x01a\x01b", "kept, another": b"\x40\x01c\x01d", "not kept": b"\x00\x01e\x01f",
    "too large to be kept": b"\x40\x01g\x7f\xa1\x1f" + b"v" * 4_128,
    "no table": b"\x20", "a table of two": b"\x3f\x27", "a small table": b"\x3f\x09", "the whole table": b"\x3f\xe1\x1f",
}  # fmt: skip


@given(st.lists(st.lists(st.sampled_from(sorted(OPERATIONS)), min_size=1, max_size=4), max_size=25))
@example([["kept"], ["a reference"], ["no table", "the whole table"], ["kept, another"], ["a reference"]])
@example([["kept"], ["a reference"], ["too large to be kept"], ["a reference"]])
@example([["a table of two"], ["kept, another"], ["kept"], ["another"], ["kept"], ["another"]])
@example([["a table of two"], ["kept"], ["kept, another"], ["a reference"], ["kept"], ["a reference"]])
def test_what_was_kept_is_never_said_of_another_table(blocks: list[list[str]]) -> None:
    """Blocks written by hand, as no encoder would; once hpack cannot read one, neither can we."""
    decoder, reader = hpack.Decoder(BLOCK_BYTES_MAX), HeaderReader()
    for operations in blocks:
        block = b"".join(OPERATIONS[each] for each in operations)
        try:
            expected = tuple((bytes(name), bytes(value)) for name, value in decoder.decode(block, raw=True))
        except hpack.HPACKError:
            with pytest.raises(ConnectionBroken):
                reader.read(block)
            return
        assert reader.read(block).fields == expected


@given(st.binary(max_size=40))
def test_any_bytes_are_read_or_break_the_connection(block: bytes) -> None:
    try:
        expected = tuple(
            (bytes(name), bytes(value)) for name, value in hpack.Decoder(BLOCK_BYTES_MAX).decode(block, raw=True)
        )
    except hpack.HPACKError:
        with pytest.raises(ConnectionBroken):
            HeaderReader().read(block)
    else:
        assert HeaderReader().read(block).fields == expected


def test_a_block_that_comes_again_is_not_decoded_again() -> None:
    encoder, reader = hpack.Encoder(), HeaderReader()
    sent = [(":path", "/t.T/Echo"), ("x-same", "always")]
    reader.read(encoder.encode(sent))
    first = reader.read(encoder.encode(sent))
    assert reader.read(encoder.encode(sent)) is first


def test_only_so_many_blocks_are_kept() -> None:
    reader = HeaderReader()
    blocks = [b"\x00\x01a" + bytes((3,)) + b"%03d" % turn for turn in range(BLOCKS_KEPT + 10)]
    heads = [reader.read(block) for block in blocks]
    assert [reader.read(block) for block in blocks] == heads
    assert reader.read(blocks[0]) is heads[0]
    assert reader.read(blocks[-1]) is not heads[-1]


@pytest.mark.parametrize(
    ("text", "timeout_s"),
    [
        (b"1H", 3600.0), (b"2M", 120.0), (b"3S", 3.0), (b"4m", 0.004), (b"5u", 5e-6), (b"0n", 0.0), (b"99999999S", 99_999_999.0),
        (b"277777H", 999_997_200.0), (b"277778H", None), (b"99999999H", None), (b"99999999M", None),
        (b"", None), (b"S", None), (b"1", None), (b"1s", None), (b"-1S", None), (b"1.5S", None), (b"123456789S", None),
        (b" 1S", None), (b"\xb2S", None),
    ],
)  # fmt: skip
def test_timeouts(text: bytes, timeout_s: float | None) -> None:
    assert read_timeout(text) == (None if timeout_s is None else pytest.approx(timeout_s))


@pytest.mark.parametrize(
    ("method", "content_type", "is_grpc"),
    [
        (b"POST", b"application/grpc", True), (b"POST", b"application/grpc+proto", True), (b"GET", b"application/grpc", False),
        (b"POST", b"application/json", False), (b"POST", b"", False),
    ],
)  # fmt: skip
def test_what_is_a_call_of_grpc(method: bytes, content_type: bytes, is_grpc: bool) -> None:
    head = read_fields(((b":method", method), (b"content-type", content_type), (b"x", b"1"), (b"x", b"2")))
    assert head.is_grpc is is_grpc
    assert head.values(b"x") == [b"1", b"2"]
    assert (head.timeout_s, head.encoding, head.path) == (None, b"identity", b"")


@given(st.sampled_from(GrpcCode), st.text(max_size=3_000))
@example(GrpcCode.INTERNAL, "ä" * 3_000)
@example(GrpcCode.INTERNAL, "x" + "ä" * 3_000)
@example(GrpcCode.INTERNAL, "xx" + "ä" * 3_000)
@example(GrpcCode.NOT_FOUND, "\ud800 half a character")
def test_an_ending_reads_as_it_was_meant(status: GrpcCode, sentence: str) -> None:
    decoded = {bytes(name): bytes(value) for name, value in hpack.Decoder().decode(ending(status, sentence), raw=True)}
    assert int(decoded[b"grpc-status"]) == status
    coded = decoded.get(b"grpc-message", b"")
    assert len(coded) <= DETAILS_BYTES_MAX
    assert all(0x20 <= byte <= 0x7E for byte in coded)
    whole = sentence.encode("utf-8", "replace")
    said = unquote_to_bytes(coded)
    assert whole.startswith(said)
    assert said == whole or len(coded) > DETAILS_BYTES_MAX - 3


def test_a_sentence_of_any_size_costs_what_is_said_of_it() -> None:
    """It may name what the client has sent: 60 MB, each byte of which would be an object of its own for a while."""
    sentence = "\1" * 3_000_000
    tracemalloc.start()
    try:
        ending(GrpcCode.NOT_FOUND, sentence)
        assert tracemalloc.get_traced_memory()[1] < 1_000_000
    finally:
        tracemalloc.stop()


@pytest.mark.parametrize(
    ("block", "expected"),
    [
        (RESPONSE, [(":status", "200"), ("content-type", "application/grpc")]),
        (ANSWERED, [("grpc-status", "0")]),
        (NOT_GRPC, [(":status", "415"), ("content-type", "text/plain")]),
    ],
)
def test_constant_blocks_touch_no_table(block: bytes, expected: list[tuple[str, str]]) -> None:
    decoder = hpack.Decoder()
    assert [tuple(field) for field in decoder.decode(block)] == expected
    assert not decoder.header_table.dynamic_entries
