"""Which models are in memory: a budget, the least recently used idle ones out first, and memory truly given back.

The failures this exists for: a device whose models do not all fit, so that the kernel ends the runtime; and memory that
the allocator keeps after a model is gone (``malloc_trim(0)`` returns it: 120 → 58 MB over 25 reloads, measured).

A model counts against the budget until its session is truly gone, that is until the last request that holds it has been
answered: Python's references are the in-use counts, and a finalizer discharges. What is unloaded is loaded again by the
first request that asks for it. Recency is noticed by :meth:`Residents.notice`, about once a second, so that requests pay
nothing for it.

:func:`to_unload` decides; :class:`Residents` acts. Loading is one at a time (``loading``); charges may change in any thread.
"""

import ctypes
import logging
import threading
import weakref
from collections.abc import Callable, Mapping, Sequence
from copy import copy
from dataclasses import dataclass

from edge_component.clock import Clock
from edge_component.contracts.heartbeat import ModelRef
from edge_component.errors import DeviceError, MemoryBudgetError, UnknownModelError
from edge_component.inference.admission import Gate
from edge_component.inference.versions import Loaded, Loader, Version

log = logging.getLogger(__name__)

RETRY_S = 5.0
"""Requests for a version that could not be loaded are refused for so long before it is tried again."""

Candidates = Sequence[tuple[Version, Gate]]
Sleep = Callable[[Version], None]


@dataclass(frozen=True, slots=True)
class Resident:
    """A model in memory, as the decision sees it."""

    size_bytes: int
    used_s: float
    in_use: bool


def to_unload(residents: Sequence[Resident], over_bytes: int) -> list[int] | None:
    """Indices to unload, least recently used first, until ``over_bytes`` are free; ``None`` if that cannot be had."""
    if over_bytes <= 0:
        return []
    chosen: list[int] = []
    for index in sorted(range(len(residents)), key=lambda index: residents[index].used_s):
        if residents[index].in_use or not residents[index].size_bytes:
            continue
        chosen.append(index)
        over_bytes -= residents[index].size_bytes
        if over_bytes <= 0:
            return chosen
    return None


class Residents:
    """See the module's text."""

    def __init__(self, budget_bytes: int, clock: Clock) -> None:
        """Nothing in memory. ``budget_bytes`` 0 means no limit."""
        self.loader: Loader | None = None
        self.loading = threading.Lock()
        self._budget_bytes = budget_bytes
        self._clock = clock
        self._charges: dict[int, int] = {}
        self._sizes: dict[ModelRef, int] = {}
        self._charge_count = 0
        self._freed = threading.Event()

    @property
    def charged_bytes(self) -> int:
        """What is in memory, as measured when it was loaded."""
        return sum(self._charges.copy().values())

    def charge(self, version: Version, loaded: Loaded) -> None:
        """Count a session until it is gone. The caller holds the router's lock."""
        version.used_s = self._clock.monotonic_s()
        version.failure = None
        self._sizes[version.ref] = loaded.size_bytes
        if not loaded.size_bytes:
            return
        self._charge_count += 1
        self._charges[self._charge_count] = loaded.size_bytes
        weakref.finalize(loaded.session, self._discharge, self._charge_count).atexit = False

    def _discharge(self, number: int) -> None:
        self._charges.pop(number, None)
        self._freed.set()

    def make_room(self, ref: ModelRef, candidates: Candidates, sleep: Sleep) -> None:
        """Unload until this version fits.

        Raises:
            MemoryBudgetError: it does not fit beside what is in use.
        """
        if not self._budget_bytes:
            return
        needed_bytes = self._sizes.get(ref) or (self.loader.needed_bytes(ref) if self.loader is not None else 0)
        others = [(version, gate) for version, gate in candidates if version.ref != ref]
        residents = [
            Resident(self._sizes.get(version.ref, 0), version.used_s, gate.in_flight_count > 0)
            for version, gate in others
        ]
        chosen = to_unload(residents, self.charged_bytes + needed_bytes - self._budget_bytes)
        if chosen is None:
            raise MemoryBudgetError(
                f"{ref.name} {ref.version} takes about {needed_bytes} bytes; {self.charged_bytes} of "
                f"{self._budget_bytes} are taken by models that are in use"
            )
        for index in chosen:
            version = others[index][0]
            log.info("%s %s is unloaded to make room", version.ref.name, version.ref.version)
            sleep(version)
        self.give_back()

    def load(self, version: Version, candidates: Candidates, sleep: Sleep) -> Loaded:
        """Load a version again; the caller holds :attr:`loading`.

        Raises:
            DeviceError: it cannot be loaded; it is not tried again for ``RETRY_S``.
        """
        if version.failure is not None and self._clock.monotonic_s() < version.retry_s:
            raise copy(version.failure)
        try:
            if self.loader is None:
                raise UnknownModelError(f"{version.ref.name} {version.ref.version} is not in memory")
            self.make_room(version.ref, candidates, sleep)
            return self.loader.load(version.ref)
        except DeviceError as error:
            log.warning("%s %s cannot be loaded: %s", version.ref.name, version.ref.version, error)
            # A copy has no traceback: that would hold the frames of all who were refused, and with them models.
            version.failure, version.retry_s = copy(error), self._clock.monotonic_s() + RETRY_S
            raise

    def notice(self, candidates: Candidates, answered_counts: Mapping[int, int]) -> None:
        """Remember which versions have answered since the last look."""
        now_s = self._clock.monotonic_s()
        for version, _ in candidates:
            answered_count = answered_counts.get(version.generation, 0)
            if answered_count != version.answered_count:
                version.answered_count, version.used_s = answered_count, now_s

    def idle(self, candidates: Candidates, after_s: float) -> list[Version]:
        """Versions that have not answered for so long, and are not answering now."""
        now_s = self._clock.monotonic_s()
        return [
            version for version, gate in candidates if now_s - version.used_s >= after_s and not gate.in_flight_count
        ]

    def give_back(self) -> None:
        """Return to the kernel what models that are gone have left in the allocator."""
        if self._freed.is_set():
            self._freed.clear()
            trim_memory()


def trim_memory() -> bool:
    """``malloc_trim(0)``; whether this C library has it (glibc does, musl does not)."""
    try:
        trim = ctypes.CDLL(None).malloc_trim
    except AttributeError:
        return False
    trim.argtypes = (ctypes.c_size_t,)
    return bool(trim(0))
