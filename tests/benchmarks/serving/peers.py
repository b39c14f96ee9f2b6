"""Other model servers over the same models: each in an environment of its own, asked by its own plain client.

Their protocol is what their users meet first: the Open Inference Protocol over JSON for MLServer, JSON for LitServe and
BentoML, and JSON through FastAPI as what one writes in an afternoon. The client is ``http.client`` over one kept-alive
connection, with the request's JSON made anew each time, as an application would.
"""

import http.client
import json
import os
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from tests.benchmarks.serving.models import BenchModel

SERVERS = Path(__file__).parent / "peer_servers"
START_S = 90.0
BASE = ("numpy", "onnxruntime")


@dataclass(frozen=True)
class Peer:
    """One server: what pip installs, the script that serves, and how it is asked."""

    name: str
    packages: tuple[str, ...]
    path: str
    body: Callable[[BenchModel], object]


def plain_body(model: BenchModel) -> object:
    return {"model": model.name, "inputs": {name: array.tolist() for name, array in model.feed.items()}}


def oip_body(model: BenchModel) -> object:
    kinds = {"float32": "FP32", "int64": "INT64"}
    return {
        "inputs": [
            {"name": name, "shape": list(array.shape) or [1], "datatype": kinds[str(array.dtype)],
             "data": array.ravel().tolist()}
            for name, array in model.feed.items()
        ]
    }  # fmt: skip


def bento_body(model: BenchModel) -> object:
    return {"request": plain_body(model)}


PEERS = (
    Peer("FastAPI JSON", ("fastapi", "uvicorn"), "/predict", plain_body),
    Peer("LitServe JSON", ("litserve",), "/predict", plain_body),
    Peer("BentoML JSON", ("bentoml",), "/predict", bento_body),
    Peer("MLServer JSON", ("mlserver",), "/v2/models/{model}/infer", oip_body),
)


def peer_side(name: str, address: str, model: BenchModel) -> Callable[[], object]:
    """One request to a peer; raises if it is not answered with 200."""
    peer = next(peer for peer in PEERS if peer.name == name)
    connection = http.client.HTTPConnection(address, timeout=30)
    path = peer.path.format(model=model.name)

    def exchange() -> tuple[int, bytes]:
        connection.request("POST", path, json.dumps(peer.body(model)), {"Content-Type": "application/json"})
        response = connection.getresponse()
        return response.status, response.read()

    def ask() -> object:
        try:
            status, content = exchange()
        except ConnectionError:  # hung up on while another model was measured
            connection.close()
            status, content = exchange()
        if status != 200:
            raise RuntimeError(f"{name} answered {status}: {content[:300]!r}")
        return json.loads(content)

    return ask


@contextmanager
def running(cache: Path, models: Sequence[BenchModel]) -> Iterator[Mapping[str, str]]:
    """Start every peer that can be installed; yields addresses by name."""
    folder = cache / "models"
    folder.mkdir(parents=True, exist_ok=True)
    for model in models:
        (folder / f"{model.name}.onnx").write_bytes(model.content)
    started: dict[str, subprocess.Popen[bytes]] = {}
    addresses: dict[str, str] = {}
    try:
        for peer in PEERS:
            python = environment(cache, peer)
            port = free_port()
            log = (cache / f"{script(peer).stem}.log").open("wb")
            started[peer.name] = subprocess.Popen(
                [python, script(peer), str(port), str(folder.absolute())],
                stdout=log, stderr=log, start_new_session=True,
                env={**os.environ, "PYTHONPATH": "", "PATH": f"{python.parent}:{os.environ['PATH']}",
                     "OMP_NUM_THREADS": "1", "BENTOML_DO_NOT_TRACK": "True"},
            )  # fmt: skip
            addresses[peer.name] = f"127.0.0.1:{port}"
        for peer in PEERS:
            if not answers(peer, addresses[peer.name], models, started[peer.name]):
                print(f"{peer.name} does not answer; see {cache / script(peer).stem}.log", file=sys.stderr)
                del addresses[peer.name]
        yield addresses
    finally:
        for process in started.values():
            stop_group(process)


def script(peer: Peer) -> Path:
    return SERVERS / f"{peer.name.split()[0].lower()}_server.py"


def environment(cache: Path, peer: Peer) -> Path:
    """The interpreter of a peer's own environment, made on first use."""
    folder = (cache / script(peer).stem).absolute()
    python = folder / "bin" / "python"
    if not (folder / "made").exists():
        print(f"installing {peer.name} into {folder} ...", file=sys.stderr)
        subprocess.run([sys.executable, "-m", "venv", "--clear", folder], check=True)
        subprocess.run([python, "-m", "pip", "install", "--quiet", *BASE, *peer.packages], check=True)
        (folder / "made").touch()
    return python


def answers(peer: Peer, address: str, models: Sequence[BenchModel], process: "subprocess.Popen[bytes]") -> bool:
    """Whether every model is served within :data:`START_S`, with numbers that are right in size."""
    ends_at_s = time.monotonic() + START_S
    while time.monotonic() < ends_at_s and process.poll() is None:
        try:
            for model in models:
                assert np.size(peer_side(peer.name, address, model)()) > 0
        except (OSError, RuntimeError, ValueError, http.client.HTTPException):
            time.sleep(0.5)
        else:
            return True
    return False


def stop_group(process: "subprocess.Popen[bytes]") -> None:
    """The server and its workers: they are one process group."""
    for number in (15, 9):
        try:
            os.killpg(process.pid, number)
            process.wait(10)
        except (ProcessLookupError, subprocess.TimeoutExpired):
            continue


def free_port() -> int:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        port: int = listener.getsockname()[1]
        return port
