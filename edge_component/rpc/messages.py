"""The messages inside a call's data: each has five bytes before it, whether it is compressed and how long it is. Pure.

The failures this exists for: a message that says it has 4 GB, a compressed one that unpacks to them, and half a megabyte
that is copied three times on its way. A message's memory is taken once, when its length is known and allowed; what follows
is written straight into it, by the socket itself where the frame holds nothing else (:meth:`Incoming.room`). Large messages
lie so that what is in them can be used where it lies, and their memory is used again (:class:`Memory`).
"""

import struct
import zlib
from collections import deque

import numpy as np

from edge_component.rpc.errors import CallEnded, GrpcCode

PREFIX = struct.Struct(">BI")
Buffer = bytes | bytearray | memoryview
_WINDOW_BITS = {b"gzip": 16 + zlib.MAX_WBITS, b"deflate": zlib.MAX_WBITS}
ENCODINGS = frozenset((b"identity", *_WINDOW_BITS))


ALIGNMENT_BYTES = 64
SMALL_BYTES = 16_384
"""Up to which a message is copied where it must be aligned, rather than placed."""
KEPT_BYTES = 4_194_304
"""A larger message's memory is given back after its call."""


class Memory:
    """Where one connection's messages lie. New memory of half a megabyte costs 150 page faults; so one piece is kept.

    Attributes:
        aligned_at: the byte of a large message that is to lie at a multiple of ``ALIGNMENT_BYTES``: where in the last ones
            the part began that is used where it lies.
    """

    __slots__ = ("_kept", "aligned_at")

    def __init__(self) -> None:
        """Nothing yet."""
        self.aligned_at = 0
        self._kept: deque[np.ndarray[tuple[int], np.dtype[np.uint8]]] = deque(maxlen=1)

    def take(self, size: int) -> memoryview:
        """For one message; by the thread that reads."""
        if size <= SMALL_BYTES:
            return memoryview(bytearray(size))
        wanted = size + ALIGNMENT_BYTES
        kept = self._kept.popleft() if self._kept else None
        block = kept if kept is not None and len(kept) >= wanted else np.empty(wanted, np.uint8)
        begin = -(block.ctypes.data + self.aligned_at) % ALIGNMENT_BYTES
        return block.data[begin : begin + size]

    def give_back(self, message: Buffer) -> None:
        """Nobody looks at it any more; from any thread."""
        block: object = message.obj if isinstance(message, memoryview) else None
        if isinstance(block, np.ndarray) and len(block) <= KEPT_BYTES:
            self._kept.append(block)


class Incoming:
    """One call's messages, as they come.

    Attributes:
        whole: those that are complete, in their order, unpacked.
        held_bytes: the memory of those and of the one that is coming.
    """

    __slots__ = (
        "_at",
        "_bytes_max",
        "_encoding",
        "_is_compressed",
        "_memory",
        "_message",
        "_prefix",
        "held_bytes",
        "whole",
    )

    def __init__(self, encoding: bytes, bytes_max: int, memory: Memory) -> None:
        """``bytes_max`` is for one message."""
        self._memory = memory
        self.whole: deque[Buffer] = deque()
        self.held_bytes = 0
        self._encoding = encoding
        self._bytes_max = bytes_max
        self._prefix = b""
        self._message: memoryview | None = None
        self._is_compressed = 0
        self._at = 0

    @property
    def is_broken_off(self) -> bool:
        """In the middle of a message."""
        return self._message is not None or bool(self._prefix)

    def take(self, data: memoryview) -> None:
        """What came next.

        Raises:
            CallEnded: a message is too large, or cannot be unpacked.
        """
        while len(data):
            if self._message is None:
                data = self._begin(data)
            else:
                size = min(len(data), len(self._message) - self._at)
                self._message[self._at : self._at + size] = data[:size]
                self.filled(size)
                data = data[size:]

    def room(self, size: int) -> memoryview | None:
        """Where the next ``size`` bytes belong, if all of them are this message's; report what was written by :meth:`filled`."""
        message = self._message
        return message[self._at : self._at + size] if message is not None and size <= len(message) - self._at else None

    def filled(self, size: int) -> None:
        """So many bytes were written where they belong.

        Raises:
            CallEnded: the message is complete and cannot be unpacked.
        """
        self._at += size
        message = self._message
        if message is not None and self._at == len(message):
            self._message = None
            self.whole.append(self._unpacked(message) if self._is_compressed else message)

    def release(self, message: Buffer) -> None:
        """Nobody looks at a message any more."""
        self.held_bytes -= len(message)
        self._memory.give_back(message)

    def release_all(self) -> None:
        """The call is over."""
        while self.whole:
            self.release(self.whole.popleft())

    def _begin(self, data: memoryview) -> memoryview:
        """Read the five bytes, or as many of them as are there; returns what follows."""
        wanted = PREFIX.size - len(self._prefix)
        self._prefix += data[:wanted]
        if len(self._prefix) < PREFIX.size:
            return data[wanted:]
        self._is_compressed, size = PREFIX.unpack(self._prefix)
        self._prefix = b""
        if size > self._bytes_max:
            raise self._too_large(f"{size} bytes")
        if self._is_compressed and self._encoding == b"identity":
            raise CallEnded(
                GrpcCode.INTERNAL, "a message is marked as compressed, and grpc-encoding names no compression"
            )
        self._message, self._at = self._memory.take(size), 0
        self.held_bytes += size
        self.filled(0)  # an empty one is complete
        return data[wanted:]

    def _unpacked(self, message: memoryview) -> bytes:
        unpacker = zlib.decompressobj(_WINDOW_BITS[self._encoding])
        try:
            content = unpacker.decompress(message, self._bytes_max + 1)
        except zlib.error as error:
            raise CallEnded(GrpcCode.INTERNAL, f"a message is not {self._encoding.decode()}: {error}") from error
        if len(content) > self._bytes_max:
            raise self._too_large("more than that, unpacked")
        if not unpacker.eof:
            raise CallEnded(GrpcCode.INTERNAL, f"a message ends in the middle of its {self._encoding.decode()}")
        self.held_bytes += len(content)
        self.release(message)
        return content

    def _too_large(self, size: str) -> CallEnded:
        return CallEnded(
            GrpcCode.RESOURCE_EXHAUSTED, f"a message may have {self._bytes_max} bytes; this one has {size}"
        )
