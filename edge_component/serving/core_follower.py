"""Serve a client on the core where it runs.

The failure this exists for: a wake-up across cores. A client that waits for its answer sleeps while it is served, so the
two never compete, and waking somebody on the same core takes 3 µs where waking another core takes 10 (measured, in a
virtual machine). The kernel often finds that out by itself, and often does not; this makes it so.

It is worth it where a model's run is about as short as a wake-up. Longer ones are left to the scheduler: their threads
are load that it should be free to spread, and sessions with several threads bring their own. How one gets there:
nothing at all with the default configuration; for a client that is itself pinned (``taskset``, ``sched_setaffinity``) it
is exact, for others it follows them within ``LOOK_EVERY_COUNT`` requests.

The kernel names the client's process (``SO_PEERCRED``), its hello the thread; a hint that leads nowhere (another process
namespace, a thread that has ended) is not followed. Belongs to one connection's thread.
"""

import logging
import os
import socket
import struct
from collections.abc import Callable

log = logging.getLogger(__name__)

LOOK_EVERY_COUNT = 256
"""Requests between two looks: less than 1 in 100 pays the 10 µs of one."""
PROCESSOR_FIELD = 36
"""Of ``/proc/<pid>/stat``, counted from the state that follows the parenthesised name: the core it ran on last."""

Processor = Callable[[], int | None]


class CoreFollower:
    """Moves the calling thread to its client's core, and lets it go again."""

    def __init__(self, processor: Processor, run_us_max: int) -> None:
        """``processor`` says where the client ran last, or ``None``; longer runs than ``run_us_max`` are not followed."""
        self._processor = processor
        self._run_us_max = run_us_max
        self._allowed = os.sched_getaffinity(0)
        self._core: int | None = None

    def look(self, run_us: int) -> None:
        """Now and then, after a request that took ``run_us``; changes the calling thread's affinity if need be."""
        core = self._processor() if run_us <= self._run_us_max else None
        if core == self._core:
            return
        try:
            os.sched_setaffinity(0, {core} if core in self._allowed else self._allowed)
        except OSError as error:  # a control group may forbid what the mask allowed
            log.debug("a client's core cannot be followed: %s", error)
        self._core = core


class ProcessorOf:
    """Where a thread of another process ran last; holds one descriptor until :meth:`close`."""

    def __init__(self, process_id: int, thread_id: int) -> None:
        """A thread that cannot be seen is answered by ``None`` for ever."""
        self._descriptor = -1
        try:
            self._descriptor = os.open(f"/proc/{process_id}/task/{thread_id}/stat", os.O_RDONLY | os.O_CLOEXEC)
        except OSError as error:
            log.debug("a client's thread cannot be followed: %s", error)

    def __call__(self) -> int | None:
        """The core's number."""
        if self._descriptor < 0:
            return None
        try:
            fields = os.pread(self._descriptor, 1024, 0).rpartition(b")")[2].split()
            return int(fields[PROCESSOR_FIELD])
        except (OSError, ValueError, IndexError):  # the thread has ended
            return None

    def close(self) -> None:
        """Let go of the descriptor."""
        if self._descriptor >= 0:
            os.close(self._descriptor)
            self._descriptor = -1


def peer_process_id(connection: socket.socket) -> int:
    """Of the process that connected; 0 if it is in a namespace that this one does not see."""
    credentials = connection.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, struct.calcsize("3i"))
    process_id: int = struct.unpack("3i", credentials)[0]
    return process_id
