"""A queue that never grows, and says what it gave up.

The failure this exists for: a camera that is faster than its model, and a process that dies of the frames in between.
Somebody has to give way when the queue is full, and the configuration says who. Thread-safe.
"""

import threading
from collections import deque
from typing import Generic, TypeVar

Item = TypeVar("Item")


class BoundedQueue(Generic[Item]):
    """First in, first out."""

    def __init__(self, size_max: int, drop: str) -> None:
        """``drop``: ``oldest``, ``newest`` or ``block``; see config.StreamConfig."""
        self._items: deque[Item] = deque()
        self._size_max = size_max
        self._drop = drop
        self._changed = threading.Condition()
        self._is_closed = False

    def offer(self, item: Item) -> Item | None:
        """Put in; returns what was given up for want of room, which may be ``item`` itself, or ``None``.

        Under ``block`` it waits for room instead. A closed queue takes nothing, and gives up nothing.
        """
        with self._changed:
            if self._drop == "block":
                self._changed.wait_for(lambda: self._is_closed or len(self._items) < self._size_max)
            if self._is_closed:
                return None
            dropped: Item | None = None
            if len(self._items) >= self._size_max:
                if self._drop == "newest":
                    return item
                dropped = self._items.popleft()
            self._items.append(item)
            self._changed.notify_all()
            return dropped

    def take(self) -> Item | None:
        """Wait for the next; ``None`` once the queue is closed, whatever is left in it."""
        with self._changed:
            self._changed.wait_for(lambda: self._is_closed or bool(self._items))
            if self._is_closed:
                return None
            item = self._items.popleft()
            self._changed.notify_all()
            return item

    def close(self) -> None:
        """Wake everybody; nothing goes in or out any more."""
        with self._changed:
            self._is_closed = True
            self._changed.notify_all()

    def __len__(self) -> int:
        """How many wait."""
        return len(self._items)
