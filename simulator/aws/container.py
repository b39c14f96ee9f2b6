"""Runs one SageMaker job's command as a process that sees its own ``/opt/ml`` and a clean environment.

The failure this exists for: a job that "completes" without having run, and a script that works here because it saw this
machine's environment or another job's files. With bubblewrap the job has a private ``/opt/ml`` and a root it can read
but not write (``/tmp`` excepted); without it, ``/opt/ml`` in the command and the environment is replaced by the job's
own folder, and a script that spells ``/opt/ml`` itself will not find it. It is no security boundary either way.

Not the contract's files and variables (:mod:`simulator.aws.job_folder`), nor S3 (:mod:`simulator.aws.job_storage`).

:meth:`Container.run` blocks the calling thread, which must live as long as the job (bubblewrap ends the job with it);
:meth:`Container.stop` may be called from any other thread.
"""

import json
import os
import queue
import re
import shutil
import signal
import subprocess
import threading
import time
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from enum import Enum
from functools import cache
from pathlib import Path
from typing import IO

ML_ROOT = "/opt/ml"
LOG_END_S = 5.0
"""How long a process that left the job's session may hold its log open."""
_ML_PATH = re.compile(r"/opt/ml(?![\w.-])")
_MISSING_PROGRAM_EXIT_CODE = 127
"""What a shell answers for a command that is not there, and so does a container."""


class Isolation(Enum):
    """How a job gets its ``/opt/ml``."""

    BUBBLEWRAP = "bubblewrap"
    FOLDER = "folder"


class Outcome(Enum):
    """Why a job's process ended."""

    EXITED = "exited"
    STOPPED = "stopped"
    OUT_OF_TIME = "out of time"


@dataclass(frozen=True, slots=True)
class ContainerLimits:
    """Bounds of one job.

    Attributes:
        stop_grace_s: between SIGTERM and SIGKILL (SageMaker: 120 s).
        log_tail_lines: how many of the last lines are kept for a failure's reason.
        log_line_chars_max: longer lines are cut.
    """

    stop_grace_s: float = 120.0
    log_tail_lines: int = 20
    log_line_chars_max: int = 8_192


@dataclass(frozen=True, slots=True)
class ContainerSpec:
    """What to run.

    Attributes:
        command: program and arguments, spelt with ``/opt/ml``.
        environment: all of it; nothing is inherited.
        root: the folder that becomes ``/opt/ml``; exists.
        max_runtime_s: after so many seconds it is stopped.
    """

    command: tuple[str, ...]
    environment: Mapping[str, str]
    root: Path
    max_runtime_s: float


@dataclass(frozen=True, slots=True)
class ContainerExit:
    """How it ended; ``exit_code`` is negative for a signal's number."""

    outcome: Outcome
    exit_code: int
    log_tail: tuple[str, ...]


class Container:
    """One run of one command."""

    def __init__(
        self,
        spec: ContainerSpec,
        on_line: Callable[[str], None],
        limits: ContainerLimits | None = None,
        isolation: Isolation | None = None,
    ) -> None:
        """Nothing runs yet; ``on_line`` is called with each line of the log, on a thread of the container."""
        self._spec = spec
        self._on_line = on_line
        self._limits = limits or ContainerLimits()
        self._isolation = isolation or available_isolation()
        self._grace_s = self._limits.stop_grace_s
        self._tail: deque[str] = deque(maxlen=self._limits.log_tail_lines)
        self._news: queue.SimpleQueue[Outcome] = queue.SimpleQueue()

    def stop(self, grace_s: float | None = None) -> None:
        """Send SIGTERM, and SIGKILL after the grace; one that has not started yet is stopped as soon as it has.

        Args:
            grace_s: another grace than the limits' own; a second call may shorten the first one's.
        """
        if grace_s is not None:
            self._grace_s = min(self._grace_s, grace_s)
        self._news.put(Outcome.STOPPED)

    def run(self) -> ContainerExit:
        """Run it to its end, whatever that is; returns when no process of it is left."""
        try:
            process, main_pid = self._spawn()
        except OSError as error:
            self._take_line(f"{self._spec.command[0]}: {error.strerror}")
            return ContainerExit(Outcome.EXITED, _MISSING_PROGRAM_EXIT_CODE, tuple(self._tail))
        log = threading.Thread(target=self._read_log, args=(process.stdout,), daemon=True)
        waiting = threading.Thread(target=self._await_exit, args=(process,), daemon=True)
        log.start()
        waiting.start()
        outcome = self._await_news(main_pid)
        waiting.join()
        _signal_group(process.pid, signal.SIGKILL)  # what the command left behind ends with it, as in a container
        log.join(LOG_END_S)
        return ContainerExit(outcome, process.returncode, tuple(self._tail))

    def _spawn(self) -> tuple[subprocess.Popen[bytes], int]:
        if self._isolation is Isolation.FOLDER:
            command = [replace_root(argument, self._spec.root) for argument in self._spec.command]
            environment = {name: replace_root(text, self._spec.root) for name, text in self._spec.environment.items()}
            process = _popen(command, environment, self._spec.root)
            return process, process.pid
        read_end, write_end = os.pipe()
        with os.fdopen(read_end) as information:
            try:
                command = bubblewrap_command(self._spec, write_end, Path("/opt"))
                process = _popen(command, self._spec.environment, self._spec.root, write_end)
            finally:
                os.close(write_end)
            text = information.read()
        return process, int(json.loads(text)["child-pid"]) if text else process.pid

    def _await_news(self, main_pid: int) -> Outcome:
        """The reason of the end; sends the signals that bring it about."""
        try:
            outcome = self._news.get(timeout=self._spec.max_runtime_s)
        except queue.Empty:
            outcome = Outcome.OUT_OF_TIME
        if outcome is not Outcome.EXITED:
            _signal_one(main_pid, signal.SIGTERM)
            self._await_exit_or_kill(main_pid)
        return outcome

    def _await_exit_or_kill(self, main_pid: int) -> None:
        began = time.monotonic()
        while (left_s := began + self._grace_s - time.monotonic()) > 0:
            try:
                if self._news.get(timeout=left_s) is Outcome.EXITED:
                    return
            except queue.Empty:
                break
        _signal_one(main_pid, signal.SIGKILL)

    def _await_exit(self, process: subprocess.Popen[bytes]) -> None:
        process.wait()
        self._news.put(Outcome.EXITED)

    def _read_log(self, stream: IO[bytes]) -> None:
        with stream:
            for line in stream:
                self._take_line(line.decode(errors="replace").rstrip("\r\n"))

    def _take_line(self, line: str) -> None:
        cut = line[: self._limits.log_line_chars_max]
        self._tail.append(cut)
        self._on_line(cut)


def replace_root(text: str, root: Path) -> str:
    """``/opt/ml`` in a command or variable becomes the job's folder; ``/opt/mlx`` stays."""
    return _ML_PATH.sub(lambda _: str(root), text)


def bubblewrap_command(spec: ContainerSpec, information_fd: int, opt: Path) -> list[str]:
    """The command line that gives ``spec`` its own ``/opt/ml``.

    ``/opt`` is covered by an empty one, so that no mount point is made on this machine, and what it held is put back.
    """
    held = sorted(path for path in opt.iterdir() if path.name != "ml") if opt.is_dir() else []
    kept = [argument for path in held for argument in ("--ro-bind", str(path), str(path))]
    return [
        "bwrap", "--die-with-parent", "--info-fd", str(information_fd),
        "--ro-bind", "/", "/", "--dev", "/dev", "--bind", "/tmp", "/tmp",  # noqa: S108 - the job's own view of it
        "--tmpfs", "/opt", *kept, "--bind", str(spec.root), ML_ROOT, "--chdir", ML_ROOT,
        "--", *spec.command,
    ]  # fmt: skip


@cache
def available_isolation() -> Isolation:
    """Bubblewrap where it is installed and the kernel lets this user use it; asked once."""
    if shutil.which("bwrap") is None:
        return Isolation.FOLDER
    trial = ["bwrap", "--ro-bind", "/", "/", "--dev", "/dev", "--tmpfs", "/opt", "true"]
    usable = subprocess.run(trial, capture_output=True, check=False).returncode == 0
    return Isolation.BUBBLEWRAP if usable else Isolation.FOLDER


def _popen(
    command: Sequence[str], environment: Mapping[str, str], folder: Path, inherited_fd: int | None = None
) -> subprocess.Popen[bytes]:
    return subprocess.Popen(
        command,
        env=dict(environment),
        cwd=folder,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        start_new_session=True,
        pass_fds=() if inherited_fd is None else (inherited_fd,),
    )


def _signal_one(pid: int, number: signal.Signals) -> None:
    try:
        os.kill(pid, number)
    except ProcessLookupError:
        return


def _signal_group(group: int, number: signal.Signals) -> None:
    try:
        os.killpg(group, number)
    except ProcessLookupError:
        return
