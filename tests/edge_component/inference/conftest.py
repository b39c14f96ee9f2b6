"""Loaded models that a test can ask: doubling, summing up over a sequence, and one that never ends."""

from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from onnx import TensorProto, helper

from edge_component.clock import SystemClock
from edge_component.contracts.heartbeat import ModelRef
from edge_component.contracts.manifest import Manifest, TensorSpec
from edge_component.inference.deadline import DeadlineWatch
from edge_component.inference.session import Session
from edge_component.inference.versions import ActiveModel
from tests.edge_component.bundle_factory import scale_model, serialized
from tests.edge_component.graphs import endless_model
from tests.edge_component.inference.test_session import MANIFEST

SUMMING = replace(
    MANIFEST,
    inputs=(TensorSpec("x", "float32", (-1, 3)), TensorSpec("total", "float32", (-1, 3))),
    outputs=(TensorSpec("y", "float32", (-1, 3)), TensorSpec("sum", "float32", (-1, 3))),
)
"""``sum = total + x``, ``y = sum * 1``."""

Serve = Callable[..., ActiveModel]


def summing_model() -> bytes:
    values = {
        name: helper.make_tensor_value_info(name, TensorProto.FLOAT, ["batch", 3])
        for name in ("x", "total", "y", "sum")
    }
    nodes = [helper.make_node("Add", ["total", "x"], ["sum"]), helper.make_node("Identity", ["sum"], ["y"])]
    return serialized(helper.make_graph(nodes, "sum", [values["x"], values["total"]], [values["y"], values["sum"]]))


MODELS: dict[str, tuple[bytes, Manifest]] = {
    "double": (scale_model(2.0), MANIFEST),
    "triple": (scale_model(3.0), MANIFEST),
    "sum": (summing_model(), SUMMING),
    "endless": (endless_model(), MANIFEST),
}


@pytest.fixture
def watch() -> Iterator[DeadlineWatch]:
    watch = DeadlineWatch(SystemClock())
    watch.start()
    yield watch
    watch.stop()


@pytest.fixture
def session(tmp_path: Path) -> Callable[[str], Session]:
    def load(name: str) -> Session:
        model, manifest = MODELS[name]
        path = tmp_path / f"{name}.onnx"
        path.write_bytes(model)
        return Session.load(path, manifest)

    return load


@pytest.fixture
def serve(session: Callable[[str], Session]) -> Serve:
    def loaded(name: str, **keywords: object) -> ActiveModel:
        ref = ModelRef(name, "1.0.0", "0" * 64)
        return replace(ActiveModel(ref, MODELS[name][1], session(name), 1), **keywords)  # type: ignore[arg-type]

    return loaded
