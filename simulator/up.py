"""A broker and the local cloud that stay up: what ``edgewright-sim up`` starts.

The failure it exists for: a shell that talks to AWS by mistake, because the local endpoint was exported in another one.
The environment file sets endpoint, credentials and region together.
"""

import json
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import cast

from simulator.errors import SimulatorError
from simulator.mqtt import start_broker
from simulator.mqtt.broker import Kind

START_TIMEOUT_S = 60.0
STOP_TIMEOUT_S = 10.0
POLL_S = 0.05


class CloudStartError(SimulatorError):
    """The local cloud did not start; its log is named."""


@dataclass(frozen=True, slots=True)
class Installation:
    """What is up.

    Attributes:
        url: the local cloud's.
        broker_file: the broker's address, for ``edgewright-sim device run --broker``.
        env_file: to source.
    """

    url: str
    broker_file: Path
    env_file: Path


@contextmanager
def local_installation(folder: Path, port: int, broker_kind: str) -> Iterator[Installation]:
    """Start both, and stop both at the end.

    Raises:
        MqttError: no broker.
        CloudStartError: no local cloud.
    """
    folder = folder.resolve()
    folder.mkdir(parents=True, exist_ok=True)
    broker = start_broker(folder / "broker", cast("Kind", broker_kind))
    try:
        broker_file = folder / "broker.json"
        broker.address.write(broker_file)
        with _local_cloud(folder, port, broker_file) as url:
            env_file = folder / "env"
            env_file.write_text(_environment(url, broker_file))
            yield Installation(url, broker_file, env_file)
    finally:
        broker.stop()


@contextmanager
def _local_cloud(folder: Path, port: int, broker_file: Path) -> Iterator[str]:
    command = [
        sys.executable, "-m", "simulator.aws.server", "--port", str(port),
        "--state-dir", str(folder / "cloud"), "--broker", str(broker_file),
    ]  # fmt: skip
    log_file = folder / "cloud.log"
    with log_file.open("wb") as log:
        process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=log, stderr=log, start_new_session=True)
    try:
        yield _wait_for_url(process, log_file)
    finally:
        process.terminate()
        try:
            process.wait(STOP_TIMEOUT_S)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def _wait_for_url(process: "subprocess.Popen[bytes]", log_file: Path) -> str:
    deadline = time.monotonic() + START_TIMEOUT_S
    while time.monotonic() < deadline:
        for line in log_file.read_text(errors="replace").splitlines():
            if line.startswith('{"url"') and line.endswith("}"):
                return str(json.loads(line)["url"])
        if process.poll() is not None:
            break
        time.sleep(POLL_S)
    raise CloudStartError(f"the local cloud does not answer (exit code {process.poll()})", f"Read {log_file}.")


def _environment(url: str, broker_file: Path) -> str:
    chosen = {
        "AWS_ENDPOINT_URL": url,
        "AWS_ACCESS_KEY_ID": "local",
        "AWS_SECRET_ACCESS_KEY": "local",
        "AWS_DEFAULT_REGION": "us-east-1",
        "AWS_EC2_METADATA_DISABLED": "true",
        "EDGEWRIGHT_SIM_BROKER": str(broker_file),
    }
    return (
        "".join(f"export {name}={value}\n" for name, value in chosen.items()) + "unset AWS_PROFILE AWS_SESSION_TOKEN\n"
    )
