"""Small graphs, made here, for what real models do too rarely: every refusal, and an int8 variant that passes."""

import json
import tarfile
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
from onnx import TensorProto, helper, numpy_helper

FLOAT = TensorProto.FLOAT


def model(
    nodes: list[Any], inputs: list[Any], outputs: list[Any], weights: list[Any], **settings: Any
) -> onnx.ModelProto:
    opsets = settings.pop("opsets", [helper.make_opsetid("", 17)])
    graph = helper.make_graph(nodes, "test", inputs, outputs, weights)
    return helper.make_model(graph, opset_imports=opsets, ir_version=8, **settings)


def tensor(name: str, shape: list[Any], kind: int = FLOAT) -> onnx.ValueInfoProto:
    return helper.make_tensor_value_info(name, kind, shape)


def weight(name: str, array: np.ndarray) -> onnx.TensorProto:
    return numpy_helper.from_array(array.astype(np.float32), name)


def doubler() -> onnx.ModelProto:
    """y = x + x: nothing to quantise."""
    return model([helper.make_node("Add", ["x", "x"], ["y"])], [tensor("x", ["n", 3])], [tensor("y", ["n", 3])], [])


def classifier(width: int = 256) -> onnx.ModelProto:
    """Two wide layers and a sigmoid: int8 is smaller, and near."""
    random = np.random.default_rng(7)
    first, second = random.normal(size=(8, width)) / 3, random.normal(size=(width, width)) / np.sqrt(width)
    last = random.normal(size=(width, 1)) / np.sqrt(width)
    nodes = [
        helper.make_node("MatMul", ["x", "w0"], ["a"]),
        helper.make_node("Relu", ["a"], ["b"]),
        helper.make_node("MatMul", ["b", "w1"], ["c"]),
        helper.make_node("Relu", ["c"], ["d"]),
        helper.make_node("MatMul", ["d", "w2"], ["e"]),
        helper.make_node("Sigmoid", ["e"], ["p"]),
    ]
    weights = [weight("w0", first), weight("w1", second), weight("w2", last)]
    return model(nodes, [tensor("x", ["n", 8])], [tensor("p", ["n", 1])], weights)


def answers(path: Path, requests: np.ndarray) -> np.ndarray:
    session = onnxruntime.InferenceSession(str(path))
    (name,) = [value.name for value in session.get_inputs()]
    return np.stack([session.run(None, {name: request})[0] for request in requests])


def write_artifact(folder: Path, graph: onnx.ModelProto, *, calibrated: bool = True, labelled: bool = True) -> Path:
    """What a training job would have left, for a graph with one float input."""
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / "model.onnx"
    path.write_bytes(graph.SerializeToString())
    (given,), (made,) = graph.graph.input, graph.graph.output
    columns = given.type.tensor_type.shape.dim[1].dim_value
    requests = np.random.default_rng(1).normal(size=(200, 1, columns)).astype(np.float32)
    got = answers(path, requests)
    np.savez(folder / "golden.npz", **{f"input:{given.name}": requests[:20], f"output:{made.name}": got[:20]})
    if calibrated:
        np.savez(folder / "calibration.npz", **{f"input:{given.name}": requests})
    if labelled:
        label = (np.random.default_rng(2).random(200) < got[:, 0, 0]).astype(np.float32)
        np.savez(folder / "evaluation.npz", **{f"input:{given.name}": requests, "label": label})
    task = {"kind": "binary_classification", "output": made.name, "index": 0, "metric": "log_loss"}
    write_card(folder, **({"task": task} if labelled else {}))
    return folder


def write_card(folder: Path, **changes: Any) -> None:
    card = {
        "schema": "edgewright.model/1",
        "model_name": "test",
        "component_name": "com.edgewright.model.Test",
        "features": [],
        "watched_outputs": [],
        "nan_policy": "accept",
        "metrics": {"log_loss": 0.5},
    }
    (folder / "model.json").write_text(json.dumps(card | changes))


def pack(folder: Path, archive: Path) -> Path:
    with tarfile.open(archive, "w:gz") as tar:
        for path in sorted(folder.iterdir()):
            tar.add(path, arcname=f"./{path.name}")
    return archive
