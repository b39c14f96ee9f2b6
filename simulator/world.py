"""A whole installation on this machine: broker, local cloud, fleet status API and core devices, each a process.

The failure this exists for: a trial that leaves servers, sockets or gigabytes behind. Everything is below one folder,
and everything started is stopped in the reverse order, whatever happened in between.

Unix sockets hold at most 107 bytes of path, so the devices' roots are reached through one short symbolic link.
"""

import json
import os
import platform as host_platform
import shutil
import sys
import tempfile
import urllib.error
import urllib.request
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from http import HTTPStatus
from pathlib import Path
from types import MappingProxyType
from typing import Any, Self

from simulator.claim import claimed
from simulator.errors import SimulatorError
from simulator.mqtt import Broker
from simulator.mqtt.broker import free_port
from simulator.processes import Server, run_json
from simulator.up import local_installation

START_TIMEOUT_S = 60.0
COMMAND_TIMEOUT_S = 300.0
API_TIMEOUT_S = 10.0


class DemoRunningError(SimulatorError):
    """Another demo uses the same folder."""


class World:
    """Starts on ``__enter__``, stops on ``__exit__``; used by the story's thread alone."""

    def __init__(self, folder: Path) -> None:
        """``folder`` is the demo's own; what an earlier run left there is removed at the start."""
        self.folder = folder
        self.logs = folder / "logs"
        self.environment: dict[str, str] = {}
        self.api_url = ""
        self._stack = ExitStack()
        self._servers: list[Server] = []

    def __enter__(self) -> Self:
        """Start the broker, the local cloud and everything an installation sets up once.

        Raises:
            DemoRunningError: another demo holds the folder.
            ProcessDiedError: a server did not start.
        """
        with ExitStack() as undo:
            self._stack = undo
            self._claim_folder()
            self._installation = undo.enter_context(local_installation(self.folder / "installation"))
            self._servers.append(self._installation.cloud)
            self.environment = _environment(self._installation.environment, self.folder)
            self._stack = undo.pop_all()
        return self

    def __exit__(self, kind: type[BaseException] | None, *unused: object) -> None:
        """Stop everything in the reverse order of its start.

        Logs and records stay. The devices' folders, a few hundred megabytes each, stay only where something went wrong.
        """
        self._stack.close()
        if kind is None:
            shutil.rmtree(self.folder / "devices")

    def edgewright(self, *arguments: str) -> Any:  # noqa: ANN401 - whatever JSON the command prints
        """Run ``edgewright … -o json`` and return what it printed.

        Raises:
            CommandFailedError: with the command's own words.
        """
        command = [sys.executable, "-m", "cloud.cli.app", *arguments, "-o", "json"]
        return run_json(command, self.environment, self.logs / "edgewright.log", COMMAND_TIMEOUT_S)

    @property
    def broker(self) -> Broker:
        """What devices and cloud talk over; may be stopped and started again."""
        return self._installation.broker

    @property
    def endpoint_url(self) -> str:
        """The local cloud's."""
        return self._installation.url

    @property
    def platform(self) -> str:
        """This machine as bundles name it, such as ``linux/x86_64``."""
        return f"linux/{host_platform.machine()}"

    @property
    def python_version(self) -> str:
        """The devices' Python, which is the one that runs this, such as ``3.11``."""
        return f"{sys.version_info.major}.{sys.version_info.minor}"

    @property
    def description(self) -> str:
        """What the devices and the cloud talk over, for a person."""
        address = self.broker.address
        secured = self.broker.traits.enforces_identity
        how = "mutual TLS" if secured else "without TLS; with mosquitto installed it is mutual"
        return f"broker on {address.host}:{address.port}, {how}; local cloud: {self.endpoint_url}"

    def api(self, path: str, missing: Any = None) -> Any:  # noqa: ANN401 - JSON
        """``GET`` a document of the fleet status API; ``missing`` stands for what does not exist yet."""
        try:
            with urllib.request.urlopen(f"{self.api_url}{path}", timeout=API_TIMEOUT_S) as answer:  # noqa: S310 - our own server on 127.0.0.1
                return json.load(answer)
        except urllib.error.HTTPError as error:
            if error.code == HTTPStatus.NOT_FOUND and missing is not None:
                return missing
            raise

    def start_api(self) -> None:
        """Start the fleet status API with its consumer and its drift watch."""
        port = free_port()
        self.api_url = f"http://127.0.0.1:{port}"
        self.environment["EDGEWRIGHT_API_URL"] = self.api_url
        server = self._start("fleet-api", [sys.executable, "-m", "cloud.cli.app", "serve", "--port", str(port)])
        server.wait_for_line(self.api_url, START_TIMEOUT_S)

    def start_device(
        self,
        thing_name: str,
        groups: Sequence[str],
        pace: float = 1.0,
        environment: Mapping[str, str] = MappingProxyType({}),
    ) -> Path:
        """Provision a core device and start its nucleus; returns the runtime component's work path.

        Args:
            thing_name: who it is.
            groups: thing groups that it joins.
            pace: multiplies the nucleus's own waits; 1: as measured.
            environment: what is different for this device, such as the way to its cloud.
        """
        root = self.devices / thing_name
        command = [
            sys.executable, "-m", "simulator.cli", "device", "run", thing_name,
            "--root", str(root), "--broker", str(self._installation.broker_file), "--pace", str(pace),
            *(word for group in groups for word in ("--group", group)),
        ]  # fmt: skip
        server = self._start(thing_name, command, environment)
        server.wait_for_line('{"', START_TIMEOUT_S)
        return root / "work" / "com.edgewright.Runtime"

    def check(self) -> None:
        """Raise if any server died; see :meth:`Server.check`."""
        for server in self._servers:
            server.check()

    def _claim_folder(self) -> None:
        self.folder.mkdir(parents=True, exist_ok=True)
        refusal = DemoRunningError(
            f"another demo is running in {self.folder}", "Stop it with Ctrl-C, then start again."
        )
        self._stack.enter_context(claimed(self.folder.parent / "demo.lock", refusal))
        for leftover in self.folder.iterdir():
            shutil.rmtree(leftover) if leftover.is_dir() and not leftover.is_symlink() else leftover.unlink()
        self.logs.mkdir()
        short = Path(tempfile.mkdtemp(prefix="ew-"))
        self._stack.callback(shutil.rmtree, short, ignore_errors=True)
        (self.folder / "devices").mkdir()
        self.devices = short / "d"
        self.devices.symlink_to(self.folder / "devices")

    def _start(
        self, name: str, command: Sequence[str], environment: Mapping[str, str] = MappingProxyType({})
    ) -> Server:
        server = Server(name, command, {**self.environment, **environment}, self.logs)
        self._stack.callback(server.stop)
        self._servers.append(server)
        return server


def _environment(cloud: Mapping[str, str], folder: Path) -> dict[str, str]:
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("AWS_", "EDGEWRIGHT_"))}
    return {
        **kept,
        **cloud,
        "EDGEWRIGHT_DATABASE_URL": f"sqlite:///{folder / 'fleet.db'}",
        "ORT_DISABLE_TELEMETRY": "1",
        "OMP_NUM_THREADS": "1",
        "NO_COLOR": "1",
    }
