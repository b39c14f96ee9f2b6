"""The baseline: what the model's inputs and outputs looked like where it was trained and judged.

Per feature, 64 bins over the baseline's own quantiles: the device counts into the same bins, the cloud compares counts
with counts. Baselines belong to the model's name and feature; ``baseline_id`` (SHA-256 of ``baseline.json``) is what a
telemetry window refers to, since only counts over the same edges may be added.
"""

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Self

from edge_component.contracts.codec import (
    NOTHING,
    Document,
    Fields,
    as_integer,
    as_number,
    from_bytes,
    schema_name,
    to_bytes,
)
from edge_component.contracts.errors import MalformedError
from edge_component.contracts.limits import LIMITS

BIN_COUNT = 64


@dataclass(frozen=True, slots=True)
class BaselineColumn:
    """One feature's or output's histogram.

    Attributes:
        edges: the 63 inner edges, not decreasing. Bin i holds ``edges[i-1] < x <= edges[i]``; the first and last bins
            are open-ended. (``numpy.searchsorted(edges, x, side="left")`` is the bin.) Repeated edges leave bins empty.
        counts: 64 counts of finite values.
        minimum, maximum: of the finite values; outside of them a value counts as out of range.
        nan_count, infinite_count, zero_count: of the values that are so.
        positive_rate: only for a ``probability`` output: per bin, the share of true positives among the baseline's
            labelled records (calibration for performance estimation); ``None`` where not known.
    """

    name: str
    edges: tuple[float, ...]
    counts: tuple[int, ...]
    minimum: float
    maximum: float
    nan_count: int = 0
    infinite_count: int = 0
    zero_count: int = 0
    positive_rate: tuple[float, ...] | None = None
    extra: Mapping[str, Any] = NOTHING

    @classmethod
    def read(cls, value: object, where: str) -> Self:
        """Decode one element of ``features`` or ``outputs``."""
        fields = Fields(value, where)
        column = cls(
            name=fields.text("name"),
            edges=fields.items("edges", as_number),
            counts=fields.items("counts", as_integer),
            minimum=fields.number("minimum"),
            maximum=fields.number("maximum"),
            nan_count=fields.integer("nan_count"),
            infinite_count=fields.integer("infinite_count"),
            zero_count=fields.integer("zero_count"),
            positive_rate=fields.optional("positive_rate", lambda name: fields.items(name, as_number)),
            extra=fields.rest(),
        )
        column._check(where)
        return column

    def to_document(self) -> Document:
        """Encode."""
        known: dict[str, Any] = {
            **self.extra,
            "name": self.name,
            "edges": list(self.edges),
            "counts": list(self.counts),
            "minimum": self.minimum,
            "maximum": self.maximum,
            "nan_count": self.nan_count,
            "infinite_count": self.infinite_count,
            "zero_count": self.zero_count,
        }
        if self.positive_rate is not None:
            known["positive_rate"] = list(self.positive_rate)
        return known

    def _check(self, where: str) -> None:
        if len(self.edges) != BIN_COUNT - 1:
            raise MalformedError(f"must hold {BIN_COUNT - 1} inner edges, not {len(self.edges)}", f"{where}.edges")
        if any(low > high for low, high in zip(self.edges, self.edges[1:], strict=False)):
            raise MalformedError("must not decrease", f"{where}.edges")
        if len(self.counts) != BIN_COUNT:
            raise MalformedError(f"must hold {BIN_COUNT} counts, not {len(self.counts)}", f"{where}.counts")
        if self.positive_rate is not None and len(self.positive_rate) != BIN_COUNT:
            raise MalformedError(
                f"must hold {BIN_COUNT} rates, not {len(self.positive_rate)}", f"{where}.positive_rate"
            )


@dataclass(frozen=True, slots=True)
class Baseline:
    """``baseline.json``, version 1.

    Attributes:
        model_name: the model that these columns belong to.
        sample_count: records that went into it.
        features, outputs: columns, named as in the manifest's ``features`` and ``watched_outputs``.
        performance: realised metrics on the labelled baseline records, such as ``{"log_loss": 0.2, "auc": 0.9}``.
    """

    model_name: str
    sample_count: int
    features: tuple[BaselineColumn, ...]
    outputs: tuple[BaselineColumn, ...] = ()
    performance: Mapping[str, float] = NOTHING
    extra: Mapping[str, Any] = NOTHING

    @classmethod
    def read(cls, document: object) -> Self:
        """Decode.

        Raises:
            ContractError: naming the field.
        """
        fields = Fields(document)
        fields.schema("baseline", 1)
        return cls(
            model_name=fields.text("model_name"),
            sample_count=fields.integer("sample_count"),
            features=fields.items("features", BaselineColumn.read),
            outputs=fields.items("outputs", BaselineColumn.read),
            performance=fields.table("performance", as_number),
            extra=fields.rest(),
        )

    @classmethod
    def from_bytes(cls, data: bytes) -> Self:
        """Decode ``baseline.json``'s bytes; see :meth:`read`."""
        return cls.read(from_bytes(data, LIMITS.baseline_bytes_max))

    def to_document(self) -> Document:
        """Encode; the inverse of :meth:`read`."""
        return {
            **self.extra,
            "schema": schema_name("baseline", 1),
            "model_name": self.model_name,
            "sample_count": self.sample_count,
            "features": [column.to_document() for column in self.features],
            "outputs": [column.to_document() for column in self.outputs],
            "performance": dict(self.performance),
        }

    def to_bytes(self) -> bytes:
        """``baseline.json``: canonical, so that the same baseline has one id."""
        return to_bytes(self.to_document())


def baseline_id(baseline_bytes: bytes) -> str:
    """What a telemetry window refers to: SHA-256 of ``baseline.json``, 64 lower-case hex digits."""
    return hashlib.sha256(baseline_bytes).hexdigest()
