"""The store removes what it has made, and nothing else, wherever its folders lead."""

from pathlib import Path

import pytest

from edge_component.bundles.store import Store
from edge_component.contracts.limits import LIMITS
from edge_component.contracts.manifest import BASELINE_FILE
from tests.edge_component.bundle_factory import BundleFactory

DIGEST, OTHER = "a" * 64, "b" * 64


def filled(folder: Path, *names: str) -> Path:
    for name in names:
        (folder / name).mkdir(parents=True)
        (folder / name / "file").write_bytes(b"x")
    return folder


def names(folder: Path) -> set[str]:
    return {path.name for path in folder.iterdir()}


def test_a_start_empties_staging_of_what_the_store_left_there(tmp_path: Path) -> None:
    filled(tmp_path / "staging", "candidate", f"gone-{DIGEST}", f"damaged-{DIGEST}", "lost+found", "holiday")
    Store(tmp_path).prepare()
    assert names(tmp_path / "staging") == {"lost+found", "holiday"}


def test_a_link_in_the_place_of_staging_is_removed_and_not_followed(tmp_path: Path) -> None:
    elsewhere = filled(tmp_path / "elsewhere", "holiday", "candidate")
    (tmp_path / "work").mkdir()
    (tmp_path / "work" / "staging").symlink_to(elsewhere)
    Store(tmp_path / "work").prepare()
    assert names(elsewhere) == {"holiday", "candidate"}
    assert not (tmp_path / "work" / "staging").is_symlink()
    assert names(tmp_path / "work" / "staging") == set()


def test_collecting_takes_bundles_only_and_survives_a_store_on_another_disk(tmp_path: Path) -> None:
    elsewhere = filled(tmp_path / "elsewhere", DIGEST, OTHER, "lost+found", "holiday")
    (tmp_path / "work").mkdir()
    (tmp_path / "work" / "store").symlink_to(elsewhere)
    store = Store(tmp_path / "work")
    store.prepare()
    store.collect({DIGEST})
    assert names(elsewhere) == {DIGEST, "lost+found", "holiday"}


def test_of_a_baseline_that_is_too_large_no_more_is_read_than_shows_it(tmp_path: Path, bundles: BundleFactory) -> None:
    store = Store(tmp_path)
    store.path(DIGEST).mkdir(parents=True)
    with (store.path(DIGEST) / BASELINE_FILE).open("wb") as file:
        file.truncate(100_000_000)
    manifest = bundles.scale("1.0.0", 2.0, files={BASELINE_FILE: b"{}"}).manifest
    content = store.baseline(DIGEST, manifest)
    assert content is not None
    assert len(content) == LIMITS.baseline_bytes_max + 1


def test_what_cannot_be_removed_keeps_nothing_else_from_going(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    store = Store(tmp_path)
    store.prepare()
    filled(tmp_path / "store", DIGEST, OTHER)
    really_rename = Path.rename

    def rename(path: Path, target: Path) -> Path:
        if path.name == DIGEST:
            raise OSError(5, "Input/output error")
        return really_rename(path, target)

    monkeypatch.setattr(Path, "rename", rename)
    with pytest.raises(OSError, match="Input/output error"):
        store.collect(())
    assert names(tmp_path / "store") == {DIGEST}


def test_what_an_earlier_removal_has_left_is_in_nobodys_way(tmp_path: Path) -> None:
    store = Store(tmp_path)
    store.prepare()
    filled(tmp_path / "store", DIGEST)
    filled(tmp_path / "staging", f"gone-{DIGEST}")
    store.collect(())
    assert (names(tmp_path / "store"), names(tmp_path / "staging")) == (set(), set())
