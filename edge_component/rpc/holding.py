"""What one connection's requests may hold, and which large ones wait until there is room for them.

The failure this exists for: a client with many large requests at once. What it sends is either held, and there is no bound, or
refused, and it must ask again. So it is told to wait, by HTTP/2's own means: each call may send ``unasked_bytes`` by itself, and
a message that is larger gets the rest of its window only once its memory is claimed here, first come, first served. The
connection's window is never withheld: the bytes of those that wait are few, and whoever has claimed can always finish.
A claim lasts until the client has taken the answer, or has not in time: who opens several streams must read all of them.

Thread-safe: claimed by the thread that reads, given back by whoever has answered, who then admits the next.
"""

import threading
from collections.abc import Callable

Admit = Callable[[int, int], None]


class Holding:
    """One connection's."""

    def __init__(self, claimed_bytes_max: int, unasked_bytes: int, admit: Admit) -> None:
        """``admit`` is called, without any lock, when a message of a stream has its claim; with the stream and the size."""
        self._claimed_bytes_max = claimed_bytes_max
        self._unasked_bytes = unasked_bytes
        self._admit = admit
        self._lock = threading.Lock()
        self._claimed_bytes = 0
        self._claims: dict[int, int] = {}
        self._waiting: dict[int, int] = {}

    def claim(self, stream: int, size: int) -> bool:
        """A message of that size begins; whether it may come now. Else it is admitted later."""
        if size <= self._unasked_bytes:
            return True
        with self._lock:
            if self._waiting or self._claimed_bytes + size > self._claimed_bytes_max:
                self._waiting[stream] = size
                return False
            self._add(stream, size)
        self._admit(stream, size)
        return True

    def covers(self, stream: int, held_bytes: int) -> bool:
        """Whether a stream may hold so much, as messages that were unpacked or are small and many do; claims it if it may."""
        with self._lock:
            more = held_bytes - self._claims.get(stream, 0)
            if more <= self._unasked_bytes:
                return True
            if self._claimed_bytes + more > self._claimed_bytes_max:
                return False
            self._add(stream, more)
            return True

    def give_back(self, stream: int, size: int) -> None:
        """A message of that size is not held any more; its stream goes on."""
        if size > self._unasked_bytes and stream in self._claims:
            self._give_back(stream, size)

    def leave(self, stream: int) -> None:
        """Nothing of that stream is held, nor will be."""
        if stream in self._claims or stream in self._waiting:
            self._give_back(stream, self._claimed_bytes_max, is_over=True)

    def _give_back(self, stream: int, size: int, *, is_over: bool = False) -> None:
        with self._lock:
            if is_over:
                self._waiting.pop(stream, None)
            claimed = self._claims.pop(stream, 0)
            self._claimed_bytes -= claimed
            if claimed > size:
                self._add(stream, claimed - size)
            admitted = self._next()
        for each in admitted:
            self._admit(*each)

    def _next(self) -> list[tuple[int, int]]:
        """Those that waited and need no longer."""
        admitted = []
        for stream, size in list(self._waiting.items()):
            if self._claimed_bytes + size > self._claimed_bytes_max:
                break
            del self._waiting[stream]
            self._add(stream, size)
            admitted.append((stream, size))
        return admitted

    def _add(self, stream: int, size: int) -> None:
        self._claims[stream] = self._claims.get(stream, 0) + size
        self._claimed_bytes += size
