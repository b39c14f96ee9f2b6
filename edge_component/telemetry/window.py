"""The window as a monoid over counts, and its way into publishes that a nucleus can carry.

The failure this exists for: a window of many features that is one byte too large for Greengrass Lite, which answers by
closing the connection. So a closed window is split by column into parts, each of which fits, and each of which adds
without counting anything twice.

Pure values. Not the recorder (``recorder`` decides when a window closes) and not the wire form (``contracts.telemetry``).
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta

import numpy as np

from edge_component.contracts.codec import NOTHING, to_bytes
from edge_component.contracts.telemetry import (
    EMPTY_COUNTS,
    LATENCY_BOUNDS_US,
    ColumnCounts,
    ServiceCounts,
    TelemetryWindow,
    merge_services,
)
from edge_component.telemetry.columns import WatchPlan
from edge_component.telemetry.histogram import EMPTY, Histogram

ERROR_CODES_MAX = 24
"""Distinct error codes in one window; the rest are counted as :data:`OTHER_CODE`, so that part 0 always fits."""
ERROR_CODE_CHARS_MAX = 48
OTHER_CODE = "other"


@dataclass(frozen=True, slots=True)
class WindowCounts:
    """What one model saw and answered so far.

    Attributes:
        record_count: samples whose columns were counted.
        lost_count: requests that the recorder could not take in or count.
    """

    record_count: int = 0
    lost_count: int = 0
    features: Mapping[str, Histogram] = NOTHING
    outputs: Mapping[str, Histogram] = NOTHING
    service: ServiceCounts = EMPTY_COUNTS

    def __add__(self, other: "WindowCounts") -> "WindowCounts":
        """Add; associative and commutative, with ``WindowCounts()`` as its zero, for windows over the same baseline."""
        return WindowCounts(
            self.record_count + other.record_count,
            self.lost_count + other.lost_count,
            _add_columns(self.features, other.features),
            _add_columns(self.outputs, other.outputs),
            merge_services(self.service, other.service),
        )

    @property
    def is_empty(self) -> bool:
        """Nothing happened that anybody would want to read about."""
        service = self.service
        return not (self.record_count or self.lost_count or service.answered_count or service.failed_count)


@dataclass(frozen=True, slots=True)
class Span:
    """When a window was open: until this moment of the wall clock, for so long by the monotonic one.

    The wall clock may have been set since it was opened: what it said then is no beginning.
    """

    ends_at: datetime
    duration_ms: int

    @property
    def starts_at(self) -> datetime:
        """By the wall clock as it is now."""
        return self.ends_at - timedelta(milliseconds=self.duration_ms)


def count_service(latencies_us: Sequence[float], error_codes: Sequence[str]) -> ServiceCounts:
    """Count some requests: latencies of all of them, and the codes of those that failed (``""`` means answered)."""
    bins = np.searchsorted(LATENCY_BOUNDS_US, latencies_us, side="left")
    latency_counts = np.bincount(bins, minlength=len(LATENCY_BOUNDS_US) + 1)
    failed = [code[:ERROR_CODE_CHARS_MAX] for code in error_codes if code]
    errors: dict[str, int] = {}
    for code in failed:
        errors[code] = errors.get(code, 0) + 1
    return ServiceCounts(len(error_codes) - len(failed), len(failed), tuple(latency_counts.tolist()), errors)


def close_window(plan: WatchPlan, counts: WindowCounts, span: Span, window_id: str) -> TelemetryWindow:
    """A window as one part, whatever its size; :func:`split_window` makes it fit."""
    return TelemetryWindow(
        model=plan.model,
        baseline_id=plan.baseline_id,
        window_id=window_id,
        starts_at=span.starts_at,
        ends_at=span.ends_at,
        duration_ms=span.duration_ms,
        record_count=counts.record_count,
        features={name: histogram.to_contract() for name, histogram in counts.features.items()},
        outputs={name: histogram.to_contract() for name, histogram in counts.outputs.items()},
        service=replace(counts.service, errors=_bounded(counts.service.errors)),
        lost_count=counts.lost_count,
    )


def split_window(window: TelemetryWindow, body_bytes_max: int) -> tuple[TelemetryWindow, ...]:
    """Split by column into parts whose documents take at most ``body_bytes_max`` bytes each.

    Service counters and ``lost_count`` travel in part 0 alone; ``record_count`` is the same in all. Outputs come first,
    so that a reader of part 0 has the confidence beside the service.
    """
    columns = [("outputs", *entry) for entry in window.outputs.items()]
    columns += [("features", *entry) for entry in window.features.items()]
    bare = replace(window, features=NOTHING, outputs=NOTHING, part=len(columns), part_count=len(columns) + 1)
    first_room = body_bytes_max - len(to_bytes(bare.to_document()))
    later = replace(bare, service=None, lost_count=0)
    later_room = body_bytes_max - len(to_bytes(later.to_document()))
    groups = list(_groups(columns, first_room, later_room))
    return tuple(
        replace(
            bare if part == 0 else later,
            features={name: counts for where, name, counts in group if where == "features"},
            outputs={name: counts for where, name, counts in group if where == "outputs"},
            part=part,
            part_count=len(groups),
        )
        for part, group in enumerate(groups)
    )


Column = tuple[str, str, ColumnCounts]


def _groups(columns: Sequence[Column], first_room: int, later_room: int) -> Iterator[list[Column]]:
    group: list[Column] = []
    room = first_room
    for column in columns:
        size = len(to_bytes({column[1]: column[2].to_document()})) - 1  # braces go, a comma may come
        if size > room:
            yield group
            group, room = [], later_room
        group.append(column)
        room -= size
    yield group


def _add_columns(left: Mapping[str, Histogram], right: Mapping[str, Histogram]) -> Mapping[str, Histogram]:
    return {name: left.get(name, EMPTY) + right.get(name, EMPTY) for name in {**left, **right}}


def _bounded(errors: Mapping[str, int]) -> Mapping[str, int]:
    if len(errors) <= ERROR_CODES_MAX:
        return errors
    ranked = sorted(errors.items(), key=lambda entry: (-entry[1], entry[0]))
    kept = dict(ranked[: ERROR_CODES_MAX - 1])
    rest = sum(count for _, count in ranked[ERROR_CODES_MAX - 1 :])
    return {**kept, OTHER_CODE: kept.get(OTHER_CODE, 0) + rest}
