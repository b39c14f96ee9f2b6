"""The runtime killed and started anew 20 times under load: what four clients see of it.

Two are patient (their deadline is longer than any restart): they see slow answers and nothing else. Two are not: each of
their requests is answered, or ends by its deadline in the error that says so. Nobody hangs, and nobody gets wrong numbers.
"""

import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import pytest

from edge_component.client import Client, DeadlineExceededError, UnavailableError
from tests.edge_component.bundle_factory import BundleFactory
from tests.edge_component.runtime_process import RuntimeProcess

RESTARTS_COUNT = 20
PATIENT_S, IMPATIENT_S = 60.0, 0.1
LATE_S = 10.0
"""A request that ends this much after its deadline hangs; far more than a busy machine takes to wake a thread."""


@dataclass
class Asker:
    """One client that asks without a pause."""

    socket_path: Path
    deadline_s: float
    stop: threading.Event
    answered_count: int = 0
    refused: list[str] = field(default_factory=list)
    latest_s: float = 0.0
    failure: BaseException | None = None

    def run(self) -> None:
        try:
            with Client(self.socket_path, deadline_s=self.deadline_s) as client:
                while not self.stop.is_set():
                    self.ask(client)
        except BaseException as error:  # noqa: BLE001 - told to the test's own thread
            self.failure = error

    def ask(self, client: Client) -> None:
        rows = np.random.default_rng(self.answered_count).random((2, 3), np.float32)
        began_s = time.monotonic()
        try:
            answer = client.infer("scale", {"x": rows})
        except (UnavailableError, DeadlineExceededError) as error:
            self.refused.append(error.code)
        else:
            np.testing.assert_array_equal(answer.outputs["y"], rows * np.float32(2))
            self.answered_count += 1
        self.latest_s = max(self.latest_s, time.monotonic() - began_s - self.deadline_s)


@pytest.mark.slow
def test_twenty_restarts_under_load(start_runtime: Callable[..., RuntimeProcess], bundles: BundleFactory) -> None:
    committed = {"probation_s": 0}  # else the fourth kill would count against the model
    runtime = start_runtime(config=committed)
    bundle = bundles.scale("1.0.0", 2.0)
    assert runtime.admin.activate(bundle.archive, bundle.component, bundle.version).outcome == "activated"
    stop = threading.Event()
    askers = [
        Asker(runtime.infer_socket, deadline_s, stop) for deadline_s in (PATIENT_S, PATIENT_S, IMPATIENT_S, IMPATIENT_S)
    ]
    threads = [threading.Thread(target=asker.run) for asker in askers]
    for thread in threads:
        thread.start()
    for number in range(RESTARTS_COUNT):
        wait_for_more(askers)
        if number % 4 == 3:
            assert runtime.terminate() == 0
        else:
            runtime.kill()
        runtime = start_runtime(runtime.work, config=committed)
    wait_for_more(askers)
    stop.set()
    for thread in threads:
        thread.join(PATIENT_S + LATE_S)
        assert not thread.is_alive()
    assert [asker.failure for asker in askers] == [None] * 4
    assert [asker.refused for asker in askers[:2]] == [[], []]
    assert {code for asker in askers for code in asker.refused} <= {"runtime-unavailable", "deadline-exceeded"}
    assert any(asker.refused for asker in askers[2:]), "a restart takes longer than an impatient client waits"
    assert max(asker.latest_s for asker in askers) < LATE_S


def wait_for_more(askers: list[Asker]) -> None:
    targets = [asker.answered_count + 10 for asker in askers]
    ends_at_s = time.monotonic() + 60
    while any(asker.answered_count < target for asker, target in zip(askers, targets, strict=True)):
        assert not any(asker.failure for asker in askers), [asker.failure for asker in askers]
        assert time.monotonic() < ends_at_s
        time.sleep(0.005)
