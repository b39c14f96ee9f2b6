"""What is decided from counts against what NumPy and SciPy say of the raw values: the whole way, the recorder's included.

Values are counted by the device's own code, window by window, sent as the contract's bytes, added up, and judged.
"""

from collections.abc import Callable

import numpy as np
import pytest
from hypothesis import given, settings, strategies as st

from cloud.compilation.baseline import column
from cloud.drift.assembly import WholeWindow, observed
from cloud.drift.decision import decide
from cloud.drift.judgement import ColumnJudgement, Observed
from cloud.drift.report import statistics
from edge_component.contracts.baseline import Baseline, BaselineColumn
from edge_component.contracts.codec import from_bytes, to_bytes
from edge_component.contracts.heartbeat import ModelRef
from edge_component.contracts.telemetry import TelemetryWindow
from edge_component.telemetry.columns import WatchPlan
from edge_component.telemetry.histogram import baseline_bins, count_values
from edge_component.telemetry.window import Span, WindowCounts, close_window, split_window
from tests.cloud.fleet.samples import T0

stats = pytest.importorskip("scipy.stats", reason="scipy comes with scikit-learn, the [training] extra")

REF = ModelRef("m", "1.0.0", "a" * 64)
Draw = Callable[[np.random.Generator, int], np.ndarray]


def sent(baseline: Baseline, values: np.ndarray) -> Observed:
    """Seven windows of a device, of unequal sizes, one of them empty, as the cloud adds them up."""
    cuts = sorted(np.random.default_rng(5).integers(0, len(values), 5).tolist())
    parts: list[TelemetryWindow] = []
    for index, piece in enumerate([*np.split(values, cuts), values[:0]]):
        counts = WindowCounts(len(piece), features={"f": count_values(piece, baseline_bins(baseline.features[0]))})
        closed = close_window(WatchPlan(REF, "b" * 64), counts, Span(T0, 1000), f"w{index}")
        bodies = [to_bytes(part.to_document()) for part in split_window(closed, 4_500)]
        parts.extend(TelemetryWindow.read(from_bytes(body, 5_000)) for body in bodies)
    windows = [WholeWindow("EWR", part.window_id, T0, T0, part.record_count) for part in parts]
    return observed(windows, parts)


def judged(baseline: Baseline, values: np.ndarray, peers: np.ndarray | None = None) -> ColumnJudgement:
    beside = None if peers is None else sent(baseline, peers)
    (judgement,) = decide(sent(baseline, values), baseline, beside).columns
    return judgement


def baseline_of(values: np.ndarray) -> Baseline:
    return Baseline("m", len(values), (column("f", values),))


def placed(values: np.ndarray) -> np.ndarray:
    """For SciPy: what is missing lies below everything else, as the rule has it."""
    return np.where(np.isfinite(values), values, -np.inf)


def constant(value: float) -> Draw:
    return lambda _, count: np.full(count, value)


def normal(mean: float = 0.0, deviation: float = 1.0) -> Draw:
    return lambda random, count: random.normal(mean, deviation, count)


def mostly(value: float, other: Draw, share: float) -> Draw:
    return lambda random, count: np.where(random.random(count) < share, value, other(random, count))


def levels(*values: float) -> Draw:
    return lambda random, count: random.choice(values, count)


PAIRS: list[tuple[str, Draw, Draw]] = [
    ("nothing changed", normal(), normal()),
    ("a shift", normal(), normal(0.3)),
    ("far beyond the range", normal(), normal(50)),
    ("wider, to both sides", normal(), normal(0, 8)),
    ("a constant as before", constant(0.7), constant(0.7)),
    ("a constant that fell", constant(0.7), constant(-5.0)),
    ("a constant that rose", constant(0.7), constant(0.8)),
    ("a constant that came alive", constant(0.0), normal()),
    ("what was alive is stuck", normal(), constant(0.1)),
    ("stuck in one in ten", normal(), mostly(0.0, normal(), 0.1)),
    ("zeros that became negative", mostly(0.0, lambda r, n: r.gamma(2, 1, n), 0.8),
     mostly(-1.0, lambda r, n: r.gamma(2, 1, n), 0.8)),
    ("between two levels", levels(0, 1), levels(0, 0.5)),
    ("another level above", levels(0, 1), levels(0, 1, 2)),
    ("all missing, as ever", constant(np.nan), constant(np.nan)),
    ("all missing now", normal(), constant(np.nan)),
    ("no longer missing", constant(np.nan), normal()),
    ("a fifth missing now", normal(), mostly(np.nan, normal(), 0.2)),
    ("fewer missing, and the rest below the range", mostly(np.nan, normal(), 0.5), mostly(np.nan, constant(-9.0), 0.2)),
    ("infinite", normal(), mostly(np.inf, normal(), 0.3)),
    ("whole numbers beyond 2**53", lambda r, n: r.integers(2**60, 2**60 + 10**6, n), lambda r, n: r.integers(2**60, 2**60 + 10**6, n)),
    ("as large as can be", lambda r, n: r.uniform(-1, 1, n) * 1.7e308, lambda r, n: r.uniform(0, 1, n) * 1.7e308),
]  # fmt: skip


@pytest.mark.parametrize(("before", "now"), [pair[1:] for pair in PAIRS], ids=[pair[0] for pair in PAIRS])
def test_the_distance_is_scipys_of_the_raw_values_up_to_one_bin(before: Draw, now: Draw) -> None:
    random = np.random.default_rng(20260101)
    known, values = before(random, 6_000), now(random, 900)
    mine = judged(baseline_of(known), values)
    theirs = stats.ks_2samp(placed(values.astype(float)), placed(known.astype(float)), method="asymp")
    assert theirs.statistic - 1 / 32 <= mine.absolute.statistic <= theirs.statistic + 1e-9
    if theirs.statistic > 0.2:
        assert mine.absolute_level == "alarm"
    assert (mine.absolute.p_value < 1e-6) == (theirs.pvalue < 1e-6)


@settings(max_examples=200)
@given(st.data(), st.sampled_from([0.0, 1.0, 64.0]), st.integers(0, 2**32 - 1))
def test_the_distance_is_never_more_than_that_of_the_raw_values(data: st.DataObject, centre: float, seed: int) -> None:
    """Whatever a baseline's edges are: those of a training script of one's own, with ties at its ends, among them."""
    random = np.random.default_rng(seed)
    known = np.round(random.normal(centre, data.draw(st.sampled_from([0.3, 2.0, 40.0])), 300))
    values = np.round(random.normal(centre + data.draw(st.integers(-3, 3)), 2.0, 250))
    known[random.random(300) < data.draw(st.sampled_from([0.0, 0.4]))] = np.nan
    values[random.random(250) < data.draw(st.sampled_from([0.0, 0.3]))] = np.nan
    own = column("f", known)
    finite = known[np.isfinite(known)]
    edges = tuple(np.quantile(finite, np.arange(1, 64) / 64, method="inverted_cdf").tolist())
    counts = np.bincount(np.searchsorted(edges, finite, side="left"), minlength=64).tolist()
    tied = BaselineColumn("f", edges, tuple(counts), own.minimum, own.maximum, own.nan_count)
    theirs = stats.ks_2samp(placed(values), placed(known), method="asymp").statistic
    peers = np.round(random.normal(centre + data.draw(st.integers(-3, 3)), 2.0, 250))
    apart = stats.ks_2samp(placed(values), placed(peers), method="asymp").statistic
    for each in (own, tied):
        mine = judged(Baseline("m", 300, (each,)), values, peers)
        assert mine.absolute.statistic <= theirs + 1e-9
        assert mine.relative.statistic <= apart + 1e-9


def raw_stability(known: np.ndarray, values: np.ndarray) -> float:
    """PSI as it is customarily computed: by the baseline's deciles, and what it never had before them by itself."""
    lowest = known[np.isfinite(known)].astype(float).min(initial=np.inf)
    edges = np.unique(np.quantile(known[np.isfinite(known)], np.arange(1, 10) / 10, method="inverted_cdf"))

    def shares(of: np.ndarray) -> np.ndarray:
        finite = of[np.isfinite(of)]
        known_counts = np.bincount(
            np.searchsorted(edges, finite[finite >= lowest], side="left"), minlength=len(edges) + 1
        )
        return np.maximum(np.array([len(of) - known_counts.sum(), *known_counts]) / len(of), 1e-4)

    expected, actual = shares(known), shares(values)
    return float(((actual - expected) * np.log(actual / expected)).sum())


STABLE = [pair for pair in PAIRS if pair[0] in {
    "nothing changed", "a shift", "a constant as before", "a constant that fell", "a constant that rose",
    "zeros that became negative", "another level above", "a fifth missing now", "all missing now",
}]  # fmt: skip


@pytest.mark.parametrize(("before", "now"), [pair[1:] for pair in STABLE], ids=[pair[0] for pair in STABLE])
def test_the_stability_index_is_numpys_of_the_raw_values(before: Draw, now: Draw) -> None:
    random = np.random.default_rng(20260103)
    known, values = before(random, 6_000), now(random, 900)
    mine = judged(baseline_of(known), values)
    assert mine.stability_index == pytest.approx(raw_stability(known, values), rel=0.05, abs=0.005)
    assert (mine.chi_squared.p_value < 1e-6) == (mine.absolute.statistic > 0.1)


TIED = BaselineColumn("f", (0.0,) * 50 + tuple(range(1, 14)), (5_100, *[0] * 49, *[64] * 14), 0.0, 20.0)
"""Of a training script of one's own: the first value fills bins, and none is left for what lies below it."""


def test_what_falls_below_a_first_value_that_fills_bins_is_seen() -> None:
    baseline = Baseline("m", 6_000, (TIED,))
    fell, stayed = np.full(500, -5.0), np.full(500, 0.0)
    assert judged(baseline, fell).absolute_level == "alarm"
    assert judged(baseline, stayed).absolute.statistic == pytest.approx(0.15, abs=0.01)
    assert judged(baseline, fell, stayed).relative.statistic == 1
    assert judged(baseline, fell, fell).relative.statistic == 0
    assert judged(baseline, stayed, fell).peers_level == "alarm", "it is no fault of this device that it differs"


@pytest.mark.parametrize(("before", "now"), [pair[1:] for pair in PAIRS], ids=[pair[0] for pair in PAIRS])
def test_the_report_counts_exactly_and_can_always_be_written(before: Draw, now: Draw) -> None:
    random = np.random.default_rng(20260102)
    known, values = before(random, 6_000), now(random, 900)
    baseline = baseline_of(known)
    (entry,) = statistics(sent(baseline, values), baseline)["features"]
    numbers = entry["numerical_statistics"]
    finite = values[np.isfinite(values)]
    assert numbers["common"] == {"num_present": finite.size, "num_missing": 900 - finite.size}
    assert to_bytes(entry)
