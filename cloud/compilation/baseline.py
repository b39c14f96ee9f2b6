"""A baseline counted from sample requests, for a model that brings none.

The bins are the contract's: 64 over the samples' own quantiles, ``edges[i-1] < x <= edges[i]``, edges being values that
occurred, unrounded, in float64, as which the device compares. A value that fills more than a bin (a constant, a zero, a
class) has one of its own, so that what lies just below it is not taken for it. Too few samples make quantiles of noise and
drift out of nothing: then there is no baseline, and no drift detection, rather than a wrong one. Pure.
"""

from collections.abc import Mapping
from itertools import islice

import numpy as np
from numpy.typing import NDArray

from cloud.compilation.samples import Array
from edge_component.contracts.baseline import BIN_COUNT, Baseline, BaselineColumn
from edge_component.contracts.manifest import Feature, TensorSpec, WatchedOutput

SAMPLES_MIN = 10 * BIN_COUNT
"""Ten in a bin on average."""

FEATURES_MAX = 64
OUTPUTS_MAX = 8
WATCHED_MAX = 256
"""Of all tables together: the manifest, which names each, ends at 64 kB."""


def watched_inputs(specs: tuple[TensorSpec, ...]) -> tuple[Feature, ...]:
    """The columns of inputs that are tables: numbers in rows of at most ``FEATURES_MAX``; the first ``WATCHED_MAX`` of them."""
    columns = (
        Feature(f"{spec.name}_{index}", spec.name, index)
        for spec in specs
        if _is_table(spec, FEATURES_MAX)
        for index in range(spec.shape[1])
    )
    return tuple(islice(columns, WATCHED_MAX))


def watched_outputs(specs: tuple[TensorSpec, ...]) -> tuple[WatchedOutput, ...]:
    """The columns of outputs that are tables, as plain values: nobody said which is a probability."""
    columns = (
        WatchedOutput(f"{spec.name}_{index}", spec.name, index, "value")
        for spec in specs
        if _is_table(spec, OUTPUTS_MAX)
        for index in range(spec.shape[1])
    )
    return tuple(islice(columns, WATCHED_MAX))


def baseline_of(
    model_name: str,
    features: tuple[Feature, ...],
    outputs: tuple[WatchedOutput, ...],
    inputs: Mapping[str, Array],
    answers: Mapping[str, Array],
) -> Baseline:
    """Count watched columns over samples, whose axis 0 counts them."""
    return Baseline(
        model_name=model_name,
        sample_count=len(next(iter(inputs.values()))),
        features=tuple(column(feature.name, inputs[feature.input][..., feature.index]) for feature in features),
        outputs=tuple(column(output.name, answers[output.output][..., output.index]) for output in outputs),
    )


def column(name: str, values: Array) -> BaselineColumn:
    """One histogram with its counters."""
    flat = values.reshape(-1).astype(np.float64)  # float32 would move a 0.7 of a float64 model into another bin
    finite = flat[np.isfinite(flat)]
    edges, counts = np.zeros(BIN_COUNT - 1), np.zeros(BIN_COUNT, np.int64)
    if finite.size:
        edges = edges_of(finite)
        counts = np.bincount(np.searchsorted(edges, finite, side="left"), minlength=BIN_COUNT)
    return BaselineColumn(
        name=name,
        edges=tuple(edges.tolist()),
        counts=tuple(counts.tolist()),
        minimum=float(finite.min()) if finite.size else 0.0,
        maximum=float(finite.max()) if finite.size else 0.0,
        nan_count=int(np.isnan(flat).sum()),
        infinite_count=int(np.isinf(flat).sum()),
        zero_count=int((flat == 0).sum()),
    )


def edges_of(values: NDArray[np.float64]) -> NDArray[np.float64]:
    """The inner edges: quantiles, and before each that repeats itself the next number below it."""
    edges = np.quantile(values, np.arange(1, BIN_COUNT) / BIN_COUNT, method="inverted_cdf")
    repeats = edges[1:] == edges[:-1]
    first = np.flatnonzero(repeats & ~np.concatenate(([False], repeats[:-1])))
    with np.errstate(over="ignore"):  # below the smallest number there is none
        edges[first] = np.maximum(np.nextafter(edges[first], -np.inf), np.finfo(np.float64).min)
    return edges


def _is_table(spec: TensorSpec, columns_max: int) -> bool:
    is_row = len(spec.shape) == 2 and spec.shape[0] in (-1, 1)
    return is_row and spec.dtype not in ("string", "bfloat16") and 1 <= spec.shape[1] <= columns_max
