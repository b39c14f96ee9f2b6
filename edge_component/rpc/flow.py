"""How much may be sent: HTTP/2's flow control (RFC 9113, 5.2), for one connection's streams together. Pure but for waiting.

The failures this exists for: an answer that is larger than the client has room for, sent all the same; a client that says
nothing more and keeps a thread waiting for ever; and one that gives room byte by byte, each of which wakes all that wait. What
may be sent is taken before it is sent (:meth:`Outgoing.take`). Who waits is woken when there is room for it, one after the other.

Thread-safe: several calls of a connection answer at once while its reading thread hears of new room.
"""

import threading
import time
from collections.abc import Callable

from edge_component.rpc.errors import ConnectionBroken
from edge_component.rpc.frames import CONNECTION, FRAME_BYTES, FRAME_BYTES_MAX, WINDOW_BYTES, WINDOW_BYTES_MAX, Code

FRAME_BYTES_SENT = 1_048_576
"""The largest payload of ours: other calls' answers wait until one frame is written, and each has a time to be taken in."""

Wait = Callable[[], bool | None] | None


class Outgoing:
    """Room at the other end."""

    def __init__(self) -> None:
        """As every connection begins."""
        self._lock = threading.Lock()
        self._waiting: dict[int, threading.Condition] = {}
        """By stream, in the order in which they came; each stream has one answer."""
        self._connection = WINDOW_BYTES
        self._initial = WINDOW_BYTES
        self._streams: dict[int, int] = {}
        self._is_over = False
        self.frame_bytes = FRAME_BYTES

    def open(self, stream: int) -> None:
        """A stream begins."""
        with self._lock:
            self._streams[stream] = self._initial

    def close(self, stream: int) -> None:
        """It is over; whoever waits for its room waits no longer."""
        with self._lock:
            self._streams.pop(stream, None)
            self._tell(stream)

    def end(self) -> None:
        """The connection is over."""
        with self._lock:
            self._is_over = True
            for stream in self._waiting:
                self._tell(stream)

    def take(self, stream: int, wanted: int, wait: Wait, wait_s: float) -> int:
        """Take up to ``wanted`` bytes, more than nothing, and no more than a frame holds; 0 if they never come.

        ``wait`` is called instead of waiting where nobody else reads: it reads once, and says whether to go on; or ``None``:
        somebody else reads by now.
        """
        ends_at_s = time.monotonic() + wait_s
        while True:
            with self._lock:
                if wait is None and not self._room(stream):
                    changed = self._waiting[stream] = threading.Condition(self._lock)
                    changed.wait_for(lambda: self._room(stream) != 0, wait_s)
                    del self._waiting[stream]
                room = self._room(stream)
                taken = min(wanted, max(room, 0))
                if taken:
                    self._connection -= taken
                    self._streams[stream] -= taken
                if room:
                    self._tell_next()  # it may be this one alone that was told
                if taken:
                    return taken
            if room < 0 or wait is None or time.monotonic() > ends_at_s:
                return 0
            goes_on = wait()
            if goes_on is None:
                wait = None
            elif not goes_on:
                return 0

    def take_all(self, stream: int, wanted: int) -> bool:
        """Take exactly so many at once, if there is room for them in one frame."""
        with self._lock:
            if self._room(stream) < wanted:
                return False
            self._connection -= wanted
            self._streams[stream] -= wanted
            return True

    def more(self, stream: int, size: int) -> None:
        """The client has room for so much more, on a stream or on the connection.

        Raises:
            ConnectionBroken: for nothing more, or for more than there can be.
        """
        with self._lock:
            if not size:
                raise ConnectionBroken(Code.PROTOCOL_ERROR, "a window grows by nothing")
            if stream == CONNECTION:
                self._connection = _checked(self._connection + size)
                self._tell_next()
            elif stream in self._streams:  # else it is over
                self._streams[stream] = _checked(self._streams[stream] + size)
                self._tell(stream)

    def begin_with(self, size: int) -> None:
        """What a stream begins with has changed, and all that are open with it.

        Raises:
            ConnectionBroken: more than there can be.
        """
        with self._lock:
            grown, self._initial = _checked(size) - self._initial, size
            for stream, window in self._streams.items():
                self._streams[stream] = _checked(window + grown)
            self._tell_next()

    def frames_of(self, size: int) -> None:
        """The largest frame that the client takes.

        Raises:
            ConnectionBroken: less or more than there can be.
        """
        if not FRAME_BYTES <= size <= FRAME_BYTES_MAX:
            raise ConnectionBroken(Code.PROTOCOL_ERROR, f"frames of {size} bytes")
        self.frame_bytes = min(size, FRAME_BYTES_SENT)

    def _tell(self, stream: int) -> None:
        """Whoever waits with that one, if it need not any more."""
        changed = self._waiting.get(stream)
        if changed is not None and self._room(stream):
            changed.notify()

    def _tell_next(self) -> None:
        """The first that waits and need not; it tells the next one."""
        for stream, changed in self._waiting.items():
            if self._room(stream):
                changed.notify()
                return

    def _room(self, stream: int) -> int:
        """Negative where there will never be any."""
        window = self._streams.get(stream)
        if window is None or self._is_over:
            return -1
        return max(min(self._connection, window, self.frame_bytes), 0)


def _checked(window: int) -> int:
    if window > WINDOW_BYTES_MAX:
        raise ConnectionBroken(Code.FLOW_CONTROL_ERROR, f"a window of {window} bytes")
    return window
