"""A device whose models do not all fit in memory: the runtime's process unloads and loads again, and everybody is answered."""

import json
from collections.abc import Callable

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from edge_component.client import Client
from edge_component.client.errors import ModelFailedError
from edge_component.serving.oip_doors import REST_SOCKET_NAME
from tests.edge_component.bundle_factory import Bundle, BundleFactory, scale_model, serialized
from tests.edge_component.runtime_process import RuntimeProcess
from tests.edge_component.serving.oip.conftest import UnixHttp
from tests.edge_component.serving.oip.test_doors import wait_for

ROW = np.array([[1.0, 2.0, 3.0]], np.float32)
PADDING_FLOATS = 1_000_000
BUDGET_BYTES = 15_000_000
"""Room for three of four graphs of 4 MB; and for each of them as its file lets expect at first (loading.GROWTH_FACTOR)."""


def padded(factor: float) -> bytes:
    model = onnx.load_from_string(scale_model(factor))
    model.graph.initializer.append(numpy_helper.from_array(np.zeros(PADDING_FLOATS, np.float32), "padding"))
    return bytes(model.SerializeToString())


def large(bundles: BundleFactory, name: str, factor: float) -> Bundle:
    component = f"com.edgewright.model.{name.title()}"
    return bundles.scale("1.0.0", factor, name=name, component=component, files={"model.onnx": padded(factor)})


def test_models_that_do_not_fit_together_all_answer_on_open_connections(
    start_runtime: Callable[..., RuntimeProcess], bundles: BundleFactory
) -> None:
    doors = {"oip_rest_socket": True, "model_memory_bytes_max": BUDGET_BYTES}
    runtime = start_runtime(config={"probation_s": 0, **doors})
    factors = {"double": 2.0, "triple": 3.0, "quadruple": 4.0, "quintuple": 5.0}
    for name, factor in factors.items():
        bundle = large(bundles, name, factor)
        runtime.admin.activate(bundle.archive, bundle.component, bundle.version)
    with Client(runtime.infer_socket, deadline_s=30) as client:
        for _ in range(3):
            for name, factor in factors.items():
                np.testing.assert_array_equal(client.infer(name, {"x": ROW}).outputs["y"], ROW * factor)
    heartbeat = runtime.admin.status()
    assert {model.active.name for model in heartbeat.models} == set(factors)
    assert {(model.state, model.answered_count) for model in heartbeat.models} == {("serving", 3)}
    assert heartbeat.health == "healthy"
    assert runtime.log_text().count("is unloaded to make room") >= 8
    runtime.kill()  # and after a restart: what does not fit sleeps until it is asked for
    restarted = start_runtime(runtime.work, config=doors)
    wait_for(restarted.work / REST_SOCKET_NAME)
    assert listed(restarted) == [(name, "READY") for name in sorted(factors)]
    with Client(restarted.infer_socket, deadline_s=30) as client:
        for name, factor in factors.items():
            np.testing.assert_array_equal(client.infer(name, {"x": ROW}).outputs["y"], ROW * factor)


def listed(runtime: RuntimeProcess) -> list[tuple[str, str]]:
    """The repository's index, asleep or not."""
    http = UnixHttp(runtime.work / REST_SOCKET_NAME)
    http.request("POST", "/v2/repository/index")
    index = json.loads(http.getresponse().read())
    http.close()
    return [(model["name"], model["state"]) for model in index]


def exploding() -> bytes:
    """``y = x``, by way of as many floats as the largest value of ``x`` says thousands."""
    constants = {
        "thousand": np.float32(1000),
        "zero": np.float32(0),
        "one": np.ones(1, np.float32),
        "flat": np.array([1]),
    }
    nodes = [
        helper.make_node("Abs", ["x"], ["sizes"]),
        helper.make_node("ReduceMax", ["sizes"], ["size"], keepdims=0),
        helper.make_node("Mul", ["size", "thousand"], ["count"]),
        helper.make_node("Cast", ["count"], ["whole"], to=TensorProto.INT64),
        helper.make_node("Reshape", ["whole", "flat"], ["shape"]),
        helper.make_node("Expand", ["one", "shape"], ["large"]),
        helper.make_node("ReduceSum", ["large"], ["sum"], keepdims=0),
        helper.make_node("Mul", ["sum", "zero"], ["nothing"]),
        helper.make_node("Add", ["x", "nothing"], ["y"]),
    ]
    x, y = (helper.make_tensor_value_info(name, TensorProto.FLOAT, ["batch", 3]) for name in "xy")
    held = [numpy_helper.from_array(np.asarray(value), name) for name, value in constants.items()]
    return serialized(helper.make_graph(nodes, "exploding", [x], [y], held))


def test_a_run_that_would_take_all_memory_fails_alone(
    start_runtime: Callable[..., RuntimeProcess], bundles: BundleFactory
) -> None:
    runtime = start_runtime(config={"probation_s": 0, "memory_bytes_max": 1_000_000_000})
    good = bundles.scale("1.0.0", 2.0)
    greedy = bundles.scale(
        "1.0.0", 1.0, name="greedy", component="com.edgewright.model.Greedy", files={"model.onnx": exploding()}
    )
    for bundle in (good, greedy):
        runtime.admin.activate(bundle.archive, bundle.component, bundle.version)
    with Client(runtime.infer_socket, deadline_s=30) as client:
        for _ in range(3):
            with pytest.raises(ModelFailedError) as caught:
                client.infer("greedy", {"x": ROW * 200_000})  # 2.4 GB
            assert caught.value.code == "run-failed"
            np.testing.assert_array_equal(client.infer("scale", {"x": ROW}).outputs["y"], ROW * 2)
            np.testing.assert_array_equal(client.infer("greedy", {"x": ROW}).outputs["y"], ROW)
    assert runtime.process.poll() is None


def test_a_bound_that_the_runtime_itself_needs_is_told_and_not_set(
    start_runtime: Callable[..., RuntimeProcess], bundles: BundleFactory
) -> None:
    runtime = start_runtime(config={"memory_bytes_max": 10_000_000})
    assert any("memory_bytes_max" in reason for reason in runtime.admin.status().reasons)
    bundle = bundles.scale("1.0.0", 2.0)
    assert runtime.admin.activate(bundle.archive, bundle.component, bundle.version).outcome == "activated"
