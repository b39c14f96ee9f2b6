"""A stream that is held for long: the device says so for as long as it lasts, and no longer."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from edge_component.streams.conductor import Streams
from tests.edge_component.streams.test_pipeline import FOLDER, LOCAL_OUT, Bench, eventually


@pytest.fixture
def bench(tmp_path: Path) -> Iterator[Bench]:
    bench = Bench(tmp_path)
    yield bench
    bench.models.gate.set()


def test_a_hold_that_does_not_pass_is_a_problem_of_the_devices_until_it_does(bench: Bench) -> None:
    """A device whose results go nowhere looked well to the fleet: its log and its metrics alone knew."""
    streams = Streams(bench.make)
    streams.follow({"streams": {"gate": {"model": "scale", "source": {**FOLDER, "path": "later"}, "sink": LOCAL_OUT}}})
    streams.start()
    try:
        eventually(lambda: "later: No such file" in "".join(streams.problems()), "the source is a problem")
        bench.nucleus.set_connected(False)
        (bench.folder / "later").mkdir()
        (bench.folder / "later" / "a.json").write_text("[1, 2, 3]")
        eventually(lambda: "stream gate: its sink is held: " in "".join(streams.problems()), "the sink is a problem")
        assert "its source" not in "".join(streams.problems())
        bench.nucleus.set_connected(True)
        eventually(lambda: streams.reports()[0].counts.delivered_count == 1, "goes on")
        assert streams.problems() == ()
    finally:
        streams.stop()
