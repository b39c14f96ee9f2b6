"""Changes on a disk that is damaged, unreadable or full: it costs neither what serves nor the release floors."""

import os
import shutil
import zipfile
from pathlib import Path

import pytest

from edge_component import durable
from edge_component.activation.activator import RESERVES_EVERY_S, Activator
from edge_component.activation.journal import COMMITTED_FILE, JOURNAL_FILE
from edge_component.activation.slots import LOADS_MAX
from edge_component.bundles.store import Store
from edge_component.contracts.manifest import Manifest
from edge_component.errors import (
    OlderReleaseError,
    StoreDamagedError,
    StoreError,
    StoreFullError,
)
from tests.edge_component.activation.conftest import Device
from tests.edge_component.bundle_factory import BundleFactory


def test_a_damaged_bundle_is_replaced_by_the_previous_one_at_the_start(device: Device, bundles: BundleFactory) -> None:
    device.configure(probation_s=0.0)
    one, two = bundles.scale("1.0.0", 2.0), bundles.scale("1.1.0", 3.0)
    device.hand_over(one)
    device.hand_over(two)
    (device.work / "store" / two.digest / "model.onnx").write_bytes(b"rot")
    device.start()
    assert device.factor() == 2.0
    assert device.sink.outcomes() == [("reverted", "restore", "store-damaged")]
    device.hand_over(two)
    assert device.factor() == 3.0, "handing the same bundle over again repairs it"


def test_what_rots_while_it_serves_is_repaired_by_the_same_bundle(device: Device, bundles: BundleFactory) -> None:
    """Else the remedy that everybody is told, to deploy it again, mends nothing, and the next start goes back."""
    device.configure(probation_s=0.0)
    one, two = bundles.scale("1.0.0", 2.0), bundles.scale("1.1.0", 3.0)
    device.hand_over(one)
    device.hand_over(two)
    (device.work / "store" / two.digest / "model.onnx").write_bytes(b"rot")
    assert device.hand_over(two).outcome == "already-active"
    device.start()
    assert device.factor() == 3.0
    model = device.activator.models()[0]
    assert model.previous is not None
    assert model.previous.version == "1.0.0"


def test_what_rots_while_it_serves_and_cannot_be_repaired_serves_on(
    device: Device, bundles: BundleFactory, monkeypatch: pytest.MonkeyPatch
) -> None:
    bundle = bundles.scale("1.0.0", 2.0)
    device.hand_over(bundle)
    (device.work / "store" / bundle.digest / "model.onnx").write_bytes(b"rot")

    def full(*_: object) -> None:
        raise StoreFullError("no room left")

    monkeypatch.setattr(Store, "stage", full)
    assert device.hand_over(bundle).outcome == "already-active"
    assert device.factor() == 2.0


def test_a_read_error_that_passes_does_not_cost_the_device_its_version(
    device: Device, bundles: BundleFactory, monkeypatch: pytest.MonkeyPatch
) -> None:
    device.configure(probation_s=0.0)
    device.hand_over(bundles.scale("1.0.0", 2.0))
    device.hand_over(bundles.scale("1.1.0", 3.0))
    read, left = Store.read, [LOADS_MAX - 1]

    def reading(store: Store, digest: str) -> Manifest:
        if left[0]:
            left[0] -= 1
            raise StoreDamagedError("EIO")
        return read(store, digest)

    monkeypatch.setattr(Store, "read", reading)
    device.start()
    assert device.factor() == 3.0
    assert device.sink.outcomes() == [("restored", "restore", "")]


def test_an_archive_that_cannot_be_read_is_a_refusal(
    device: Device, bundles: BundleFactory, monkeypatch: pytest.MonkeyPatch
) -> None:
    device.hand_over(bundles.scale("1.0.0", 2.0))
    read = zipfile.ZipExtFile.read

    def reading(file: zipfile.ZipExtFile, n: int | None = -1) -> bytes:
        if file.name == "model.sig":
            raise OSError(5, "Input/output error")
        return read(file, n)

    monkeypatch.setattr(zipfile.ZipExtFile, "read", reading)
    with pytest.raises(StoreError, match="Input/output error"):
        device.hand_over(bundles.scale("1.1.0", 3.0))
    assert device.sink.outcomes()[-1] == ("refused", "receive", "store-failed")
    assert device.factor() == 2.0
    assert list((device.work / "staging").iterdir()) == []


def test_with_nothing_left_to_serve_it_says_so_and_a_hand_over_repairs_it(
    device: Device, bundles: BundleFactory
) -> None:
    device.configure(probation_s=0.0)
    one = bundles.scale("1.0.0", 2.0)
    device.hand_over(one)
    (device.work / "store" / one.digest / "golden.npz").unlink()
    device.start()
    assert [model.state for model in device.activator.models()] == ["failed"]
    assert device.sink.outcomes() == [("refused", "restore", "store-damaged")]
    assert device.hand_over(one).outcome == "activated"
    assert [model.state for model in device.activator.models()] == ["serving"]


def test_a_damaged_journal_costs_neither_what_serves_nor_the_floor(device: Device, bundles: BundleFactory) -> None:
    device.configure(probation_s=0.0)
    one, two, three = (bundles.scale(f"1.{minor}.0", minor + 1.0) for minor in range(3))
    device.hand_over(one)
    device.hand_over(two)
    device.configure(probation_s=30.0)
    device.hand_over(three)
    (device.work / JOURNAL_FILE).write_bytes(b"\0" * 100)
    device.start()
    assert "activation.json" in device.problems[0]
    assert device.factor() == 2.0, "the committed one; the candidate's trial is forgotten"
    with pytest.raises(OlderReleaseError):
        device.hand_over(one)
    device.activator.revert("scale")
    assert device.factor() == 1.0
    assert device.hand_over(three).outcome == "activated"


def test_with_journal_and_copy_damaged_bundles_are_left_alone(device: Device, bundles: BundleFactory) -> None:
    one = bundles.scale("1.0.0", 2.0)
    device.hand_over(one)
    for name in (JOURNAL_FILE, COMMITTED_FILE):
        (device.work / name).write_bytes(b"\0" * 100)
    device.start()
    assert "activation.json" in device.problems[0]
    assert device.stored() == {one.digest}
    assert device.hand_over(one).outcome == "activated"


def test_what_the_disk_has_no_room_for_is_not_begun(
    device: Device, bundles: BundleFactory, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Filling the disk to the last byte would have been everybody else's trouble too."""
    device.hand_over(bundles.scale("1.0.0", 2.0))
    bundle = bundles.scale("1.1.0", 3.0)
    size_bytes = bundle.archive.stat().st_size
    really_open, written = os.open, []

    def opening(path: object, flags: int, *rest: int, **others: int) -> int:
        if flags & os.O_CREAT and "staging" in str(path):
            written.append(path)
        return really_open(path, flags, *rest, **others)  # type: ignore[arg-type]

    with monkeypatch.context() as patched:
        patched.setattr(os, "open", opening)
        patched.setattr(shutil, "disk_usage", lambda _: shutil._ntuple_diskusage(size_bytes * 9, size_bytes * 9, 900))
        with pytest.raises(StoreFullError, match="900 are free"):
            device.hand_over(bundle)
    assert written == []
    assert (device.factor(), device.sink.outcomes()[-1]) == (2.0, ("refused", "store", "store-full"))
    device.hand_over(bundle)
    assert device.factor() == 3.0


def test_what_the_store_holds_already_is_not_written_again(
    device: Device, bundles: BundleFactory, monkeypatch: pytest.MonkeyPatch
) -> None:
    device.configure(probation_s=0.0)
    old, new = bundles.scale("1.0.0", 2.0), bundles.scale("1.1.0", 3.0)
    device.hand_over(old)
    device.hand_over(new)
    with monkeypatch.context() as patched:
        patched.setattr(Store, "stage", lambda *_: pytest.fail("it is there"))
        device.activator.revert("scale")
        device.hand_over(new)
    assert device.factor() == 3.0
    (device.work / "store" / old.digest / "model.onnx").write_bytes(b"rot")
    device.hand_over(old)
    assert device.factor() == 2.0, "what is damaged is replaced"


def test_a_disk_that_fills_up_refuses_at_every_write_and_the_old_one_serves(
    device: Device, bundles: BundleFactory, monkeypatch: pytest.MonkeyPatch
) -> None:
    """ENOSPC at the Nth durable write, for every N until an activation gets through."""

    device.configure(probation_s=0.0)
    one = bundles.scale("1.0.0", 2.0)
    device.hand_over(one)
    fsync, calls = os.fsync, [0]
    for allowed_count in range(100):

        def failing(descriptor: int, allowed_count: int = allowed_count) -> None:
            calls[0] += 1
            if calls[0] > allowed_count:
                raise OSError(28, "No space left on device")
            fsync(descriptor)

        calls[0] = 0
        monkeypatch.setattr(os, "fsync", failing)
        try:
            device.hand_over(bundles.scale("1.1.0", 3.0))
        except StoreFullError:
            monkeypatch.setattr(os, "fsync", fsync)
            assert device.factor() == 2.0, allowed_count
            assert device.sink.outcomes()[-1][0::2] == ("refused", "store-full")
            device.start()
            assert device.factor() == 2.0, allowed_count
            assert device.stored() == {one.digest}
            continue
        monkeypatch.setattr(os, "fsync", fsync)
        break
    assert device.factor() == 3.0
    assert allowed_count > 5, "it failed at several places before it got through"


def test_what_a_refused_change_did_on_the_disk_all_the_same_is_undone_before_long(
    device: Device, bundles: BundleFactory, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A rename that is carried out, and then not confirmed: the next start would have carried out what was refused."""
    device.configure(probation_s=0.0)
    device.hand_over(bundles.scale("1.0.0", 2.0))
    device.hand_over(bundles.scale("1.1.0", 3.0))

    def failing(folder: Path) -> None:
        raise OSError(5, "Input/output error")

    for change in (Activator.revert, Activator.deactivate):
        with monkeypatch.context() as patched:
            patched.setattr(durable, "sync_directory", failing)
            with pytest.raises(StoreError):
                change(device.activator, "scale")
            device.clock.advance(RESERVES_EVERY_S)
            device.activator.tick()
        assert device.factor() == 3.0
        device.clock.advance(RESERVES_EVERY_S)
        device.activator.tick()
        device.start()
        assert device.factor() == 3.0


def test_a_disk_that_gave_no_reserve_is_asked_again_now_and_then(
    device: Device, bundles: BundleFactory, monkeypatch: pytest.MonkeyPatch
) -> None:
    device.hand_over(bundles.scale("1.0.0", 2.0))
    for reserve in device.work.glob("*.reserve"):  # as after an upgrade from a version that knew none
        reserve.unlink()
    really_open, refusals = os.open, []

    def full(path: object, flags: int, *rest: int) -> int:
        if flags & os.O_CREAT and str(path).endswith(".reserve.new"):
            refusals.append(path)
            raise OSError(28, "No space left on device")
        return really_open(path, flags, *rest)  # type: ignore[arg-type]

    monkeypatch.setattr(os, "open", full)
    device.start()
    names = (JOURNAL_FILE, COMMITTED_FILE)
    told = tuple(f"{name} has no reserve: No space left on device" for name in names)
    assert device.activator.problems() == told
    asked_count = len(refusals)
    for _ in range(50):
        device.activator.tick()
    assert len(refusals) == asked_count, "not with every tick"
    device.clock.advance(RESERVES_EVERY_S)
    device.activator.tick()
    assert device.activator.problems() == told
    monkeypatch.setattr(os, "open", really_open)
    device.clock.advance(RESERVES_EVERY_S)
    device.activator.tick()
    assert device.activator.problems() == ()
    assert {path.name for path in device.work.glob("*.reserve")} == {f"{name}.reserve" for name in names}
