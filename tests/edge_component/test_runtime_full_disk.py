"""The runtime as a process on a disk that is full: what served serves on, and the way back is open."""

import os
from pathlib import Path

import pytest

from edge_component.client import Client, RefusedError
from tests.edge_component.bundle_factory import BundleFactory
from tests.edge_component.runtime_process import ROW, StartRuntime, activate
from tests.edge_component.small_disk import FILLER, fill_up, mounted


def test_a_full_disk_refuses_the_new_one_and_the_old_one_serves_on(
    start_runtime: StartRuntime, bundles: BundleFactory, tmp_path: Path
) -> None:
    with mounted(tmp_path / "work") as work:
        runtime = start_runtime(work)
        activate(runtime, bundles.scale("1.0.0", 1.0))
        with pytest.raises(RefusedError) as caught:
            activate(runtime, bundles.scale("1.1.0", 2.0, files={"notes.bin": os.urandom(700_000)}))
        assert caught.value.code == "store-full"
        runtime.kill()
        runtime = start_runtime(runtime.work)
        with Client(runtime.infer_socket) as client:
            assert client.infer("scale", {"x": ROW}).model.version == "1.0.0"
        assert activate(runtime, bundles.scale("1.1.1", 2.0)) == "activated", "a small one fits again"
        assert runtime.terminate() == 0


@pytest.mark.parametrize("probation_s", [0, 600], ids=["committed", "on probation"])
def test_on_a_full_disk_the_way_back_is_open(
    probation_s: int, start_runtime: StartRuntime, bundles: BundleFactory, tmp_path: Path
) -> None:
    config = {"probation_s": probation_s}
    with mounted(tmp_path / "work") as work:
        runtime = start_runtime(work, config=config)
        for minor in (0, 1):
            activate(runtime, bundles.scale(f"1.{minor}.0", minor + 1.0))
        fill_up(work)
        with pytest.raises(RefusedError) as caught:
            activate(runtime, bundles.scale("1.2.0", 3.0))
        assert caught.value.code == "store-full"
        assert runtime.admin.revert("scale").outcome == "reverted"
        fill_up(work)
        with Client(runtime.infer_socket) as client:
            assert client.infer("scale", {"x": ROW}).model.version == "1.0.0"
        for _ in range(12):
            runtime.admin.flush()  # a heartbeat each, to the end of the outbox's last page
        assert "not kept on its disk" in " ".join(runtime.admin.status().reasons)
        runtime.kill()
        runtime = start_runtime(work, config=config)
        assert [model.active.version for model in runtime.admin.status().models] == ["1.0.0"]
        if probation_s == 0:
            for version in ("1.1.0", "1.0.0"):
                assert runtime.admin.revert("scale").outcome == "reverted"
                assert [model.active.version for model in runtime.admin.status().models] == [version]
        assert runtime.admin.command("deactivate", {"model_name": "scale"})["outcome"] == "deactivated"
        (work / FILLER).unlink()
        assert activate(runtime, bundles.scale("1.3.0", 4.0)) == "activated"
        assert runtime.terminate() == 0


def test_a_disk_that_was_full_when_this_version_came_is_told_of_until_there_is_room_for_the_reserve(
    start_runtime: StartRuntime, bundles: BundleFactory, tmp_path: Path
) -> None:
    with mounted(tmp_path / "work") as work:
        runtime = start_runtime(work)
        for minor in (0, 1):
            activate(runtime, bundles.scale(f"1.{minor}.0", minor + 1.0))
        runtime.kill()
        for reserve in work.glob("*.reserve"):  # which versions before this one did not have
            reserve.unlink()
        fill_up(work)
        runtime = start_runtime(work)
        assert "activation.json has no reserve" in " ".join(runtime.admin.status().reasons)
        (work / FILLER).unlink()
        assert runtime.admin.revert("scale").outcome == "reverted"
        assert "has no reserve" not in " ".join(runtime.admin.status().reasons)
        fill_up(work)
        assert runtime.admin.command("deactivate", {"model_name": "scale"})["outcome"] == "deactivated"
        assert runtime.terminate() == 0
