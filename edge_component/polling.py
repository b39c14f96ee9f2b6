"""Whether a connection's thread looks for its client's next request for a while before it sleeps.

The failure this exists for: a core that falls asleep between two requests. In a virtual machine waking it takes 20 to 50 us,
and what runs then finds cold caches: a small gRPC call took 240 us, and 160 where its server had looked first (measured).
A hypervisor does the same before it halts a guest (Linux, Documentation/virt/kvm/halt-polling.rst), and as there it adapts:
a connection polls only while its client asks again at once, while nobody else is served, and while it finds something. So
whoever asks at a camera's or a control loop's pace makes nobody burn anything.

A thread that polls keeps off the core where it was when it began, since that is where its client is: the kernel wakes the
one beside the other, and a client that shares a core with who waits for it can only lose. It is not for a client that is
served on its own core (serving/core_follower.py).

What receives belongs to whichever thread does; :class:`Polling` is the process's.
"""

import os
import socket
import threading
from time import perf_counter_ns

from edge_component.config import RuntimeConfig
from edge_component.cores import ThreadOf, keep_to

Target = bytearray | memoryview

QUICK_COUNT = 8
"""Waits in a row that were short enough to be polled, before one is."""
QUICK_COUNT_MAX = 64
"""What that doubles up to, each time that polling was in vain."""
MISSES_FREE_COUNT = 3
"""Polls that may find nothing before it is in vain: at first the client may be waiting for this very core."""
FOUND_PER_MISS = 3
"""Polls that must have found something for each further one that did not."""
PUT_ASIDE_NS = 1_000_000
"""Between two looks: somebody else was given this core, and will want it again. (The client's own threads take less.)"""


class Eagerness:
    """How one connection's client has asked lately. Pure: time is told, not read.

    Attributes:
        polls: whether the next wait begins with a look.
    """

    def __init__(self, limit_ns: int) -> None:
        """A wait of up to ``limit_ns`` is short; 0 makes none so."""
        self.polls = False
        self._limit_ns = limit_ns
        self._quick_count = 0
        self._needed_count = QUICK_COUNT
        self._found_count = self._missed_count = self._in_a_row_count = 0

    @property
    def is_in_the_way(self) -> bool:
        """Whether the client may be waiting for the core that is polled on: one miss is a pause, two in a row are not."""
        return self._in_a_row_count > 0 and self._in_a_row_count % 2 == 0

    def waited(self, wait_ns: int, *, is_alone: bool) -> None:
        """A request came after so long, without polling; ``is_alone``: and nobody else was served meanwhile."""
        self._quick_count = self._quick_count + 1 if is_alone and wait_ns < self._limit_ns else 0
        self.polls = self._quick_count >= self._needed_count

    def found(self) -> None:
        """It came while it was polled for."""
        self._found_count += 1
        self._in_a_row_count = 0

    def missed(self) -> None:
        """It did not, or the core was wanted, or somebody else was served."""
        self._missed_count += 1
        self._in_a_row_count += 1
        if FOUND_PER_MISS * (self._missed_count - MISSES_FREE_COUNT) <= self._found_count:
            return
        in_vain = self._found_count <= FOUND_PER_MISS * MISSES_FREE_COUNT
        self._needed_count = min(2 * self._needed_count, QUICK_COUNT_MAX) if in_vain else QUICK_COUNT
        self.polls = False
        self._quick_count = self._found_count = self._missed_count = self._in_a_row_count = 0


class Polling:
    """What the connections of a process have in common.

    Attributes:
        limit_ns: how long a wait may be polled; 0 for not at all.
        cores: that this process may use.
        served: the socket that was received from last.
    """

    def __init__(self, limit_us: int) -> None:
        """With a single core the client needs it: then there is no polling."""
        self.cores = frozenset(os.sched_getaffinity(0))
        self.limit_ns = limit_us * 1000 if len(self.cores) > 1 else 0
        self.served: object = None


NEVER = Polling(0)


def polling(config: RuntimeConfig) -> Polling:
    """As configured; sessions with several threads want the other cores themselves, and hand on where they may run."""
    threads_count = max(config.intra_op_threads, config.inter_op_threads)
    return Polling(config.poll_us if threads_count == 1 else 0)


class PolledSocket:
    """Receives from a socket, polled or not."""

    def __init__(self, connection: socket.socket, polling: Polling) -> None:
        """The socket stays the caller's; it blocks."""
        self._receive_into = connection.recv_into
        self._polling = polling
        self._eagerness = Eagerness(polling.limit_ns)
        self._is_aside = False

    def receive_into(self, target: Target, flags: int = 0) -> int:
        """As the socket's own ``recv_into``, which also says what it raises; what is polled for comes in parts all the same."""
        is_alone = self._polling.served is self
        self._polling.served = self
        if self._eagerness.polls:
            return self._receive_eagerly(target, flags, is_alone=is_alone)
        began_ns = perf_counter_ns()
        received = self._receive_into(target, 0, flags)
        self._eagerness.waited(perf_counter_ns() - began_ns, is_alone=is_alone)
        return received

    def _receive_eagerly(self, target: Target, flags: int, *, is_alone: bool) -> int:
        eagerness = self._eagerness
        received = self._poll(target) if is_alone else None
        if received is not None:
            eagerness.found()
            return received
        eagerness.missed()
        if not eagerness.polls:
            self._step_back()
        return self._receive_into(target, 0, flags)

    def _poll(self, target: Target) -> int | None:
        """What has been received; ``None`` if nothing came."""
        if not self._is_aside or self._eagerness.is_in_the_way:
            self._step_aside()
        looked_ns = perf_counter_ns()
        ends_ns = looked_ns + self._polling.limit_ns
        while looked_ns < ends_ns:
            try:
                received = self._receive_into(target, 0, socket.MSG_DONTWAIT)
            except BlockingIOError:
                before_ns, looked_ns = looked_ns, perf_counter_ns()
                if looked_ns - before_ns > PUT_ASIDE_NS:
                    break
            else:
                return received
        return None

    def _step_aside(self) -> None:
        self._is_aside = True
        here = ThreadOf(os.getpid(), threading.get_native_id())
        core = here.core()
        here.close()
        keep_to(self._polling.cores - {core})

    def _step_back(self) -> None:
        self._is_aside = False
        keep_to(self._polling.cores)
