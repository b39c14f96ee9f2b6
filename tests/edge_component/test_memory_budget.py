"""A device whose models do not all fit in memory: the runtime's process unloads and loads again, and everybody is answered."""

import json
from collections.abc import Callable

import numpy as np
import onnx
from onnx import numpy_helper

from edge_component.client import Client
from edge_component.serving.oip_doors import REST_SOCKET_NAME
from tests.edge_component.bundle_factory import Bundle, BundleFactory, scale_model
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
