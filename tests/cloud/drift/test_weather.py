"""The rule on a year of real windows: three stations, half-months, the model of January and February left frozen.

What is asserted is what holds for any sensible training run; the table is printed, not forced (``-s`` shows it).
"""

import sys
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from types import ModuleType

import numpy as np
import pytest

from cloud.drift.decision import decide, streaks_of
from cloud.drift.judgement import DriftDecision, Observed
from cloud.drift.performance import estimate
from cloud.settings import checkout_root
from edge_component.contracts.baseline import Baseline
from tests.cloud.drift.samples import counted

stats = pytest.importorskip("scipy.stats", reason="scipy comes with scikit-learn, the [training] extra")
pytest.importorskip("skl2onnx", reason="the weather example needs the [training] extra")

WEATHER = checkout_root() / "models" / "weather"
YEAR = 2013


@dataclass(frozen=True)
class Row:
    """One station's half-month."""

    month: int
    half: int
    station: str
    decision: DriftDecision
    confidence_only: float
    realised: float


@pytest.fixture(scope="module")
def weather() -> Iterator[dict[str, ModuleType]]:
    """The example's own modules, which are scripts and not a package."""
    import importlib

    names = ("training", "data", "judging", "artifacts")
    sys.path.insert(0, str(WEATHER))
    try:
        yield {name: importlib.import_module(name) for name in names}
    finally:
        sys.path.remove(str(WEATHER))
        for name in names:
            sys.modules.pop(name, None)


@pytest.fixture(scope="module")
def year(weather: dict[str, ModuleType]) -> list[Row]:
    training, data, judging, artifacts = (weather[name] for name in ("training", "data", "judging", "artifacts"))
    chosen, stations = training.Hyperparameters(), data.read_package()
    everything = data.all_examples(stations)
    known = everything.where(everything.hours < data.hour_of(datetime(YEAR, 3, 1, tzinfo=UTC)))
    split = judging.split_by_time(known, chosen.holdout_days)
    pipeline = training.fit(split.training, chosen)

    def low(features: np.ndarray) -> np.ndarray:
        return pipeline.predict_proba(features)[:, 1]

    score = judging.score(split.held_out.label, low(split.held_out.features))
    judged = artifacts.Judged(
        None, split.training, split.held_out, low(split.held_out.features),
        {"log_loss": score.log_loss, "auc": score.auc},
    )  # fmt: skip
    baseline = Baseline.read(artifacts.baseline_document(judged))
    by_station = {station.station: data.examples(station).labelled() for station in stations}

    def observed(features: np.ndarray) -> Observed:
        columns = {c.name: counted(c, features[:, i].astype(np.float32)) for i, c in enumerate(baseline.features)}
        output = baseline.outputs[0]
        return Observed(len(features), columns, {output.name: counted(output, low(features).astype(np.float32))})

    rows: list[Row] = []
    streaks: dict[str, object] = {}
    for month in range(3, 13):
        for half in (1, 2):
            starts_at = datetime(YEAR, month, 1 if half == 1 else 16, tzinfo=UTC)
            ends_at = (
                datetime(YEAR, month, 16, tzinfo=UTC)
                if half == 1
                else datetime(YEAR + month // 12, month % 12 + 1, 1, tzinfo=UTC)
            )
            cut = {
                name: each.where((each.hours >= data.hour_of(starts_at)) & (each.hours < data.hour_of(ends_at)))
                for name, each in by_station.items()
            }
            for name, own in cut.items():
                peers = observed(np.concatenate([cut[other].features for other in cut if other != name]))
                mine = observed(own.features)
                decision = decide(mine, baseline, peers, streaks.get(name, {}))  # type: ignore[arg-type]
                streaks[name] = streaks_of(decision)
                plain = estimate(baseline.outputs[0], mine.outputs[baseline.outputs[0].name])
                assert plain is not None
                realised = judging.score(own.label, low(own.features)).log_loss
                rows.append(Row(month, half, name, decision, plain.window.log_loss, realised))
    return rows


def test_warm_months_are_flagged_with_a_drop_and_march_is_not(
    year: list[Row], capsys: pytest.CaptureFixture[str]
) -> None:
    with capsys.disabled():
        print("\nmonth half station level action  log loss: estimated, by confidence only, realised")
        for row in year:
            performance = row.decision.performance
            assert performance is not None
            print(
                f"{row.month:5d} {row.half:4d} {row.station:7s} {row.decision.level:5s} {row.decision.action:7s} "
                f"{performance.window.log_loss:.3f} {row.confidence_only:.3f} {row.realised:.3f}"
            )
        print(next(row.decision.sentence for row in year if row.decision.action == "retrain"))
    assert all(row.decision.action == "none" for row in year if row.month == 3)
    assert all(row.decision.action == "retrain" for row in year if row.month in {7, 8})


def test_the_estimate_follows_what_came_better_than_confidence_alone(
    year: list[Row], capsys: pytest.CaptureFixture[str]
) -> None:
    estimated = [row.decision.performance.window.log_loss for row in year if row.decision.performance]
    realised = [row.realised for row in year]
    with_support = stats.spearmanr(estimated, realised).statistic
    alone = stats.spearmanr([row.confidence_only for row in year], realised).statistic
    with capsys.disabled():
        print(f"\nSpearman of estimated and realised log loss: {with_support:.2f}; by confidence alone: {alone:.2f}")
    assert with_support > max(alone, 0.5)
