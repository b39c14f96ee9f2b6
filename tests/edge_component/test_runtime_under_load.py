"""The runtime as a process under clients that never pause: swaps, kills and upgrades cost none of them an answer."""

import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest

from edge_component.client import Client
from tests.edge_component.bundle_factory import BundleFactory
from tests.edge_component.runtime_process import StartRuntime, activate


class Load:
    """Clients that ask without a pause and keep what they were answered."""

    def __init__(self, socket_path: Path, clients_count: int) -> None:
        self.answered_count = [0] * clients_count
        self.versions: list[set[str]] = [set() for _ in range(clients_count)]
        self.failures: list[BaseException] = []
        self._socket_path = socket_path
        self._stop = threading.Event()
        self._threads = [threading.Thread(target=self._ask, args=(index,)) for index in range(clients_count)]
        for thread in self._threads:
            thread.start()

    def _ask(self, index: int) -> None:
        rng = np.random.default_rng(index)
        try:
            with Client(self._socket_path, deadline_s=30) as client:
                while not self._stop.is_set():
                    rows = rng.random((2, 3), np.float32)
                    answer = client.infer("scale", {"x": rows})
                    factor = np.float32(int(answer.model.version.split(".")[1]) + 1)
                    np.testing.assert_array_equal(answer.outputs["y"], rows * factor)
                    self.versions[index].add(answer.model.version)
                    self.answered_count[index] += 1
        except BaseException as error:  # noqa: BLE001 - told to the test's own thread
            self.failures.append(error)

    def wait_for(self, more_count: int) -> None:
        """Until every client has been answered that many times more."""
        targets = [count + more_count for count in self.answered_count]
        ends_at_s = time.monotonic() + 30
        while any(count < target for count, target in zip(self.answered_count, targets, strict=True)):
            assert not self.failures, self.failures
            assert time.monotonic() < ends_at_s
            time.sleep(0.005)

    def stop(self) -> None:
        self._stop.set()
        for thread in self._threads:
            thread.join()
        assert not self.failures, self.failures


@pytest.fixture
def load() -> Iterator[Callable[[Path, int], Load]]:
    started: list[Load] = []

    def start(socket_path: Path, clients_count: int) -> Load:
        started.append(Load(socket_path, clients_count))
        return started[-1]

    yield start
    for running in started:
        running._stop.set()


def test_swaps_under_load_answer_every_request_by_exactly_one_version(
    start_runtime: StartRuntime, bundles: BundleFactory, load: Callable[[Path, int], Load]
) -> None:
    runtime = start_runtime()
    activate(runtime, bundles.scale("1.0.0", 1.0))
    running = load(runtime.infer_socket, 3)
    for minor in range(1, 6):
        running.wait_for(20)
        assert activate(runtime, bundles.scale(f"1.{minor}.0", minor + 1.0)) == "activated"
    assert runtime.admin.revert("scale").outcome == "reverted"
    running.wait_for(20)
    running.stop()
    served = runtime.admin.status().models[0]
    assert (served.active.version, served.answered_count) == ("1.4.0", sum(running.answered_count))
    assert all(len(versions) >= 5 for versions in running.versions)


def test_kills_and_upgrades_under_load_are_slow_answers_at_most(
    start_runtime: StartRuntime, bundles: BundleFactory, load: Callable[[Path, int], Load]
) -> None:
    runtime = start_runtime(version="1.0.0")
    activate(runtime, bundles.scale("1.0.0", 1.0))
    running = load(runtime.infer_socket, 2)
    for stop in (runtime.kill, None):
        running.wait_for(20)
        if stop is None:
            assert runtime.terminate() == 0
        else:
            stop()
        runtime = start_runtime(runtime.work, version="1.1.0")
    running.wait_for(20)
    running.stop()
