"""Agreement: the same label counts, whatever the numbers; and samples add up in any order."""

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, strategies as st

from edge_component.contracts.manifest import WatchedOutput
from edge_component.inference.agreement import Agreement, compare
from tests.edge_component.inference.test_session import MANIFEST

PROBABILITY = replace(MANIFEST, watched_outputs=(WatchedOutput("p", "y", 0, "probability"),))
agreements = st.builds(Agreement, st.integers(0, 99), st.integers(0, 99), st.floats(0, 1e9))


@given(agreements, agreements, agreements)
def test_they_add_up_in_any_order(one: Agreement, two: Agreement, three: Agreement) -> None:
    assert one.plus(two).plus(three) == one.plus(two.plus(three))
    assert one.plus(Agreement()) == Agreement().plus(one) == one
    assert one.plus(two) == two.plus(one)


@pytest.mark.parametrize(
    ("one", "other", "manifest", "agreed", "difference"),
    [
        ([[0.4]], [[0.1]], PROBABILITY, 1, 0.3),
        ([[0.4]], [[0.6]], PROBABILITY, 0, 0.2),
        ([[0.1, 0.9]], [[0.4, 0.6]], MANIFEST, 1, 0.3),
        ([[0.1, 0.9]], [[0.6, 0.4]], MANIFEST, 0, 0.5),
        ([[100.0]], [[100.5]], MANIFEST, 1, 0.5),
        ([[100.0]], [[110.0]], MANIFEST, 0, 10.0),
        ([[np.nan, 1.0]], [[np.nan, 1.0]], MANIFEST, 1, 0.0),
        ([[np.nan]], [[1.0]], MANIFEST, 0, 0.0),
        ([[1.0]], [[1.0], [1.0]], MANIFEST, 0, 0.0),
    ],
)
def test_floats_agree_by_what_is_decided_from_them(
    one: list, other: list, manifest: object, agreed: int, difference: float
) -> None:
    found = compare({"y": np.array(one)}, {"y": np.array(other)}, manifest)
    assert (found.compared_count, found.agreed_count) == (1, agreed)
    assert found.difference_max == pytest.approx(difference)


@pytest.mark.parametrize("values", [[1, 2], ["a", "b"], [True, False]])
def test_what_is_no_float_agrees_when_it_is_equal(values: list) -> None:
    array = np.array(values, object if isinstance(values[0], str) else None)
    assert compare({"y": array}, {"y": array.copy()}, MANIFEST).agreed_count == 1
    assert compare({"y": array}, {"y": array[::-1]}, MANIFEST).agreed_count == 0
    assert compare(
        {"y": array}, {"y": array.astype(np.float64) if array.dtype != object else array[:1]}, MANIFEST
    ) == Agreement(1, 0, 0.0)


def test_an_output_that_is_missing_is_a_disagreement() -> None:
    assert compare({"y": np.ones(1)}, {}, MANIFEST) == Agreement(1, 0, 0.0)
