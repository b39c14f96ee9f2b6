"""What the Open Inference Protocol's doors have answered, and how long it took: the statistics extension's figures.

Each thread that answers writes a ledger of its own, so that counting takes no lock; the ledgers are added up when somebody
asks. These are the doors' own figures: what the fast path answered is in the heartbeat and in telemetry, and
``inference_count`` here does not include it (a client computes averages from count and time together).

Of a request that was answered, ``success`` is the sum of the others, as in Triton: ``queue`` is what it waited for a place among
others, for its batch, for its turn in a sequence, or for a version that was asleep; ``compute_input`` its decoding,
``compute_infer`` the run and what surrounds it, ``compute_output`` the encoding. ``execution_count`` counts runs of the model:
requests that were computed together are one. A request that was refused, cancelled or failed is in ``fail`` alone.
"""

import threading
import time
from dataclasses import astuple, dataclass
from typing import Any, NamedTuple

from edge_component.clock import Clock
from edge_component.contracts.heartbeat import ModelRef

Document = dict[str, Any]


class Spent(NamedTuple):
    """Where a request's time went before its answer was encoded, and how many runs of the model it led."""

    input_ns: int
    queue_ns: int
    run_ns: int
    runs_count: int


@dataclass(slots=True)
class Figures:
    """Of one model version, as one thread counts it. Times are summed nanoseconds."""

    answered_count: int = 0
    rows_count: int = 0
    executions_count: int = 0
    answered_ns: int = 0
    queue_ns: int = 0
    input_ns: int = 0
    run_ns: int = 0
    output_ns: int = 0
    failed_count: int = 0
    failed_ns: int = 0
    last_at_ns: int = 0

    def answered(self, rows: int, spent: Spent, output_ns: int) -> None:
        """One request was answered; ``rows``: as many as its first input's first axis has."""
        self.answered_count += 1
        self.rows_count += rows
        self.executions_count += spent.runs_count
        self.input_ns += spent.input_ns
        self.queue_ns += spent.queue_ns
        self.run_ns += spent.run_ns
        self.output_ns += output_ns
        self.answered_ns += spent.input_ns + spent.queue_ns + spent.run_ns + output_ns
        self.last_at_ns = time.monotonic_ns()

    def failed(self, took_ns: int, runs_count: int) -> None:
        """One request was not; those computed with it may have been."""
        self.failed_count += 1
        self.executions_count += runs_count
        self.failed_ns += took_ns
        self.last_at_ns = time.monotonic_ns()


Ledger = dict[tuple[str, str], Figures]
"""By model name and version."""


def merged(left: Figures, right: Figures) -> Figures:
    """Both together; ``Figures()`` changes nothing."""
    total = Figures(*(one + other for one, other in zip(astuple(left), astuple(right), strict=True)))
    total.last_at_ns = max(left.last_at_ns, right.last_at_ns)
    return total


class Statistics:
    """All ledgers, of threads that still answer and of those that have ended."""

    def __init__(self, clock: Clock) -> None:
        """Nothing answered yet."""
        self._clock = clock
        self._open: list[Ledger] = []
        self._closed: Ledger = {}
        self._lock = threading.Lock()

    def open(self) -> Ledger:
        """A ledger for one thread."""
        ledger: Ledger = {}
        with self._lock:
            self._open.append(ledger)
        return ledger

    def close(self, ledger: Ledger) -> None:
        """Keep what a thread counted; it must not write any more."""
        with self._lock:
            self._open = [kept for kept in self._open if kept is not ledger]
            _add(self._closed, ledger)

    def total(self) -> Ledger:
        """Everything added up."""
        total: Ledger = {}
        with self._lock:
            for ledger in (self._closed, *self._open):
                _add(total, ledger.copy())
        return total

    def document(self, ref: ModelRef, version: str, *, batched: bool) -> Document:
        """One model version's element of ``model_stats``.

        Args:
            ref: whose.
            version: what it is called there.
            batched: whether each row of a request counts as an inference, as it does where the configuration has a batch.
        """
        figures = self.total().get((ref.name, ref.version), Figures())
        idle_ms = (time.monotonic_ns() - figures.last_at_ns) // 1_000_000
        now_ms = int(self._clock.now().timestamp() * 1000)
        count, none = figures.answered_count, _duration(0, 0)
        return {
            "name": ref.name,
            "version": version,
            "last_inference": now_ms - idle_ms if figures.last_at_ns else 0,
            "inference_count": figures.rows_count if batched else count,
            "execution_count": figures.executions_count,
            "inference_stats": {
                "success": _duration(count, figures.answered_ns),
                "fail": _duration(figures.failed_count, figures.failed_ns),
                "queue": _duration(count, figures.queue_ns),
                "compute_input": _duration(count, figures.input_ns),
                "compute_infer": _duration(count, figures.run_ns),
                "compute_output": _duration(count, figures.output_ns),
                "cache_hit": none,
                "cache_miss": none,
            },
            "batch_stats": [],
        }


def _duration(count: int, total_ns: int) -> Document:
    return {"count": count, "ns": total_ns}


def _add(total: Ledger, ledger: Ledger) -> None:
    for key, figures in ledger.items():
        total[key] = merged(total.get(key, Figures()), figures)
