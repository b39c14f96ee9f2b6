"""A baseline's bins against the values themselves, as the device will count them."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis.extra import numpy as arrays

from cloud.compilation.baseline import column
from edge_component.contracts.baseline import BIN_COUNT


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


@given(arrays.arrays(np.float64, 700, elements={"allow_nan": True, "allow_infinity": True}))
def test_the_baselines_own_samples_do_not_drift_from_it(values: np.ndarray) -> None:
    made = column("f", values)
    finite = values[np.isfinite(values)]
    assert list(made.counts) == counted(values, made.edges)
    assert sum(made.counts) + made.nan_count + made.infinite_count == values.size
    assert not ((finite < made.minimum) | (finite > made.maximum)).any()
