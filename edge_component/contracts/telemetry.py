"""The telemetry window: what a model saw and answered in one interval, as counts that add.

Its counts are monoids: :data:`EMPTY_COLUMN` with :func:`merge_columns` and :data:`EMPTY_COUNTS` with
:func:`merge_services` are associative and commutative, over parts of one window, windows in time, devices and versions
alike, as long as ``baseline_id`` (the bin edges) is the same. A window too large for one publish is split by column into
*parts*; each part is itself a window, and service counters travel in part 0 alone, so that adding the parts never counts
anything twice.

Histogram counts travel as base64 of unsigned LEB128 numbers: 64 sparse counts take about 90 characters.
"""

import base64
import binascii
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Self

from edge_component.contracts.codec import (
    NOTHING,
    Document,
    Fields,
    as_integer,
    format_moment,
    schema_name,
)
from edge_component.contracts.errors import MalformedError
from edge_component.contracts.heartbeat import ModelRef

LATENCY_BOUNDS_US = tuple(int(10 * 2 ** (step / 2)) for step in range(40))
"""Upper bounds of the latency histogram's bins in µs, half an octave apart from 10 µs to 7.4 s; the last bin is open."""

COUNT_MAX = 2**53 - 1


@dataclass(frozen=True, slots=True)
class ColumnCounts:
    """One watched column: bin counts over the baseline's edges, and what no bin can hold.

    ``out_of_range_count`` values (beyond the baseline's minimum or maximum) are counted in the outer bins as well.
    For a ``label`` output the bins are classes: bin i counts class i, the last bin everything above.
    """

    counts: tuple[int, ...]
    nan_count: int = 0
    infinite_count: int = 0
    zero_count: int = 0
    out_of_range_count: int = 0
    extra: Mapping[str, Any] = NOTHING

    @classmethod
    def read(cls, value: object, where: str) -> Self:
        """Decode one entry of ``features`` or ``outputs``."""
        fields = Fields(value, where)
        return cls(
            counts=unpack_counts(fields.text("bins"), fields.path("bins")),
            nan_count=fields.optional("nan", fields.integer) or 0,
            infinite_count=fields.optional("inf", fields.integer) or 0,
            zero_count=fields.optional("zero", fields.integer) or 0,
            out_of_range_count=fields.optional("out", fields.integer) or 0,
            extra=fields.rest(),
        )

    def to_document(self) -> Document:
        """Encode; zero counters are left out to save bytes."""
        counters = {
            "nan": self.nan_count,
            "inf": self.infinite_count,
            "zero": self.zero_count,
            "out": self.out_of_range_count,
        }
        return {
            **self.extra,
            "bins": pack_counts(self.counts),
            **{name: count for name, count in counters.items() if count},
        }


EMPTY_COLUMN = ColumnCounts(())


@dataclass(frozen=True, slots=True)
class ServiceCounts:
    """How the model was served: latency by :data:`LATENCY_BOUNDS_US` (41 bins), and failures by error code."""

    answered_count: int = 0
    failed_count: int = 0
    latency_counts: tuple[int, ...] = (0,) * (len(LATENCY_BOUNDS_US) + 1)
    errors: Mapping[str, int] = NOTHING
    extra: Mapping[str, Any] = NOTHING

    @classmethod
    def read(cls, value: object, where: str) -> Self:
        """Decode ``service``."""
        fields = Fields(value, where)
        return cls(
            answered_count=fields.integer("answered_count"),
            failed_count=fields.integer("failed_count"),
            latency_counts=unpack_counts(fields.text("latency_us"), fields.path("latency_us")),
            errors=fields.table("errors", as_integer),
            extra=fields.rest(),
        )

    def to_document(self) -> Document:
        """Encode."""
        return {
            **self.extra,
            "answered_count": self.answered_count,
            "failed_count": self.failed_count,
            "latency_us": pack_counts(self.latency_counts),
            "errors": dict(self.errors),
        }


EMPTY_COUNTS = ServiceCounts()


@dataclass(frozen=True, slots=True)
class TelemetryWindow:
    """The body of a ``window`` message, version 1.

    Attributes:
        model: the exact model that answered; a switch closes the window.
        baseline_id: whose edges the bins are over; empty for a model without a baseline (service counters only).
        window_id: unique on the device; the same in all parts.
        part, part_count: this part, from 0.
        starts_at, ends_at: by the device's clock, which may be wrong by years; ``duration_ms`` by its monotonic one. A
            clock that is set within the window moves its beginning too.
        record_count: predictions summarised, the same in all parts.
        features, outputs: columns by name.
        service: in part 0; ``None`` in the others.
        lost_count: records that the recorder could not summarise (ring overrun); in part 0, zero in the others.
    """

    model: ModelRef
    baseline_id: str
    window_id: str
    starts_at: datetime
    ends_at: datetime
    duration_ms: int
    record_count: int
    features: Mapping[str, ColumnCounts] = NOTHING
    outputs: Mapping[str, ColumnCounts] = NOTHING
    service: ServiceCounts | None = None
    lost_count: int = 0
    part: int = 0
    part_count: int = 1
    extra: Mapping[str, Any] = NOTHING

    @classmethod
    def read(cls, document: object) -> Self:
        """Decode.

        Raises:
            ContractError: naming the field.
        """
        fields = Fields(document)
        fields.schema("window", 1)
        return cls(
            model=fields.nested("model", ModelRef.read),
            baseline_id=fields.text("baseline_id"),
            window_id=fields.text("window_id"),
            starts_at=fields.moment("starts_at"),
            ends_at=fields.moment("ends_at"),
            duration_ms=fields.integer("duration_ms"),
            record_count=fields.integer("record_count"),
            features=fields.table("features", ColumnCounts.read),
            outputs=fields.table("outputs", ColumnCounts.read),
            service=fields.optional("service", lambda name: fields.nested(name, ServiceCounts.read)),
            lost_count=fields.integer("lost_count"),
            part=fields.integer("part"),
            part_count=fields.integer("part_count", minimum=1),
            extra=fields.rest(),
        )

    def to_document(self) -> Document:
        """Encode; the inverse of :meth:`read`."""
        known: dict[str, Any] = {
            **self.extra,
            "schema": schema_name("window", 1),
            "model": self.model.to_document(),
            "baseline_id": self.baseline_id,
            "window_id": self.window_id,
            "starts_at": format_moment(self.starts_at),
            "ends_at": format_moment(self.ends_at),
            "duration_ms": self.duration_ms,
            "record_count": self.record_count,
            "features": {name: column.to_document() for name, column in self.features.items()},
            "outputs": {name: column.to_document() for name, column in self.outputs.items()},
            "lost_count": self.lost_count,
            "part": self.part,
            "part_count": self.part_count,
        }
        if self.service is not None:
            known["service"] = self.service.to_document()
        return known


def merge_columns(left: ColumnCounts, right: ColumnCounts) -> ColumnCounts:
    """Add two columns over the same edges; shorter count lists are padded with zeros.

    Fields that this reader does not know are left out of the sum: nobody here can say how they add.
    """
    return ColumnCounts(
        counts=add_counts(left.counts, right.counts),
        nan_count=left.nan_count + right.nan_count,
        infinite_count=left.infinite_count + right.infinite_count,
        zero_count=left.zero_count + right.zero_count,
        out_of_range_count=left.out_of_range_count + right.out_of_range_count,
    )


def merge_services(left: ServiceCounts, right: ServiceCounts) -> ServiceCounts:
    """Add two services' counters; see :func:`merge_columns` for unknown fields."""
    codes = sorted({*left.errors, *right.errors})
    return ServiceCounts(
        answered_count=left.answered_count + right.answered_count,
        failed_count=left.failed_count + right.failed_count,
        latency_counts=add_counts(left.latency_counts, right.latency_counts),
        errors={code: left.errors.get(code, 0) + right.errors.get(code, 0) for code in codes},
    )


def add_counts(left: tuple[int, ...], right: tuple[int, ...]) -> tuple[int, ...]:
    """Element-wise sum of two count lists; the shorter is padded with zeros."""
    longer, shorter = (left, right) if len(left) >= len(right) else (right, left)
    return tuple(count + (shorter[index] if index < len(shorter) else 0) for index, count in enumerate(longer))


def pack_counts(counts: Iterable[int]) -> str:
    """Counts as base64 (no padding) of unsigned LEB128 numbers, in order.

    Raises:
        MalformedError: a count below 0 or above ``COUNT_MAX``.
    """
    packed = bytearray()
    for count in counts:
        left = int(count)
        if not 0 <= left <= COUNT_MAX:
            raise MalformedError(f"{left} is not a count within 0 and {COUNT_MAX}")
        while left > 0x7F:
            packed.append(left & 0x7F | 0x80)
            left >>= 7
        packed.append(left)
    return base64.b64encode(bytes(packed)).rstrip(b"=").decode()


def unpack_counts(text: str, where: str = "") -> tuple[int, ...]:
    """The inverse of :func:`pack_counts`: every other spelling of the same counts is refused.

    Raises:
        MalformedError: not base64, a number that ends in mid-air, one above ``COUNT_MAX``, or not the shortest form.
    """
    try:
        packed = base64.b64decode(text + "=" * (-len(text) % 4), validate=True)
    except (binascii.Error, ValueError) as error:
        raise MalformedError("is not base64", where) from error
    counts: list[int] = []
    value, shift = 0, 0
    for byte in packed:
        value |= (byte & 0x7F) << shift
        shift += 7
        if value > COUNT_MAX or shift > 63:
            raise MalformedError(f"holds a count above {COUNT_MAX}", where)
        if not byte & 0x80:
            counts.append(value)
            value, shift = 0, 0
    if shift:
        raise MalformedError("ends within a number", where)
    if pack_counts(counts) != text:
        raise MalformedError("is not in its shortest form", where)
    return tuple(counts)
