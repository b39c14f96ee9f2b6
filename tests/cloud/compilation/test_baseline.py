"""A baseline's bins against the values themselves, as the device will count them."""

import numpy as np
import pytest
from hypothesis import example, given
from hypothesis.extra import numpy as arrays

from cloud.compilation.baseline import WATCHED_MAX, baseline_of, column, watched_inputs, watched_outputs
from edge_component.contracts.baseline import BIN_COUNT
from edge_component.contracts.manifest import TensorSpec


def counted(values: np.ndarray, edges: tuple[float, ...]) -> list[int]:
    """The contract's rule, in ``float64``: ``edges[i-1] < x <= edges[i]``."""
    finite = values[np.isfinite(values)].astype(np.float64)
    return np.bincount(np.searchsorted(edges, finite, side="left"), minlength=BIN_COUNT).tolist()


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("value", [0.7, 0.1, 1e9 + 0.1, 16_777_217.0, 0.0, -0.7])
def test_a_constant_is_counted_by_the_device_where_the_baseline_has_it(value: float, dtype: type) -> None:
    values = np.full(1_000, value, dtype)
    made = column("f", values)
    assert list(made.counts) == counted(values, made.edges)
    assert made.minimum == made.maximum == values[0], "or the very same value would be out of range"


@example(np.full(700, np.finfo(np.float64).min))
@given(arrays.arrays(np.float64, 700, elements={"allow_nan": True, "allow_infinity": True}))
def test_the_baselines_own_samples_do_not_drift_from_it(values: np.ndarray) -> None:
    made = column("f", values)
    finite = values[np.isfinite(values)]
    assert list(made.counts) == counted(values, made.edges)
    assert sum(made.counts) + made.nan_count + made.infinite_count == values.size
    assert not ((finite < made.minimum) | (finite > made.maximum)).any()


@pytest.mark.parametrize("dtype", ["float16", "float64", "int64", "uint8", "bool"])
def test_columns_of_any_numbers_are_watched(dtype: str) -> None:
    (feature,) = watched_inputs((TensorSpec("age", dtype, (-1, 1)), TensorSpec("name", "string", (-1, 1))))
    values = np.random.default_rng(0).integers(0, 2, (700, 1, 1)).astype(dtype)
    (made,) = baseline_of("m", (feature,), (), {"age": values}, {}).features
    assert (made.name, made.zero_count) == ("age_0", int((values == 0).sum()))
    assert list(made.counts) == counted(values, made.edges)


def test_no_more_columns_are_watched_than_a_manifest_can_name() -> None:
    tables = tuple(TensorSpec(f"t{index}", "float32", (-1, 8)) for index in range(64))
    assert [feature.name for feature in watched_inputs(tables)][-1] == f"t{WATCHED_MAX // 8 - 1}_7"
    assert len(watched_outputs(tables)) == WATCHED_MAX
