"""What live requests show of a change under way: how long each version takes, and, in the shadow stage, what is asked.

The failure this exists for: a model that is right and too slow, or right on its golden samples alone. Neither shows before
real requests do.

It looks on only while a change is under way: the observer is attached for just that long, so that in between a request
pays nothing. Latencies of what serves are kept from the offer on, so that a candidate is judged against its predecessor on
the same device, under the same load, minutes apart.

:meth:`LiveRequests.record` is called by the doors' threads, the rest by the activator's. Latencies lie in deques, whose
``append`` is atomic.
"""

from collections import deque
from collections.abc import Callable, Collection
from dataclasses import dataclass
from statistics import median_low
from typing import Protocol

from edge_component.inference.errors import RunCancelledError, RunDeadlineError
from edge_component.telemetry_sink import Outcome, Record, Tensors

LATENCIES_KEPT_MAX = 4096
"""Of one version; the latest ones."""
TIMED_CODES = (None, RunDeadlineError.code, RunCancelledError.code)
"""A run that was stopped took at least that long, also where its client would not wait: leaving it out would make a slow
model look fast."""


@dataclass(frozen=True, slots=True)
class Latency:
    """How long a version took: the median over ``count`` requests."""

    count: int = 0
    median_us: int = 0


UNTIMED = Latency()


class Mirror(Protocol):
    """Is shown answered requests; must not raise, and copies what it keeps."""

    def __call__(self, inputs: Tensors, outputs: Tensors) -> None:
        """One request and its answer."""


class LiveRequests:
    """See the module's text."""

    def __init__(self, observe: Callable[[Record | None], None]) -> None:
        """``observe`` attaches the observer to all doors, or with ``None`` takes it away."""
        self._observe = observe
        self._latencies_us: dict[str, deque[int]] = {}
        self._mirrored: tuple[str, Mirror] | None = None

    def follow(self, digests: Collection[str]) -> None:
        """Time the requests of exactly these bundles from now on; what was kept of others is forgotten."""
        kept = self._latencies_us
        self._latencies_us = {digest: kept.get(digest) or deque(maxlen=LATENCIES_KEPT_MAX) for digest in digests}
        self._attach()

    def latency(self, digest: str) -> Latency:
        """Of one of those."""
        taken_us = list(self._latencies_us.get(digest, ()))
        return Latency(len(taken_us), median_low(taken_us)) if taken_us else UNTIMED

    def mirror(self, digest: str, mirror: Mirror) -> None:
        """Show what this bundle is asked, and answers, to somebody, until :meth:`stop_mirroring`."""
        self._mirrored = digest, mirror
        self._attach()

    def stop_mirroring(self) -> None:
        """No longer."""
        self._mirrored = None
        self._attach()

    def record(self, outcome: Outcome) -> None:
        """One request was answered or failed; see :class:`~edge_component.telemetry_sink.TelemetrySink`."""
        digest = outcome.model.digest
        taken_us = self._latencies_us.get(digest)
        if taken_us is not None and outcome.error_code in TIMED_CODES:
            taken_us.append(int(outcome.latency_us))
        mirrored = self._mirrored
        if mirrored is not None and outcome.error_code is None and mirrored[0] == digest:
            mirrored[1](outcome.inputs, outcome.outputs)

    def _attach(self) -> None:
        self._observe(self.record if self._latencies_us or self._mirrored else None)
