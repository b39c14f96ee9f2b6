"""Hand-overs that are refused: each by what is wrong with it, with the exact phase and code reported; the old one serves on."""

import os
import threading
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from functools import partial
from pathlib import Path

import pytest

from edge_component.bundles.verification import Asked
from edge_component.contracts.heartbeat import ModelRef
from edge_component.contracts.manifest import Manifest
from edge_component.errors import (
    ActivationDeadlineError,
    BundleError,
    DeviceError,
    ExpiredError,
    TrialCrashedError,
    WrongComponentError,
)
from edge_component.inference.trial import TrialFailedError
from tests.edge_component.activation.conftest import Device
from tests.edge_component.bundle_factory import Bundle, BundleFactory, new_key

ACTIVATED = ("activated", "switch", "")


def tampered(files: dict[str, bytes]) -> None:
    files["model.onnx"] = files["model.onnx"][:-1] + b"\0"


def longer(files: dict[str, bytes]) -> None:
    files["model.onnx"] += b"\0"


def smuggled(files: dict[str, bytes]) -> None:
    files["extra.bin"] = b"hidden"


def unsigned(files: dict[str, bytes]) -> None:
    del files["model.sig"]


def expired(manifest: Manifest) -> Manifest:
    return replace(manifest, expires_at=datetime.now(UTC) - timedelta(seconds=1))


def elsewhere(manifest: Manifest) -> Manifest:
    return replace(manifest, platform="linux/aarch64" if manifest.platform != "linux/aarch64" else "linux/x86_64")


BAD: dict[str, tuple[Callable[[BundleFactory], Bundle], str, str]] = {
    "tampered": (lambda f: f.scale("1.1.0", 3.0, after=tampered), "verify", "bundle-tampered"),
    "a file more": (lambda f: f.scale("1.1.0", 3.0, after=smuggled), "verify", "bundle-tampered"),
    "a file of another size": (lambda f: f.scale("1.1.0", 3.0, after=longer), "verify", "bundle-tampered"),
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


KNOWN_BEFOREHAND = {name: make for name, (make, phase, _) in BAD.items() if phase == "verify" and name != "tampered"}


@pytest.mark.parametrize("make", KNOWN_BEFOREHAND.values(), ids=KNOWN_BEFOREHAND.keys())
def test_what_its_small_files_refuse_is_never_written_to_the_disk(
    device: Device, bundles: BundleFactory, monkeypatch: pytest.MonkeyPatch, make: Callable[[BundleFactory], Bundle]
) -> None:
    device.configure(probation_s=0.0)
    device.hand_over(bundles.scale("1.0.0", 2.0, release=10_001))
    bad, really_open, written = make(bundles), os.open, []

    def opening(path: object, flags: int, *rest: int, **others: int) -> int:
        if flags & os.O_CREAT and "staging" in str(path):
            written.append(path)
        return really_open(path, flags, *rest, **others)  # type: ignore[arg-type]

    monkeypatch.setattr(os, "open", opening)
    with pytest.raises(BundleError):
        device.hand_over(bad)
    assert written == []


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
    for change in (partial(device.activator.revert, "scale"), partial(device.activator.deactivate, "scale")):
        with pytest.raises(ActivationDeadlineError, match="under way"):
            change(allowed_s=0.05)
    device.activator.tick()
    leave.set()
    thread.join()
    assert device.factor() == 2.0
