"""Asking processes and the pipes that drive them."""

import multiprocessing
import shutil
import subprocess
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from edge_component import client
from tests.benchmarks.serving.asker import Load, LoadRound, ask_until_told
from tests.benchmarks.serving.models import BenchModel

HEAD_START_S = 0.3
"""Between saying when a load begins and its beginning, so that every process is there in time."""


class AskerProcess:
    """One asking process."""

    def __init__(self, socket_path: Path, peers: Mapping[str, str], c_program: Path | None, with_oip: bool) -> None:
        context = multiprocessing.get_context("spawn")
        self.pipe, theirs = context.Pipe()
        arguments = theirs, socket_path, dict(peers), c_program, with_oip
        self._process = context.Process(target=ask_until_told, args=arguments)
        self._process.start()
        theirs.close()

    def ask(self, wanted: object) -> Any:
        """Have a round done; returns what it saw."""
        self.pipe.send(wanted)
        return self.pipe.recv()

    def close(self) -> None:
        self.pipe.close()
        self._process.join(10)


class Askers:
    """Several of them; the first is also the one whose latency is measured."""

    def __init__(
        self,
        socket_path: Path,
        count: int,
        peers: Mapping[str, str] | None = None,
        c_program: Path | None = None,
        *,
        with_oip: bool = False,
    ) -> None:
        self.all = [AskerProcess(socket_path, peers or {}, c_program, with_oip)]
        self.all += [AskerProcess(socket_path, {}, c_program, with_oip=False) for _ in range(count - 1)]

    @property
    def first(self) -> AskerProcess:
        return self.all[0]

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        while self.all:
            self.all.pop().close()


def build_c_client(folder: Path) -> Path | None:
    """The C client's example, or ``None`` where there is no compiler."""
    compiler = shutil.which("cc")
    if compiler is None:
        return None
    sources = Path(client.__file__).parent / "c"
    program = folder / "example"
    files = [str(sources / name) for name in ("edgewright.c", "example.c")]
    subprocess.run([compiler, "-std=c11", "-O2", "-pthread", "-o", str(program), *files], check=True)
    return program


def load_together(
    askers: Sequence[AskerProcess],
    model: BenchModel,
    seconds: float,
    meanwhile: Callable[[float], None] | None = None,
    *,
    in_process: bool = False,
) -> list[Load]:
    """Let them all ask at the same time; ``meanwhile`` is called with the monotonic second at which they begin."""
    starts_at_s = time.monotonic() + HEAD_START_S
    for asker in askers:
        asker.pipe.send(LoadRound(model, starts_at_s, seconds, meanwhile is not None, in_process))
    if meanwhile is not None:
        other = threading.Thread(target=meanwhile, args=(starts_at_s,))
        other.start()
        other.join()
    return [asker.pipe.recv() for asker in askers]
