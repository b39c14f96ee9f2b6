"""Which columns of which tensors a model is watched by, over which bins: decided once, when the model is switched to.

The failure this exists for: finding out per request, on the hot path, what a manifest means. A :class:`WatchPlan` names
the few tensors worth keeping a copy of; everything else about columns happens on the recorder's worker.

Values only, no I/O; a plan is frozen and may be read from any thread.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import groupby
from typing import Any, Self

from numpy.typing import NDArray

from edge_component.contracts.baseline import Baseline, BaselineColumn
from edge_component.contracts.heartbeat import ModelRef
from edge_component.contracts.manifest import Feature, Manifest, TensorSpec, WatchedOutput
from edge_component.telemetry.histogram import CLASS_BINS, Bins, Histogram, baseline_bins, count_matrix

COLUMN_NAME_CHARS_MAX = 128
"""A longer name could not share a publish with its own counts."""
Tensors = Mapping[str, NDArray[Any]]
UNCOUNTABLE_DTYPES = ("string", "bfloat16")


@dataclass(frozen=True, slots=True, eq=False)
class WatchedColumn:
    """One column: element ``index`` of the last axis of the tensor at ``position`` in a record's captured tensors.

    ``is_vector`` marks a tensor of shape ``[-1]``: its only axis is the samples, and the column is the whole of it.
    """

    name: str
    position: int
    index: int
    is_vector: bool
    bins: Bins


@dataclass(frozen=True, slots=True, eq=False)
class WatchPlan:
    """What the recorder keeps and counts for one exact model.

    Attributes:
        model: whom it is about; records are matched by its digest.
        baseline_id: empty for a model without a baseline; then only the service is counted.
        input_names, output_names: tensors to keep, inputs first; ``position`` counts through both.
        features, outputs: the columns.
        left_out: names of columns that cannot be counted, each with its reason; for the log.
    """

    model: ModelRef
    baseline_id: str = ""
    input_names: tuple[str, ...] = ()
    output_names: tuple[str, ...] = ()
    features: tuple[WatchedColumn, ...] = ()
    outputs: tuple[WatchedColumn, ...] = ()
    left_out: tuple[str, ...] = ()

    @classmethod
    def of(cls, model: ModelRef, manifest: Manifest, baseline: Baseline | None, baseline_id: str) -> Self:
        """Decide what to watch: a feature or output that the baseline knows; a label needs no baseline of its own.

        ``baseline`` is the bundle's ``baseline.json`` and ``baseline_id`` its digest; both absent where it has none.
        """
        if baseline is None:
            return cls(model)
        features, inputs, missed = _columns(manifest.features, manifest.inputs, baseline.features, 0)
        outputs, answers, missed_too = _columns(
            manifest.watched_outputs, manifest.outputs, baseline.outputs, len(inputs)
        )
        return cls(model, baseline_id, inputs, answers, features, outputs, (*missed, *missed_too))

    @property
    def columns(self) -> tuple[WatchedColumn, ...]:
        """Features and outputs."""
        return self.features + self.outputs

    def vector_positions(self) -> frozenset[int]:
        """Which captured tensors have samples for their only axis."""
        return frozenset(column.position for column in self.columns if column.is_vector)


def count_columns(columns: Sequence[WatchedColumn], tensors: Sequence[NDArray[Any]]) -> dict[str, Histogram]:
    """Count every column of some tensors.

    Raises:
        IndexError: a tensor lacks a column.
    """
    counted: dict[str, Histogram] = {}
    for position, group in groupby(sorted(columns, key=_position), key=_position):
        together = list(group)
        matrix = _as_matrix(tensors[position], together[0].is_vector)[:, [column.index for column in together]]
        histograms = count_matrix(matrix, [column.bins for column in together])
        counted.update(zip((column.name for column in together), histograms, strict=True))
    return counted


def sample_count(columns: Sequence[WatchedColumn], tensors: Sequence[NDArray[Any]]) -> int:
    """How many samples some tensors hold, by the first column; 0 where no column is watched."""
    return len(_as_matrix(tensors[columns[0].position], columns[0].is_vector)) if columns else 0


def _as_matrix(tensor: NDArray[Any], is_vector: bool) -> NDArray[Any]:  # noqa: FBT001 - as WatchedColumn.is_vector
    return tensor.reshape(-1, 1 if is_vector or not tensor.ndim else tensor.shape[-1])


def _position(column: WatchedColumn) -> int:
    return column.position


def _columns(
    watched: Sequence[Feature | WatchedOutput],
    tensors: Sequence[TensorSpec],
    known: Sequence[BaselineColumn],
    first_position: int,
) -> tuple[tuple[WatchedColumn, ...], tuple[str, ...], tuple[str, ...]]:
    specs = {spec.name: spec for spec in tensors}
    bins = {column.name: baseline_bins(column) for column in known}
    names: list[str] = []
    columns: list[WatchedColumn] = []
    left_out: list[str] = []
    for column in watched:
        tensor = column.input if isinstance(column, Feature) else column.output
        reason = _why_not(column, specs.get(tensor), bins)
        if reason:
            left_out.append(f"{column.name[:COLUMN_NAME_CHARS_MAX]}: {reason}")
            continue
        if tensor not in names:
            names.append(tensor)
        is_label = isinstance(column, WatchedOutput) and column.kind == "label"
        columns.append(
            WatchedColumn(
                column.name,
                first_position + names.index(tensor),
                column.index,
                specs[tensor].shape == (-1,),
                CLASS_BINS if is_label else bins[column.name],
            )
        )
    return tuple(columns), tuple(names), tuple(left_out)


def _why_not(column: Feature | WatchedOutput, spec: TensorSpec | None, bins: Mapping[str, Bins]) -> str:
    if spec is None:
        return "the graph has no such tensor"
    if spec.dtype in UNCOUNTABLE_DTYPES:
        return f"{spec.dtype} cannot be counted"
    width = spec.shape[-1] if spec.shape and spec.shape != (-1,) else 1
    if 0 <= width <= column.index:
        return f"index {column.index} is beyond the last axis of {list(spec.shape)}"
    if len(column.name) > COLUMN_NAME_CHARS_MAX:
        return f"the name is longer than {COLUMN_NAME_CHARS_MAX} characters"
    is_label = isinstance(column, WatchedOutput) and column.kind == "label"
    return "" if is_label or column.name in bins else "the baseline has no such column"
