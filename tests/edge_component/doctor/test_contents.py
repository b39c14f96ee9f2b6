"""What lies in the work folder, as it is after accidents: the doctor names the file, and stays well itself."""

import os
from collections.abc import Callable
from pathlib import Path

import pytest

from edge_component.doctor import contents
from edge_component.doctor.contents import TOLD_MAX, bundle_problem, owner_problem, place_problem
from tests.edge_component.bundle_factory import BundleFactory
from tests.edge_component.runtime_process import RuntimeProcess


def test_a_bundle_that_rotted_is_named_also_where_it_only_waits_for_a_revert(
    start_runtime: Callable[..., RuntimeProcess], bundles: BundleFactory
) -> None:
    runtime = start_runtime(config={"probation_s": 0})
    first, second = bundles.scale("1.0.0", 2.0), bundles.scale("1.1.0", 3.0)
    for bundle in (first, second):
        runtime.admin.activate(bundle.archive, bundle.component, bundle.version)
    assert bundle_problem(runtime.work) == ""
    (runtime.work / "store" / first.digest / "model.onnx").write_bytes(b"rot")
    assert bundle_problem(runtime.work) == f"model.onnx of bundle {first.digest[:12]} has changed on the disk"
    (runtime.work / "store" / second.digest / "manifest.json").unlink()
    assert second.digest[:12] in bundle_problem(runtime.work)


def test_what_stands_in_a_folders_place_is_named(tmp_path: Path) -> None:
    assert place_problem(tmp_path) == place_problem(tmp_path / "nowhere") == ""
    (tmp_path / "staging").write_bytes(b"")
    (tmp_path / "runtime.lock").mkdir()
    assert place_problem(tmp_path) == "staging is no folder; runtime.lock is a folder"
    assert bundle_problem(tmp_path) == ""


def test_files_of_somebody_elses_are_counted_and_some_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    names = ["runtime.lock", "outbox/cursor", "store/abc/model.onnx", "activation.json", "committed.json"]
    for name in names:
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).touch()
    owner = os.geteuid() or 1000
    owners = dict.fromkeys((tmp_path / name for name in names), 0)
    monkeypatch.setattr(contents, "_owner", lambda path: owners.get(path, owner) if path.exists() else None)
    monkeypatch.setattr(Path, "stat", lambda self, **_: os.stat_result((0o40755, 0, 0, 1, owner, *(0,) * 5)))
    told = owner_problem(tmp_path)
    assert told.startswith("runtime.lock is root's, the folder ")
    assert told.endswith(f" and {len(names) - TOLD_MAX} more")
    owners.clear()
    assert owner_problem(tmp_path) == ""
