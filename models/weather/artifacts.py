"""What training leaves behind for compiling: the graph, samples, and the baseline that drift is measured against.

The failure this exists for: a device that compares what it sees with a baseline counted in another way. So a bin is
here what ``baseline.json``'s contract says it is (``edges[i-1] < x <= edges[i]``), and edges are values that occurred,
in float32, so that the device's comparison rounds nothing.

The documents are written as plain JSON, without Edgewright's own packages: a training container has only this folder
and the ``[training]`` extra. Tests read them back with the contracts.
"""

import json
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")  # ONNX Runtime phones home unless this is set before its import

import numpy as np
import numpy.typing as npt
import onnxruntime
from data import FEATURES, Examples
from onnx import ModelProto, TensorProto
from onnx.helper import make_tensor_value_info
from skl2onnx import convert_sklearn
from skl2onnx.common.data_types import FloatTensorType
from skl2onnx.helpers.onnx_helper import select_model_inputs_outputs
from sklearn.isotonic import IsotonicRegression
from sklearn.pipeline import Pipeline

MODEL_NAME = "weather"
COMPONENT_NAME = "com.edgewright.model.Weather"
INPUT = "input"
OUTPUT = "probabilities"
LOW = 1
"""Column of ``probabilities`` that holds the probability of low visibility."""

OPSETS = {"": 17, "ai.onnx.ml": 3}
BIN_COUNT = 64
GOLDEN_COUNT = 64
CALIBRATION_COUNT = 512

Array = npt.NDArray[Any]


@dataclass(frozen=True, slots=True)
class Judged:
    """A model, and what it was made and judged with."""

    graph: ModelProto
    training: Examples
    held_out: Examples
    probability: Array
    metrics: dict[str, float]


class Forecaster:
    """An ONNX graph with the inputs and outputs of this task, run by ONNX Runtime. One thread; not shared."""

    def __init__(self, path: Path) -> None:
        """Load by path."""
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = options.inter_op_num_threads = 1
        options.log_severity_level = 3  # errors: that an initializer is unused is no news to who reads a job's log
        self._session = onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])

    def outputs(self, features: Array) -> Array:
        """Both classes' probabilities, float32, shape (hours, 2), for features of shape (hours, 16)."""
        answer: Array = self._session.run([OUTPUT], {INPUT: features})[0]
        return answer

    def low(self, features: Array) -> Array:
        """The probability of low visibility, float64, shape (hours,)."""
        return self.outputs(features)[:, LOW].astype(np.float64)


def export(pipeline: Pipeline) -> ModelProto:
    """The fitted pipeline as an ONNX graph: ``input`` float32 (n, 16) → ``probabilities`` float32 (n, 2)."""
    graph = convert_sklearn(
        pipeline,
        name=MODEL_NAME,
        initial_types=[(INPUT, FloatTensorType([None, len(FEATURES)]))],
        options={"zipmap": False},
        target_opset=OPSETS,
    )
    selected = select_model_inputs_outputs(graph, outputs=[OUTPUT])
    selected.graph.output[0].CopyFrom(make_tensor_value_info(OUTPUT, TensorProto.FLOAT, ["batch", 2]))
    selected.graph.input[0].CopyFrom(make_tensor_value_info(INPUT, TensorProto.FLOAT, ["batch", len(FEATURES)]))
    _sort_opsets(selected)
    return selected


def _sort_opsets(graph: ModelProto) -> None:
    """skl2onnx writes the domains in the order of a set; the same training shall give the same bytes."""
    opsets = sorted(graph.opset_import, key=lambda opset: opset.domain)
    del graph.opset_import[:]
    graph.opset_import.extend(opsets)


def write(folder: Path, judged: Judged) -> None:
    """Write every file that compiling reads. Golden outputs come from ONNX Runtime, one request at a time."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "model.onnx").write_bytes(judged.graph.SerializeToString(deterministic=True))
    forecaster = Forecaster(folder / "model.onnx")
    golden = _requests(_spread(judged.held_out.features, GOLDEN_COUNT))
    answers = np.stack([forecaster.outputs(request) for request in golden])
    np.savez(folder / "golden.npz", **{f"input:{INPUT}": golden, f"output:{OUTPUT}": answers})
    calibration = _requests(_spread(judged.training.features, CALIBRATION_COUNT))
    np.savez(folder / "calibration.npz", **{f"input:{INPUT}": calibration})
    evaluation = {f"input:{INPUT}": _requests(judged.held_out.features), "label": judged.held_out.label}
    np.savez(folder / "evaluation.npz", **evaluation)
    _write_json(folder / "baseline.json", baseline_document(judged))
    _write_json(folder / "model.json", model_document(judged))


def model_document(judged: Judged) -> dict[str, Any]:
    """``model.json``: names, what telemetry watches, and the task that gates judge variants by."""
    return {
        "schema": "edgewright.model/1",
        "model_name": MODEL_NAME,
        "component_name": COMPONENT_NAME,
        "features": [{"name": name, "input": INPUT, "index": index} for index, name in enumerate(FEATURES)],
        "watched_outputs": [{"name": "low_visibility", "output": OUTPUT, "index": LOW, "kind": "probability"}],
        "nan_policy": "accept",
        "task": {"kind": "binary_classification", "output": OUTPUT, "index": LOW, "metric": "log_loss"},
        "metrics": judged.metrics,
    }


def baseline_document(judged: Judged) -> dict[str, Any]:
    """``baseline.json``: inputs as trained and judged on; outputs as judged, since a model is surer of what it learnt."""
    seen = np.concatenate([judged.training.features, judged.held_out.features])
    output = column("low_visibility", judged.probability.astype(np.float32))
    output["positive_rate"] = positive_rates(judged.probability, judged.held_out.label, output["edges"])
    return {
        "schema": "edgewright.baseline/1",
        "model_name": MODEL_NAME,
        "sample_count": len(seen),
        "features": [column(name, seen[:, index]) for index, name in enumerate(FEATURES)],
        "outputs": [output],
        "performance": {name: judged.metrics[name] for name in ("log_loss", "auc")},
    }


def column(name: str, values: Array) -> dict[str, Any]:
    """One histogram: 64 bins over the values' own quantiles, and counters of what no bin can hold."""
    finite = values[np.isfinite(values)]
    if len(finite) == 0:
        edges, counts, low, high = np.zeros(BIN_COUNT - 1, np.float32), np.zeros(BIN_COUNT, np.int64), 0.0, 0.0
    else:
        steps = np.arange(1, BIN_COUNT) / BIN_COUNT
        edges = np.quantile(finite, steps, method="inverted_cdf").astype(np.float32)
        counts = np.bincount(np.searchsorted(edges, finite, side="left"), minlength=BIN_COUNT)
        low, high = float(finite.min()), float(finite.max())
    return {
        "name": name,
        "edges": edges.tolist(),
        "counts": counts.tolist(),
        "minimum": low,
        "maximum": high,
        "nan_count": int(np.isnan(values).sum()),
        "infinite_count": int(np.isinf(values).sum()),
        "zero_count": int((values == 0).sum()),
    }


def positive_rates(probability: Array, label: Array, edges: list[float]) -> list[float]:
    """Share of low hours that followed forecasts in each bin, calibrated.

    A bin holds some sixteen records, too few to count in; so the rate is isotonic regression's over all of them (it
    only assumes that a higher forecast is never the less likely one), kept off 0 and 1 as far as the count can tell.
    """
    curve = IsotonicRegression(out_of_bounds="clip").fit(probability, label)
    bins = np.searchsorted(np.asarray(edges), probability.astype(np.float32), side="left")
    centres = [
        probability[bins == index].mean() if (bins == index).any() else edges[min(index, BIN_COUNT - 2)]
        for index in range(BIN_COUNT)
    ]
    surest = 1 / (len(label) + 2)
    rates: list[float] = np.clip(curve.predict(centres), surest, 1 - surest).tolist()
    return rates


def _spread(rows: Array, count: int) -> Array:
    """At most ``count`` rows, evenly spread over the stretch."""
    index = np.unique(np.linspace(0, len(rows) - 1, min(count, len(rows))).astype(int))
    return rows[index]


def _requests(rows: Array) -> Array:
    """Rows as samples: axis 0 counts them, and each is one request's whole tensor, of shape (1, features)."""
    return np.ascontiguousarray(rows[:, np.newaxis, :])


def _write_json(path: Path, document: dict[str, Any]) -> None:
    path.write_text(json.dumps(document, sort_keys=True, allow_nan=False) + "\n")
