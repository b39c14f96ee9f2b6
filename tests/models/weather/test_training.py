import json
import shutil
import sys
from pathlib import Path

import artifacts
import numpy as np
import onnx
import pytest
import training
from training_run import Run, Train

from cloud.compilation.samples import read_samples
from cloud.compilation.trained import Card
from edge_component.contracts.baseline import Baseline


def test_it_beats_both_references_and_prints_by_how_much(trained: Run) -> None:
    metrics = json.loads((trained.model / "model.json").read_text())["metrics"]
    assert metrics["log_loss"] + 0.01 < min(metrics["majority_log_loss"], metrics["persistence_log_loss"])
    assert metrics["auc"] - 0.02 > max(metrics["majority_auc"], metrics["persistence_auc"])
    assert "margin over persistence: log_loss=" in trained.text
    assert f"validation:log_loss={metrics['log_loss']:.6f};" in trained.text


def test_what_it_leaves_keeps_the_contracts(trained: Run) -> None:
    card = Card.from_bytes((trained.model / "model.json").read_bytes())
    baseline = Baseline.from_bytes((trained.model / "baseline.json").read_bytes())
    onnx.checker.check_model(onnx.load(trained.model / "model.onnx"), full_check=True)
    assert [feature.name for feature in card.features] == [column.name for column in baseline.features]
    assert [output.name for output in card.watched_outputs] == [column.name for column in baseline.outputs]
    for column in baseline.features:
        assert sum(column.counts) + column.nan_count + column.infinite_count == baseline.sample_count
    rates = baseline.outputs[0].positive_rate
    assert rates is not None
    assert all(0 < rate < 1 for rate in rates)
    assert list(rates) == sorted(rates), "a higher forecast is never the less likely one"


def test_the_baselines_bins_are_balanced_and_count_by_the_contract(trained: Run) -> None:
    baseline = Baseline.from_bytes((trained.model / "baseline.json").read_bytes())
    temperature = baseline.features[0]
    assert max(temperature.counts) < 4 * baseline.sample_count / 64
    found = artifacts.column("temp", np.array([1.0, 2.0, 2.0, np.nan, np.inf, 0.0], np.float32))
    edges, counts = np.array(found["edges"]), np.array(found["counts"])
    assert counts.sum() == 4
    assert counts[np.searchsorted(edges, 2.0, side="left")] == 2
    assert (found["nan_count"], found["infinite_count"], found["zero_count"]) == (1, 1, 1)


def test_a_column_without_any_finite_value_has_a_baseline_too() -> None:
    found = artifacts.column("gust", np.full(5, np.nan, np.float32))
    assert (sum(found["counts"]), found["nan_count"]) == (0, 5)


def test_golden_answers_come_out_again(trained: Run) -> None:
    golden = read_samples(trained.model / "golden.npz")
    assert 1 <= golden.count <= 64
    assert np.isnan(golden.inputs["input"]).any(), "missing sensors are part of what is tested"
    forecaster = artifacts.Forecaster(trained.model / "model.onnx")
    for request, answer in zip(golden.inputs["input"], golden.outputs["probabilities"], strict=True):
        np.testing.assert_array_equal(forecaster.outputs(request), answer)


def test_the_same_data_give_the_same_bytes(trained: Run, train: Train) -> None:
    again = train()
    for path in sorted(trained.model.iterdir()):
        assert path.read_bytes() == (again.model / path.name).read_bytes(), path.name


def test_hyperparameters_arrive_as_strings(train: Train) -> None:
    run = train(SM_HPS='{"max_iter": "70", "alpha": "0.01"}')
    assert run.exit_code == 0, run.text
    assert '"max_iter": 70' in run.text


def test_hyperparameters_are_read_from_the_containers_file(tmp_path: Path, train: Train) -> None:
    (tmp_path / "config").mkdir()
    (tmp_path / "config" / "hyperparameters.json").write_text('{"max_iter": "21", "hidden": "8"}')
    assert '"max_iter": 21' in train().text


@pytest.mark.parametrize(
    ("hyperparameters", "sentence"),
    [
        ('{"margin_log_loss": "0.4"}', "does not beat the majority forecast on held-out time"),
        ('{"margin_log_loss": "0.2"}', "does not beat the persistence forecast"),
        ('{"depth": "3"}', "unknown hyperparameter 'depth'"),
        ('{"hidden": "many"}', "not of its type"),
        ('{"holdout_days": "400"}', "training stretch (0 hours)"),
    ],
)
def test_a_failure_is_left_where_sagemaker_looks(
    tmp_path: Path, winter: Path, monkeypatch: pytest.MonkeyPatch, hyperparameters: str, sentence: str
) -> None:
    variables = {
        "SM_CHANNEL_TRAINING": str(winter),
        "SM_MODEL_DIR": str(tmp_path / "model"),
        "SM_OUTPUT_DIR": str(tmp_path / "output"),
        "SM_HPS": hyperparameters,
    }
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setattr(sys, "argv", ["training.py"])
    assert training.main() == 1
    failure = (tmp_path / "output" / "failure").read_text()
    assert sentence in failure
    assert "Traceback" not in failure
    assert not (tmp_path / "model" / "model.onnx").exists()


def test_unreadable_observations_are_named(tmp_path: Path, train: Train) -> None:
    folder = tmp_path / "observations"
    folder.mkdir()
    (folder / "EWR.csv").write_text("hello\n")
    assert "EWR.csv: lacks the column" in train(folder).failure


def test_an_unexpected_error_leaves_its_last_lines(train: Train) -> None:
    run = train(SM_HPS="{")
    assert run.exit_code == 1
    assert "JSONDecodeError" in run.failure.splitlines()[-1]


def test_the_incumbent_is_judged_on_the_same_stretch(tmp_path: Path, trained: Run, train: Train) -> None:
    (tmp_path / "incumbent" / "linux-x86_64").mkdir(parents=True)
    shutil.copy(trained.model / "model.onnx", tmp_path / "incumbent" / "linux-x86_64")
    run = train(SM_CHANNEL_INCUMBENT=str(tmp_path / "incumbent"))
    assert run.exit_code == 0, run.text
    metrics = json.loads((run.model / "model.json").read_text())["metrics"]
    assert metrics["incumbent_log_loss"] == pytest.approx(metrics["log_loss"])
    refused = train(SM_CHANNEL_INCUMBENT=str(tmp_path / "incumbent"), SM_HPS='{"gain_log_loss": "0.01"}')
    assert "no improvement" in refused.failure


def test_a_channel_without_a_model_is_named(tmp_path: Path, train: Train) -> None:
    (tmp_path / "incumbent").mkdir()
    assert "holds no model.onnx" in train(SM_CHANNEL_INCUMBENT=str(tmp_path / "incumbent")).failure
