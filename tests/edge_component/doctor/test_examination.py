"""The doctor on real work folders: healthy, never started, damaged, without keys, with a runtime that is gone."""

import os
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path

import pytest

from edge_component.clock import ManualClock
from edge_component.doctor import examination
from edge_component.doctor.diagnosis import Seen, diagnose
from edge_component.doctor.examination import examine
from tests.edge_component.bundle_factory import BundleFactory
from tests.edge_component.runtime_process import RuntimeProcess

CLOCK = ManualClock(datetime(2030, 1, 1, tzinfo=UTC))


def ill(seen: Seen) -> set[str]:
    return {check.name for check in diagnose(seen).checks if not check.ok}


def test_a_device_that_serves_is_well_and_then_its_runtime_is_gone(
    start_runtime: Callable[..., RuntimeProcess], bundles: BundleFactory
) -> None:
    runtime = start_runtime()
    bundle = bundles.scale("1.0.0", 2.0)
    runtime.admin.activate(bundle.archive, bundle.component, bundle.version)
    seen = examine(runtime.work, None, CLOCK)
    assert ill(seen) - {"socket path", "memory"} == set()
    assert seen.lock_held
    assert seen.trusted_at is not None
    runtime.kill()
    seen = examine(runtime.work, None, CLOCK)
    assert ill(seen) - {"socket path", "memory"} == {"runtime answers"}
    assert not seen.lock_held
    assert seen.trust_problem == "", "the keys of the last start are still known"


def test_a_device_on_which_nothing_was_ever_started(tmp_path: Path) -> None:
    seen = examine(tmp_path / "nowhere", None, CLOCK)
    assert {"work folder", "runtime answers", "trusted keys"} <= ill(seen)
    assert seen.disk_free_bytes > 0
    assert not (tmp_path / "nowhere").exists(), "a doctor changes nothing"


def test_a_user_who_may_not_look_is_told_so_instead_of_an_illness(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "activation.json").write_bytes(b"{")  # as good as unreadable
    stranger_id = os.geteuid() + 1
    monkeypatch.setattr(os, "geteuid", lambda: stranger_id)
    seen = examine(tmp_path, None, CLOCK)
    assert "this user" in ill(seen)
    assert not {"journal", "runtime answers"} & ill(seen)
    assert str(stranger_id) in seen.user_problem


def test_a_damaged_journal_is_named_and_left_where_it_is(tmp_path: Path) -> None:
    (tmp_path / "activation.json").write_bytes(b"{")
    assert "journal" in ill(examine(tmp_path, None, CLOCK))
    assert (tmp_path / "activation.json").read_bytes() == b"{"


def test_a_journal_without_its_reserve_is_told_of(tmp_path: Path) -> None:
    """As a disk that was full already when this version came leaves it."""
    (tmp_path / "activation.json").write_bytes(b"{" + b" " * 900)
    assert "way back on a full disk" in ill(examine(tmp_path, None, CLOCK))
    (tmp_path / "activation.json.reserve").write_bytes(b"x" * 1_000)
    assert "way back on a full disk" not in ill(examine(tmp_path, None, CLOCK))


@pytest.mark.parametrize(("name", "content"), [("none.txt", b""), ("broken.pem", b"no key")])
def test_a_trust_folder_without_a_usable_key(tmp_path: Path, name: str, content: bytes) -> None:
    (tmp_path / name).write_bytes(content)
    assert "trusted keys" in ill(examine(tmp_path, tmp_path, CLOCK))


@pytest.mark.parametrize(
    ("module", "told"),
    [("no_such_package", "cannot be imported"), ("os, signal; os.kill(os.getpid(), signal.SIGILL)", "signal 4")],
)
def test_a_package_that_cannot_be_imported_does_not_take_the_doctor_with_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, module: str, told: str
) -> None:
    monkeypatch.setattr(examination, "PACKAGES", (module,))
    assert told in examine(tmp_path, None, CLOCK).packages[module]


def test_a_disk_that_is_mounted_read_only_is_named_and_not_taken_for_a_missing_installation(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Linux does that to a disk with errors; the remedy was to install the component."""
    seen = os.statvfs(tmp_path)
    values = [*seen[:8], seen.f_flag | os.ST_RDONLY, *seen[9:]]
    monkeypatch.setattr(os, "statvfs", lambda _: os.statvfs_result(values))
    monkeypatch.setattr(os, "access", lambda *_: False)
    found = ill(examine(tmp_path, None, CLOCK))
    assert "file system" in found
    assert "work folder" not in found
