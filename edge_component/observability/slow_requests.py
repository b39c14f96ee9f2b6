"""One line for a request that took too long, and never a flood of them.

The failure this exists for: an overloaded device that spends its last time writing that it is overloaded. So at most
``reports_max`` lines are written in each ``period_s``; what is left out is counted and told with the next line. The
requests come from the recorder's worker, after they were answered: none waits for a log.
"""

import logging
from collections.abc import Sequence
from dataclasses import dataclass

from edge_component.clock import Clock
from edge_component.contracts.heartbeat import ModelRef

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class SlowLimits:
    """``threshold_ms``: from where on a request is slow, 0 for never; at most ``reports_max`` lines each ``period_s``."""

    threshold_ms: float = 0.0
    reports_max: int = 10
    period_s: float = 60.0


class SlowRequests:
    """A :class:`~edge_component.telemetry.recorder.Observer`; called by one thread."""

    def __init__(self, limits: SlowLimits, clock: Clock) -> None:
        """Nothing was slow yet."""
        self._limits = limits
        self._clock = clock
        self._period_began_s = clock.monotonic_s()
        self._reported_count = 0
        self._suppressed_count = 0

    def counted(
        self, model: ModelRef, latencies_us: Sequence[float], error_codes: Sequence[str], request_ids: Sequence[str]
    ) -> None:
        """See :class:`~edge_component.telemetry.recorder.Observer`."""
        threshold_us = self._limits.threshold_ms * 1000
        if not threshold_us or max(latencies_us, default=0) < threshold_us:
            return
        for latency_us, code, request_id in zip(latencies_us, error_codes, request_ids, strict=True):
            if latency_us >= threshold_us and self._may_report():
                self._report(model, latency_us, code, request_id)

    def lost(self, model: ModelRef, count: int) -> None:
        """See :class:`~edge_component.telemetry.recorder.Observer`: how long they took is not known."""

    def _may_report(self) -> bool:
        now_s = self._clock.monotonic_s()
        if now_s - self._period_began_s >= self._limits.period_s:
            self._period_began_s, self._reported_count = now_s, 0
        if self._reported_count >= self._limits.reports_max:
            self._suppressed_count += 1
            return False
        self._reported_count += 1
        return True

    def _report(self, model: ModelRef, latency_us: float, code: str, request_id: str) -> None:
        suppressed_count, self._suppressed_count = self._suppressed_count, 0
        log.warning(
            "slow request: %s %s took %.1f ms (threshold %g ms), %s%s%s",
            model.name,
            model.version,
            latency_us / 1000,
            self._limits.threshold_ms,
            code or "answered",
            f", request {_in_one_line(request_id)}" if request_id else "",
            f"; {suppressed_count} more were not reported" if suppressed_count else "",
            extra={
                "model": model.name,
                "model_version": model.version,
                "latency_ms": round(latency_us / 1000, 3),
                "error_code": code,
                "request_id": request_id,
            },
        )


def _in_one_line(request_id: str) -> str:
    """A client's words cannot make a second line, nor hide one."""
    return request_id if request_id.isprintable() else ascii(request_id)
