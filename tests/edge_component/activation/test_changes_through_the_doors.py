"""Shadow stage and probation in a real runtime, on what a client asks through the fast path."""

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import numpy as np
import pytest

from edge_component.client import Client, ClientError
from tests.edge_component.bundle_factory import BundleFactory
from tests.edge_component.runtime_process import RuntimeProcess

ROW = np.array([[1, 2, 3]], np.float32)
CONFIG = {"shadow_s": 20, "shadow_requests_max": 50, "probation_s": 0}


@contextmanager
def asked(runtime: RuntimeProcess, threads_count: int = 2) -> Iterator[list[float]]:
    """Clients that ask all the while; yields what they were answered."""
    stop, answers = threading.Event(), []

    def ask() -> None:
        with Client(runtime.infer_socket) as client:
            while not stop.wait(0.001):
                answers.append(float(client.infer("scale", {"x": ROW}).outputs["y"][0, 0]))

    threads = [threading.Thread(target=ask) for _ in range(threads_count)]
    for thread in threads:
        thread.start()
    try:
        yield answers
    finally:
        stop.set()
        for thread in threads:
            thread.join()


def test_live_requests_decide_before_the_switch(
    start_runtime: Callable[..., RuntimeProcess], bundles: BundleFactory
) -> None:
    runtime = start_runtime(config=CONFIG)
    good = bundles.scale("1.0.0", 2.0)
    runtime.admin.activate(good.archive, good.component, good.version)
    with asked(runtime) as answers:
        other = bundles.scale("1.1.0", -2.0)
        with pytest.raises(ClientError) as caught:
            runtime.admin.activate(other.archive, other.component, other.version)
        assert caught.value.code == "shadow-disagreed"
        assert "0 of 50" in str(caught.value)
        assert set(answers) == {2.0}, "it was never answered by the candidate"
        alike = bundles.scale("1.2.0", 2.001)
        assert runtime.admin.activate(alike.archive, alike.component, alike.version).outcome == "activated"
    assert [round(answer, 3) for answer in (answers[0], answers[-1])] == [2.0, 2.001]
