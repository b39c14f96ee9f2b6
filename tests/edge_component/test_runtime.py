"""The runtime as a process, through its real doors."""

from collections.abc import Callable

import numpy as np

from edge_component.client import Client
from tests.edge_component.bundle_factory import BundleFactory
from tests.edge_component.runtime_process import RuntimeProcess

ROW = np.array([[1.0, 2.0, 3.0]], np.float32)


def test_a_bundle_is_activated_answers_and_survives_a_restart(
    start_runtime: Callable[..., RuntimeProcess], bundles: BundleFactory
) -> None:
    runtime = start_runtime()
    bundle = bundles.scale("1.0.0", 2.0)
    event = runtime.admin.activate(bundle.archive, bundle.component, bundle.version)
    assert (event.outcome, event.phase, event.code) == ("activated", "switch", "")
    with Client(runtime.infer_socket) as client:
        answer = client.infer("scale", {"x": ROW})
        np.testing.assert_array_equal(answer.outputs["y"], ROW * 2)
        assert (answer.model.name, answer.model.version, answer.model.digest) == ("scale", "1.0.0", bundle.digest)
        assert runtime.terminate() == 0
        bundle.archive.unlink()
        again = start_runtime(runtime.work)
        np.testing.assert_array_equal(client.infer("scale", {"x": ROW}).outputs["y"], ROW * 2)
        assert [model.active.version for model in again.admin.status().models] == ["1.0.0"]
