"""What a scrape shows, as values: the counters that serving keeps anyway, put under names that Prometheus knows.

The failure this exists for: metrics whose upkeep is felt by requests. Nothing here is called by a request; a scrape adds
up what connections, the recorder's worker, gates and streams have counted for themselves.

A counter may lag by what waits in the recorder's ring, half a second at most. Pure, but for :func:`read_process`.
"""

import os
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from edge_component.contracts.heartbeat import ModelRef, OutboxState
from edge_component.contracts.telemetry import LATENCY_BOUNDS_US
from edge_component.observability.exposition import Family, Sample, histogram_samples
from edge_component.observability.service_totals import ServiceTotal

BOUNDS_S = tuple(bound_us / 1_000_000 for bound_us in LATENCY_BOUNDS_US)


@dataclass(frozen=True, slots=True)
class Occupancy:
    """One model name's places: requests being computed, and waiting for that."""

    in_flight_count: int
    waiting_count: int


@dataclass(frozen=True, slots=True)
class ProcessFigures:
    """This process, as the kernel counts it; ``started_s`` in seconds since 1970."""

    resident_bytes: int
    processor_s: float
    descriptors_count: int
    threads_count: int
    started_s: float


@dataclass(frozen=True, slots=True)
class DeviceFigures:
    """Everything that one scrape tells.

    Attributes:
        serving: what answers for each model name.
        totals: requests by exact model, of this process.
        counters: more counters, of doors and streams, already as families.
    """

    version: str
    process: ProcessFigures
    serving: Mapping[str, ModelRef]
    totals: Mapping[ModelRef, ServiceTotal]
    occupancy: Mapping[str, Occupancy]
    resident_model_bytes: int
    outbox: OutboxState
    counters: Sequence[Family] = ()


ReadFigures = Callable[[], DeviceFigures]


def families(figures: DeviceFigures) -> Iterator[Family]:
    """In the order in which they are written."""
    yield Family("edgewright_runtime_info", "gauge", "The runtime.", [Sample({"version": figures.version}, 1)])
    yield from _process_families(figures.process)
    yield Family(
        "edgewright_model_serving_info",
        "gauge",
        "Which exact model answers for a name.",
        [Sample({**_labels(ref), "digest": ref.digest}, 1) for ref in figures.serving.values()],
    )
    yield _gauge("edgewright_models_resident_bytes", "Memory of all loaded models.", figures.resident_model_bytes)
    yield from _occupancy_families(figures.occupancy)
    yield from _request_families(figures.totals)
    outbox = figures.outbox
    yield _gauge("edgewright_outbox_queued", "Messages that wait to be sent.", outbox.queued_count)
    yield _gauge("edgewright_outbox_queued_bytes", "Their size.", outbox.queued_bytes)
    dropped = [Sample({}, outbox.dropped_count)]
    yield Family("edgewright_outbox_dropped_total", "counter", "Messages dropped for want of room.", dropped)
    yield from figures.counters


def _request_families(totals: Mapping[ModelRef, ServiceTotal]) -> Iterable[Family]:
    outcomes: list[Sample] = []
    errors: list[Sample] = []
    latencies: list[Sample] = []
    uncounted: list[Sample] = []
    for ref, total in totals.items():
        labels, counts = _labels(ref), total.counts
        outcomes.append(Sample({**labels, "outcome": "answered"}, counts.answered_count))
        outcomes.append(Sample({**labels, "outcome": "failed"}, counts.failed_count))
        errors += [Sample({**labels, "code": code}, count) for code, count in sorted(counts.errors.items())]
        latencies += histogram_samples(labels, BOUNDS_S, counts.latency_counts, total.latency_sum_us / 1_000_000)
        uncounted.append(Sample(labels, total.lost_count))
    return (
        Family("edgewright_requests_total", "counter", "Requests by exact model.", outcomes),
        Family("edgewright_request_errors_total", "counter", "Failed requests by error code.", errors),
        Family("edgewright_request_seconds", "histogram", "From arrival to answer, in the runtime.", latencies),
        Family("edgewright_requests_uncounted_total", "counter", "Requests that were not counted.", uncounted),
    )


def _occupancy_families(occupancy: Mapping[str, Occupancy]) -> Iterable[Family]:
    in_flight = [Sample({"model": name}, each.in_flight_count) for name, each in occupancy.items()]
    waiting = [Sample({"model": name}, each.waiting_count) for name, each in occupancy.items()]
    return (
        Family("edgewright_requests_in_flight", "gauge", "Requests being computed.", in_flight),
        Family("edgewright_requests_waiting", "gauge", "Requests waiting to be computed.", waiting),
    )


def _process_families(process: ProcessFigures) -> Iterable[Family]:
    """Under the names that every Prometheus client library uses."""
    processor = [Sample({}, process.processor_s)]
    return (
        Family("process_cpu_seconds_total", "counter", "Processor time.", processor),
        _gauge("process_resident_memory_bytes", "Resident memory.", process.resident_bytes),
        _gauge("process_open_fds", "Open file descriptors.", process.descriptors_count),
        _gauge("process_threads", "Threads.", process.threads_count),
        _gauge("process_start_time_seconds", "When the process began, since 1970.", process.started_s),
    )


def _gauge(name: str, text: str, value: float) -> Family:
    return Family(name, "gauge", text, [Sample({}, value)])


def _labels(ref: ModelRef) -> dict[str, str]:
    return {"model": ref.name, "version": ref.version}


def read_process(folder: Path = Path("/proc/self")) -> ProcessFigures:
    """See proc(5)."""
    fields = (folder / "stat").read_text().rpartition(")")[2].split()
    ticks_hz, page_bytes = os.sysconf("SC_CLK_TCK"), os.sysconf("SC_PAGE_SIZE")
    now_s, up_s = time.time(), float(Path("/proc/uptime").read_text().split()[0])
    return ProcessFigures(
        resident_bytes=int(fields[21]) * page_bytes,
        processor_s=(int(fields[11]) + int(fields[12])) / ticks_hz,
        descriptors_count=len(list((folder / "fd").iterdir())),
        threads_count=int(fields[17]),
        started_s=round(now_s - up_s + int(fields[19]) / ticks_hz, 2),
    )
