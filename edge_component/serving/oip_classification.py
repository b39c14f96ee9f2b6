"""Triton's classification extension: an output's highest values with their places, as text, instead of the output. Pure.

Each element reads ``<value>:<index>``; a model has no labels here. Floats have six decimals, as Triton's own answers do. Equal
values come in the order of their indices, and NaN after every number.
"""

import numpy as np

from edge_component.inference.session import Array
from edge_component.serving.oip_codec import object_array
from edge_component.serving.oip_errors import OipUnsupportedError

NOT_NUMBERS = frozenset({"BYTES", "BF16", "BOOL"})


def classified(name: str, datatype: str, array: Array, count: int, *, batched: bool) -> Array:
    """A BYTES tensor: ``[rows, classes]`` where the first axis is a batch, else ``[classes]``.

    Args:
        name: of the output, for the error.
        datatype: of its elements.
        array: its values.
        count: how many classes; fewer are given if the output has no more values.
        batched: the output's first axis is the batch.

    Raises:
        OipUnsupportedError: the output does not hold numbers that can be compared.
    """
    if datatype in NOT_NUMBERS:
        raise OipUnsupportedError(f"output {name} is {datatype}, which has no highest values", "Ask for it as it is.")
    row_count = array.shape[0] if batched and array.ndim else 1
    rows = array.reshape(row_count, array.size // max(row_count, 1))
    shown = min(count, rows.shape[1])
    texts = [_text(row[index], int(index)) for row in rows for index in _descending(row)[:shown]]
    return object_array(texts, (row_count, shown) if batched and array.ndim else (shown,))


def _descending(row: Array) -> Array:
    """Indices, highest value first. Sorted backwards, so that a stable sort leaves equal values in their order."""
    compared = np.where(np.isnan(row), -np.inf, row) if row.dtype.kind == "f" else row
    order: Array = len(row) - 1 - np.argsort(compared[::-1], kind="stable")[::-1]
    return order


def _text(value: np.generic, index: int) -> str:
    return f"{value:f}:{index}" if value.dtype.kind == "f" else f"{value}:{index}"
