"""The three models that serving is measured with, as signed bundles of any version.

They span what devices run: a tabular network of a few microseconds, Silero VAD (a recurrent network over 30 ms of
sound) and RapidOCR's text classifier over a 602 kB image. The last two come out of PyPI wheels, found without importing
them: what else those packages need is large and not needed here.
"""

import importlib.util
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import onnxruntime as ort
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

from edge_component.contracts.baseline import BIN_COUNT, Baseline, BaselineColumn
from edge_component.contracts.manifest import Feature, Manifest, TensorSpec, WatchedOutput
from tests.edge_component.bundle_factory import Bundle, BundleFactory, npz, serialized

FEATURES = 30
Feed = dict[str, NDArray[np.generic]]


@dataclass(frozen=True)
class BenchModel:
    """One model and one request for it.

    Attributes:
        name: short, as in tables.
        title: what it is.
        content: the ONNX file.
        inputs, outputs: as a manifest lists them.
        feed: one request.
        beyond_floor_us, one_core_us: the bars: added p50 beyond the doorbell, and in absolute terms on one core.
        request_count: of a block; about 10 ms of work, so that blocks of all sides alternate quickly.
    """

    name: str
    title: str
    content: bytes
    inputs: tuple[TensorSpec, ...]
    outputs: tuple[TensorSpec, ...]
    feed: Feed
    beyond_floor_us: float
    one_core_us: float
    request_count: int

    def bundle(self, factory: BundleFactory, version: str) -> Bundle:
        """This model, signed; versions differ in their number alone, which is all that a swap looks at."""
        files = {"model.onnx": self.content, "golden.npz": self._golden()}
        is_tabular = self.name == "mlp"
        if is_tabular:
            files["baseline.json"] = baseline().to_bytes()

        def change(manifest: Manifest) -> Manifest:
            changed = replace(manifest, inputs=self.inputs, outputs=self.outputs)
            if not is_tabular:
                return changed
            features = tuple(Feature(f"f{n}", "input", n) for n in range(FEATURES))
            return replace(
                changed, features=features, watched_outputs=(WatchedOutput("p", "probability", 0, "probability"),)
            )

        component = f"com.edgewright.model.{self.name.capitalize()}"
        return factory.scale(version, 1.0, name=self.name, component=component, change=change, files=files)

    def answer(self) -> list[NDArray[np.generic]]:
        """The outputs for the request, as ONNX Runtime computes them."""
        session = ort.InferenceSession(self.content, providers=["CPUExecutionProvider"])
        return list(session.run([spec.name for spec in self.outputs], self.feed))

    def _golden(self) -> bytes:
        answers = zip([spec.name for spec in self.outputs], self.answer(), strict=True)
        arrays = {f"input:{name}": array[None] for name, array in self.feed.items()}
        return npz(**arrays, **{f"output:{name}": array[None] for name, array in answers})


def bench_models() -> tuple[BenchModel, ...]:
    """All three; a wheel that is not installed is named by the error."""
    return tabular(), silero(), vision()


def tabular() -> BenchModel:
    """30 floats through two layers of 32 to one probability."""
    rng = np.random.default_rng(7)
    weights = [
        numpy_helper.from_array(rng.normal(0, 0.3, shape).astype(np.float32), name)
        for name, shape in (("w1", (FEATURES, 32)), ("b1", (32,)), ("w2", (32, 1)), ("b2", (1,)))
    ]
    nodes = [
        helper.make_node("Gemm", ["input", "w1", "b1"], ["h"]),
        helper.make_node("Relu", ["h"], ["r"]),
        helper.make_node("Gemm", ["r", "w2", "b2"], ["o"]),
        helper.make_node("Sigmoid", ["o"], ["probability"]),
    ]
    x = helper.make_tensor_value_info("input", TensorProto.FLOAT, ["batch", FEATURES])
    y = helper.make_tensor_value_info("probability", TensorProto.FLOAT, ["batch", 1])
    return BenchModel(
        "mlp", "30 floats, two layers", serialized(helper.make_graph(nodes, "mlp", [x], [y], weights)),
        (TensorSpec("input", "float32", (-1, FEATURES)),), (TensorSpec("probability", "float32", (-1, 1)),),
        {"input": rng.normal(0, 1, (1, FEATURES)).astype(np.float32)}, 3, 6, 400,
    )  # fmt: skip


def silero() -> BenchModel:
    """Silero VAD: 32 ms of sound and the state of a stream."""
    rng = np.random.default_rng(7)
    feed: Feed = {
        "input": rng.normal(0, 0.1, (1, 576)).astype(np.float32),
        "state": np.zeros((2, 1, 128), np.float32),
        "sr": np.array(16_000, np.int64),
    }
    return BenchModel(
        "vad", "Silero VAD, 3.3 kB in", in_wheel("silero_vad", "data/silero_vad_16k_op15.onnx"),
        (TensorSpec("input", "float32", (-1, -1)), TensorSpec("state", "float32", (2, -1, 128)),
         TensorSpec("sr", "int64", ())),
        (TensorSpec("output", "float32", (-1, 1)), TensorSpec("stateN", "float32", (-1, -1, -1))),
        feed, 5, 8, 120,
    )  # fmt: skip


def vision() -> BenchModel:
    """RapidOCR's classifier: is this line of text upside down?"""
    output = "save_infer_model/scale_0.tmp_1"
    feed: Feed = {"x": np.random.default_rng(7).normal(0, 1, (1, 3, 224, 224)).astype(np.float32)}
    return BenchModel(
        "vis", "RapidOCR classifier, 602 kB in",
        in_wheel("rapidocr_onnxruntime", "models/ch_ppocr_mobile_v2.0_cls_infer.onnx"),
        (TensorSpec("x", "float32", (-1, 3, 224, 224)),), (TensorSpec(output, "float32", (-1, 2)),),
        feed, 9, 12, 6,
    )  # fmt: skip


def baseline() -> Baseline:
    """The tabular model's, so that telemetry keeps and counts all 31 columns while it is measured."""

    def column(name: str, low: float, high: float) -> BaselineColumn:
        edges = tuple(float(edge) for edge in np.linspace(low, high, BIN_COUNT - 1))
        return BaselineColumn(name, edges, (100,) * BIN_COUNT, low, high)

    features = tuple(column(f"f{n}", -3, 3) for n in range(FEATURES))
    return Baseline("mlp", 100 * BIN_COUNT, features, (column("p", 0, 1),))


def in_wheel(package: str, path: str) -> bytes:
    """A file of an installed package that is not imported."""
    spec = importlib.util.find_spec(package)
    if spec is None or not spec.submodule_search_locations:
        raise SystemExit(f"{package} is not installed; `make test` installs it (pip install --no-deps)")
    return (Path(spec.submodule_search_locations[0]) / path).read_bytes()
