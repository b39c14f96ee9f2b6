"""On which core a thread runs, as the kernel shows it, and where it may.

The failure this exists for: two threads that wait for each other and are kept apart by a wake-up across cores, or that share
a core although one of them does not sleep. Who changes that must see where they are. And a thread inherits where it may run
from the one that started it, which may have been somewhere special at that moment: :func:`run_anywhere`.
"""

import logging
import os
from collections.abc import Set as AbstractSet

log = logging.getLogger(__name__)

PROCESSOR_FIELD = 36
"""Of ``/proc/<pid>/stat``, counted from the state that follows the parenthesised name: the core it ran on last."""


class ThreadOf:
    """A thread of this or another process, as the kernel shows it; holds one descriptor until :meth:`close`."""

    def __init__(self, process_id: int, thread_id: int) -> None:
        """A thread that cannot be seen has no core, for ever."""
        self._thread_id = thread_id
        self._descriptor = -1
        try:
            self._descriptor = os.open(f"/proc/{process_id}/task/{thread_id}/stat", os.O_RDONLY | os.O_CLOEXEC)
        except OSError as error:
            log.debug("a thread cannot be seen: %s", error)

    def core(self) -> int | None:
        """Where it ran last; ``None`` if that cannot be seen."""
        if self._descriptor < 0:
            return None
        try:
            fields = os.pread(self._descriptor, 1024, 0).rpartition(b")")[2].split()
            return int(fields[PROCESSOR_FIELD])
        except (OSError, ValueError, IndexError):  # the thread has ended
            return None

    def is_pinned(self) -> bool:
        """Whether it may run on one core alone; asked right after :meth:`core`, so the thread's number is still its own."""
        try:
            return len(os.sched_getaffinity(self._thread_id)) == 1
        except OSError:
            return False

    def close(self) -> None:
        """Let go of the descriptor."""
        if self._descriptor >= 0:
            os.close(self._descriptor)
            self._descriptor = -1


def run_anywhere() -> None:
    """Have the calling thread run wherever the process's main thread may."""
    keep_to(os.sched_getaffinity(os.getpid()))


def keep_to(cores: AbstractSet[int]) -> None:
    """Have the calling thread run on these cores; where that is not allowed, it goes on as before."""
    try:
        os.sched_setaffinity(0, cores)
    except OSError as error:  # a control group may forbid what the mask allowed
        log.debug("a thread stays where it is: %s", error)
