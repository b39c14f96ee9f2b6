"""The estimate against a direct simulation: tosses of the very chances that the scores name."""

import math

import numpy as np
import pytest

from cloud.drift.performance import Support, estimate, expected, score_centres, support_of
from edge_component.contracts.telemetry import ColumnCounts
from tests.cloud.drift.samples import baseline_column, calibrated, counted, scored_column

metrics = pytest.importorskip("sklearn.metrics", reason="scikit-learn is the [training] extra")


@pytest.mark.parametrize("centre", [-4.0, -3.0, -2.0, -1.0])
def test_estimates_of_a_shifted_but_calibrated_world_are_what_comes(centre: float) -> None:
    random = np.random.default_rng(5)
    column = scored_column(*calibrated(random, 50_000))
    scores, labels = calibrated(random, 50_000, centre)
    performance = estimate(column, counted(column, scores))
    assert performance is not None
    window = performance.window
    assert window.accuracy == pytest.approx(np.mean((scores >= 0.5) == labels), abs=0.01)
    assert window.log_loss == pytest.approx(metrics.log_loss(labels, scores), abs=0.015)
    assert window.auc == pytest.approx(metrics.roc_auc_score(labels, scores), abs=0.01)


def test_standard_errors_are_those_of_repeated_windows() -> None:
    random = np.random.default_rng(6)
    column = scored_column(*calibrated(random, 100_000))
    one = estimate(column, counted(column, calibrated(random, 500)[0]))
    assert one is not None
    losses, hits = [], []
    for _ in range(300):
        scores, labels = calibrated(random, 500)
        losses.append(metrics.log_loss(labels, scores))
        hits.append(np.mean((scores >= 0.5) == labels))
    assert one.window.log_loss_se == pytest.approx(np.std(losses), rel=0.25)
    assert one.window.accuracy_se == pytest.approx(np.std(hits), rel=0.25)


def test_what_the_baseline_never_saw_counts_as_the_base_rate() -> None:
    random = np.random.default_rng(7)
    column = scored_column(*calibrated(random, 20_000))
    scores = counted(column, calibrated(random, 1_000)[0])
    supported, lost = estimate(column, scores), estimate(column, scores, Support(1.0, "temp"))
    assert supported is not None
    assert lost is not None
    rates, counts = np.asarray(column.positive_rate), np.asarray(column.counts)
    rate = float((rates * counts).sum() / counts.sum())
    assert lost.window.log_loss == pytest.approx(-(rate * math.log(rate) + (1 - rate) * math.log(1 - rate)))
    assert lost.window.auc == pytest.approx(0.5)
    assert lost.window.accuracy == pytest.approx(max(rate, 1 - rate))
    half = estimate(column, scores, Support(0.5, "temp"))
    assert half is not None
    assert supported.window.log_loss < half.window.log_loss < lost.window.log_loss


def test_support_names_the_feature_with_most_records_out_of_range() -> None:
    columns = {"temp": ColumnCounts((40,), out_of_range_count=30), "dewp": ColumnCounts((9, 31), out_of_range_count=10)}
    assert support_of(columns) == Support(0.75, "temp")
    assert support_of({"temp": ColumnCounts((1,))}) == Support(0.0, "")
    assert support_of({"temp": ColumnCounts(()), "dewp": ColumnCounts(())}) == Support()
    four_rows_each = {"temp": ColumnCounts((160,), nan_count=40, out_of_range_count=50)}
    assert support_of(four_rows_each) == Support(0.25, "temp"), "of its own values, not of another input's rows"


def test_no_calibration_or_no_records_is_no_estimate() -> None:
    random = np.random.default_rng(8)
    bare = baseline_column("score", calibrated(random, 1_000)[0])
    assert estimate(bare, ColumnCounts((1,) * 64)) is None
    column = scored_column(*calibrated(random, 1_000))
    assert estimate(column, ColumnCounts((0,) * 64)) is None
    assert estimate(column, ColumnCounts((3,))) is not None


def test_one_class_has_no_auc_and_no_distance_is_no_drop() -> None:
    column = scored_column(*calibrated(np.random.default_rng(9), 5_000))
    centres = score_centres(column)
    assert math.isnan(expected(np.ones(64), np.zeros(64), centres).auc)
    same = estimate(column, ColumnCounts(column.counts))
    assert same is not None
    assert same.log_loss_rise == pytest.approx(0)
    assert same.log_loss_z == pytest.approx(0)
