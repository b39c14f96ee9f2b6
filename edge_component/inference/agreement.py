"""How far two versions' answers to the same input agree: a monoid, so that samples add up in any order.

The failure this exists for: a new version that is judged by its mean error, and decides differently from the old one on
the cases that matter. So what is counted is whether both lead to the same *label*, beside the largest difference:

* numbers that are not floats, texts and booleans: all equal;
* a float output that the manifest watches as a probability: the same side of 0.5 everywhere;
* any other float output whose last axis has two or more entries: the same largest entry everywhere;
* any other float output: within ``VALUE_TOLERANCE_RATIO`` of the larger magnitude.

NaN agrees with NaN only. Differences are of finite values; where only one of two is finite they disagree.
"""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from edge_component.contracts.manifest import Manifest
from edge_component.inference.session import Array

VALUE_TOLERANCE_RATIO = 0.01


@dataclass(frozen=True, slots=True)
class Agreement:
    """Requests compared, those whose every output agreed, and the largest absolute difference of any value."""

    compared_count: int = 0
    agreed_count: int = 0
    difference_max: float = 0.0

    def plus(self, other: "Agreement") -> "Agreement":
        """Both together; associative, with ``Agreement()`` as its zero."""
        return Agreement(
            self.compared_count + other.compared_count,
            self.agreed_count + other.agreed_count,
            max(self.difference_max, other.difference_max),
        )


def compare(answered: Mapping[str, Array], shadowed: Mapping[str, Array], manifest: Manifest) -> Agreement:
    """One request, answered by two versions; ``manifest`` is the answering one's."""
    probabilities = {watched.output for watched in manifest.watched_outputs if watched.kind == "probability"}
    agreed = True
    difference = 0.0
    for name, one in answered.items():
        other = shadowed.get(name)
        if other is None or other.shape != one.shape or other.dtype != one.dtype:
            agreed = False
            continue
        agreed = agreed and _same_label(one, other, is_probability=name in probabilities)
        difference = max(difference, _difference(one, other))
    return Agreement(1, int(agreed), difference)


def _same_label(one: Array, other: Array, *, is_probability: bool) -> bool:
    if one.dtype.kind != "f":
        return bool(np.array_equal(one, other))
    if not np.array_equal(np.isfinite(one), np.isfinite(other)):
        return False
    if is_probability:
        return bool(np.array_equal(_positive(one), _positive(other)))
    if one.ndim and one.shape[-1] > 1:
        return bool(np.array_equal(one.argmax(-1), other.argmax(-1)))
    return bool(np.allclose(one, other, rtol=VALUE_TOLERANCE_RATIO, atol=0, equal_nan=True))


def _positive(array: Array) -> Array:
    positive: Array = array.astype(np.float64) >= 0.5
    return positive


def _difference(one: Array, other: Array) -> float:
    if one.dtype.kind not in "iuf" or not one.size:
        return 0.0
    with np.errstate(invalid="ignore", over="ignore"):
        off = np.abs(one.astype(np.float64) - other.astype(np.float64))
    finite = off[np.isfinite(off)]
    return float(finite.max()) if finite.size else 0.0
