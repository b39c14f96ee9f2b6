"""Requests by exact model since the process began: what a scrape reads, and what a window is not.

The failure this exists for: a dashboard that resets whenever a telemetry window closes. Counters only ever grow, and
are fed by the recorder's worker from the batches that it counts anyway, so that a request pays nothing for them.

Sum and bins are of all requests, failed ones included, as the windows' are. Any thread may read.
"""

import threading
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from edge_component.contracts.heartbeat import ModelRef
from edge_component.contracts.telemetry import EMPTY_COUNTS, ServiceCounts, merge_services
from edge_component.telemetry.window import count_service

MODELS_MAX = 64
"""Exact models that are remembered; the one that was asked for longest ago goes first."""


@dataclass(frozen=True, slots=True)
class ServiceTotal:
    """One exact model's.

    Attributes:
        lost_count: requests that were answered or failed, and that the recorder could not take in.
        latency_sum_us: of all that were counted.
    """

    counts: ServiceCounts = EMPTY_COUNTS
    lost_count: int = 0
    latency_sum_us: float = 0.0

    def __add__(self, other: "ServiceTotal") -> "ServiceTotal":
        """Add; associative, with ``ServiceTotal()`` as its zero."""
        return ServiceTotal(
            merge_services(self.counts, other.counts),
            self.lost_count + other.lost_count,
            self.latency_sum_us + other.latency_sum_us,
        )


@dataclass(slots=True)
class ServiceTotals:
    """A :class:`~edge_component.telemetry.recorder.Observer` that adds up."""

    _totals: dict[ModelRef, ServiceTotal] = field(default_factory=dict)
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def counted(
        self, model: ModelRef, latencies_us: Sequence[float], error_codes: Sequence[str], request_ids: Sequence[str]
    ) -> None:
        """See :class:`~edge_component.telemetry.recorder.Observer`."""
        del request_ids
        self._add(model, ServiceTotal(count_service(latencies_us, error_codes), 0, float(sum(latencies_us))))

    def lost(self, model: ModelRef, count: int) -> None:
        """See :class:`~edge_component.telemetry.recorder.Observer`."""
        self._add(model, ServiceTotal(lost_count=count))

    def by_model(self) -> Mapping[ModelRef, ServiceTotal]:
        """Everything so far."""
        with self._lock:
            return dict(self._totals)

    def _add(self, model: ModelRef, total: ServiceTotal) -> None:
        with self._lock:
            self._totals[model] = self._totals.pop(model, ServiceTotal()) + total  # the newest goes to the end
            while len(self._totals) > MODELS_MAX:
                del self._totals[next(iter(self._totals))]
