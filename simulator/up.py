"""A broker and the local cloud, started and stopped as one: what ``edgewright-sim up`` and every world stand on.

The failure it exists for: a shell that talks to AWS by mistake, because the local endpoint was exported in another one.
The environment sets endpoint, credentials and region together, and takes away what would override them.
"""

import json
import os
import shlex
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType

from simulator.claim import claimed
from simulator.errors import SimulatorError
from simulator.mqtt import Broker, start_broker
from simulator.mqtt.broker import Kind
from simulator.processes import Server

START_TIMEOUT_S = 60.0
CLOUD_ENVIRONMENT: Mapping[str, str] = MappingProxyType(
    {
        "AWS_ACCESS_KEY_ID": "local",
        "AWS_SECRET_ACCESS_KEY": "local",
        "AWS_DEFAULT_REGION": "us-east-1",
        "AWS_EC2_METADATA_DISABLED": "true",
    }
)
BROKER_VARIABLE = "EDGEWRIGHT_SIM_BROKER"
OVERRIDING = ("AWS_PROFILE", "AWS_SESSION_TOKEN")


class AlreadyUpError(SimulatorError):
    """The folder has a broker and a local cloud running."""


@dataclass(frozen=True, slots=True)
class Installation:
    """What is up.

    Attributes:
        url: the local cloud's.
        broker: its broker; ``broker_file`` is the address, for ``edgewright-sim device run --broker``.
        cloud: the local cloud's process.
        env_file: to source.
    """

    url: str
    broker: Broker
    broker_file: Path
    cloud: Server
    env_file: Path

    @property
    def environment(self) -> dict[str, str]:
        """What a client of this cloud needs, and nothing else."""
        return {"AWS_ENDPOINT_URL": self.url, **CLOUD_ENVIRONMENT, BROKER_VARIABLE: str(self.broker_file)}


@contextmanager
def local_installation(folder: Path, port: int = 0, broker_kind: Kind = "auto") -> Iterator[Installation]:
    """Start both below ``folder``, and stop both at the end.

    Raises:
        AlreadyUpError: another one is up there; its files are as they were.
        MqttError: no broker.
        ProcessDiedError: no local cloud; its last words are in the message.
    """
    folder = folder.resolve()
    folder.mkdir(parents=True, exist_ok=True)
    refusal = AlreadyUpError(
        f"a local cloud is up in {folder}",
        f"Use it (. {shlex.quote(str(folder / 'env'))}), stop it with Ctrl-C, or choose another --folder.",
    )
    with claimed(folder / "up.lock", refusal), start_broker(folder / "broker", broker_kind) as broker:
        broker_file = folder / "broker.json"
        broker.address.write(broker_file)
        cloud = Server("local-cloud", _cloud_command(folder, port, broker_file), os.environ, folder)
        try:
            url = str(json.loads(cloud.wait_for_line('{"url"', START_TIMEOUT_S))["url"])
            installation = Installation(url, broker, broker_file, cloud, folder / "env")
            installation.env_file.write_text(_exports(installation.environment))
            yield installation
        finally:
            cloud.stop()


def _cloud_command(folder: Path, port: int, broker_file: Path) -> list[str]:
    return [
        sys.executable, "-m", "simulator.aws.server", "--port", str(port),
        "--state-dir", str(folder / "cloud"), "--broker", str(broker_file),
    ]  # fmt: skip


def _exports(environment: Mapping[str, str]) -> str:
    lines = [f"export {name}={shlex.quote(value)}" for name, value in environment.items()]
    return "\n".join([*lines, f"unset {' '.join(OVERRIDING)}", ""])
