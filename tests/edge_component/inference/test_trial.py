"""Bad models, each costing a child process and nothing else, each with its own verdict."""

import os
import signal
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from zipfile import ZipFile

import numpy as np
import pytest

from edge_component.contracts.codec import INTEGER_MAX
from edge_component.contracts.manifest import Caps, Manifest, TensorSpec
from edge_component.inference.trial import TrialFailedError, run_trial
from tests.edge_component.bundle_factory import BundleFactory, npz, scale_golden, scale_model
from tests.edge_component.graphs import endless_model, hungry_model
from tests.edge_component.waiting import wait_until

SPEC = (TensorSpec("x", "float32", (-1, 3)),)


def unpacked(bundles: BundleFactory, folder: Path, files: Mapping[str, bytes], caps: Caps) -> tuple[Path, Manifest]:
    bundle = bundles.scale("1.0.0", 2.0, files=files, change=lambda manifest: replace(manifest, caps=caps))
    with ZipFile(bundle.archive) as archive:
        archive.extractall(folder)
    return folder, bundle.manifest


BAD: dict[str, tuple[dict[str, bytes], Caps, str, str]] = {
    "not ONNX": ({"model.onnx": b"hello"}, Caps(), "load", "model-unloadable"),
    "other inputs": ({"model.onnx": scale_model(2.0, width=4)}, Caps(), "load", "model-signature-mismatch"),
    "NaN output": ({"model.onnx": scale_model(float("nan"))}, Caps(), "golden", "golden-not-finite"),
    "wrong numbers": ({"model.onnx": scale_model(2.01)}, Caps(), "golden", "golden-mismatch"),
    "golden of another model": ({"golden.npz": npz(z=np.zeros(3))}, Caps(), "load", "golden-unusable"),
    "golden not an archive": ({"golden.npz": b"PK"}, Caps(), "load", "golden-unusable"),
    "golden with pickles": (
        {"golden.npz": npz(**{"input:x": np.array([{}], object), "output:y": np.zeros(1)})}, Caps(), "load",
        "golden-unusable",
    ),
    "golden without samples": (
        {"golden.npz": npz(**{"input:x": np.zeros((0, 1, 3), "f"), "output:y": np.zeros((0, 1, 3), "f")})}, Caps(),
        "load", "golden-unusable",
    ),
    "golden of another shape": ({"golden.npz": scale_golden(2.0, width=4)}, Caps(), "warm-up", "golden-unusable"),
    "never done": ({"model.onnx": endless_model()}, Caps(load_timeout_ms=1500), "warm-up", "trial-timeout"),
    "hungry": ({"model.onnx": hungry_model()}, Caps(memory_bytes_max=400_000_000), "warm-up", "trial-out-of-memory"),
}  # fmt: skip


@pytest.mark.parametrize(("files", "caps", "phase", "code"), BAD.values(), ids=BAD.keys())
def test_a_bad_model_fails_where_and_how_it_should(
    bundles: BundleFactory, tmp_path: Path, files: dict[str, bytes], caps: Caps, phase: str, code: str
) -> None:
    folder, manifest = unpacked(bundles, tmp_path, files, caps)
    with pytest.raises(TrialFailedError) as caught:
        run_trial(folder, manifest, allowed_s=60.0)
    assert (caught.value.phase, caught.value.error.code) == (phase, code), str(caught.value)
    assert caught.value.error.remedy


def test_a_good_model_passes(bundles: BundleFactory, tmp_path: Path) -> None:
    folder, manifest = unpacked(bundles, tmp_path, {"golden.npz": scale_golden(2.0)}, Caps())
    run_trial(folder, manifest, allowed_s=60.0)


@pytest.mark.parametrize(
    ("script", "code"),
    [("kill -SEGV $$", "trial-crashed"), ("exit 7", "trial-crashed"), ("kill -KILL $$", "trial-out-of-memory")],
)
def test_a_child_that_dies_is_a_verdict(
    bundles: BundleFactory, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, script: str, code: str
) -> None:
    folder, manifest = unpacked(bundles, tmp_path / "bundle", {}, Caps())
    shim = tmp_path / "python"
    shim.write_text(f"#!/bin/sh\n{script}\n")
    shim.chmod(0o700)
    monkeypatch.setattr(sys, "executable", str(shim))
    with pytest.raises(TrialFailedError) as caught:
        run_trial(folder, manifest, allowed_s=60.0)
    assert caught.value.error.code == code


def test_a_child_that_cannot_be_started_is_a_verdict_and_leaves_no_descriptors(
    bundles: BundleFactory, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder, manifest = unpacked(bundles, tmp_path, {}, Caps())
    monkeypatch.setattr(sys, "executable", str(tmp_path / "no-python"))
    before = set(Path("/proc/self/fd").iterdir())
    with pytest.raises(TrialFailedError, match="could not be started: No such file") as caught:
        run_trial(folder, manifest, allowed_s=60.0)
    assert (caught.value.phase, caught.value.error.code) == ("load", "trial-crashed")
    assert "Free memory" in caught.value.error.remedy
    assert set(Path("/proc/self/fd").iterdir()) == before


def test_the_callers_deadline_holds_too(bundles: BundleFactory, tmp_path: Path) -> None:
    folder, manifest = unpacked(bundles, tmp_path, {"model.onnx": endless_model()}, Caps())
    with pytest.raises(TrialFailedError) as caught:
        run_trial(folder, manifest, allowed_s=1.0)
    assert caught.value.error.code == "trial-timeout"


def test_a_child_whose_parent_was_killed_does_not_burn_a_core_for_ever(bundles: BundleFactory, tmp_path: Path) -> None:
    folder, _ = unpacked(bundles, tmp_path, {"model.onnx": endless_model()}, Caps(load_timeout_ms=100))
    reading, writing = os.pipe()
    command = [sys.executable, "-m", "edge_component.inference.trial", str(folder), str(writing), "{}"]
    with subprocess.Popen(command, pass_fds=(writing,), stderr=subprocess.DEVNULL) as orphan:
        os.close(writing)
        assert orphan.wait(30) in (-signal.SIGXCPU, -signal.SIGKILL)
    os.close(reading)


def test_the_child_of_a_runtime_that_was_killed_goes_with_it(bundles: BundleFactory, tmp_path: Path) -> None:
    folder, _ = unpacked(bundles, tmp_path, {"model.onnx": endless_model()}, Caps())
    runtime = (
        "import sys; from pathlib import Path\n"
        "from edge_component.contracts.manifest import Manifest\n"
        "from edge_component.inference.trial import run_trial\n"
        "folder = Path(sys.argv[1])\n"
        "run_trial(folder, Manifest.from_bytes((folder / 'manifest.json').read_bytes()), 60)\n"
    )
    with subprocess.Popen([sys.executable, "-c", runtime, str(folder)]) as parent:
        children = Path(f"/proc/{parent.pid}/task/{parent.pid}/children")
        wait_until(lambda: bool(children.read_text().strip()))
        child = Path(f"/proc/{children.read_text().strip()}")
        wait_until(lambda: (child / "oom_score_adj").read_text().strip() == "1000")
        parent.kill()
    wait_until(lambda: not child.exists() or "Z" in (child / "stat").read_text().rpartition(")")[2])


def test_the_child_imports_no_cryptography(bundles: BundleFactory, tmp_path: Path) -> None:
    """A tenth of its processor time, taken while requests are served; the parent has verified the signature."""
    folder, _ = unpacked(bundles, tmp_path / "bundle", {"model.onnx": scale_model(2.0)}, Caps())
    child = (
        "import sys\n"
        "from edge_component.inference.execution import SessionOptions\n"
        "from edge_component.inference.trial import main\n"
        "main([sys.argv[1], '1', SessionOptions().to_text()])\n"
        "print(*(name for name in sys.modules if name.startswith('cryptography')))\n"
    )
    told = subprocess.run([sys.executable, "-c", child, str(folder)], capture_output=True, text=True, check=True)
    *_, verdict, imported = told.stdout.splitlines()
    assert '"verdict": "passed"' in verdict, told.stdout
    assert imported == ""


def test_caps_as_wide_as_a_manifest_can_say_are_no_caps(bundles: BundleFactory, tmp_path: Path) -> None:
    widest = Caps(load_timeout_ms=INTEGER_MAX, memory_bytes_max=INTEGER_MAX)
    folder, manifest = unpacked(bundles, tmp_path, {"model.onnx": scale_model(2.0)}, widest)
    run_trial(folder, manifest, allowed_s=60.0)


def test_where_memory_ends_the_child_goes_and_not_who_serves(
    bundles: BundleFactory, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder, manifest = unpacked(bundles, tmp_path, {"model.onnx": endless_model()}, Caps())
    scores: list[str] = []
    waited = subprocess.Popen.wait

    def looked(child: "subprocess.Popen[bytes]", timeout: float | None = None) -> int:
        score = Path(f"/proc/{child.pid}/oom_score_adj")
        while timeout is not None and child.poll() is None and (not scores or scores[-1] != "1000"):
            scores.append(score.read_text().strip())
        return waited(child, 0.001 if timeout is not None else None)

    monkeypatch.setattr(subprocess.Popen, "wait", looked)
    with pytest.raises(TrialFailedError, match="not done"):
        run_trial(folder, manifest, allowed_s=60.0)
    assert scores[-1] == "1000"
    assert Path("/proc/self/oom_score_adj").read_text().strip() == scores[0]


def test_a_process_that_was_forked_off_meanwhile_is_not_waited_for(
    bundles: BundleFactory, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As a program does that has the runtime within it; its child has a copy of every descriptor."""
    folder, manifest = unpacked(bundles, tmp_path, {"model.onnx": scale_model(2.0)}, Caps())
    piped, forked = os.pipe, list[int]()

    def pipe_and_fork() -> tuple[int, int]:
        ends = piped()
        if not forked:
            forked.append(os.fork())
            if not forked[0]:
                signal.pause()
        return ends

    monkeypatch.setattr(os, "pipe", pipe_and_fork)
    try:
        run_trial(folder, manifest, allowed_s=60.0)
        assert os.waitpid(forked[0], os.WNOHANG) == (0, 0), "it lives"
    finally:
        os.kill(forked[0], signal.SIGKILL)
        os.waitpid(forked[0], 0)
