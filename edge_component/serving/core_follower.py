"""Serve a client on the core where it runs.

The failure this exists for: a wake-up across cores. A client that waits for its answer sleeps while it is served, so the
two never compete, and waking somebody on the same core takes 3 µs where waking another core takes 10 (measured, in a
virtual machine). The kernel often finds that out by itself, and often does not; this makes it so.

It is worth it where a model's run is about as short as a wake-up. Longer ones are load that the scheduler should be free
to spread, so they are followed only to a client that is itself pinned to one core (``taskset``, ``sched_setaffinity``),
and only by one connection for each core: its inputs then lie in that core's caches, and nobody else's runs queue up
behind it. Sessions with several threads are never followed. How one gets there: nothing at all for short runs, where a
client that is not pinned is found again after a pause, and within ``LOOK_EVERY_COUNT`` requests; pin the asking thread for
long ones.

The kernel names the client's process (``SO_PEERCRED``), its hello the thread; a hint that leads nowhere (another process
namespace, a thread that has ended) is not followed. Belongs to one connection's thread.
"""

import logging
import os
import socket
import struct
import threading
from typing import Protocol

from edge_component.cores import keep_to

log = logging.getLogger(__name__)

LOOK_EVERY_COUNT = 256
"""Requests between two looks at most: less than 1 in 100 pays the 10 µs of one."""
LOOKS_APART_COUNT = 8
"""Requests between two looks at least, but for the first."""
PAUSE_NS = 2_000_000
"""From the beginning of one request to the next, from which on the client may have been moved meanwhile."""
LOOK_EVERY_US = 25_000
"""Of runs between two looks; so long runs do not leave a client's move unseen for seconds."""


def look_every_count(run_us: int) -> int:
    """After how many requests like this one to look again."""
    return min(max(LOOK_EVERY_US // max(run_us, 1), 1), LOOK_EVERY_COUNT)


class ClientThread(Protocol):
    """Where the thread that asks may be found."""

    def core(self) -> int | None:
        """Where it ran last; ``None`` if that cannot be seen."""

    def is_pinned(self) -> bool:
        """Whether it may run on one core alone."""


class LongRuns:
    """The cores to which long runs have been moved: one connection each. Any thread."""

    def __init__(self) -> None:
        """None yet."""
        self._lock = threading.Lock()
        self._cores: dict[int, object] = {}

    def take(self, core: int, owner: object) -> bool:
        """Whether ``owner`` may go there; what it had before is given back either way."""
        with self._lock:
            self._give_back(owner)
            return self._cores.setdefault(core, owner) is owner

    def give_back(self, owner: object) -> None:
        """It has gone elsewhere."""
        with self._lock:
            self._give_back(owner)

    def _give_back(self, owner: object) -> None:
        self._cores = {core: other for core, other in self._cores.items() if other is not owner}


class CoreFollower:
    """Moves the calling thread to its client's core, and lets it go again."""

    def __init__(self, client: ClientThread, run_us_max: int, long_runs: LongRuns) -> None:
        """Runs of up to ``run_us_max`` are short."""
        self._client = client
        self._run_us_max = run_us_max
        self._long_runs = long_runs
        self._allowed = os.sched_getaffinity(0)
        self._core: int | None = None

    def look(self, run_us: int) -> None:
        """Now and then, after a request that took ``run_us``; changes the calling thread's affinity if need be."""
        core, is_long = self._client.core(), run_us > self._run_us_max
        if is_long and core is not None and not self._client.is_pinned():
            core = None
        if is_long and core is not None:
            core = core if self._long_runs.take(core, self) else None
        else:
            self._long_runs.give_back(self)
        if core == self._core:
            return
        keep_to({core} if core in self._allowed else self._allowed)
        self._core = core

    def stop(self) -> None:
        """The client has gone."""
        self._long_runs.give_back(self)


def peer_process_id(connection: socket.socket) -> int:
    """Of the process that connected; 0 if it is in a namespace that this one does not see."""
    credentials = connection.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, struct.calcsize("3i"))
    process_id: int = struct.unpack("3i", credentials)[0]
    return process_id
