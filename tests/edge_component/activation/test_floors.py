"""What a trusted signer has got wrong, a release or a time beyond all others, and the operator's way out of it."""

import os
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest

from edge_component.activation.journal import COMMITTED_FILE, JOURNAL_FILE
from edge_component.contracts.codec import INTEGER_MAX
from edge_component.contracts.manifest import Manifest
from edge_component.errors import ExpiredError, NothingToLowerError, OlderReleaseError, StoreFullError
from tests.edge_component.activation.conftest import Device
from tests.edge_component.bundle_factory import COMPONENT, BundleFactory

FAR = datetime(9998, 1, 1, tzinfo=UTC)


def from_afar(manifest: Manifest) -> Manifest:
    return replace(manifest, created_at=FAR, expires_at=FAR + timedelta(days=30))


@pytest.fixture
def at_once(device: Device) -> Device:
    device.configure(probation_s=0.0)
    return device


def test_what_is_offered_during_a_probation_is_held_against_what_is_on_it(
    device: Device, bundles: BundleFactory
) -> None:
    """The offer commits it: what is older than it, and never served here, must not slip in before it has."""
    device.hand_over(bundles.scale("1.0.0", 2.0))
    device.clock.advance(100)
    device.activator.tick()
    device.hand_over(bundles.scale("1.2.0", 4.0))
    with pytest.raises(OlderReleaseError):
        device.hand_over(bundles.scale("1.1.0", 3.0))
    assert [model.state for model in device.activator.models()] == ["probation"], "and a refused offer ends none"
    device.fail_requests(failed=20, answered=0)
    device.activator.tick()
    assert device.factor() == 2.0
    assert device.hand_over(bundles.scale("1.1.0", 3.0)).outcome == "activated"


def test_from_a_probation_there_is_no_way_back_by_two(at_once: Device, bundles: BundleFactory) -> None:
    oldest, old, new = (bundles.scale(f"1.{minor}.0", minor + 1.0) for minor in range(3))
    at_once.hand_over(oldest)
    at_once.configure(probation_s=30.0)
    for bundle in (old, new):
        at_once.clock.advance(100)
        at_once.activator.tick()
        at_once.hand_over(bundle)
    with pytest.raises(OlderReleaseError):
        at_once.hand_over(oldest)
    assert at_once.hand_over(old).outcome == "activated"


def test_a_release_beyond_all_others_is_undone_by_going_back_and_lowering_the_floor(
    at_once: Device, bundles: BundleFactory
) -> None:
    at_once.hand_over(bundles.scale("1.0.0", 2.0, release=7))
    at_once.hand_over(bundles.scale("1.1.0", 3.0, release=INTEGER_MAX))
    with pytest.raises(NothingToLowerError):
        at_once.activator.lower_floor(COMPONENT)
    at_once.activator.revert("scale")
    with pytest.raises(OlderReleaseError):
        at_once.hand_over(bundles.scale("1.2.0", 4.0, release=8))
    told = at_once.activator.lower_floor(COMPONENT)
    assert (told.outcome, told.phase, told.code, told.model_name) == ("floor-lowered", "floor", "", COMPONENT)
    assert f"release {INTEGER_MAX}" in told.message
    assert "release 7" in told.message
    assert at_once.sink.events[-1] == told
    at_once.start()
    with pytest.raises(OlderReleaseError):
        at_once.hand_over(bundles.scale("0.9.0", 4.0, release=6))
    at_once.hand_over(bundles.scale("1.2.0", 4.0, release=8))
    assert at_once.factor() == 4.0


def test_of_two_names_that_a_component_has_brought_the_higher_release_counts(
    at_once: Device, bundles: BundleFactory
) -> None:
    at_once.hand_over(bundles.scale("1.0.0", 2.0, release=7, name="zebra"))
    at_once.hand_over(bundles.scale("1.1.0", 2.0, release=8, name="ant"))
    at_once.hand_over(bundles.scale("1.2.0", 2.0, release=9, name="ant"))
    at_once.activator.revert("ant")
    assert "are release 8," in at_once.activator.lower_floor(COMPONENT).message


def test_of_a_component_that_has_nothing_here_any_more_the_floor_goes(at_once: Device, bundles: BundleFactory) -> None:
    other = "com.edgewright.model.Other"
    at_once.hand_over(bundles.scale("1.0.0", 2.0, release=INTEGER_MAX))
    at_once.hand_over(bundles.scale("1.0.0", 2.0, release=5, name="other", component=other))
    at_once.activator.deactivate("scale")
    at_once.activator.deactivate("other")
    at_once.activator.lower_floor(COMPONENT)
    at_once.hand_over(bundles.scale("1.0.0", 2.0, release=1))
    with pytest.raises(OlderReleaseError):
        at_once.hand_over(bundles.scale("1.0.0", 2.0, release=4, name="other", component=other))


def test_a_time_far_beyond_a_clock_that_may_be_right_makes_nothing_expired(
    at_once: Device, bundles: BundleFactory
) -> None:
    at_once.hand_over(bundles.scale("1.0.0", 2.0, change=from_afar))
    at_once.start()
    at_once.hand_over(bundles.scale("1.1.0", 3.0))
    assert at_once.factor() == 3.0


def test_a_clock_that_lags_takes_what_was_signed_meanwhile(at_once: Device, bundles: BundleFactory) -> None:
    """A device without a battery behind its clock begins where it was switched off, which looks right."""
    at_once.clock.wall -= timedelta(days=60)
    at_once.hand_over(bundles.scale("1.0.0", 2.0))
    assert at_once.factor() == 2.0


def test_a_time_that_was_believed_before_the_clock_was_set_is_undone_once_it_is(
    at_once: Device, bundles: BundleFactory
) -> None:
    set_at = at_once.clock.wall
    at_once.clock.wall = datetime(1970, 1, 1, tzinfo=UTC)
    at_once.hand_over(bundles.scale("1.0.0", 2.0, change=from_afar))
    with pytest.raises(NothingToLowerError):
        at_once.activator.lower_floor(COMPONENT)
    at_once.clock.wall = set_at
    with pytest.raises(ExpiredError, match="a signed bundle has named 9998") as caught:
        at_once.hand_over(bundles.scale("1.1.0", 3.0))
    assert "lower-floor" in caught.value.remedy
    assert "9998" in at_once.activator.lower_floor(COMPONENT).message
    at_once.start()
    at_once.hand_over(bundles.scale("1.1.0", 3.0))
    assert at_once.factor() == 3.0


@pytest.mark.parametrize("refused", [JOURNAL_FILE, COMMITTED_FILE])
def test_a_floor_that_cannot_be_written_down_twice_is_not_lowered(
    at_once: Device, bundles: BundleFactory, monkeypatch: pytest.MonkeyPatch, refused: str
) -> None:
    """The next start raises floors to the higher of the two files."""
    at_once.hand_over(bundles.scale("1.0.0", 2.0, release=7))
    at_once.activator.deactivate("scale")
    really_open = os.open

    def full(path: object, *rest: int) -> int:
        if str(path).endswith(f".{refused}.new"):
            raise OSError(28, "No space left on device")
        return really_open(path, *rest)  # type: ignore[arg-type]

    with monkeypatch.context() as patched:
        patched.setattr(os, "open", full)
        with pytest.raises(StoreFullError):
            at_once.activator.lower_floor(COMPONENT)
    with pytest.raises(OlderReleaseError):
        at_once.hand_over(bundles.scale("0.9.0", 4.0, release=6))
    at_once.start()
    with pytest.raises(OlderReleaseError):
        at_once.hand_over(bundles.scale("0.9.0", 4.0, release=6))
