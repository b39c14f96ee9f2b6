"""What comes in on one connection, as bytes: waited for, within bounds, and put where it belongs.

The failures this exists for: one byte a second, a frame that never ends, and half a megabyte copied from buffer to buffer.
A frame that has begun must be there within ``frame_s``; a message's bytes are received into its own memory.

Belongs to whichever thread reads the connection.
"""

import time
from collections.abc import Callable

from edge_component.rpc.duplex import Duplex
from edge_component.rpc.errors import CallEnded
from edge_component.rpc.frames import HEAD_BYTES, read_head
from edge_component.rpc.messages import Incoming

BUFFER_BYTES = 65_536
WAITED_NS = 15_000
"""A receive that takes less finds bytes waiting: whoever sent them had not waited for an answer first."""


class Intake:
    """See the module's text.

    Attributes:
        received_count: how often the connection was asked for more.
        overlaps_count: how often in a row something was there already when the next frame was waited for.
    """

    def __init__(self, duplex: Duplex, frame_s: float, on_idle: Callable[[float], None]) -> None:
        """``on_idle`` is told for how long nothing has come, each time the connection's own limit passes; it may raise.

        Where something always comes it is told 0 each ``frame_s``: who sends a byte a second is late all the same.
        """
        self._duplex = duplex
        self._frame_s = frame_s
        self._frame_ns = self._look_ns = int(frame_s * 1e9)
        self._look_ns += time.perf_counter_ns()
        self._on_idle = on_idle
        self._buffer = bytearray(BUFFER_BYTES)
        self._view = memoryview(self._buffer)
        self._at = self._end = 0
        self.received_count = self.overlaps_count = 0

    def head(self, *, may_idle: bool = True) -> tuple[int, int, int, int] | None:
        """The next frame's kind, flags, stream and payload size; ``None`` at the end.

        Raises:
            OSError: the end came in its middle, or it did not come in time.
        """
        if self._end - self._at < HEAD_BYTES:
            if self._at == self._end:
                began_ns = time.perf_counter_ns()
                if began_ns > self._look_ns and may_idle:
                    self._look_ns = began_ns + self._frame_ns
                    self._on_idle(0.0)
                if not self._receive(may_idle=may_idle):
                    return None
                overlaps = time.perf_counter_ns() - began_ns < WAITED_NS
                self.overlaps_count = self.overlaps_count + 1 if overlaps else 0
            self._have(HEAD_BYTES)
        self._at += HEAD_BYTES
        return read_head(self._buffer, self._at - HEAD_BYTES)

    def take(self, size: int) -> bytes:
        """The next bytes, up to ``BUFFER_BYTES``.

        Raises:
            OSError: as :meth:`head`.
        """
        self._have(size)
        self._at += size
        return bytes(self._view[self._at - size : self._at])

    def take_into(self, incoming: Incoming | None, size: int) -> None:
        """The next bytes, into a call's messages; without a call, nowhere.

        Raises:
            CallEnded: the messages cannot be taken; all bytes were.
            OSError: as :meth:`head`.
        """
        trouble: CallEnded | None = None
        ends_at_s = 0.0
        while size:
            there = min(self._end - self._at, size)
            target = incoming if trouble is None else None
            room = target.room(size) if target is not None and not there else None
            if not there:
                ends_at_s = self._in_time(ends_at_s)
            try:
                if there:
                    self._at += there
                    size -= there
                    if target is not None:
                        target.take(self._view[self._at - there : self._at])
                elif room is not None and target is not None:
                    received = self._received(self._duplex.receive(room))  # straight to where it belongs
                    size -= received
                    target.filled(received)
                else:
                    self._received(self._receive(may_idle=False))
            except CallEnded as ended:
                trouble = ended
        if trouble is not None:
            raise trouble

    def _have(self, size: int) -> None:
        """Wait until so many bytes are in the buffer."""
        ends_at_s = 0.0
        while self._end - self._at < size:
            ends_at_s = self._in_time(ends_at_s)
            self._received(self._receive(may_idle=False))

    def _in_time(self, ends_at_s: float) -> float:
        """When what has begun must be there; 0 asks for that for the first time."""
        now_s = time.monotonic()
        if not ends_at_s:
            return now_s + self._frame_s
        if now_s > ends_at_s:
            raise TimeoutError("a frame took too long")
        return ends_at_s

    def _received(self, size: int) -> int:
        if not size:
            raise ConnectionResetError("hung up in the middle of a frame")
        return size

    def _receive(self, *, may_idle: bool) -> int:
        """More into the buffer, 0 at the end. What lies there moves to its front."""
        if self._at == self._end:
            self._at = self._end = 0
        elif self._at:
            left = self._end - self._at
            self._buffer[:left] = self._buffer[self._at : self._end]
            self._at, self._end = 0, left
        self.received_count += 1
        began_s = 0.0
        while True:
            try:
                size = self._duplex.receive(self._view[self._end :] if self._end else self._view)
            except TimeoutError:
                if not may_idle:
                    raise
                now_s = time.monotonic()
                began_s = began_s or now_s - self._frame_s
                self._on_idle(now_s - began_s)
            else:
                self._end += size
                return size
