"""Triton's own client for measuring, ``perf_analyzer``: fetched out of the wheel that still carries it, and run.

``python -m tests.edge_component.serving.oip.perf_analyzer`` (``make perf-analyzer``) puts it beside this Python's
environment; tests/edge_component/serving/oip/test_perf_analyzer.py and whoever wants to measure by hand use it from there.
It is a program for x86-64 that was last shipped in 2023; of CUDA it needs one library to start, and nothing more.
"""

import csv
import os
import subprocess
import sys
import tempfile
import zipfile
from collections.abc import Mapping, Sequence
from pathlib import Path

FOLDER = Path(sys.prefix) / "perf_analyzer"
WHEELS: Mapping[str, str] = {
    "tritonclient==2.41.0": "bin/perf_analyzer",
    "nvidia-cuda-runtime-cu12==12.9.79": "lib/libcudart.so.12",
}
"""What to ask pip for, and how the one file that is wanted of it ends."""

TIMEOUT_S = 120.0


def fetch() -> None:
    """Download both wheels with pip, unpack one file of each.

    Raises:
        subprocess.CalledProcessError: pip does not get them, as where there is no wheel for this machine.
    """
    FOLDER.mkdir(exist_ok=True)
    with tempfile.TemporaryDirectory() as folder:
        pip = [sys.executable, "-m", "pip", "download", "--quiet", "--disable-pip-version-check", "--no-deps"]
        subprocess.run([*pip, "--only-binary=:all:", "--dest", folder, *WHEELS], check=True)
        for path in Path(folder).glob("*.whl"):
            with zipfile.ZipFile(path) as wheel:
                for name in wheel.namelist():
                    if name.endswith(tuple(WHEELS.values())):
                        (FOLDER / Path(name).name).write_bytes(wheel.read(name))
    (FOLDER / "perf_analyzer").chmod(0o755)


def what_is_missing() -> str:
    """One sentence, or nothing if it can be run."""
    if not (FOLDER / "perf_analyzer").exists():
        return "perf_analyzer is not here: make perf-analyzer (x86-64 only)"
    if _run(["--version"]).returncode != 0:
        return "perf_analyzer does not start: apt install libb64-0d"
    return ""


def measure(arguments: Sequence[str], report: Path, window_ms: int = 250) -> list[dict[str, float]]:
    """Run it: three short windows, and no asking whether they agree; one row for each load, as its own report has them.

    Raises:
        AssertionError: it ended with an error, or complained.
    """
    quick = ["-p", str(window_ms), "-r", "5", "-s", "999", "-f", str(report)]
    done = _run([*arguments, *quick])
    told = done.stdout + done.stderr
    assert done.returncode == 0, told
    assert "Unable" not in told, told
    assert "WARNING" not in told, told
    with report.open(newline="") as file:
        return [{name: float(value) for name, value in row.items()} for row in csv.DictReader(file)]


def refusal(arguments: Sequence[str]) -> str:
    """What it says when it gives up; an empty string if it does not."""
    done = _run([*arguments, "-p", "250", "-r", "3", "-s", "999"])
    return done.stdout + done.stderr if done.returncode else ""


def _run(arguments: Sequence[str]) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [str(FOLDER / "perf_analyzer"), *arguments],
        env={**os.environ, "LD_LIBRARY_PATH": str(FOLDER)},
        capture_output=True,
        text=True,
        timeout=TIMEOUT_S,
        check=False,
    )


if __name__ == "__main__":
    if not (FOLDER / "perf_analyzer").exists():
        fetch()
    missing = what_is_missing()
    print(missing or f"{FOLDER / 'perf_analyzer'}, to be started with LD_LIBRARY_PATH={FOLDER}")
    sys.exit(bool(missing))
