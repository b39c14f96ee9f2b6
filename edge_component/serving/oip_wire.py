"""The two messages of a prediction as protobuf writes them, where building objects for them costs more than the model. Pure.

The failure this exists for: 40 us of parsing and building for a message that is the last one but for its tensors (measured,
cold). So of a request we find where its raw contents lie, and of an answer we write what comes before them once.
Everything else is protobuf's own (grpc_service.py); tests hold both to be equal.

Wire format: https://protobuf.dev/programming-guides/encoding. Field numbers are oip.proto's.
"""

from collections.abc import Iterable, Sequence

from edge_component.rpc.messages import Buffer

Mark = tuple[int, bytes, int]
"""Where a raw content's field begins, its tag and length as written, and where the content ends."""


def _tag(field: int) -> bytes:
    """Of a field that is text, bytes or a message."""
    return bytes((field << 3 | 2,))


RAW_INPUT = _tag(7)
RAW_OUTPUT = _tag(6)
_VARINT = 0


def varint(number: int) -> bytes:
    """Seven bits a byte, the lowest first; of a negative number its 64-bit two's complement."""
    number &= 0xFFFFFFFFFFFFFFFF
    coded = bytearray()
    while number > 0x7F:
        coded.append(number & 0x7F | 0x80)
        number >>= 7
    coded.append(number)
    return bytes(coded)


def tail_of(data: Buffer, sizes: Sequence[int]) -> tuple[Mark, ...] | None:
    """Where raw contents of these sizes lie, if a request's bytes end in exactly them; else ``None``."""
    marks: list[Mark] = []
    end = len(data)
    for size in reversed(sizes):
        mark = RAW_INPUT + varint(size)
        at = end - size - len(mark)
        if at < 0 or data[at : at + len(mark)] != mark:
            return None
        marks.append((at, mark, end))
        end = at
    marks.reverse()
    return tuple(marks)


def text_field(field: int, text: str) -> bytes:
    """A field of text; nothing for none, as proto3 has it."""
    coded = text.encode()
    return _tag(field) + varint(len(coded)) + coded if coded else b""


def message_field(field: int, content: bytes) -> bytes:
    """A field that is a message, or bytes that may be empty."""
    return _tag(field) + varint(len(content)) + content


def output_field(name: str, datatype: str, shape: Iterable[int], parameters: Iterable[tuple[str, str | int]]) -> bytes:
    """One of an answer's ``outputs``, without contents."""
    sizes = b"".join(map(varint, shape))
    packed = message_field(3, sizes) if sizes else b""
    entries = b"".join(message_field(4, _entry(key, value)) for key, value in parameters)
    return message_field(5, text_field(1, name) + text_field(2, datatype) + packed + entries)


def answer_head(name: str, version: str, request_id: str, outputs: Iterable[bytes]) -> bytes:
    """A ``ModelInferResponse`` up to its raw contents."""
    return b"".join((text_field(1, name), text_field(2, version), text_field(3, request_id), *outputs))


def _entry(key: str, value: str | int) -> bytes:
    """A parameter: text, or a whole number."""
    chosen = message_field(3, value.encode()) if isinstance(value, str) else b"\x10" + varint(value)
    return text_field(1, key) + message_field(2, chosen)
