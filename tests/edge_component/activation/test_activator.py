"""Changes of what is served: hand-overs, probation, the way back and removal, with the exact outcome reported."""

import pytest

from edge_component.activation.table import WAY_BACK_S
from edge_component.errors import (
    NothingToRevertError,
    OlderReleaseError,
    UnknownModelError,
)
from tests.edge_component.activation.conftest import Device
from tests.edge_component.bundle_factory import BundleFactory


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


def test_a_nucleus_that_rolls_back_gets_the_version_before_for_a_while_and_none_older(
    device: Device, bundles: BundleFactory
) -> None:
    """Java's, after another component of the same deployment has failed."""
    device.configure(probation_s=0.0)
    oldest, old, new = (bundles.scale(f"1.{minor}.0", minor + 1.0) for minor in range(3))
    device.hand_over(oldest)
    device.hand_over(old)
    device.hand_over(new)
    with pytest.raises(OlderReleaseError):
        device.hand_over(oldest)
    device.clock.advance(WAY_BACK_S)
    assert device.hand_over(old).outcome == "activated"
    assert device.factor() == 2.0
    with pytest.raises(OlderReleaseError):
        device.hand_over(oldest)
    device.start()
    assert device.hand_over(old).outcome == "already-active"
    device.hand_over(new)
    device.clock.advance(WAY_BACK_S + 1)
    with pytest.raises(OlderReleaseError):
        device.hand_over(old)
    assert device.factor() == 3.0


def test_a_restart_opens_no_way_back(device: Device, bundles: BundleFactory) -> None:
    device.configure(probation_s=0.0)
    old, new = bundles.scale("1.0.0", 2.0), bundles.scale("1.1.0", 3.0)
    device.hand_over(old)
    device.hand_over(new)
    device.start()
    with pytest.raises(OlderReleaseError):
        device.hand_over(old)


def test_what_is_committed_below_the_floor_is_gone_back_to_from_probation_too(
    device: Device, bundles: BundleFactory
) -> None:
    device.configure(probation_s=0.0)
    old, new, newest = (bundles.scale(f"1.{minor}.0", minor + 1.0) for minor in range(3))
    device.hand_over(old)
    device.hand_over(new)
    device.activator.revert("scale")
    device.configure(probation_s=30.0)
    device.hand_over(newest)
    assert device.hand_over(old).outcome == "activated"
    assert device.factor() == 1.0


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
