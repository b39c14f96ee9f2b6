"""The first load of a model: in a child process, with caps on time and memory, before it may come near a request.

The failures this exists for: a file that crashes ONNX Runtime, hangs it, or takes all memory; a graph that answers NaN;
one that computes something else on this processor than where it was judged. In the child, each of these costs a child.

The child loads the graph, answers one golden sample to warm up, then all of them, and compares. It reports on a pipe
of its own, since ONNX Runtime prints to standard output, one JSON line for each phase begun and one for the verdict;
what it did not live to say, its end says: killed for time, for memory, or crashed in the last phase named. Where the
device's memory ends before the child's cap, the kernel is told to take the child, whichever process is the largest.

Run as ``python -m edge_component.inference.trial FOLDER FD`` it is the child. :func:`run_trial` is the parent's side;
any number may run at once.
"""

import json
import os
import resource
import signal
import subprocess
import sys
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from edge_component.contracts.manifest import MODEL_FILE, Manifest
from edge_component.errors import (
    DeviceError,
    GoldenMismatchError,
    GoldenUnusableError,
    ModelError,
    NotFiniteError,
    SignatureMismatchError,
    TrialCrashedError,
    TrialMemoryError,
    TrialTimeoutError,
    UnloadableModelError,
    UnsupportedTensorError,
)
from edge_component.inference.errors import OutputMismatchError, RequestError, RunFailedError
from edge_component.inference.execution import SessionOptions

REPORT_BYTES_MAX = 65_536
"""What a pipe holds, so that the child never waits for its parent; it says less than a quarter of it."""
OOM_FILE, FIRST_TO_GO = Path("/proc/self/oom_score_adj"), "1000"
RLIMIT_MAX = 2**63 - 1
PR_SET_PDEATHSIG = 1
START = "load"
NO_CHILD_REMEDY = "Free memory, processes or open files on the device (`edgewright-edge doctor`), then deploy again."
NICENESS = 10
"""Of the child: it has time, requests have not. Under four clients that never pause, on two cores, requests' p99 during a swap
was 2.6 times steady with 5 and 1.9 with 10 (measured), and the swap took as long. It still gets a tenth of a core that
others want whole, so that a busy device does not run into the cap on a load's time."""


class TrialFailedError(Exception):
    """A trial that ended badly: ``phase`` is where (``load``, ``warm-up`` or ``golden``), ``error`` why."""

    def __init__(self, phase: str, error: ModelError) -> None:
        """Keep both."""
        super().__init__(str(error))
        self.phase = phase
        self.error = error


class Trial(Protocol):
    """How the activator tries a stored bundle; raises :class:`TrialFailedError`."""

    def __call__(self, folder: Path, manifest: Manifest, allowed_s: float) -> None:
        """Return if it passed."""


@dataclass(frozen=True, slots=True)
class _Report:
    """What the child said: the last phase it began, and its verdict if it lived to give one."""

    phase: str
    passed: bool
    code: str
    message: str


def run_trial(
    folder: Path,
    manifest: Manifest,
    allowed_s: float,
    options: SessionOptions = SessionOptions(),  # noqa: B008 - frozen
) -> None:
    """Try a stored bundle in a child process.

    Args:
        folder: of the bundle.
        manifest: its own, whose caps hold.
        allowed_s: the caller's remaining time, if shorter than the manifest's cap.
        options: how it will be computed when it serves; what is tried is what will serve.

    Raises:
        TrialFailedError: with phase and cause.
    """
    allowed_s = min(allowed_s, manifest.caps.load_timeout_ms / 1000)
    try:
        child, reading = _start_child(folder, options)
    except OSError as error:
        told = f"the trial could not be started: {error.strerror or error}"
        raise TrialFailedError(START, TrialCrashedError(told, NO_CHILD_REMEDY)) from error
    try:
        timed_out = _wait(child, allowed_s)
        report = _read_report(_said(reading))
    finally:
        os.close(reading)
    if not report.passed:
        raise TrialFailedError(report.phase, _cause(report, child.returncode, allowed_s, timed_out=timed_out))


def _start_child(folder: Path, options: SessionOptions) -> "tuple[subprocess.Popen[bytes], int]":
    """The child, and the descriptor to read its report from. Raises OSError: no processes, memory or descriptors left."""
    reading, writing = os.pipe()
    try:
        child = subprocess.Popen(
            [sys.executable, "-m", __name__, str(folder), str(writing), options.to_text()],
            pass_fds=(writing,),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            env=_child_environment(),
        )
    except BaseException:
        os.close(reading)
        raise
    finally:
        os.close(writing)
    with suppress(OSError):  # a nicety
        os.setpriority(os.PRIO_PROCESS, child.pid, NICENESS)
    return child, reading


def _child_environment() -> dict[str, str]:
    """The parent's, with one thread and one memory arena, so that the memory cap measures the model."""
    return {**os.environ, "ORT_DISABLE_TELEMETRY": "1", "OPENBLAS_NUM_THREADS": "1", "MALLOC_ARENA_MAX": "1"}


def _wait(child: "subprocess.Popen[bytes]", allowed_s: float) -> bool:
    """Wait for the child's end; kills it when time is up, and says so."""
    try:
        child.wait(max(allowed_s, 0.001))
    except subprocess.TimeoutExpired:
        child.kill()
        child.wait()
        return True
    except BaseException:
        child.kill()
        child.wait()
        raise
    return False


def _said(reading: int) -> bytes:
    """All that a child wrote that has ended.

    The end of the file is not waited for: a process that was forked off this one just then holds the pipe's other end
    open for as long as it lives.
    """
    os.set_blocking(reading, False)
    with suppress(BlockingIOError):
        return os.read(reading, REPORT_BYTES_MAX)
    return b""


def _read_report(data: bytes) -> _Report:
    phase, verdict = START, {}
    for line in data.splitlines():
        try:
            said = json.loads(line)
        except ValueError:
            continue  # cut off in mid-line by its death
        if "phase" in said:
            phase = str(said["phase"])
        if "verdict" in said:
            verdict = said
    return _Report(
        phase, verdict.get("verdict") == "passed", str(verdict.get("code", "")), str(verdict.get("message", ""))
    )


_BY_CODE: Mapping[str, type[ModelError]] = {
    kind.code: kind
    for kind in (
        UnloadableModelError, SignatureMismatchError, UnsupportedTensorError, GoldenUnusableError,
        GoldenMismatchError, NotFiniteError, TrialMemoryError,
    )
}  # fmt: skip


INPUT_CODES = "input-"
"""What the codes of errors in a request's inputs begin with."""


def _cause(report: _Report, exit_code: int, allowed_s: float, *, timed_out: bool) -> ModelError:
    if report.code in _BY_CODE:
        return _BY_CODE[report.code](report.message)
    if report.code in (RunFailedError.code, OutputMismatchError.code):
        return GoldenMismatchError(f"a golden sample was not answered: {report.message}")
    if report.code.startswith(INPUT_CODES):
        return GoldenUnusableError(f"a golden sample is not what the model takes: {report.message}")
    if timed_out:
        return TrialTimeoutError(f"not done after {allowed_s:g} s; it was in phase {report.phase}")
    if exit_code == -signal.SIGKILL:
        return TrialMemoryError("the trial was killed by the kernel, most likely for want of memory")
    how = f"signal {-exit_code}" if exit_code < 0 else f"exit code {exit_code}"
    return TrialCrashedError(f"the trial died with {how} in phase {report.phase} {report.message}".rstrip())


# The child ------------------------------------------------------------------------------------------------------------


def main(arguments: list[str]) -> int:
    """The child: exit code 0 with a verdict on the pipe, whatever it is."""
    folder, pipe = Path(arguments[0]), int(arguments[1])
    options = SessionOptions.from_text(arguments[2])

    def say(**fields: str) -> None:
        os.write(pipe, json.dumps(fields).encode() + b"\n")

    try:
        _try_model(folder, options, say)
    except MemoryError:
        say(verdict="failed", code=TrialMemoryError.code, message="the memory cap was reached")
    except DeviceError as error:
        code = TrialMemoryError.code if _speaks_of_memory(error) else error.code
        say(verdict="failed", code=code, message=str(error)[:2000])
    else:
        say(verdict="passed")
    return 0


def _try_model(folder: Path, options: SessionOptions, say: "_Say") -> None:
    import ctypes  # noqa: PLC0415 - the child's own imports:

    from edge_component.bundles.verification import read_manifest  # noqa: PLC0415
    from edge_component.contracts.manifest import MANIFEST_FILE  # noqa: PLC0415 - the parent needs none of them,
    from edge_component.inference.golden import check_golden  # noqa: PLC0415 - and golden imports
    from edge_component.inference.golden_file import load_golden  # noqa: PLC0415 - ONNX Runtime
    from edge_component.inference.session import Session  # noqa: PLC0415

    say(phase="load")
    ctypes.CDLL(None).prctl(
        PR_SET_PDEATHSIG, int(signal.SIGKILL), 0, 0, 0
    )  # whoever starts anew has better use for memory
    with suppress(OSError):  # not to be had everywhere
        OOM_FILE.write_text(FIRST_TO_GO)
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))  # a model that crashes it must not fill the disk either
    manifest = read_manifest((folder / MANIFEST_FILE).read_bytes())
    _cap_processor_time(manifest.caps.load_timeout_ms / 1000)
    golden = load_golden(folder, manifest)
    _cap_memory(manifest.caps.memory_bytes_max)
    session = Session.load(folder / MODEL_FILE, manifest, options)
    say(phase="warm-up")
    session.run(golden.first().inputs)
    say(phase="golden")
    check_golden(golden, session, manifest)


class _Say(Protocol):
    def __call__(self, **fields: str) -> None: ...


def _cap_processor_time(allowed_s: float) -> None:
    """The parent's patience ends sooner; this is for a parent that was killed before the child asked to go with it."""
    limit_s = min(int(resource.getrusage(resource.RUSAGE_SELF).ru_utime + allowed_s) + 2, RLIMIT_MAX)
    resource.setrlimit(resource.RLIMIT_CPU, (limit_s, limit_s))


def _cap_memory(more_bytes: int) -> None:
    """Allow this much address space beyond what the interpreter and ONNX Runtime have already taken."""
    with Path("/proc/self/statm").open() as file:
        taken_bytes = int(file.read().split()[0]) * resource.getpagesize()
    limit = min(taken_bytes + more_bytes, RLIMIT_MAX)
    _, hard = resource.getrlimit(resource.RLIMIT_AS)
    resource.setrlimit(resource.RLIMIT_AS, (limit if hard == resource.RLIM_INFINITY else min(limit, hard), hard))


def _speaks_of_memory(error: DeviceError) -> bool:
    """ONNX Runtime reports a failed allocation in words only."""
    told = str(error).lower()
    return isinstance(error, UnloadableModelError | RequestError) and (
        "bad_alloc" in told or "failed to allocate memory" in told or "bad allocation" in told
    )


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
