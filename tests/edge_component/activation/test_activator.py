"""Changes of what is served: each request by what goes wrong, with the exact outcome, phase and code reported."""

import os
import threading
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from edge_component.activation.journal import COMMITTED_FILE, JOURNAL_FILE
from edge_component.activation.slots import LOADS_MAX
from edge_component.bundles.store import Store
from edge_component.bundles.verification import Asked
from edge_component.contracts.heartbeat import ModelRef
from edge_component.contracts.manifest import Manifest
from edge_component.errors import (
    ActivationDeadlineError,
    DeviceError,
    ExpiredError,
    NothingToRevertError,
    OlderReleaseError,
    StoreDamagedError,
    StoreError,
    StoreFullError,
    TrialCrashedError,
    UnknownModelError,
    WrongComponentError,
)
from edge_component.inference.trial import TrialFailedError
from tests.edge_component.activation.conftest import Device
from tests.edge_component.bundle_factory import Bundle, BundleFactory, new_key

ACTIVATED = ("activated", "switch", "")


def test_first_second_and_the_same_again(device: Device, bundles: BundleFactory) -> None:
    one, two = bundles.scale("1.0.0", 2.0), bundles.scale("1.1.0", 3.0)
    event = device.hand_over(one)
    assert event.serving == event.candidate
    assert (event.model_name, event.outcome) == ("scale", "activated")
    assert device.hand_over(one).outcome == "already-active"
    device.hand_over(two)
    assert device.factor() == 3.0
    assert device.sink.switches == ["1.0.0", "1.1.0"]
    assert device.stored() == {one.digest, two.digest}
    assert [event.outcome for event in device.sink.events] == ["activated", "already-active", "activated"]


def test_probation_ends_in_a_commit_and_the_second_last_version_goes(device: Device, bundles: BundleFactory) -> None:
    made = [bundles.scale(f"1.{minor}.0", minor + 1.0) for minor in range(3)]
    for bundle in made:
        device.hand_over(bundle)
        assert [model.state for model in device.activator.models()] == ["probation"]
        device.clock.advance(device.config.probation_s - 1)
        device.activator.tick()
        assert [model.state for model in device.activator.models()] == ["probation"]
        device.clock.advance(1)
        device.activator.tick()
        assert [model.state for model in device.activator.models()] == ["serving"]
    assert device.stored() == {made[1].digest, made[2].digest}
    model = device.activator.models()[0]
    assert (model.active.version, model.previous.version if model.previous else "") == ("1.2.0", "1.1.0")


def tampered(files: dict[str, bytes]) -> None:
    files["model.onnx"] = files["model.onnx"][:-1] + b"\0"


def unsigned(files: dict[str, bytes]) -> None:
    del files["model.sig"]


def expired(manifest: Manifest) -> Manifest:
    return replace(manifest, expires_at=datetime.now(UTC) - timedelta(seconds=1))


def elsewhere(manifest: Manifest) -> Manifest:
    return replace(manifest, platform="linux/aarch64" if manifest.platform != "linux/aarch64" else "linux/x86_64")


BAD: dict[str, tuple[Callable[[BundleFactory], Bundle], str, str]] = {
    "tampered": (lambda f: f.scale("1.1.0", 3.0, after=tampered), "verify", "bundle-tampered"),
    "unsigned": (lambda f: f.scale("1.1.0", 3.0, after=unsigned), "verify", "bundle-unsigned"),
    "another key": (lambda f: f.scale("1.1.0", 3.0, key=new_key()), "verify", "bundle-untrusted-key"),
    "expired": (lambda f: f.scale("1.1.0", 3.0, change=expired), "verify", "bundle-expired"),
    "another platform": (lambda f: f.scale("1.1.0", 3.0, change=elsewhere), "verify", "bundle-wrong-platform"),
    "an older release": (lambda f: f.scale("1.1.0", 3.0, release=1), "verify", "bundle-older-release"),
    "the same release, other bytes": (
        lambda f: f.scale("1.1.0", 3.0, release=10_001), "verify", "bundle-older-release",
    ),
    "no zip": (lambda f: replace(f.scale("1.1.0", 3.0), archive=Path(__file__)), "receive", "bundle-archive"),
    "no file": (lambda f: replace(f.scale("1.1.0", 3.0), archive=Path("/nowhere")), "receive", "bundle-archive"),
    "another version": (
        lambda f: replace(b := f.scale("1.1.0", 3.0), manifest=replace(b.manifest, version="1.2.0")), "verify",
        "bundle-wrong-version",
    ),
    "another component": (
        lambda f: replace(b := f.scale("1.1.0", 3.0), manifest=replace(b.manifest, component_name="com.x")), "verify",
        "bundle-wrong-component",
    ),
}  # fmt: skip


@pytest.mark.parametrize(("make", "phase", "code"), BAD.values(), ids=BAD.keys())
def test_a_bad_bundle_is_refused_and_the_old_one_serves_on(
    device: Device, bundles: BundleFactory, make: Callable[[BundleFactory], Bundle], phase: str, code: str
) -> None:
    device.configure(probation_s=0.0)
    good = bundles.scale("1.0.0", 2.0, release=10_001)
    device.hand_over(good)
    bad = make(bundles)
    with pytest.raises(DeviceError) as caught:
        device.hand_over(bad)
    assert caught.value.code == code
    assert caught.value.remedy
    assert device.factor() == 2.0
    assert device.sink.outcomes() == [ACTIVATED, ("refused", phase, code)]
    told = device.sink.events[-1]
    known = ("scale", ModelRef("scale", "1.0.0", good.digest))
    assert (told.model_name, told.serving) == (known if bad.component == good.component else (bad.component, None))
    assert told.candidate is None if code == "bundle-archive" else told.candidate.version == bad.version
    assert device.stored() == {good.digest}
    assert list((device.work / "staging").iterdir()) == []


def test_what_nobody_foresaw_is_told_too_and_changes_nothing(device: Device, bundles: BundleFactory) -> None:
    good = bundles.scale("1.0.0", 2.0)
    device.hand_over(good)

    def broken(folder: Path, manifest: Manifest, allowed_s: float) -> None:
        raise RuntimeError("can't start new thread")

    device.trial = broken
    with pytest.raises(RuntimeError):
        device.hand_over(bundles.scale("1.1.0", 3.0))
    assert device.sink.outcomes()[-1] == ("refused", "trial", "activation-failed")
    assert "can't start new thread" in device.sink.events[-1].message
    assert (device.factor(), device.stored()) == (2.0, {good.digest})


def test_a_failed_trial_leaves_everything_as_it_was(device: Device, bundles: BundleFactory) -> None:
    good = bundles.scale("1.0.0", 2.0)
    device.hand_over(good)

    def failing(folder: Path, manifest: Manifest, allowed_s: float) -> None:
        raise TrialFailedError("golden", TrialCrashedError("it died"))

    device.trial = failing
    with pytest.raises(TrialCrashedError):
        device.hand_over(bundles.scale("1.1.0", 3.0))
    assert device.sink.outcomes()[-1] == ("refused", "golden", "trial-crashed")
    assert (device.factor(), device.stored()) == (2.0, {good.digest})
    device.start()
    assert device.factor() == 2.0


def test_a_deadline_that_passes_during_the_trial_changes_nothing(device: Device, bundles: BundleFactory) -> None:
    device.hand_over(bundles.scale("1.0.0", 2.0))
    device.trial = lambda folder, manifest, allowed_s: device.clock.advance(allowed_s + 1)
    with pytest.raises(ActivationDeadlineError):
        device.hand_over(bundles.scale("1.1.0", 3.0), allowed_s=5.0)
    assert device.factor() == 2.0
    assert device.sink.outcomes()[-1] == ("refused", "trial", "activation-deadline")


def test_too_many_failures_on_probation_bring_the_old_one_back(device: Device, bundles: BundleFactory) -> None:
    device.hand_over(bundles.scale("1.0.0", 2.0))
    device.clock.advance(100)
    device.activator.tick()
    device.hand_over(bundles.scale("1.1.0", 3.0))
    device.fail_requests(failed=1, answered=18)
    device.activator.tick()
    assert device.factor() == 3.0, "19 requests say nothing yet"
    device.fail_requests(failed=1, answered=0)
    device.activator.tick()
    assert device.factor() == 2.0
    assert device.sink.outcomes()[-1] == ("reverted", "probation", "probation-failed")
    assert "2 of 20" in device.sink.events[-1].message


def test_starts_on_probation_are_counted_and_bounded(device: Device, bundles: BundleFactory) -> None:
    device.configure(pending_starts_max=2)
    device.hand_over(bundles.scale("1.0.0", 2.0))
    device.clock.advance(100)
    device.activator.tick()
    device.hand_over(bundles.scale("1.1.0", 3.0))
    for _ in range(2):
        device.start()
        assert device.factor() == 3.0
        assert device.sink.outcomes() == [("restored", "restore", "")]
    device.start()
    assert device.factor() == 2.0
    assert device.sink.outcomes() == [("reverted", "restore", "probation-restarts")]


def test_a_revert_goes_back_and_forth_and_from_probation_to_what_was(device: Device, bundles: BundleFactory) -> None:
    with pytest.raises(UnknownModelError):
        device.activator.revert("scale")
    device.configure(probation_s=0.0)
    device.hand_over(bundles.scale("1.0.0", 2.0))
    with pytest.raises(NothingToRevertError):
        device.activator.revert("scale")
    device.hand_over(bundles.scale("1.1.0", 3.0))
    assert device.activator.revert("scale").outcome == "reverted"
    assert device.factor() == 2.0
    device.activator.revert("scale")
    assert device.factor() == 3.0
    device.configure(probation_s=30.0)
    device.hand_over(bundles.scale("1.2.0", 4.0))
    device.activator.revert("scale")
    assert device.factor() == 3.0


def test_a_revert_does_not_open_the_door_to_older_releases(device: Device, bundles: BundleFactory) -> None:
    device.configure(probation_s=0.0)
    old, new = bundles.scale("1.0.0", 2.0), bundles.scale("1.1.0", 3.0)
    device.hand_over(old)
    device.hand_over(new)
    device.activator.revert("scale")
    with pytest.raises(OlderReleaseError):
        device.hand_over(bundles.scale("1.0.1", 5.0))
    assert device.hand_over(new).outcome == "activated", "the highest release itself is welcome again"


def test_removal_forgets_bundles_but_not_the_floor(device: Device, bundles: BundleFactory) -> None:
    device.configure(probation_s=0.0)
    device.hand_over(bundles.scale("1.1.0", 3.0))
    assert device.activator.deactivate("scale").outcome == "deactivated"
    assert (device.factor(), device.stored()) == (None, set())
    with pytest.raises(OlderReleaseError):
        device.hand_over(bundles.scale("1.0.0", 2.0))
    with pytest.raises(UnknownModelError):
        device.activator.deactivate("scale")


def test_a_component_lets_go_of_its_own_model_alone(device: Device, bundles: BundleFactory) -> None:
    device.configure(probation_s=0.0)
    bundle = bundles.scale("1.1.0", 3.0)
    device.hand_over(bundle)
    with pytest.raises(UnknownModelError, match=bundle.component):
        device.activator.deactivate("scale", "com.edgewright.model.Formerly")
    assert device.factor() == 3.0
    assert device.activator.deactivate("scale", bundle.component).outcome == "deactivated"
    assert device.factor() is None


def test_a_name_belongs_to_the_component_that_brought_it(device: Device, bundles: BundleFactory) -> None:
    device.hand_over(bundles.scale("1.0.0", 2.0))
    with pytest.raises(WrongComponentError, match=r"com\.edgewright\.model\.Scale"):
        device.hand_over(bundles.scale("9.0.0", 9.0, component="com.edgewright.model.Thief"))
    assert device.factor() == 2.0
    assert len(device.stored()) == 1


def test_a_clock_set_back_revives_nothing(device: Device, bundles: BundleFactory) -> None:
    started_at = datetime.now(UTC)
    device.hand_over(bundles.scale("1.0.0", 2.0))
    device.clock.wall = datetime(1970, 1, 1, tzinfo=UTC)
    with pytest.raises(ExpiredError):
        device.hand_over(bundles.scale("1.1.0", 3.0, change=lambda m: replace(m, expires_at=started_at)))
    device.start()
    assert device.factor() == 2.0, "what serves goes on serving, whatever the clock says"


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


def test_a_staged_bundle_that_cannot_be_read_back_is_a_refusal(
    device: Device, bundles: BundleFactory, monkeypatch: pytest.MonkeyPatch
) -> None:
    device.hand_over(bundles.scale("1.0.0", 2.0))
    read = Path.read_bytes

    def reading(path: Path) -> bytes:
        if path.name == "model.sig":
            raise OSError(5, "Input/output error")
        return read(path)

    monkeypatch.setattr(Path, "read_bytes", reading)
    with pytest.raises(StoreError, match="Input/output error"):
        device.hand_over(bundles.scale("1.1.0", 3.0))
    assert device.sink.outcomes()[-1] == ("refused", "verify", "store-failed")
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


def test_two_at_once_queue_up_and_the_deadline_holds_while_waiting(device: Device, bundles: BundleFactory) -> None:

    inside, leave = threading.Event(), threading.Event()

    def slow(folder: Path, manifest: Manifest, allowed_s: float) -> None:
        inside.set()
        leave.wait(10)

    device.trial = slow
    one, two = bundles.scale("1.0.0", 2.0), bundles.scale("1.1.0", 3.0)
    thread = threading.Thread(target=device.hand_over, args=(one,))
    thread.start()
    assert inside.wait(10)
    with pytest.raises(ActivationDeadlineError, match="under way"):
        device.activator.activate(two.archive, Asked(two.component, two.version), 0.05)
    device.activator.tick()
    leave.set()
    thread.join()
    assert device.factor() == 2.0
