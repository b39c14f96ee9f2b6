"""Statistics and violations in SageMaker Model Monitor's file formats, so that its readers (Studio, notebooks) go on working.

The service itself is closed to new customers; its formats are not (AWS: "Schema for Statistics", "Schema for
Violations"). Everything is derived from the 64-bin histogram: item counts and missing values are exact; mean, deviation
and quantiles are those of the bins' middles. The KLL sketch is not fed record by record: each bin's middle is put into
the levels of its count's binary digits, which is a valid sketch with exactly the histogram's ranks. Pure.
"""

import math
import sys
from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cloud.drift.judgement import DEFAULT_LIMITS, DriftDecision, DriftLimits, Observed
from edge_component.contracts.baseline import Baseline, BaselineColumn
from edge_component.contracts.telemetry import COUNT_MAX, ColumnCounts

BUCKET_COUNT = 10
SKETCH_PARAMETERS = {"c": 0.64, "k": 2048.0}
"""Model Monitor's own defaults."""

STATISTICS_FILE = "statistics.json"
VIOLATIONS_FILE = "constraint_violations.json"


def statistics(window: Observed, baseline: Baseline) -> dict[str, Any]:
    """``statistics.json``: one entry for each feature of the baseline that the window has."""
    features = [
        _feature(column, window.features[column.name]) for column in baseline.features if column.name in window.features
    ]
    return {"version": 0.0, "dataset": {"item_count": window.record_count}, "features": features}


def violations(decision: DriftDecision, limits: DriftLimits = DEFAULT_LIMITS) -> dict[str, Any]:
    """``constraint_violations.json``: one ``baseline_drift_check`` for each feature that drifts in this window."""
    return {
        "violations": [
            {
                "feature_name": column.name,
                "constraint_check_type": "baseline_drift_check",
                "description": (
                    f"Kolmogorov-Smirnov distance {column.absolute.statistic:.4f} exceeds {limits.warn_distance} "
                    f"(p = {column.absolute.p_value:.2g}, windows in a row: {column.absolute_streak.warn})"
                ),
            }
            for column in decision.columns
            if column.absolute_level != "quiet"
        ]
    }


def _feature(column: BaselineColumn, seen: ColumnCounts) -> dict[str, Any]:
    padded = [*seen.counts, *[0] * len(column.counts)][: len(column.counts)]
    counts = np.asarray([min(count, COUNT_MAX) for count in padded], np.int64)  # sums of what a device claims
    bounds = bin_bounds(column)
    missing = seen.nan_count + seen.infinite_count
    return {
        "name": column.name,
        "inferred_type": "Fractional",
        "numerical_statistics": {
            "common": {"num_present": int(counts.sum()), "num_missing": missing},
            **_moments(counts, bounds),
            "distribution": {"kll": {"buckets": _buckets(counts, bounds), "sketch": _sketch(counts, bounds)}},
        },
    }


def bin_bounds(column: BaselineColumn) -> NDArray[np.float64]:
    """The 65 bounds of 64 bins, the outer ones at the baseline's extremes; not decreasing."""
    bounds = np.concatenate(([column.minimum], np.asarray(column.edges), [column.maximum]))
    return np.maximum.accumulate(bounds)


def _moments(counts: NDArray[np.int64], bounds: NDArray[np.float64]) -> Mapping[str, float]:
    total = int(counts.sum())
    if total == 0:
        return {"mean": 0.0, "sum": 0.0, "std_dev": 0.0, "min": 0.0, "max": 0.0}
    shares, scale = counts / total, float(np.abs(bounds).max()) or 1.0
    middles = _middles(bounds) / scale  # squares of large numbers are none that JSON has
    mean = float((shares * middles).sum())
    variance = float((shares * (middles - mean) ** 2).sum())
    filled = np.flatnonzero(counts)
    return {
        "mean": mean * scale,
        "sum": _bounded(mean * scale * total),
        "std_dev": math.sqrt(variance) * scale,
        "min": float(bounds[filled[0]]),
        "max": float(bounds[filled[-1] + 1]),
    }


def _buckets(counts: NDArray[np.int64], bounds: NDArray[np.float64]) -> list[dict[str, float]]:
    """Ten buckets of equal width between the extremes; a bin counts where its middle lies."""
    low, high = float(bounds[0]), float(bounds[-1])
    width = high / BUCKET_COUNT - low / BUCKET_COUNT
    index = np.zeros(len(counts))
    if width != 0:
        index = np.minimum(_middles(bounds) / width - low / width, BUCKET_COUNT - 1)
    sums = np.bincount(np.asarray(index, int), counts, BUCKET_COUNT)
    return [
        {
            "lower_bound": _bounded(low + step * width),
            "upper_bound": _bounded(low + (step + 1) * width),
            "count": float(sums[step]),
        }
        for step in range(BUCKET_COUNT)
    ]


def _middles(bounds: NDArray[np.float64]) -> NDArray[np.float64]:
    return np.asarray(bounds[:-1] / 2 + bounds[1:] / 2, np.float64)


def _bounded(number: float) -> float:
    """JSON has no infinity."""
    return min(max(number, -sys.float_info.max), sys.float_info.max)


def _sketch(counts: NDArray[np.int64], bounds: NDArray[np.float64]) -> dict[str, Any]:
    """Level i of a KLL sketch holds items of weight 2**i."""
    middles = _middles(bounds)
    levels = max(int(counts.max()).bit_length(), 1)
    data = [[float(middle) for middle, count in zip(middles, counts, strict=True) if count >> level & 1]
            for level in range(levels)]  # fmt: skip
    return {"parameters": dict(SKETCH_PARAMETERS), "data": data}
