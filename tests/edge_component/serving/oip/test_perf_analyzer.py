"""Triton's ``perf_analyzer`` against a whole runtime: each way that it asks, with its own checks of what it gets.

It reads metadata, configuration, statistics and extensions before and after, and ends in an error where one of them says
something that Triton would not; where it is given ``validation_data`` it compares every answer. No figure is judged here.
"""

import json
import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pytest
import tritonclient.http
from onnx import TensorProto, helper

from edge_component.contracts.codec import Table
from edge_component.contracts.manifest import Manifest, TensorSpec
from tests.conftest import find_free_port
from tests.edge_component.bundle_factory import Bundle, BundleFactory, npz, serialized
from tests.edge_component.runtime_process import RuntimeProcess
from tests.edge_component.serving.oip.perf_analyzer import measure, refusal, what_is_missing

VALIDATED = {"data": [{"x": [1.5, -2.5, 3.5]}], "validation_data": [{"y": [3.0, -5.0, 7.0]}]}
WRONG = {**VALIDATED, "validation_data": [{"y": [3.0, -5.0, 7.5]}]}
SHAPES = {"data": [{"x": {"content": [1.0] * width, "shape": [width]}} for width in (1, 7, 30)]}
DOCUMENTS = {"validated.json": VALIDATED, "wrong.json": WRONG, "shapes.json": SHAPES}


@dataclass(frozen=True)
class Served:
    """A runtime with the doors open, and how perf_analyzer is told to find them."""

    runtime: RuntimeProcess
    addresses: dict[str, list[str]]
    folder: Path

    def arguments(self, model: str, protocol: str, options: str) -> list[str]:
        words = [str(self.folder / word) if word in DOCUMENTS else word for word in options.split()]
        return ["-m", model, *self.addresses[protocol], *words]

    def statistics(self, model: str) -> dict[str, int]:
        """Requests answered, requests failed and rows, as the door counts them."""
        client = tritonclient.http.InferenceServerClient(self.addresses["http"][3])
        (stats,) = client.get_inference_statistics(model)["model_stats"]
        client.close()
        counted = stats["inference_stats"]
        return {
            "answered": counted["success"]["count"],
            "failed": counted["fail"]["count"],
            "rows": stats["inference_count"],
        }


@pytest.fixture(scope="module")
def served(trust: Path, bundles: BundleFactory, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    missing = what_is_missing()
    if missing and os.environ.get("CI"):
        pytest.fail(missing)
    if missing:
        pytest.skip(missing)
    folder = tmp_path_factory.mktemp("perf-analyzer")
    for name, document in DOCUMENTS.items():
        (folder / name).write_text(json.dumps(document))
    rest, grpc = free_ports()
    doors = {"oip_rest_port": rest, "oip_grpc_port": grpc, "oip_shared_memory": True, "probation_s": 0}
    runtime = RuntimeProcess(folder / "work", trust, config=doors)
    try:
        for bundle in (
            bundles.scale("1.0.0", 2.0),
            bundles.scale("1.0.0", 2.0, name="fixed", component="com.edgewright.model.Fixed", batch=1),
            wide(bundles),
            flat(bundles),
            running_sum(bundles),
        ):
            event = runtime.admin.activate(bundle.archive, bundle.component, bundle.version)
            assert event.outcome == "activated", event
        addresses = {
            "http": ["-i", "http", "-u", f"127.0.0.1:{rest}"],
            "grpc": ["-i", "grpc", "-u", f"127.0.0.1:{grpc}"],
        }
        yield Served(runtime, addresses, folder)
        assert "Traceback" not in runtime.log_text()
    finally:
        runtime.kill()


def free_ports() -> tuple[int, int]:
    one = find_free_port()
    return one, next(port for port in iter(find_free_port, None) if port != one)


def wide(bundles: BundleFactory) -> Bundle:
    """``y = -x`` over rows of any width."""
    x = helper.make_tensor_value_info("x", TensorProto.FLOAT, ["batch", "width"])
    y = helper.make_tensor_value_info("y", TensorProto.FLOAT, ["batch", "width"])
    graph = helper.make_graph([helper.make_node("Neg", ["x"], ["y"])], "g", [x], [y])
    rows = np.linspace(-1, 1, 12, dtype=np.float32).reshape(4, 1, 3)
    golden = npz(**{"input:x": rows, "output:y": -rows})
    shape = (-1, -1)
    return other(bundles, "wide", graph, golden, lambda manifest: replace(
        manifest, inputs=(TensorSpec("x", "float32", shape),), outputs=(TensorSpec("y", "float32", shape),)
    ))  # fmt: skip


def flat(bundles: BundleFactory) -> Bundle:
    """``y = -x`` over one number for each row."""
    x = helper.make_tensor_value_info("x", TensorProto.FLOAT, ["batch"])
    y = helper.make_tensor_value_info("y", TensorProto.FLOAT, ["batch"])
    graph = helper.make_graph([helper.make_node("Neg", ["x"], ["y"])], "g", [x], [y])
    rows = np.linspace(-1, 1, 12, dtype=np.float32).reshape(4, 3)
    golden = npz(**{"input:x": rows, "output:y": -rows})
    return other(bundles, "flat", graph, golden, lambda manifest: replace(
        manifest, inputs=(TensorSpec("x", "float32", (-1,)),), outputs=(TensorSpec("y", "float32", (-1,)),)
    ))  # fmt: skip


def running_sum(bundles: BundleFactory) -> Bundle:
    """The sum of all ``x`` of a sequence, which the runtime carries."""
    tensors = {
        name: helper.make_tensor_value_info(name, TensorProto.FLOAT, [1, 1]) for name in ("x", "before", "y", "after")
    }
    nodes = [helper.make_node("Add", ["x", "before"], ["after"]), helper.make_node("Identity", ["after"], ["y"])]
    inputs, outputs = [tensors["x"], tensors["before"]], [tensors["y"], tensors["after"]]
    values = np.arange(4, dtype=np.float32).reshape(4, 1, 1)
    golden = npz(**{"input:x": values, "input:before": values, "output:y": 2 * values, "output:after": 2 * values})
    return other(bundles, "total", helper.make_graph(nodes, "g", inputs, outputs), golden, lambda manifest: replace(
        manifest,
        inputs=(TensorSpec("x", "float32", (1, 1)), TensorSpec("before", "float32", (1, 1))),
        outputs=(TensorSpec("y", "float32", (1, 1)), TensorSpec("after", "float32", (1, 1))),
        extra=Table({"states": [{"input": "before", "output": "after"}]}),
    ))  # fmt: skip


def other(
    bundles: BundleFactory, name: str, graph: object, golden: bytes, change: Callable[[Manifest], Manifest]
) -> Bundle:
    files = {"model.onnx": serialized(graph), "golden.npz": golden}
    return bundles.scale(
        "1.0.0", 1.0, name=name, component=f"com.edgewright.model.{name.title()}", change=change, files=files
    )


@pytest.mark.parametrize(
    ("model", "protocol", "options"),
    [
        ("fixed", "http", ""),
        ("fixed", "grpc", ""),
        ("flat", "http", "--shape x:4"),
        ("flat", "grpc", "--shape x:4 --shared-memory system"),
        ("scale", "http", "--concurrency-range 1:4"),
        ("scale", "grpc", "--concurrency-range 1:4"),
        ("scale", "http", "--async --concurrency-range 4"),
        ("scale", "grpc", "--async --concurrency-range 4"),
        ("scale", "grpc", "--streaming --async --concurrency-range 2 --input-data validated.json"),
        ("scale", "http", "--shared-memory system --concurrency-range 2"),
        ("scale", "grpc", "--shared-memory system --concurrency-range 2"),
        ("scale", "http", "--sync --input-data validated.json"),
        ("scale", "grpc", "--sync --input-data validated.json"),
        ("scale", "http", "--input-tensor-format=json --output-tensor-format=json --input-data validated.json"),
        ("scale", "grpc", "--grpc-compression-algorithm gzip --input-data validated.json"),
        ("scale", "grpc", "--request-rate-range 50"),
        ("scale", "http", "-x 10001"),
        ("wide", "http", "--shape x:5"),
        ("wide", "grpc", "--shape x:5 -b 3"),
        ("wide", "http", "--input-data shapes.json"),
        ("wide", "grpc", "--input-data shapes.json"),
        ("total", "grpc", "--concurrency-range 2 --sequence-length 5 --sequence-id-range 1:1000"),
        ("total", "http", "--concurrency-range 2 --sequence-length 5 --sequence-id-range 1:1000"),
    ],
)
def test_it_measures(served: Served, tmp_path: Path, model: str, protocol: str, options: str) -> None:
    before = served.statistics(model)
    rows = measure(served.arguments(model, protocol, options), tmp_path / "report.csv")
    after = served.statistics(model)
    assert len(rows) == (4 if "1:4" in options else 1)
    assert all(row["Inferences/Second"] > 0 and row["p99 latency"] > 0 for row in rows)
    assert all(row["Server Compute Infer"] > 0 for row in rows)
    assert after["answered"] > before["answered"]
    assert after["failed"] == before["failed"]


@pytest.mark.parametrize("protocol", ["http", "grpc"])
def test_a_batch_counts_as_its_rows(served: Served, tmp_path: Path, protocol: str) -> None:
    before = served.statistics("scale")
    measure(served.arguments("scale", protocol, "-b 4 --input-data validated.json"), tmp_path / "report.csv")
    after = served.statistics("scale")
    assert after["rows"] - before["rows"] == 4 * (after["answered"] - before["answered"]) > 0


@pytest.mark.parametrize("protocol", ["http", "grpc"])
@pytest.mark.parametrize(
    ("model", "options", "told"),
    [
        ("nobody", "", "no model named 'nobody' serves here"),
        ("scale", "-x 9", "version 9 of 'scale' is not on this device"),
        ("scale", "--input-data wrong.json", "Output doesn't match expected output"),
        ("fixed", "-b 2", "the model does not support batching"),
    ],
)
def test_what_it_cannot_have_it_is_told(served: Served, protocol: str, model: str, options: str, told: str) -> None:
    assert told in refusal(served.arguments(model, protocol, options))
