"""What publishing admits, a device activates: own models with tensors that are easily forgotten, all the way to an answer."""

from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper

from cloud.compilation.own_model import OwnModel, compile_own_model
from cloud.publishing.memory import MemoryArtifacts, MemoryComponents
from cloud.publishing.publication import PublishingPorts, PublishRequest
from cloud.publishing.publish import publish_model
from edge_component.in_process import Runtime
from edge_component.platform_name import platform_name
from tests.cloud.publishing.conftest import KEY

Arrays = dict[str, Any]


def graph(nodes: list[Any], inputs: Arrays, outputs: Arrays, weights: tuple[Any, ...] = ()) -> bytes:
    """``inputs`` and ``outputs``: element type and shape by name."""
    given, made = (
        [helper.make_tensor_value_info(name, kind, shape) for name, (kind, shape) in side.items()]
        for side in (inputs, outputs)
    )
    imports = [helper.make_opsetid("", 17), helper.make_opsetid("ai.onnx.ml", 3)]
    built = helper.make_model(helper.make_graph(nodes, "g", given, made, weights), opset_imports=imports, ir_version=8)
    return bytes(built.SerializeToString())


def scalars_of_text() -> tuple[bytes, Arrays, Arrays]:
    text = (TensorProto.STRING, [])
    return graph([helper.make_node("Identity", ["x"], ["y"])], {"x": text}, {"y": text}), {"x": np.array("heiß")}, {}


def labels_declared_as_one() -> tuple[bytes, Arrays, Arrays]:
    """As LightGBM's exporter does; the sample is a single row, and the next request a batch."""
    coefficients = {"coefficients": [1.0, -1.0], "intercepts": [0.0, 0.0], "classlabels_strings": ["kalt", "heiß"]}
    node = helper.make_node("LinearClassifier", ["x"], ["label", "p"], domain="ai.onnx.ml", **coefficients)
    sides = {"label": (TensorProto.STRING, [1]), "p": (TensorProto.FLOAT, ["n", 2])}
    batch = np.array([[1], [-1], [2]], np.float32)
    return graph([node], {"x": (TensorProto.FLOAT, ["n", 1])}, sides), {"x": batch[:1]}, {"x": batch}


def parts_of_a_size_that_is_asked_for() -> tuple[bytes, Arrays, Arrays]:
    """ONNX Runtime infers equal parts, wrongly, and says so of its outputs."""
    node = helper.make_node("Split", ["x", "sizes"], ["a", "b"])
    inputs = {"x": (TensorProto.FLOAT, [6]), "sizes": (TensorProto.INT64, [2])}
    outputs = {"a": (TensorProto.FLOAT, [2]), "b": (TensorProto.FLOAT, [4])}
    return graph([node], inputs, outputs), {"x": np.arange(6, dtype=np.float32), "sizes": np.array([2, 4])}, {}


def weights_that_may_be_overridden() -> tuple[bytes, Arrays, Arrays]:
    weight = helper.make_tensor("w", TensorProto.FLOAT, [1], [3.0])
    inputs = {"x": (TensorProto.FLOAT, ["n"]), "w": (TensorProto.FLOAT, [1])}
    node = helper.make_node("Mul", ["x", "w"], ["y"])
    return graph([node], inputs, {"y": (TensorProto.FLOAT, ["n"])}, (weight,)), {"x": np.ones(2, np.float32)}, {}


def nothing_in_and_nothing_out() -> tuple[bytes, Arrays, Arrays]:
    node = helper.make_node("NonZero", ["x"], ["y"])
    inputs, outputs = {"x": (TensorProto.BOOL, ["n", 0])}, {"y": (TensorProto.INT64, [2, "k"])}
    return graph([node], inputs, outputs), {"x": np.zeros((3, 0), bool)}, {}


def a_table_of_a_hundred_columns() -> tuple[bytes, Arrays, Arrays]:
    names = [f"Spalte {index} [°C]" for index in range(100)]
    inputs = {name: (TensorProto.INT64, ["n", 1]) for name in names}
    table = graph([helper.make_node("Concat", names, ["y"], axis=1)], inputs, {"y": (TensorProto.INT64, ["n", 100])})
    return table, {name: np.full((1, 1), index) for index, name in enumerate(names)}, {}


MODELS = [
    scalars_of_text, labels_declared_as_one, parts_of_a_size_that_is_asked_for, weights_that_may_be_overridden,
    nothing_in_and_nothing_out, a_table_of_a_hundred_columns,
]  # fmt: skip


@pytest.mark.parametrize("make", MODELS)
def test_what_publishing_admits_a_device_activates_and_answers(tmp_path: Path, make: Any) -> None:
    model, sample, later = make()
    (tmp_path / "m.onnx").write_bytes(model)
    np.savez(tmp_path / "s.npz", **sample)
    compile_own_model(OwnModel(tmp_path / "m.onnx", tmp_path / "s.npz", "odd"), tmp_path / "c", (platform_name(),))
    ports = PublishingPorts(MemoryArtifacts(), MemoryComponents(), now=lambda: datetime.now(UTC))
    request = PublishRequest(tmp_path / "c", "1.0.0", "bucket", timedelta(days=1))
    (bundle,) = publish_model(request, KEY, ports).bundles
    assert isinstance(ports.artifacts, MemoryArtifacts)
    (tmp_path / "b.zip").write_bytes(ports.artifacts.objects[bundle.archive_uri])
    (tmp_path / "trust").mkdir()
    (tmp_path / "trust" / "key.pem").write_bytes(KEY.public_key_pem())
    reference = onnx.reference.ReferenceEvaluator(onnx.load_from_string(model))
    with Runtime.own(tmp_path / "work", tmp_path / "trust") as runtime:
        runtime.activate(tmp_path / "b.zip", "com.edgewright.model.Odd", "1.0.0")
        for asked in (sample, later or sample):
            given = {name: array.astype(object) if array.dtype.kind == "U" else array for name, array in asked.items()}
            answer = runtime.infer("odd", given).outputs
            for name, expected in zip(reference.output_names, reference.run(None, given), strict=True):
                np.testing.assert_array_equal(answer[name], expected)
