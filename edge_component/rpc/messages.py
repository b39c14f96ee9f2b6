"""The messages inside a call's data: each has five bytes before it, whether it is compressed and how long it is. Pure.

The failures this exists for: a message that says it has 4 GB, a compressed one that unpacks to them, and half a megabyte
that is copied three times on its way. A message's memory is taken once, when its length is known and allowed; what follows
is written straight into it, by the socket itself where the frame holds nothing else (:meth:`Incoming.room`). Large messages
lie so that what is in them can be used where it lies, and their memory is used again (:class:`Memory`).
"""

import struct
import time
import zlib
from collections import deque
from collections.abc import Callable

import numpy as np

from edge_component.rpc.errors import CallEnded, GrpcCode

PREFIX = struct.Struct(">BI")
Buffer = bytes | bytearray | memoryview
_WINDOW_BITS = {b"gzip": 16 + zlib.MAX_WBITS, b"deflate": zlib.MAX_WBITS}
ENCODINGS = frozenset((b"identity", *_WINDOW_BITS))


ALIGNMENT_BYTES = 64
SMALL_BYTES = 16_384
"""Up to which a message is copied where it must be aligned, rather than placed."""
MESSAGE_BYTES = 256
"""What a message takes beside its content, at least: of many small ones, most."""
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
        is_waiting: the next one is to come later, until :meth:`admit`.
        since_ns: ``perf_counter_ns`` when the one that is coming began, or was admitted; 0 for a small one.
    """

    __slots__ = (
        "_ahead",
        "_at",
        "_awaited_bytes",
        "_bytes_max",
        "_claim",
        "_encoding",
        "_is_compressed",
        "_memory",
        "_message",
        "_prefix",
        "held_bytes",
        "is_waiting",
        "since_ns",
        "whole",
    )

    def __init__(
        self, encoding: bytes, bytes_max: int, memory: Memory, claim: Callable[[int], bool] = lambda _: True
    ) -> None:
        """``bytes_max`` is for one message; ``claim`` is told the size of each that is not small: whether it may come now."""
        self._memory = memory
        self._claim = claim
        self.is_waiting = False
        self.since_ns = 0
        self._ahead: bytes | bytearray = b""
        """Of a message that waits: what came before the client could know."""
        self._awaited_bytes = 0
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
        return self._message is not None or bool(self._prefix or self._awaited_bytes)

    @property
    def missing_bytes(self) -> int:
        """Of the message that is coming, if it need not wait."""
        message = self._message
        if message is not None:
            return len(message) - self._at
        return 0 if self.is_waiting else self._awaited_bytes - len(self._ahead)

    def admit(self) -> None:
        """A message that waits may come; from any thread."""
        self.since_ns = time.perf_counter_ns()
        self.is_waiting = False

    def take(self, data: memoryview) -> None:
        """What came next.

        Raises:
            CallEnded: a message is too large, or cannot be unpacked.
        """
        while len(data):
            if self._message is not None:
                size = min(len(data), len(self._message) - self._at)
                self._message[self._at : self._at + size] = data[:size]
                self.filled(size)
                data = data[size:]
            elif not self._awaited_bytes:
                data = self._begin(data)
            elif not self.is_waiting:
                self._place()
            else:
                self._ahead += data
                return

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
        self.held_bytes -= len(message) + MESSAGE_BYTES
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
        self._awaited_bytes, self.is_waiting, self.since_ns = size, size > SMALL_BYTES, 0
        if not self.is_waiting:
            self._place()
        elif self._claim(size):
            self.admit()
            self._place()
        else:
            self._ahead = bytearray()
        return data[wanted:]

    def _place(self) -> None:
        """Take the memory of the message that is coming."""
        self._message, self._at = self._memory.take(self._awaited_bytes), 0
        self.held_bytes += self._awaited_bytes + MESSAGE_BYTES
        self._awaited_bytes = 0
        ahead, self._ahead = self._ahead, b""
        if ahead:
            self._message[: len(ahead)] = ahead
        self.filled(len(ahead))  # an empty one is complete

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
        self.held_bytes += len(content) + MESSAGE_BYTES
        self.release(message)
        return content

    def _too_large(self, size: str) -> CallEnded:
        return CallEnded(
            GrpcCode.RESOURCE_EXHAUSTED, f"a message may have {self._bytes_max} bytes; this one has {size}"
        )
