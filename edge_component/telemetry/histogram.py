"""Histograms over a baseline's bins: the monoid that telemetry is made of.

The failure this exists for: per-device statistics that cannot be added up, so that a fleet has averages of averages.
Counts over the *same* edges add across batches, windows, devices and versions, exactly.

It decides nothing about drift (that is ``cloud.drift``) and knows no tensors (that is ``columns``). Pure functions over
numpy arrays; :class:`Histogram` is frozen and its array read-only, so any thread may keep one.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edge_component.contracts.baseline import BIN_COUNT, BaselineColumn
from edge_component.contracts.telemetry import ColumnCounts

Counts = NDArray[np.int64]
Floats = NDArray[np.float64]


@dataclass(frozen=True, slots=True, eq=False)
class Bins:
    """Where values are counted.

    Attributes:
        edges: ``float64[63]``, not decreasing; bin i holds ``edges[i-1] < x <= edges[i]``, the outer two are open-ended.
        minimum, maximum: inclusive; finite values beyond them are counted in the outer bins and as out of range.
    """

    edges: Floats
    minimum: float
    maximum: float


CLASS_BINS = Bins(np.arange(BIN_COUNT - 1, dtype=np.float64), 0.0, float(BIN_COUNT - 1))
"""For labels: bin i counts class i, and the last bin every class from 63 on (those above 63 also as out of range)."""


def baseline_bins(column: BaselineColumn) -> Bins:
    """The bins of a baseline's column."""
    return Bins(np.asarray(column.edges, dtype=np.float64), column.minimum, column.maximum)


@dataclass(frozen=True, slots=True, eq=False)
class Histogram:
    """Counts over some bins, and of what no bin can hold. ``counts`` is ``int64[64]``; NaN and ±inf are in no bin."""

    counts: Counts
    nan_count: int = 0
    infinite_count: int = 0
    zero_count: int = 0
    out_of_range_count: int = 0

    def __add__(self, other: "Histogram") -> "Histogram":
        """Add two histograms over the same bins; associative and commutative, with :data:`EMPTY` as its zero."""
        return Histogram(
            _frozen(self.counts + other.counts),
            self.nan_count + other.nan_count,
            self.infinite_count + other.infinite_count,
            self.zero_count + other.zero_count,
            self.out_of_range_count + other.out_of_range_count,
        )

    @property
    def value_count(self) -> int:
        """Every value counted, in a bin or not."""
        return int(self.counts.sum()) + self.nan_count + self.infinite_count

    def to_contract(self) -> ColumnCounts:
        """The same counts as they travel."""
        return ColumnCounts(
            counts=tuple(self.counts.tolist()),
            nan_count=self.nan_count,
            infinite_count=self.infinite_count,
            zero_count=self.zero_count,
            out_of_range_count=self.out_of_range_count,
        )


def count_values(values: NDArray[Any], bins: Bins) -> Histogram:
    """Count a one-dimensional array of any numeric or boolean dtype; see :func:`count_matrix`."""
    return count_matrix(np.asarray(values).reshape(-1, 1), (bins,))[0]


def count_matrix(values: NDArray[Any], bins: Sequence[Bins]) -> list[Histogram]:
    """Count each column of a ``[samples, columns]`` array over its own bins, compared as ``float64``.

    All columns at once, since with thirty of them the calls cost more than the counting.
    """
    exact = np.ascontiguousarray(values.T, dtype=np.float64)
    is_finite = np.isfinite(exact)
    nan_counts = np.isnan(exact).sum(axis=1)
    infinite_counts = exact.shape[1] - is_finite.sum(axis=1) - nan_counts
    zero_counts = (exact == 0).sum(axis=1)
    minima, maxima = (np.array([[getattr(each, name)] for each in bins]) for name in ("minimum", "maximum"))
    out_counts = (((exact < minima) | (exact > maxima)) & is_finite).sum(axis=1)
    places = np.empty(exact.shape, dtype=np.int64)
    for row, each in enumerate(bins):
        places[row] = each.edges.searchsorted(exact[row], side="left") + row * BIN_COUNT
    counts = np.bincount(places[is_finite], minlength=len(bins) * BIN_COUNT).reshape(len(bins), BIN_COUNT)
    return [
        Histogram(_frozen(counts[row].astype(np.int64)), *numbers)
        for row, numbers in enumerate(
            zip(*(each.tolist() for each in (nan_counts, infinite_counts, zero_counts, out_counts)), strict=True)
        )
    ]


def _frozen(counts: Counts) -> Counts:
    counts.flags.writeable = False
    return counts


EMPTY = Histogram(_frozen(np.zeros(BIN_COUNT, dtype=np.int64)))
"""The zero of the addition."""
