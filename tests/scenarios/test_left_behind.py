"""A model that every device of a group refuses does not fail the deployments of others to that group."""

from pathlib import Path

import numpy as np
import pytest

from tests.cloud.publishing.conftest import write_compilation
from tests.scenarios.installation import LINEAR, Installation, Station, wait_for

pytestmark = pytest.mark.slow

OTHER = "com.edgewright.model.Other"


def publish_other(installation: Installation, version: str) -> None:
    """Another model, which shares nothing with ``linear`` but the device."""
    folder = write_compilation(installation.world.folder / f"other-{version}", slope=5.0, model_name="other")
    installation.world.edgewright("publish", str(folder), "--version", version)


def publish_bad(installation: Installation) -> str:
    """A next version of ``linear`` whose golden test no device passes."""
    folder = installation.compile(installation.next_version())
    spoil(folder / "golden.npz")
    return installation.publish(folder=folder)


def spoil(golden: Path) -> None:
    with np.load(golden) as archive:
        arrays = dict(archive)
    arrays["output:y"] = arrays["output:y"] + 1
    np.savez(golden, **arrays)


def test_the_next_model_is_deployed_without_what_was_refused(installation: Installation, station: Station) -> None:
    good = station.serving()
    for version in ("1.0.0", "1.1.0"):
        publish_other(installation, version)
    station.deploy("1.0.0", "--wait", model="other")
    bad = publish_bad(installation)
    station.fail_to_change_to(bad)
    wait_for(lambda: station.in_the_cloud()["status"] == "failed", "the refusal to be known")
    told = station.deploy("1.1.0", "--wait", model="other")
    assert [device["status"] for device in told["devices"]] == ["SUCCEEDED"]
    assert told["deployments"][0]["refused"] == [
        {"component_name": LINEAR, "refused_version": bad, "carried_version": good}
    ]
    assert station.serving() == good
    assert station.log(LINEAR).splitlines()[-1] == f"edgewright: {LINEAR} {good} already-active"
    wait_for(lambda: station.in_the_cloud()["status"] == "ok", "all to be well again")
    wait_for(lambda: refused_of(station) == bad, "what was left behind to be known")
    wanted = {one["component_name"]: one["version"] for one in station.in_the_cloud()["wanted"]}
    assert (wanted[LINEAR], wanted[OTHER]) == (good, "1.1.0")
    told_of = installation.world.edgewright("get", "events", "--kind", "deployment")
    assert any(f"{LINEAR} {bad} failed on every device of {station.group}" in event["sentence"] for event in told_of)


def test_what_was_left_behind_can_be_tried_again_and_its_successor_takes_its_place(
    installation: Installation, station: Station
) -> None:
    good = station.serving()
    bad = publish_bad(installation)
    for _ in range(2):
        station.fail_to_change_to(bad)
        told = station.deploy("1.1.0", "--wait", model="other")
        assert told["deployments"][0]["is_new"], "the same wish again heals what the other broke"
        assert station.serving() == good
    mended = installation.publish()
    station.change_to(mended)
    assert station.serving() == mended
    wait_for(lambda: refused_of(station) == "", "the reconciler to see that nothing is left behind")


def refused_of(station: Station) -> str:
    wanted = {one["component_name"]: one for one in station.in_the_cloud()["wanted"]}
    return str(wanted[LINEAR]["refused_version"])
