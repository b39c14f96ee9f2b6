"""The rule, case by case: what is too little, what must last, what needs a drop, and what is the device's own fault."""

import json
from dataclasses import replace

import numpy as np
import pytest

from cloud.drift.decision import decide, dropped, streaks_of
from cloud.drift.documents import streaks_from, to_document
from cloud.drift.judgement import DriftDecision, DriftLimits, Observed, Streak
from cloud.drift.performance import Support, estimate
from cloud.drift.report import statistics, violations
from edge_component.contracts.baseline import Baseline
from edge_component.contracts.telemetry import ColumnCounts
from tests.cloud.drift.samples import counted, simple_baseline, window

SHIFTED = {"f1": 1.0}
UNSURE = 0.0
"""A centre of scores at which the model is as unsure as can be."""


@pytest.fixture(scope="module")
def baseline() -> Baseline:
    return simple_baseline(np.random.default_rng(10))


def row_of(
    baseline: Baseline,
    count: int = 3,
    shifts: dict[str, float] | None = None,
    centre: float = -3.0,
    peers: dict[str, float] | None = None,
) -> DriftDecision:
    random = np.random.default_rng(11)
    decision: DriftDecision | None = None
    for _ in range(count):
        beside = window(baseline, random, 800, peers) if peers is not None else None
        before = streaks_of(decision) if decision else {}
        decision = decide(window(baseline, random, 400, shifts, centre), baseline, beside, before)
    assert decision is not None
    return decision


def test_a_device_that_lies_about_its_counts_makes_a_report_all_the_same(baseline: Baseline) -> None:
    column = ColumnCounts((2**64, *[2**53 - 1] * 63), nan_count=2**64)
    lied = Observed(400, {each.name: column for each in baseline.features}, {})
    assert json.dumps(statistics(lied, baseline), allow_nan=False)
    assert decide(lied, baseline).columns[0].absolute.statistic > 0


CASES = [
    ("no drift", {}, "quiet", "none"),
    ("drift, not yet in a row", {"shifts": SHIFTED, "centre": UNSURE, "count": 2}, "quiet", "none"),
    ("drift that lasts, performance holds", {"shifts": SHIFTED}, "alarm", "watch"),
    ("small drift that lasts, performance drops", {"shifts": {"f1": 0.22}, "centre": UNSURE}, "warn", "watch"),
    ("performance drops without drift", {"centre": UNSURE}, "quiet", "none"),
    ("drift that lasts, performance drops", {"shifts": SHIFTED, "centre": UNSURE}, "alarm", "retrain"),
    ("the same, and peers drift too", {"shifts": SHIFTED, "centre": UNSURE, "peers": SHIFTED}, "alarm", "retrain"),
    ("the same, but peers do not", {"shifts": SHIFTED, "centre": UNSURE, "peers": {}}, "alarm", "inspect"),
    ("drifts alone, performance holds", {"shifts": SHIFTED, "peers": {}}, "alarm", "inspect"),
    ("differs from drifting peers only", {"peers": SHIFTED}, "alarm", "inspect"),
]


@pytest.mark.parametrize(("how", "level", "action"), [case[1:] for case in CASES], ids=[case[0] for case in CASES])
def test_each_case_of_the_rule(baseline: Baseline, how: dict[str, object], level: str, action: str) -> None:
    decision = row_of(baseline, **how)  # type: ignore[arg-type]
    assert (decision.level, decision.action) == (level, action)
    assert decision.sentence.count(". ") == 1
    assert decision.sentence.endswith(".")


def test_the_sentence_names_features_distances_and_the_drop(baseline: Baseline) -> None:
    decision = row_of(baseline, shifts=SHIFTED, centre=UNSURE)
    farthest = decision.columns[0]
    assert farthest.name == "f1"
    assert f"f1 (D = {farthest.absolute.statistic:.2f}) drifted from the baseline" in decision.sentence
    assert "estimated performance dropped (log loss" in decision.sentence
    assert decision.sentence.endswith("Retrain.")


def test_too_few_records_are_no_judgement(baseline: Baseline) -> None:
    few = window(baseline, np.random.default_rng(12), 199, SHIFTED)
    decision = decide(few, baseline)
    assert (decision.level, decision.action, decision.columns) == ("insufficient", "none", ())
    assert "199 records are too few" in decision.sentence


def test_too_few_peers_are_no_peers(baseline: Baseline) -> None:
    random = np.random.default_rng(13)
    decision = decide(window(baseline, random), baseline, window(baseline, random, 199, SHIFTED))
    assert decision.peer_record_count == 0
    assert all(column.relative.p_value == 1 for column in decision.columns)


def test_a_quiet_window_breaks_the_row(baseline: Baseline) -> None:
    random = np.random.default_rng(14)
    two = row_of(baseline, 2, SHIFTED)
    quiet = decide(window(baseline, random), baseline, streaks=streaks_of(two))
    assert all(column.absolute_streak == Streak(0, 0) for column in quiet.columns)
    again = decide(window(baseline, random, 400, SHIFTED), baseline, streaks=streaks_of(quiet))
    assert again.level == "quiet"
    assert "not yet 3 in a row" in again.sentence


def test_a_sensor_that_goes_silent_is_drift(baseline: Baseline) -> None:
    random = np.random.default_rng(15)
    seen = window(baseline, random)
    values = random.normal(size=400)
    values[:100] = np.nan
    features = {**seen.features, "f2": counted(baseline.features[2], values)}
    decision = decide(replace(seen, features=features), baseline)
    assert decision.columns[0].name == "f2"
    assert decision.columns[0].absolute_level == "alarm"


def test_a_feature_missing_from_the_window_is_no_evidence_and_a_foreign_one_is_ignored(baseline: Baseline) -> None:
    seen = window(baseline, np.random.default_rng(16))
    partial = replace(seen, features={"f0": seen.features["f0"], "other": ColumnCounts((1,))})
    decision = decide(partial, baseline)
    assert {column.name for column in decision.columns} == {"f0", "f1", "f2"}
    assert all(column.absolute.p_value == 1 for column in decision.columns if column.name != "f0")


def test_labels_are_believed_before_the_estimate(baseline: Baseline) -> None:
    random = np.random.default_rng(17)
    column = baseline.outputs[0]
    unsure = estimate(column, window(baseline, random, 2_000, centre=UNSURE).outputs["score"])
    assert unsure is not None
    labelled = replace(unsure, source="labelled")
    last = streaks_of(row_of(baseline, 2, SHIFTED))
    seen = window(baseline, random, 400, SHIFTED)
    assert decide(seen, baseline, streaks=last).action == "watch"
    decision = decide(seen, baseline, streaks=last, labelled=labelled)
    assert decision.action == "retrain"
    assert "labelled performance dropped" in decision.sentence


def test_a_drop_needs_both_size_and_significance(baseline: Baseline) -> None:
    column, random = baseline.outputs[0], np.random.default_rng(18)
    drop = estimate(column, window(baseline, random, 5_000, centre=UNSURE).outputs["score"])
    assert drop is not None
    assert dropped(drop)
    assert not dropped(drop, DriftLimits(drop_errors_min=1_000))
    assert not dropped(drop, DriftLimits(log_loss_rise_ratio_min=100, accuracy_drop_min=1))


def test_unsupported_records_are_named(baseline: Baseline) -> None:
    decision = row_of(baseline, shifts={"f1": 8.0})
    assert decision.performance is not None
    assert decision.performance.support == Support(1.0, "f1")
    assert "100% of the records having a f1 never seen in training" in decision.sentence
    assert decision.action == "retrain"


def test_a_document_keeps_the_streaks_and_is_json(baseline: Baseline) -> None:
    decision = row_of(baseline, shifts=SHIFTED, centre=UNSURE, peers=SHIFTED)
    document = json.loads(json.dumps(to_document(decision), allow_nan=False))
    assert streaks_from(document) == streaks_of(decision)
    assert document["performance"]["window"]["log_loss"] > document["performance"]["baseline"]["log_loss"]


def test_reports_have_model_monitors_shape(baseline: Baseline) -> None:
    seen = window(baseline, np.random.default_rng(19), 400, SHIFTED)
    document = statistics(seen, baseline)
    assert document["dataset"] == {"item_count": 400}
    shifted = next(entry for entry in document["features"] if entry["name"] == "f1")["numerical_statistics"]
    assert shifted["mean"] == pytest.approx(1.0, abs=0.15)
    kll = shifted["distribution"]["kll"]
    assert len(kll["buckets"]) == 10
    assert sum(bucket["count"] for bucket in kll["buckets"]) == 400
    assert sum(len(level) << index for index, level in enumerate(kll["sketch"]["data"])) == 400
    found = violations(decide(seen, baseline))["violations"]
    assert [entry["feature_name"] for entry in found] == ["f1"]
    assert found[0]["constraint_check_type"] == "baseline_drift_check"


def test_an_empty_column_has_statistics_too(baseline: Baseline) -> None:
    empty = Observed(5, {"f0": ColumnCounts((), nan_count=5)}, {})
    (entry,) = statistics(empty, baseline)["features"]
    assert entry["numerical_statistics"]["common"] == {"num_present": 0, "num_missing": 5}
