"""``kill -9`` of the runtime at every file-system step of a model change: afterwards old or new serves, never neither.

strace attaches to a running runtime, counts the calls on store, staging and journal, and kills the process at the Nth
of one kind. The next runtime over the same work folder must serve what served before or what was handed over, whole; it
is then the subject of the next point. Each kind of call is walked until an activation gets through without reaching it.
The kill comes before the call is carried out, so that these kinds see every state in between; a file's creation is seen
by the write that follows it.
"""

import signal
import subprocess
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import numpy as np
import pytest

from edge_component.client import Client, ClientError
from tests.edge_component.bundle_factory import Bundle, BundleFactory
from tests.edge_component.runtime_process import RuntimeProcess

ROW = np.array([[1, 2, 3]], np.float32)
CALLS = ("mkdir", "write", "fsync", "rename", "unlinkat", "rmdir")
COMMIT_AT_ONCE = {"probation_s": 0}
"""So that a change has all its steps, the commit and the removal of the version before last among them."""

POINTS_MAX = 40
"""Of one kind of call; more would mean that the walk does not end."""


def factor(runtime: RuntimeProcess) -> float:
    with Client(runtime.infer_socket) as client:
        return float(client.infer("scale", {"x": ROW}).outputs["y"][0, 0])


def watched_paths(work: Path, bundle: Bundle, held: list[Bundle]) -> list[Path]:
    """Everything that this change touches: strace knows no wildcards. One of the held bundles will be removed."""
    folders = [work / "staging" / "candidate", work / "store" / bundle.digest]
    folders += [work / "staging" / f"gone-{old.digest}" for old in held] + [work / "store" / old.digest for old in held]
    names = (*bundle.manifest.files, "manifest.json", "model.sig")
    files = [folder / name for folder in folders for name in names]
    return [
        work, work / "store", work / "staging", work / "activation.json", work / ".activation.json.new",
        work / "committed.json", work / ".committed.json.new", *folders, *files,
    ]  # fmt: skip


def attach(strace: str, runtime: RuntimeProcess, paths: list[Path], call: str, when: int) -> "subprocess.Popen[bytes]":
    """Kill the runtime at its ``when``-th ``call`` on the paths of a model change."""
    command = [strace, "-f", "-qq", "-o", "/dev/null", "-p", str(runtime.process.pid)]
    command += [word for path in paths for word in ("-P", str(path))]
    command += ["-e", f"trace={call}", "-e", f"inject={call}:signal=KILL:when={when}"]
    tracer = subprocess.Popen(command, stderr=subprocess.DEVNULL)
    status = Path(f"/proc/{runtime.process.pid}/task")
    ends_at_s = time.monotonic() + 10
    while any("TracerPid:\t0" in (task / "status").read_text() for task in status.iterdir()):
        if tracer.poll() is not None:
            pytest.skip("strace may not attach here (kernel.yama.ptrace_scope): run as root")
        assert time.monotonic() < ends_at_s
        time.sleep(0.005)
    return tracer


def factor_of(bundle: Bundle) -> float:
    return float(bundle.version.split(".")[1]) + 1.0


def died(runtime: RuntimeProcess) -> bool:
    """The kernel takes a moment to bury it; one that answers is alive."""
    try:
        runtime.admin.status()
    except ClientError:
        runtime.process.wait(10)
        return True
    return False


@pytest.mark.slow
@pytest.mark.parametrize("call", CALLS)
def test_killed_at_every_step_old_or_new_serves(
    call: str,
    needs_program: Callable[[str], str],
    start_runtime: Callable[..., RuntimeProcess],
    bundles: BundleFactory,
) -> None:
    strace = needs_program("strace")
    runtime = start_runtime(config=COMMIT_AT_ONCE)
    held = [bundles.scale("1.0.0", 1.0), bundles.scale("1.1.0", 2.0)]
    for bundle in held:
        runtime.admin.activate(bundle.archive, bundle.component, bundle.version)
    for when in range(1, POINTS_MAX):
        offered = bundles.scale(f"1.{when + 1}.0", when + 2.0)
        tracer = attach(strace, runtime, watched_paths(runtime.work, offered, held), call, when)
        outcome = ""
        with suppress(ClientError):
            outcome = runtime.admin.activate(offered.archive, offered.component, offered.version).outcome
        was_killed = died(runtime)
        tracer.send_signal(signal.SIGTERM)
        tracer.wait()
        if outcome == "activated" and not was_killed:
            break
        assert was_killed, f"{call} number {when}: refused without a kill"
        runtime = start_runtime(runtime.work, config=COMMIT_AT_ONCE)
        found = factor(runtime)
        assert found in (factor_of(held[-1]), factor_of(offered)), f"{call} number {when}"
        assert list((runtime.work / "staging").iterdir()) == []
        if found == factor_of(offered):
            held = [held[-1], offered]
    else:
        pytest.fail("the walk does not end")
    assert factor(runtime) == factor_of(offered)
    assert when > 1, f"no {call} was reached"
