"""A runtime that is stopped, killed or frozen while it is asked: it is no crash, and no client waits beyond its deadline."""

import os
import signal
import threading
from contextlib import suppress
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from edge_component.client import Client, ClientError, DeadlineExceededError, UnavailableError
from edge_component.contracts.manifest import TensorSpec
from tests.edge_component.bundle_factory import BundleFactory, npz
from tests.edge_component.graphs import rounds_model
from tests.edge_component.observability.test_metrics_door import UnixHttp, get
from tests.edge_component.runtime_process import ROW, StartRuntime, activate
from tests.edge_component.waiting import wait_until
from tests.faults.evil_graphs import slow_on_large_values


def test_a_run_that_outlives_the_stop_is_no_crash(start_runtime: StartRuntime, bundles: BundleFactory) -> None:
    runtime = start_runtime(config={"probation_s": 0, "stop_s": 0.1, "metrics_socket": True})
    specs = (TensorSpec("k", "int64", ()), TensorSpec("x", "float32", (1,)))
    ones = np.ones((1, 1), np.float32)
    golden = npz(**{"input:k": np.array([2]), "input:x": ones, "output:y": ones * 4})
    bundle = bundles.scale(
        "1.0.0", 1.0, name="rounds", component="com.edgewright.model.Rounds", files={"model.onnx": rounds_model(), "golden.npz": golden},
        change=lambda manifest: replace(manifest, inputs=specs, outputs=(TensorSpec("y", "float32", (1,)),)),
    )  # fmt: skip
    assert activate(runtime, bundle) == "activated"
    asked = {"k": np.array(2**62), "x": np.ones(1, np.float32)}

    def ask() -> None:
        with Client(runtime.infer_socket) as client, pytest.raises(ClientError):
            client.infer("rounds", asked, deadline_s=6.0)

    asking = threading.Thread(target=ask)
    asking.start()
    metrics = UnixHttp(runtime.work / "metrics.sock")
    wait_until(lambda: 'edgewright_requests_in_flight{model="rounds"} 1' in get(metrics)[2].decode())
    assert runtime.terminate() == 0
    asking.join()
    assert "terminate called" not in runtime.log_text()


def test_requests_end_by_their_deadline_when_the_runtime_is_gone(
    start_runtime: StartRuntime, bundles: BundleFactory
) -> None:
    runtime = start_runtime()
    activate(runtime, bundles.scale("1.0.0", 2.0))
    with Client(runtime.infer_socket, deadline_s=0.3) as client:
        client.infer("scale", {"x": ROW})
        runtime.kill()
        with pytest.raises(UnavailableError):
            client.infer("scale", {"x": ROW})


def test_runs_that_outlive_the_stop_make_it_no_crash(start_runtime: StartRuntime, bundles: BundleFactory) -> None:
    """They came back from ONNX Runtime into an interpreter that was gone, and the process was aborted."""
    runtime = start_runtime(config={"probation_s": 0, "stop_s": 0.1})
    bundle = bundles.scale("1.0.0", 2.0, files={"model.onnx": slow_on_large_values(1_000)})
    runtime.admin.activate(bundle.archive, bundle.component, bundle.version)

    def ask() -> None:
        with Client(runtime.infer_socket) as client, suppress(ClientError):
            client.infer("scale", {"x": ROW * 1e9}, deadline_s=2)

    threads = [threading.Thread(target=ask) for _ in range(4)]
    for thread in threads:
        thread.start()
    wait_until(lambda: thread_states(runtime.process.pid).count("R") >= 2)
    assert runtime.terminate() == 0
    for thread in threads:
        thread.join()


def thread_states(process_id: int) -> list[str]:
    """``R`` for one that computes, or would if it were let; ``T`` for one that was stopped."""
    stats = Path(f"/proc/{process_id}/task").glob("*/stat")
    return [stat.read_text().rpartition(")")[2].split()[0] for stat in stats]


def test_a_runtime_that_is_stopped_is_waited_for_by_the_deadline_and_answers_when_it_goes_on(
    start_runtime: StartRuntime, bundles: BundleFactory
) -> None:
    """As by a debugger, a frozen control group or a suspended virtual machine."""
    runtime = start_runtime(config={"probation_s": 0})
    activate(runtime, bundles.scale("1.0.0", 2.0))
    with Client(runtime.infer_socket) as client, Client(runtime.infer_socket) as patient:
        for each in (client, patient):
            each.infer("scale", {"x": ROW})
        os.kill(runtime.process.pid, signal.SIGSTOP)
        wait_until(lambda: set(thread_states(runtime.process.pid)) == {"T"})
        answers: list[object] = []
        waiting = threading.Thread(target=lambda: answers.append(patient.infer("scale", {"x": ROW}, deadline_s=60)))
        waiting.start()
        for _ in range(3):  # on the connection that there is, and on ones that nobody accepts
            with pytest.raises((DeadlineExceededError, UnavailableError)):
                client.infer("scale", {"x": ROW}, deadline_s=0.2)
        os.kill(runtime.process.pid, signal.SIGCONT)
        np.testing.assert_array_equal(client.infer("scale", {"x": ROW}, deadline_s=60).outputs["y"], ROW * 2)
        waiting.join()
    assert len(answers) == 1
