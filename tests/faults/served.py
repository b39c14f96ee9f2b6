"""A real runtime that serves ``y = 2 x`` while a client asks it all the time, and what it kept for the cloud to know."""

import threading
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from edge_component.client import Client, ClientError
from edge_component.clock import SystemClock
from edge_component.contracts.envelope import Envelope
from edge_component.telemetry.outbox import Outbox
from edge_component.telemetry.segment_log import LogLimits
from tests.edge_component.bundle_factory import BundleFactory, new_key
from tests.edge_component.runtime_process import RuntimeProcess
from tests.faults.subject import Outcome

ROW = np.array([[10, 20, 30]], np.float32)
OUTBOX_BYTES_MAX = 16_000_000
ASK_PAUSE_S = 0.005


@dataclass
class GoodClient:
    """What an application saw: every answer must be right, whichever version gave it."""

    answered: int = 0
    wrong: list[str] = field(default_factory=list)
    failed: list[str] = field(default_factory=list)
    versions: Counter[str] = field(default_factory=Counter)


@dataclass
class Served:
    runtime: RuntimeProcess
    bundles: BundleFactory
    client: GoodClient

    @property
    def rss_bytes(self) -> int:
        return self.runtime.admin.status().rss_bytes

    def serving(self) -> str:
        """The version that answers for ``scale``, as the runtime says."""
        return next(
            model.active.version for model in self.runtime.admin.status().models if model.active.name == "scale"
        )

    def reported(self) -> Counter[Outcome]:
        """Activation events in the outbox, once the runtime has ended."""
        outbox = Outbox(self.runtime.work / "outbox", "any", SystemClock(), LogLimits(bytes_max=OUTBOX_BYTES_MAX))
        seen: Counter[Outcome] = Counter()
        while batch := outbox.oldest(100):
            for queued in batch:
                document = Envelope.from_bytes(queued.payload)
                if document.kind == "activation":
                    seen[document.body["outcome"], document.body["phase"], document.body["code"]] += 1
            outbox.acknowledge(batch[-1])
        outbox.close()
        return seen


@contextmanager
def served(folder: Path, config: dict[str, object]) -> Iterator[Served]:
    """Started, serving version 1.0.0, asked without pause; ended with SIGTERM."""
    (folder / "trust").mkdir(parents=True)
    bundles = BundleFactory(new_key(), folder)
    bundles.write_public_key(folder / "trust" / "test.pem")
    runtime = RuntimeProcess(folder / "work", folder / "trust", config={"outbox_bytes_max": OUTBOX_BYTES_MAX, **config})
    try:
        good = bundles.scale("1.0.0", 2.0, release=1)
        runtime.admin.activate(good.archive, good.component, good.version)
        with asking(runtime) as client:
            yield Served(runtime, bundles, client)
        assert runtime.terminate() == 0, runtime.log_text()[-2000:]
    finally:
        runtime.kill()


@contextmanager
def asking(runtime: RuntimeProcess) -> Iterator[GoodClient]:
    seen, stop = GoodClient(), threading.Event()

    def ask() -> None:
        with Client(runtime.infer_socket, deadline_s=20.0) as client:
            while not stop.is_set():
                try:
                    answer = client.infer("scale", {"x": ROW})
                except ClientError as error:
                    seen.failed.append(repr(error))
                else:
                    seen.answered += 1
                    seen.versions[answer.model.version] += 1
                    if not np.array_equal(answer.outputs["y"], 2 * ROW):
                        seen.wrong.append(f"{answer.model.version}: {answer.outputs['y'].tolist()}")
                time.sleep(ASK_PAUSE_S)

    thread = threading.Thread(target=ask)
    thread.start()
    try:
        yield seen
    finally:
        stop.set()
        thread.join()
