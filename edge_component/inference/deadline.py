"""Stop runs that have outlived their deadline.

The failure this exists for: a graph that loops on one particular input and takes a serving thread with it for ever.
``RunOptions.terminate``, set from another thread, ends a run within about a millisecond and leaves the session usable
(measured). One thread sleeps until the first deadline of all runs under way, and at most ``LATE_S`` longer. Whoever begins
a run that must end sooner wakes it: with deadlines of seconds that is once in seconds, with ones of milliseconds it is
up in time anyway. So an ordinary request costs a comparison, and an idle runtime nothing.

A run may also outlive whoever wanted it: a leash that knows how to find out (:attr:`Leash.is_wanted`) is asked every
``TICK_S`` while its run is under way, so that a caller who hangs up costs a request nothing, and the model 50 ms. So that
short runs of that kind do not wake the watch one by one, it lingers for one tick after it was woken for nothing.

The fast path's requests may not even cost that much. Nobody is woken for :attr:`Leash.is_there`: while there are such
leashes and runs on them, the watch looks up every ``BEAT_S`` by itself, finds what has been under way that long, and goes
to sleep ``LINGER_S`` after the last run it has seen.

Each :class:`Leash` belongs to one connection's thread, and costs it no lock: the watcher announces what it is about to
do, looks again whether the same run is still under way, and only then stops it; the thread says first that its run is
over and then looks for an announcement. One of the two always sees the other, so the *next* run is never stopped.
"""

import threading
import time
import weakref
from collections.abc import Callable
from typing import Any

import onnxruntime as ort

from edge_component.clock import Clock

TICK_S = 0.05
"""How often a run is looked at whose caller may stop waiting for it."""
BEAT_S = 0.25
"""How often the watch looks up by itself while the fast path is used: four times 30 µs in a second."""
LINGER_S = 30.0
"""How long it goes on so without having seen a run, so that who asks more often than this wakes nobody."""
LATE_S = 0.01
"""How much later than its deadline a run may be stopped; so the watch looks at most once in that time, or is woken."""
NEVER_S = float("inf")


class Leash:
    """The run options of one thread, and until when its present run may last.

    Attributes:
        is_wanted: whether anybody still waits for the present run; set before the run, called from the watcher's thread,
            must not raise. ``None`` for always.
        is_there: the same for a connection's whole life, and for runs that nobody is to be woken for: asked within
            ``BEAT_S`` of the run's beginning, and every ``TICK_S`` from then on.
        company: the leashes of those for whom the present run is too: it ends when nobody of them all waits any more.
        waited_s: for how long the present request has waited for others, by computing.py and the detours.
        runs_count: how often the model has run to its end on this leash, for one request or for several together.
    """

    __slots__ = (
        "__weakref__", "_announced", "_ends_at_s", "_lock", "_monotonic_s", "_stopped", "_watch", "company", "is_there",
        "is_wanted", "options", "runs_count", "waited_s",
    )  # fmt: skip

    def __init__(self, clock: Clock, watch: "DeadlineWatch") -> None:
        """Not running."""
        self._watch = watch
        self._monotonic_s = clock.monotonic_s
        self._lock = threading.Lock()
        self._ends_at_s = NEVER_S
        self._announced = False
        self._stopped = False
        self.is_wanted: Callable[[], bool] | None = None
        self.is_there: Callable[[], bool] | None = None
        self.company: tuple[Leash, ...] = ()
        self.options = run_options()
        self.waited_s = 0.0
        self.runs_count = 0

    def start(self, allowed_s: float) -> None:
        """A run begins."""
        now_s = self._monotonic_s()
        look_at_s = self._ends_at_s = now_s + allowed_s
        if self.is_wanted is not None:
            look_at_s = min(look_at_s, now_s + TICK_S)
        if look_at_s < self._watch.wakes_before_s:
            self._watch.wake()

    def end(self) -> bool:
        """The run is over; returns whether it was stopped."""
        self._ends_at_s = NEVER_S
        return self._was_stopped() if self._announced else False

    def look(self, now_s: float) -> float:
        """Called by the watcher: stop the run if it is late or not wanted; returns when to look again, at the latest."""
        ends_at_s, company = self._ends_at_s, self.company
        if self._stopped or ends_at_s is NEVER_S:
            return NEVER_S
        if now_s <= ends_at_s and (self.is_waited_for() or any(other.is_waited_for() for other in company)):
            may_go = self.is_wanted is not None or self.is_there is not None
            return min(ends_at_s, now_s + TICK_S) if may_go else ends_at_s
        with self._lock:
            self._announced = True
            if self._ends_at_s is ends_at_s:  # the same run: each has a float object of its own
                self._stopped = True
                self.options.terminate = True
            else:
                self._announced = False
        return NEVER_S

    def is_waited_for(self) -> bool:
        """Called by the watcher: whether its own caller still waits."""
        asks = self.is_wanted or self.is_there
        return asks is None or asks()

    def _was_stopped(self) -> bool:
        with self._lock:
            stopped, self._stopped, self._announced = self._stopped, False, False
        if stopped:
            self.options = run_options()  # a terminated one ends every later run at once
        return stopped


class DeadlineWatch:
    """The thread that looks at every leash.

    Attributes:
        wakes_before_s: a run whose time ends before this must :meth:`wake` the watch when it begins.
    """

    def __init__(self, clock: Clock) -> None:
        """Start with :meth:`start`."""
        self._clock = clock
        self._leashes: weakref.WeakSet[Leash] = weakref.WeakSet()
        self._lock = threading.Lock()
        self._woken = threading.Event()
        self._stopping = False
        self._beats_until_s = -NEVER_S
        self.wakes_before_s = NEVER_S
        self._thread = threading.Thread(target=self._watch, name="deadlines", daemon=True)

    def start(self) -> None:
        """Begin to watch."""
        self._thread.start()

    def stop(self) -> None:
        """End the thread."""
        self._stopping = True
        self._woken.set()
        if self._thread.ident is not None:
            self._thread.join()

    def leash(self, is_there: Callable[[], bool] | None = None) -> Leash:
        """A new one, watched as long as its owner keeps it; see :attr:`Leash.is_there`."""
        leash = Leash(self._clock, self)
        leash.is_there = is_there
        with self._lock:
            self._leashes.add(leash)
        if is_there is not None:
            self.wake()  # it may be asleep until another's run is late
        return leash

    def wake(self) -> None:
        """Look again now."""
        self._woken.set()

    def _watch(self) -> None:
        was_woken = False
        while True:
            self._woken.clear()
            if self._stopping:  # asked after the clearing, so that a stop is never slept through
                return
            self.wakes_before_s = NEVER_S  # whatever begins while we look has us look again
            try:
                was_woken = self._woken.wait(self._look(lingers=was_woken))
            except MemoryError:  # a run may have taken all that memory_bytes_max allows: it is to end all the same
                time.sleep(TICK_S)

    def _look(self, *, lingers: bool) -> float | None:
        """Stop what is late; returns how long nothing can become late, ``None`` for as long as nothing begins.

        ``lingers``: where nothing is under way, come back after a tick all the same.
        """
        with self._lock:
            leashes = list(self._leashes)
        now_s = self._clock.monotonic_s()
        looks_at_s = min((leash.look(now_s) for leash in leashes), default=NEVER_S)
        if any(leash.is_there is not None for leash in leashes) and (lingers or looks_at_s != NEVER_S):
            self._beats_until_s = now_s + LINGER_S
        if looks_at_s == NEVER_S and lingers:
            looks_at_s = now_s + TICK_S
        elif now_s < self._beats_until_s:
            looks_at_s = min(looks_at_s, now_s + BEAT_S)
        if looks_at_s == NEVER_S:
            return None
        looks_at_s = max(looks_at_s, now_s + LATE_S)
        self.wakes_before_s = looks_at_s - LATE_S
        return min(looks_at_s - now_s, threading.TIMEOUT_MAX)


def run_options() -> Any:  # noqa: ANN401 - onnxruntime ships no types
    """New run options, with an entry that ONNX Runtime's Python layer looks for before every bound run.

    Where ``gpu_graph_id`` is missing, 1.31 finds out by a C++ exception, which costs 50 µs each time (measured). -1 says
    that there is no captured graph, which on a CPU is always so.
    """
    options = ort.RunOptions()
    options.add_run_config_entry("gpu_graph_id", "-1")
    return options
