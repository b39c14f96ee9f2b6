"""The runtime as a real process, started and killed by its process id."""

import json
import os
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import numpy as np

from edge_component.client.admin import AdminClient
from edge_component.client.errors import ClientError
from tests.edge_component.bundle_factory import Bundle

ROOT = Path(__file__).resolve().parents[2]
WAIT_S = 30.0
ROW = np.array([[1.0, 2.0, 3.0]], np.float32)


class RuntimeProcess:
    """``python -m edge_component`` over a work folder."""

    def __init__(
        self,
        work: Path,
        trust: Path,
        *,
        version: str = "1.0.0",
        wrapper: Sequence[str] = (),
        environment: Mapping[str, str] | None = None,
        config: Mapping[str, object] | None = None,
        wait: bool = True,
    ) -> None:
        self.work = work
        work.mkdir(parents=True, exist_ok=True)
        configuration = work.parent / f"{work.name}.json"
        configuration.write_text(json.dumps(config or {}))
        self._log = (work.parent / f"{work.name}.log").open("ab")
        command = [sys.executable, "-m", "edge_component", "--work", str(work), "--trust", str(trust)]
        command += ["--version", version, "--config", str(configuration)]
        self.process = subprocess.Popen(
            [*wrapper, *command],
            env={**os.environ, "PYTHONPATH": str(ROOT), "PYTHONDONTWRITEBYTECODE": "1", **(environment or {})},
            stdout=self._log,
            stderr=self._log,
            start_new_session=True,
        )
        if wait:
            self.wait_until_ready()

    @property
    def admin(self) -> AdminClient:
        return AdminClient(self.work / "admin.sock")

    @property
    def infer_socket(self) -> Path:
        return self.work / "infer.sock"

    def log_text(self) -> str:
        return (self.work.parent / f"{self.work.name}.log").read_text()

    def wait_until_ready(self) -> None:
        ends_at_s = time.monotonic() + WAIT_S
        while time.monotonic() < ends_at_s:
            assert self.process.poll() is None, f"the runtime ended: {self.log_text()}"
            try:
                self.admin.status()
            except ClientError:
                time.sleep(0.01)
            else:
                return
        raise AssertionError(f"the runtime did not answer: {self.log_text()}")

    def kill(self) -> None:
        if self.process.poll() is None:
            self.process.kill()
        self.process.wait()
        self._log.close()

    def terminate(self) -> int:
        self.process.terminate()
        return self.process.wait(WAIT_S)


StartRuntime = Callable[..., RuntimeProcess]


def activate(runtime: RuntimeProcess, bundle: Bundle) -> str:
    return runtime.admin.activate(bundle.archive, bundle.component, bundle.version).outcome
