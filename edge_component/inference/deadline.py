"""Stop runs that have outlived their deadline.

The failure this exists for: a graph that loops on one particular input and takes a serving thread with it for ever.
``RunOptions.terminate``, set from another thread, ends a run within about a millisecond and leaves the session usable
(measured). One thread looks at all runs every ``TICK_S``; the client's own wait is exact, so the tick only bounds how
long a lost thread stays lost, and costs next to nothing while idle.

Each :class:`Leash` belongs to one connection's thread, and costs it no lock: the watcher announces what it is about to
do, looks again whether the same run is still under way, and only then stops it; the thread says first that its run is
over and then looks for an announcement. One of the two always sees the other, so the *next* run is never stopped.
"""

import threading
import weakref
from typing import Any

import onnxruntime as ort

from edge_component.clock import Clock

TICK_S = 0.05
NEVER_S = float("inf")


class Leash:
    """The run options of one thread, and until when its present run may last."""

    __slots__ = ("__weakref__", "_announced", "_ends_at_s", "_lock", "_monotonic_s", "_stopped", "options")

    def __init__(self, clock: Clock) -> None:
        """Not running."""
        self._monotonic_s = clock.monotonic_s
        self._lock = threading.Lock()
        self._ends_at_s = NEVER_S
        self._announced = False
        self._stopped = False
        self.options = run_options()

    def start(self, allowed_s: float) -> None:
        """A run begins."""
        self._ends_at_s = self._monotonic_s() + allowed_s

    def end(self) -> bool:
        """The run is over; returns whether it was stopped."""
        self._ends_at_s = NEVER_S
        return self._was_stopped() if self._announced else False

    def stop_if_late(self, now_s: float) -> None:
        """Called by the watcher."""
        ends_at_s = self._ends_at_s
        if now_s <= ends_at_s or self._stopped:
            return
        with self._lock:
            self._announced = True
            if self._ends_at_s is ends_at_s:  # the same run: each has a float object of its own
                self._stopped = True
                self.options.terminate = True
            else:
                self._announced = False

    def _was_stopped(self) -> bool:
        with self._lock:
            stopped, self._stopped, self._announced = self._stopped, False, False
        if stopped:
            self.options = run_options()  # a terminated one ends every later run at once
        return stopped


class DeadlineWatch:
    """The thread that looks at every leash."""

    def __init__(self, clock: Clock, tick_s: float = TICK_S) -> None:
        """Start with :meth:`start`."""
        self._clock = clock
        self._tick_s = tick_s
        self._leashes: weakref.WeakSet[Leash] = weakref.WeakSet()
        self._lock = threading.Lock()
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._watch, name="deadlines", daemon=True)

    def start(self) -> None:
        """Begin to watch."""
        self._thread.start()

    def stop(self) -> None:
        """End the thread."""
        self._stopping.set()
        if self._thread.ident is not None:
            self._thread.join()

    def leash(self) -> Leash:
        """A new one, watched as long as its owner keeps it."""
        leash = Leash(self._clock)
        with self._lock:
            self._leashes.add(leash)
        return leash

    def _watch(self) -> None:
        while not self._stopping.wait(self._tick_s):
            with self._lock:
                leashes = list(self._leashes)
            now_s = self._clock.monotonic_s()
            for leash in leashes:
                leash.stop_if_late(now_s)


def run_options() -> Any:  # noqa: ANN401 - onnxruntime ships no types
    """New run options, with an entry that ONNX Runtime's Python layer looks for before every bound run.

    Where ``gpu_graph_id`` is missing, 1.31 finds out by a C++ exception, which costs 50 µs each time (measured). -1 says
    that there is no captured graph, which on a CPU is always so.
    """
    options = ort.RunOptions()
    options.add_run_config_entry("gpu_graph_id", "-1")
    return options
