"""A runtime as a device runs it: the real process over a work folder, with every bench model activated.

Nothing is switched off: signed bundles, router, telemetry with its outbox, deadlines, limits. Only probation is 0 s, so
that a swap is over when it is over.
"""

import os
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from edge_component.client import Client, ClientError
from tests.benchmarks.serving.models import BenchModel
from tests.edge_component.bundle_factory import Bundle, BundleFactory, new_key
from tests.edge_component.runtime_process import RuntimeProcess


@dataclass(frozen=True)
class Idle:
    """What a runtime costs when nobody asks it."""

    pss_mb: float
    cpu_percent: float


@dataclass(frozen=True)
class Footprint:
    """What a process holds."""

    rss_mb: float
    descriptors_count: int
    threads_count: int


class Device:
    """A work folder, a trusted key, and at most one runtime."""

    def __init__(self, folder: Path, models: Sequence[BenchModel], config: Mapping[str, object] | None = None) -> None:
        self.models = models
        self._config = {"probation_s": 0, **(config or {})}
        self.work, self.trust = folder / "work", folder / "trust"
        self.trust.mkdir()
        self.factory = BundleFactory(new_key(), folder)
        self.factory.write_public_key(self.trust / "bench.pem")
        self.runtime: RuntimeProcess | None = None
        # As on a device, where a second start finds what the first has compiled.
        self._bytecode = {"PYTHONDONTWRITEBYTECODE": "", "PYTHONPYCACHEPREFIX": str(folder / "bytecode")}
        self._minor = 0

    @property
    def socket_path(self) -> Path:
        return self.work / "infer.sock"

    def start(self) -> RuntimeProcess:
        self.runtime = RuntimeProcess(
            self.work, self.trust, config=self._config, environment=self._bytecode, wait=False
        )
        return self.runtime

    def activate_all(self) -> None:
        """A next version of every model."""
        for model in self.models:
            self.swap(model)

    def swap(self, model: BenchModel) -> None:
        """Activate a next version of one model."""
        self.activate(self.next_bundle(model))

    def next_bundle(self, model: BenchModel) -> Bundle:
        """A next version of one model, signed."""
        self._minor += 1
        return model.bundle(self.factory, f"1.{self._minor}.0")

    def activate(self, bundle: Bundle) -> None:
        """Let it serve."""
        assert self.runtime is not None
        event = self.runtime.admin.activate(bundle.archive, bundle.component, bundle.version)
        assert event.outcome == "activated", event
        bundle.archive.unlink()

    def swap_until(
        self,
        bundles: Sequence[Bundle],
        from_s: float,
        until_s: float,
        spans: list[tuple[float, float]],
        at_s: float,
    ) -> None:
        """Activations of these, evenly spread over some seconds after ``at_s`` (monotonic).

        ``spans`` gets when each began and ended.
        """
        for number, bundle in enumerate(bundles):
            due_s = at_s + from_s + (until_s - from_s) * number / len(bundles)
            time.sleep(max(due_s - time.monotonic(), 0))
            if time.monotonic() > at_s + until_s - 1:
                return
            began_s = time.monotonic()
            self.activate(bundle)
            spans.append((began_s, time.monotonic()))

    def stop(self) -> None:
        if self.runtime is not None:
            self.runtime.terminate()
            self.runtime.kill()
            self.runtime = None


@contextmanager
def device(folder: Path, models: Sequence[BenchModel], config: Mapping[str, object] | None = None) -> Iterator[Device]:
    """A started device that serves every model."""
    made = Device(folder, models, config)
    made.start().wait_until_ready()
    try:
        made.activate_all()
        yield made
    finally:
        made.stop()


def start_to_first_answer_s(made: Device, model: BenchModel) -> float:
    """From starting the process to the first answer, with models to restore; leaves it running."""
    began_s = time.monotonic()
    runtime = made.start()
    with Client(made.socket_path, deadline_s=0.05) as client:
        while True:
            try:
                client.infer(model.name, model.feed, deadline_s=0.05)
            except ClientError:
                assert runtime.process.poll() is None, runtime.log_text()
                assert time.monotonic() < began_s + 30
                time.sleep(0.002)
            else:
                return time.monotonic() - began_s


def idle_of(process_id: int, seconds: float) -> Idle:
    """Proportional set size, and processor time over some seconds in which nobody asks."""
    before_s = cpu_s(process_id)
    time.sleep(seconds)
    return Idle(pss_kb(process_id) / 1000, (cpu_s(process_id) - before_s) / seconds * 100)


def cpu_s(process_id: int) -> float:
    """Processor time of all threads so far, to the nanosecond (``schedstat``)."""
    tasks = Path(f"/proc/{process_id}/task").iterdir()
    return sum(int((task / "schedstat").read_text().split()[0]) for task in tasks) / 1e9


def pss_kb(process_id: int) -> int:
    """Memory of its own plus its share of what it shares."""
    for line in Path(f"/proc/{process_id}/smaps_rollup").read_text().splitlines():
        if line.startswith("Pss:"):
            return int(line.split()[1])
    raise AssertionError("no Pss in smaps_rollup")


def footprint(process_id: int) -> Footprint:
    """Resident memory, open descriptors and threads, now."""
    pages = int(Path(f"/proc/{process_id}/statm").read_text().split()[1])
    descriptors = sum(1 for _ in Path(f"/proc/{process_id}/fd").iterdir())
    threads = sum(1 for _ in Path(f"/proc/{process_id}/task").iterdir())
    return Footprint(pages * os.sysconf("SC_PAGE_SIZE") / 1e6, descriptors, threads)
