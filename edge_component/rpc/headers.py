"""Header blocks: a client's read into a :class:`Head`, ours written.

The failure this exists for: a header block costs 15 to 40 us to decode in Python, and a client sends the same one with every
request. After its first requests a block is a row of references into the table that client and server keep alike; read
again while that table stands as it stood, it says the same. So what a block said is kept until the table changes.

What we write refers to nothing and is put into no table: a constant for each outcome. One reader belongs to one
connection's reading thread.
"""

from typing import NamedTuple

import hpack

from edge_component.rpc.errors import ConnectionBroken, GrpcCode
from edge_component.rpc.frames import Code

HEADERS_BYTES_MAX = 16_384
"""Of one call's headers, as HTTP/2 counts them: 32 bytes more than its text for each. A call with more is refused."""
BLOCK_BYTES_MAX = 262_144
"""Up to which a block is read all the same, since those after it refer to what it said. Beyond, the connection ends."""
FIELD_BYTES = 32
BLOCKS_KEPT = 64
TIMEOUT_S_MAX = 1e9
"""Beyond, no lock could wait for so long (``threading.TIMEOUT_MAX``); it is 31 years."""
DETAILS_BYTES_MAX = 4_096
"""Of an error's sentence, as it travels."""


class Head(NamedTuple):
    """A call's headers; all in lower case, as HTTP/2 has them.

    Attributes:
        fields: as they came.
        size: their bytes, counted as ``HEADERS_BYTES_MAX`` is.
        path: ``/package.Service/Method``.
        is_grpc: a POST whose content is gRPC's.
        timeout_s: how long the client waits; ``None`` for ever.
        encoding: of the messages: ``identity``, ``gzip``, ``deflate`` or something else.
    """

    fields: tuple[tuple[bytes, bytes], ...]
    size: int
    path: bytes
    is_grpc: bool
    timeout_s: float | None
    encoding: bytes

    def values(self, name: bytes) -> list[bytes]:
        """Those of all headers of that name."""
        return [value for key, value in self.fields if key == name]


class HeaderReader:
    """Reads one connection's header blocks, which must come in the order of their sending."""

    def __init__(self) -> None:
        """With the table as every connection begins."""
        self._decoder = hpack.Decoder(BLOCK_BYTES_MAX)
        self._kept: dict[bytes, Head] = {}

    def read(self, block: bytes) -> Head:
        """What the block says.

        Raises:
            ConnectionBroken: it cannot be decoded, so none after it can.
        """
        known = self._kept.get(block)
        if known is not None:
            return known
        before = self._table()
        try:
            fields = tuple((bytes(name), bytes(value)) for name, value in self._decoder.decode(block, raw=True))
        except hpack.OversizedHeaderListError as error:
            raise ConnectionBroken(
                Code.ENHANCE_YOUR_CALM, f"a call's headers have more than {BLOCK_BYTES_MAX} bytes"
            ) from error
        except hpack.HPACKError as error:
            raise ConnectionBroken(Code.COMPRESSION_ERROR, f"a header block cannot be read: {error}") from error
        head = read_fields(fields)
        now = self._table()
        if now[0] is not before[0] or now[1:] != before[1:]:
            self._kept.clear()  # every reference may mean another field now
        elif len(self._kept) < BLOCKS_KEPT and head.size <= HEADERS_BYTES_MAX:
            self._kept[block] = head
        return head

    def _table(self) -> tuple[object, int, int]:
        """Tells the table from what it becomes by any change: what is added is an object of its own, and comes first."""
        table = self._decoder.header_table
        entries = table.dynamic_entries
        return entries[0] if entries else None, len(entries), table.maxsize


def read_fields(fields: tuple[tuple[bytes, bytes], ...]) -> Head:
    """What gRPC needs to know of a call's headers."""
    by_name = dict(fields)
    is_grpc = by_name.get(b":method") == b"POST" and _is_grpc(by_name.get(b"content-type", b""))
    return Head(
        fields,
        sum(len(name) + len(value) + FIELD_BYTES for name, value in fields),
        by_name.get(b":path", b""),
        is_grpc,
        read_timeout(by_name.get(b"grpc-timeout", b"")),
        by_name.get(b"grpc-encoding", b"identity"),
    )


def _is_grpc(content_type: bytes) -> bool:
    """Also with an encoding or parameters behind it; ``application/grpc-web`` is another protocol."""
    return content_type == b"application/grpc" or content_type.startswith((b"application/grpc+", b"application/grpc;"))


_UNITS_S = {b"H": 3600.0, b"M": 60.0, b"S": 1.0, b"m": 1e-3, b"u": 1e-6, b"n": 1e-9}


def read_timeout(text: bytes) -> float | None:
    """The header ``grpc-timeout``: up to 8 digits, and one letter; ``None`` for what is not that, or is longer than any wait."""
    number, unit = text[:-1], _UNITS_S.get(text[-1:])
    if unit is None or not number.isdigit() or len(number) > 8:
        return None
    timeout_s = int(number) * unit
    return timeout_s if timeout_s <= TIMEOUT_S_MAX else None


def _literal(name: bytes, value: bytes) -> bytes:
    """A field that is put into no table (RFC 7541, 6.2.2)."""
    return b"\0" + _length(name) + name + _length(value) + value


def _length(text: bytes) -> bytes:
    """A string's length as a number with a 7-bit prefix (RFC 7541, 5.1), not Huffman coded."""
    if len(text) < 127:
        return bytes((len(text),))
    rest, coded = len(text) - 127, bytearray((127,))
    while rest >= 128:
        coded.append(rest & 0x7F | 0x80)
        rest >>= 7
    return bytes(coded) + bytes((rest,))


_NO_TABLE = b"\x20"
"""Our table has no room (RFC 7541, 6.3). Said, since a client that has lowered its limit takes no block until it is told."""
_OK = b"\x88"  # ``:status: 200``, the eighth entry of the table that every connection begins with
_CONTENT_TYPE = _literal(b"content-type", b"application/grpc")
RESPONSE = _NO_TABLE + _OK + _CONTENT_TYPE
"""Before an answer."""
ANSWERED = _literal(b"grpc-status", b"0")
"""After it."""
NOT_GRPC = _NO_TABLE + _literal(b":status", b"415") + _literal(b"content-type", b"text/plain")
"""To a request that is no call."""


def ending(status: GrpcCode, sentence: str) -> bytes:
    """After messages, if there were any: how the call ended."""
    block = _literal(b"grpc-status", b"%d" % status)
    if sentence:
        sayable = sentence[:DETAILS_BYTES_MAX]  # it may name what the client has sent, which may be megabytes
        block += _literal(b"grpc-message", _cut(percent_encoded(sayable)))
    if status is GrpcCode.UNIMPLEMENTED:
        block += _literal(b"grpc-accept-encoding", b"identity,deflate,gzip")
    return block


def _cut(details: bytes) -> bytes:
    """Not in the middle of a ``%XX``."""
    if len(details) <= DETAILS_BYTES_MAX:
        return details
    cut = details[:DETAILS_BYTES_MAX]
    return cut[: cut.rindex(b"%")] if b"%" in cut[-2:] else cut


def percent_encoded(sentence: str) -> bytes:
    """As gRPC's headers carry text: printable ASCII as it is, all else as ``%XX`` of its UTF-8."""
    return b"".join(
        b"%%%02X" % byte if byte < 0x20 or byte > 0x7E or byte == 0x25 else bytes((byte,))
        for byte in sentence.encode("utf-8", "replace")
    )
