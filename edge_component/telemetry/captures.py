"""Tensors as the hot path keeps them, and how the recorder's worker takes them apart again.

The failure this exists for: a page of numpy for each request. A record keeps the bytes of the few watched tensors;
everything else about them is found out later, for many requests at once, or once for many (:class:`WatchedArrays`).

Values only, no I/O; any thread.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from edge_component.telemetry.columns import Tensors, WatchPlan, count_columns, sample_count
from edge_component.telemetry.window import WindowCounts

Kept = tuple[bytes, np.dtype[Any], tuple[int, ...]]
"""A copy of a tensor as the hot path makes it: content in C order, dtype and shape. Four times as fast as ``copy()``."""


@dataclass(frozen=True, slots=True)
class WatchedArrays:
    """Watched tensors that always lie in the same arrays.

    Attributes:
        taken: for each, what copies its content, its dtype and its shape.
        size_bytes: of all of them.
    """

    taken: tuple[tuple[Callable[[], bytes], np.dtype[Any], tuple[int, ...]], ...] = ()
    size_bytes: int = 0

    @classmethod
    def of(cls, plan: WatchPlan | None, inputs: Tensors, outputs: Tensors) -> Self | None:
        """Those that a plan names; ``None`` if one of them is not there."""
        if plan is None:
            return cls()
        try:
            arrays = [inputs[name] for name in plan.input_names] + [outputs[name] for name in plan.output_names]
        except KeyError:
            return None
        return cls(
            tuple((array.tobytes, array.dtype, array.shape) for array in arrays), sum(array.nbytes for array in arrays)
        )


def tensors_of(captured: Sequence[Kept]) -> list[NDArray[Any]]:
    """The kept tensors of one request as arrays.

    Raises:
        ValueError: not an array of plain values.
    """
    return [np.frombuffer(content, dtype).reshape(shape) for content, dtype, shape in captured]


def join_captures(captures: Sequence[Sequence[Kept]], vectors: frozenset[int]) -> list[NDArray[Any]]:
    """The kept tensors of many requests as one array each, sample by sample.

    Raises:
        ValueError: they differ in more than their first axis; then count them one by one.
    """
    return [_join(kept, position in vectors) for position, kept in enumerate(zip(*captures, strict=True))]


def count_captures(plan: WatchPlan, captures: Sequence[Sequence[Kept]]) -> WindowCounts:
    """The columns of many requests; a request that cannot be counted is counted as lost."""
    if not captures or not plan.columns:
        return WindowCounts()
    try:
        return _count_tensors(plan, join_captures(captures, plan.vector_positions()))
    except (ValueError, IndexError, TypeError):
        return sum((_count_one(plan, capture) for capture in captures), WindowCounts())


def _count_one(plan: WatchPlan, capture: Sequence[Kept]) -> WindowCounts:
    try:
        return _count_tensors(plan, tensors_of(capture))
    except (ValueError, IndexError, TypeError):
        return WindowCounts(lost_count=1)


def _count_tensors(plan: WatchPlan, tensors: Sequence[NDArray[Any]]) -> WindowCounts:
    return WindowCounts(
        record_count=sample_count(plan.columns, tensors),
        features=count_columns(plan.features, tensors),
        outputs=count_columns(plan.outputs, tensors),
    )


def _join(kept: Sequence[Kept], is_vector: bool) -> NDArray[Any]:  # noqa: FBT001 - one caller
    _, dtype, shape = kept[0]
    inner = () if is_vector else shape if len(shape) < 2 else shape[1:]
    if any(
        other != dtype or (other_shape if len(shape) < 2 and not is_vector else other_shape[1:]) != inner
        for _, other, other_shape in kept
    ):
        raise ValueError("the tensors differ in more than their first axis")
    together = np.frombuffer(b"".join([content for content, _, _ in kept]), dtype)
    return together.reshape(-1, *(inner or (1,)))  # scalars are rows of one, not one row of them all
