"""Baselines and windows that the drift tests are made of, drawn from named distributions."""

import numpy as np
from numpy.typing import NDArray

from cloud.drift.judgement import Observed
from edge_component.contracts.baseline import BIN_COUNT, Baseline, BaselineColumn
from edge_component.contracts.telemetry import ColumnCounts

Floats = NDArray[np.float64]


def baseline_column(name: str, values: Floats, rates: Floats | None = None) -> BaselineColumn:
    finite = values[np.isfinite(values)]
    edges = np.quantile(finite, np.arange(1, BIN_COUNT) / BIN_COUNT, method="inverted_cdf")
    counts = np.bincount(np.searchsorted(edges, finite, side="left"), minlength=BIN_COUNT)
    return BaselineColumn(
        name=name,
        edges=tuple(edges.tolist()),
        counts=tuple(counts.tolist()),
        minimum=float(finite.min()),
        maximum=float(finite.max()),
        nan_count=int(np.isnan(values).sum()),
        positive_rate=None if rates is None else tuple(rates.tolist()),
    )


def counted(column: BaselineColumn, values: Floats) -> ColumnCounts:
    finite = values[np.isfinite(values)]
    bins = np.searchsorted(np.asarray(column.edges), finite, side="left")
    return ColumnCounts(
        tuple(np.bincount(bins, minlength=BIN_COUNT).tolist()),
        nan_count=int(np.isnan(values).sum()),
        out_of_range_count=int(((finite < column.minimum) | (finite > column.maximum)).sum()),
    )


def scored_column(scores: Floats, labels: Floats) -> BaselineColumn:
    """A probability output, with the share of positives in each bin."""
    bare = baseline_column("score", scores)
    bins = np.searchsorted(np.asarray(bare.edges), scores, side="left")
    total, positive = np.bincount(bins, minlength=BIN_COUNT), np.bincount(bins, labels, minlength=BIN_COUNT)
    return baseline_column("score", scores, positive / np.maximum(total, 1))


def calibrated(random: np.random.Generator, count: int, centre: float = -3.0) -> tuple[Floats, Floats]:
    """Scores that are true chances, and labels tossed by them."""
    scores = 1 / (1 + np.exp(-random.normal(centre, 2.0, count)))
    return scores, (random.random(count) < scores).astype(float)


def simple_baseline(random: np.random.Generator, feature_count: int = 3, count: int = 10_000) -> Baseline:
    scores, labels = calibrated(random, count)
    features = tuple(baseline_column(f"f{index}", random.normal(size=count)) for index in range(feature_count))
    return Baseline("weather", count, features, (scored_column(scores, labels),), {"log_loss": 0.3})


def window(
    baseline: Baseline,
    random: np.random.Generator,
    count: int = 400,
    shifts: dict[str, float] | None = None,
    centre: float = -3.0,
) -> Observed:
    """A window of the baseline's own distributions, some of them shifted."""
    features = {
        column.name: counted(column, random.normal((shifts or {}).get(column.name, 0.0), 1.0, count))
        for column in baseline.features
    }
    return Observed(count, features, {"score": counted(baseline.outputs[0], calibrated(random, count, centre)[0])})
