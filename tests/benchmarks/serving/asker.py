"""The process that asks: raw ONNX Runtime, bare doorbell and served sides in turn, so that noise falls on all of them.

One asker holds one session of each model for the raw side, one doorbell partner and one client. A *round* consists of
blocks of about 10 ms that go round the sides, and ends with every request's duration by side. Each block begins with
another side, and each side is asked for :data:`WARM_S` before it is measured. It is driven through a pipe by the
benchmark's own process, which does nothing meanwhile.
"""

import gc
import os
import re
import socket
import subprocess
import tempfile
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from multiprocessing.connection import Connection
from pathlib import Path

os.environ["ORT_DISABLE_TELEMETRY"] = "1"

import numpy as np
import onnxruntime as ort
from numpy.typing import NDArray

from edge_component.client import Answer, Client, ClientError
from tests.benchmarks.serving.models import BenchModel
from tests.benchmarks.serving.oip_sides import Ask, OipClients
from tests.benchmarks.serving.peers import peer_side

WARM_S = 0.025
"""A side's first requests after another's find its model in no cache: of a run of 2.4 ms the first took 0.5 ms longer, the
third 100 us and the tenth 15 us, in process just as through the runtime (measured); of one of 60 us it is over after a few."""
WARM_COUNT = 3
AFTER_A_RUN = "doorbell, after a run"
RAW_BESIDE = "raw, beside "


@dataclass(frozen=True)
class LatencyRound:
    """One round of one model, on one core (its number) or wherever the scheduler puts us (``None``)."""

    model: BenchModel
    core: int | None
    blocks: int


@dataclass(frozen=True)
class LoadRound:
    """Ask one model without a pause until ``seconds`` have passed since ``starts_at_s`` (monotonic).

    ``in_process`` runs it here instead: what the machine can compute, with no runtime in between.
    """

    model: BenchModel
    starts_at_s: float
    seconds: float
    keep_durations: bool = False
    in_process: bool = False


@dataclass
class Load:
    """What a load round saw; durations in µs with the monotonic second at which each ended."""

    answered_count: int = 0
    failures: list[str] = field(default_factory=list)
    versions: set[str] = field(default_factory=set)
    ended_at_s: list[float] = field(default_factory=list)
    durations_us: list[float] = field(default_factory=list)


def ask_until_told(
    pipe: Connection, socket_path: Path, peers: Mapping[str, str], c_program: Path | None, with_oip: bool
) -> None:
    """The process's main: rounds in, results out, until the pipe closes."""
    gc.collect()
    gc.freeze()
    asker = Asker(socket_path, peers, c_program, with_oip)
    while True:
        try:
            wanted = pipe.recv()
        except EOFError:
            return asker.close()
        pipe.send(asker.latency(wanted) if isinstance(wanted, LatencyRound) else asker.load(wanted))


class Asker:
    """Sides are made once for each model and kept."""

    def __init__(
        self, socket_path: Path, peers: Mapping[str, str], c_program: Path | None = None, with_oip: bool = False
    ) -> None:
        self._socket_path = socket_path
        self._with_oip = with_oip
        self._oip: OipClients | None = None
        self._c_program = c_program
        self._client = Client(socket_path, deadline_s=10)
        self._doorbell = Doorbell()
        self._peers = peers
        self._sides: dict[str, dict[str, Ask]] = {}

    def close(self) -> None:
        """Leave nothing behind."""
        if self._oip is not None:
            self._oip.close()

    def latency(self, wanted: LatencyRound) -> dict[str, tuple[float, float]]:
        """p50 and p99 in µs by side."""
        self._settle(wanted.core)
        self._lie_elsewhere(wanted.model)
        sides = self._sides_of(wanted.model)
        if self._with_oip and wanted.core is None:  # a client with threads of its own is not for one core
            sides = {**sides, **self._oip_sides_of(wanted.model)}
        kept: dict[str, list[int]] = {name: [] for name in sides}
        after_a_run: list[int] = []
        for block in range(wanted.blocks):
            for name in turned(list(sides), block):
                warm_up(sides[name])
                kept[name] += durations_ns(sides[name], self._count(name, wanted.model))
            after_a_run += durations_ns(sides["doorbell"], wanted.model.request_count, sides["raw"])
        found = {name: p50_p99(np.array(durations) / 1000) for name, durations in kept.items()}
        found[AFTER_A_RUN] = p50_p99(np.array(after_a_run) / 1000)
        if self._c_program is not None:
            for name, options in (("fast path, C client", ()), ("in place, C client", ("--in-place",))):
                raw = self._block(sides["raw"], wanted.model)
                found[name] = ask_from_c(self._c_program, self._socket_path, wanted, options)
                found[raw_beside(name)] = p50_p99(np.array(raw + self._block(sides["raw"], wanted.model)) / 1000)
        return found

    def _lie_elsewhere(self, model: BenchModel) -> None:
        """Have session, input and channel in other memory than in the round before."""
        self._sides.pop(model.name, None)
        self._client.close()
        self._client = Client(self._socket_path, deadline_s=10)

    def _block(self, ask: Ask, model: BenchModel) -> list[int]:
        warm_up(ask)
        return durations_ns(ask, model.request_count)

    def load(self, wanted: LoadRound) -> Load:
        """Saturate."""
        self._settle(None)
        ask = self._sides_of(wanted.model)["raw" if wanted.in_process else "fast path"]
        ask()
        seen = Load()
        ends_at_s = wanted.starts_at_s + wanted.seconds
        time.sleep(max(wanted.starts_at_s - time.monotonic(), 0))
        now_s = time.monotonic()
        while now_s < ends_at_s:
            try:
                answer = ask()
            except ClientError as error:
                seen.failures.append(repr(error))
            else:
                seen.answered_count += 1
                if isinstance(answer, Answer):
                    seen.versions.add(answer.model.version)
            before_s, now_s = now_s, time.monotonic()
            if wanted.keep_durations:
                seen.ended_at_s.append(now_s)
                seen.durations_us.append((now_s - before_s) * 1e6)
        return seen

    def _count(self, side: str, model: BenchModel) -> int:
        """Requests of a block; fewer for what takes a hundred times as long."""
        is_long = side in self._peers or side.startswith(("REST", "gRPC"))
        return max(model.request_count // 20, 2) if is_long else model.request_count

    def _settle(self, core: int | None) -> None:
        cores = {core} if core is not None else set(range(os.cpu_count() or 1))
        os.sched_setaffinity(0, cores)
        os.sched_setaffinity(self._doorbell.process_id, cores)

    def _sides_of(self, model: BenchModel) -> dict[str, Ask]:
        if model.name not in self._sides:
            more = {name: peer_side(name, address, model) for name, address in self._peers.items()}
            self._sides[model.name] = {
                **raw_sides(replace(model, feed={name: array.copy() for name, array in model.feed.items()})),
                "doorbell": self._doorbell.ring,
                "fast path": lambda: self._client.infer(model.name, model.feed),
                "in place": self._client.prepare(model.name, model.feed).infer,
                **more,
            }
        return self._sides[model.name]

    def _oip_sides_of(self, model: BenchModel) -> dict[str, Ask]:
        if self._oip is None:
            self._oip = OipClients(self._socket_path.parent)
        key = f"{model.name}, oip"
        if key not in self._sides:
            self._sides[key] = self._oip.sides(model)
        return self._sides[key]


def turned(names: Sequence[str], by: int) -> list[str]:
    """Beginning with another one, so that no side always follows the same other."""
    at = by % len(names)
    return [*names[at:], *names[:at]]


def warm_up(ask: Ask) -> None:
    """See :data:`WARM_S`."""
    ends_at_s = time.monotonic() + WARM_S
    for _ in range(WARM_COUNT):
        ask()
    while time.monotonic() < ends_at_s:
        ask()


def durations_ns(ask: Ask, count: int, before: Ask | None = None) -> list[int]:
    """Of so many requests; ``before`` is called before each, and not counted."""
    clock = time.perf_counter_ns
    durations = []
    for _ in range(count):
        if before is not None:
            before()
        began = clock()
        ask()
        durations.append(clock() - began)
    return durations


def raw_beside(side: str) -> str:
    """The raw side that was measured just before and after this one, which cannot take turns with the others."""
    return f"{RAW_BESIDE}{side}"


def ask_from_c(
    program: Path, socket_path: Path, wanted: LatencyRound, options: Sequence[str] = ()
) -> tuple[float, float]:
    """p50 and p99 in µs of the C client's example, which is on the asker's core because its children are."""
    model = wanted.model
    counts = "--warm", str(3 * model.request_count), "--repeat", str(model.request_count * wanted.blocks)
    with tempfile.TemporaryDirectory() as folder:
        arguments = [str(program), str(socket_path), model.name, *counts, *options]
        for name, array in model.feed.items():
            (Path(folder) / name).write_bytes(array.tobytes())
            arguments.append(f"{name}:{'x'.join(map(str, array.shape))}={folder}/{name}")
        printed = subprocess.run(arguments, capture_output=True, text=True, check=True).stdout
    found = re.search(r"p50 ([\d.]+) us, p99 ([\d.]+) us", printed)
    assert found is not None, printed
    return float(found[1]), float(found[2])


def raw_sides(model: BenchModel) -> dict[str, Ask]:
    """In process: ``session.run`` as an application would call it, and the same with everything bound beforehand."""
    options = ort.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    session = ort.InferenceSession(model.content, options, providers=["CPUExecutionProvider"])
    names = [spec.name for spec in model.outputs]
    bound = session.io_binding()
    for name, array in model.feed.items():
        bound.bind_cpu_input(name, array)
    for name, array in zip(names, session.run(names, model.feed), strict=True):
        bound.bind_output(name, "cpu", 0, array.dtype.type, array.shape, _kept(array))
    return {
        "raw": lambda: session.run(names, model.feed),
        "raw, bound": lambda: session.run_with_iobinding(bound),
    }


_KEPT: list[NDArray[np.generic]] = []


def _kept(array: NDArray[np.generic]) -> int:
    """The address of an array that lives as long as this process."""
    _KEPT.append(array)
    return int(array.ctypes.data)


class Doorbell:
    """The floor: one byte to another process and one back, over a socket pair of the fast path's kind."""

    def __init__(self) -> None:
        self._socket, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self.process_id = os.fork()
        if self.process_id == 0:
            self._socket.close()
            _echo(theirs)
        theirs.close()

    def ring(self) -> None:
        self._socket.send(b"\0")
        self._socket.recv(1)


def _echo(connection: socket.socket) -> None:
    try:
        while byte := connection.recv(1):
            connection.send(byte)
    finally:
        os._exit(0)


def p50_p99(durations_us: NDArray[np.float64] | Sequence[float]) -> tuple[float, float]:
    low, high = np.percentile(durations_us, (50, 99))
    return float(low), float(high)
