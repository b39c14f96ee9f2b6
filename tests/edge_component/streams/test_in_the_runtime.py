"""A stream in a real runtime: files that waited for the model are answered by it, through restart and swap."""

import json
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

from tests.edge_component.bundle_factory import BundleFactory
from tests.edge_component.runtime_process import RuntimeProcess

WAIT_S = 20.0


def results(runtime: RuntimeProcess) -> dict[str, dict]:
    path = runtime.work / "out.jsonl"
    return {line["origin"]: line for line in map(json.loads, path.read_text().splitlines())} if path.exists() else {}


def await_results(runtime: RuntimeProcess, *origins: str) -> dict[str, dict]:
    deadline = time.monotonic() + WAIT_S
    while set(origins) - set(results(runtime)):
        assert time.monotonic() < deadline, f"never: {origins} in {runtime.log_text()}"
        time.sleep(0.02)
    return results(runtime)


def put(folder: Path, name: str, row: list[float]) -> None:
    (folder / f".{name}").write_text(json.dumps(row))
    (folder / f".{name}").rename(folder / name)


def test_files_wait_for_the_model_and_follow_its_versions(
    start_runtime: Callable[..., RuntimeProcess], bundles: BundleFactory, tmp_path: Path
) -> None:
    folder = tmp_path / "in"
    folder.mkdir()
    stream = {
        "model": "scale",
        "source": {"kind": "folder", "path": str(folder), "poll_s": "0.05"},
        "sink": {"kind": "file", "path": "out.jsonl"},
    }
    config = {"log_format": "json", "streams": {"gate": stream, "odd": {**stream, "drop": "all"}}}
    put(folder, "1.json", [1, 2, 3])
    runtime = start_runtime(config=config)
    for version, factor, name in (("1.0.0", 2.0, "1.json"), ("2.0.0", 3.0, "2.json")):
        bundle = bundles.scale(version, factor)
        runtime.admin.activate(bundle.archive, bundle.component, bundle.version)
        put(folder, name, [1, 2, 3])
        found = await_results(runtime, name)[name]
        assert (found["model"]["version"], found["outputs"]) == (version, {"y": [[factor, 2 * factor, 3 * factor]]})
    status = runtime.admin.status()
    assert any("streams.odd.drop" in reason for reason in status.reasons)
    assert status.models[0].answered_count >= 1
    runtime.kill()
    put(folder, "3.json", [1, 1, 1])
    again = start_runtime(runtime.work, config=config)
    assert await_results(again, "3.json")["3.json"]["outputs"] == {"y": [[3.0, 3.0, 3.0]]}
    assert again.terminate() == 0
    assert {path.name for path in (folder / "done").iterdir()} == {"1.json", "2.json", "3.json"}
    logged = [json.loads(line) for line in again.log_text().splitlines() if line.startswith("{")]
    assert any(record["message"] == "stream gate begins" for record in logged)


def test_a_runtime_without_streams_imports_nothing_of_them() -> None:
    code = (
        "import sys, edge_component.__main__; print([m for m in sys.modules if m.startswith('edge_component.streams')])"
    )
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=60).stdout
    assert found.strip() == "[]"
