"""Train the forecast of low visibility in the next hour: an ordinary SageMaker training script.

It reads observation files from channel ``training``, holds out the last stretch of time, fits a small network, exports
it to ONNX, judges the export (not the Python object) on the held-out stretch, and leaves in ``SM_MODEL_DIR`` what
compiling reads. With a channel ``incumbent`` (a ``model.onnx``) that model is judged on the same stretch first: before
and after. The model that was judged is the model that is written; nothing is fitted again afterwards.

The failure this exists for: a job that ends ``Completed`` with a model nobody should use. A model that does not beat
the references, or the incumbent, by the wanted margins ends the job, and the reason is in ``/opt/ml/output/failure``.

Hyperparameters arrive as strings, in ``SM_HPS`` or ``hyperparameters.json``; by hand they are options. One process,
one thread.
"""

import os

os.environ.setdefault("OMP_NUM_THREADS", "1")  # before numpy: a pool of threads costs more than this network
os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")

import argparse
import json
import sys
import tempfile
import time
import traceback
import warnings
from collections.abc import Sequence
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any

import artifacts
import data
import judging
import numpy as np
from sklearn.exceptions import ConvergenceWarning
from sklearn.impute import SimpleImputer
from sklearn.neural_network import MLPClassifier
from sklearn.pipeline import Pipeline, make_pipeline
from sklearn.preprocessing import StandardScaler

FAILURE_CHARS_MAX = 1024
"""What SageMaker keeps of ``/opt/ml/output/failure`` as FailureReason."""

EXPORT_DIFFERENCE_MAX = 1e-4
"""Between scikit-learn's probabilities and the exported graph's; measured: 3e-7."""


@dataclass(frozen=True, slots=True)
class Hyperparameters:
    """What a job may set.

    Attributes:
        hidden: widths of the network's hidden layers, separated by commas.
        alpha: L2 penalty.
        max_iter: passes over the data.
        seed: of the initial weights and of the order of the batches.
        holdout_days: length of the held-out stretch at the end of time.
        margin_log_loss, margin_auc: by how much the model must beat both references.
        gain_log_loss: by how much it must beat the incumbent's log loss; negative lets a worse one pass.
    """

    hidden: str = "32,16"
    alpha: float = 1e-3
    max_iter: int = 60
    seed: int = 0
    holdout_days: int = 14
    margin_log_loss: float = 0.01
    margin_auc: float = 0.02
    gain_log_loss: float = 0.0

    def layers(self) -> tuple[int, ...]:
        """``hidden`` as widths."""
        return tuple(int(width) for width in self.hidden.split(","))


@dataclass(frozen=True, slots=True)
class Folders:
    """The container's contract, by SageMaker's variables, with their places in a container as defaults."""

    training: Path
    incumbent: Path | None
    model: Path
    output: Path


def fit(examples: data.Examples, chosen: Hyperparameters) -> Pipeline:
    """Impute medians, scale, and fit the network."""
    pipeline = make_pipeline(
        SimpleImputer(strategy="median", keep_empty_features=True),
        StandardScaler(),
        MLPClassifier(chosen.layers(), alpha=chosen.alpha, max_iter=chosen.max_iter, random_state=chosen.seed),
    )
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)  # max_iter is the early stop
        return pipeline.fit(examples.features, examples.label)


def train(folders: Folders, chosen: Hyperparameters) -> dict[str, float]:
    """Train, judge, write; the metrics of the model that was written.

    Raises:
        ObservationError: the observations cannot be read.
        RefusedError: too little data, or a model that is not good enough; nothing was written.
    """
    examples = data.all_examples(data.read_lake(folders.training))
    split = judging.split_by_time(examples, chosen.holdout_days)
    print(f"training on {judging.describe(split.training)}, held out {judging.describe(split.held_out)}")
    started = time.monotonic()
    pipeline = fit(split.training, chosen)
    print(f"fitted in {time.monotonic() - started:.1f} s")
    graph = artifacts.export(pipeline)
    with tempfile.TemporaryDirectory() as scratch:
        candidate = Path(scratch) / "candidate.onnx"
        candidate.write_bytes(graph.SerializeToString(deterministic=True))
        probability = artifacts.Forecaster(candidate).low(split.held_out.features)
    require_faithful(pipeline, split.held_out, probability)
    metrics = judge(split, probability, chosen) | judge_incumbent(split, probability, folders, chosen)
    artifacts.write(folders.model, artifacts.Judged(graph, split.training, split.held_out, probability, metrics))
    return metrics


def require_faithful(pipeline: Pipeline, held_out: data.Examples, probability: artifacts.Array) -> None:
    """Compare the exported graph with the pipeline it was made from.

    Raises:
        RefusedError: they differ by more than rounding.
    """
    difference = float(np.abs(pipeline.predict_proba(held_out.features)[:, artifacts.LOW] - probability).max())
    print(f"export differs from scikit-learn by at most {difference:.1e}")
    if not difference <= EXPORT_DIFFERENCE_MAX:
        raise judging.RefusedError(f"the exported graph differs from the trained model by {difference:.1e}")


def judge(split: judging.Split, probability: artifacts.Array, chosen: Hyperparameters) -> dict[str, float]:
    """Score the candidate and print its margins over the references; refuse it where they are too small."""
    label = split.held_out.label
    found = judging.score(label, probability)
    report("validation", found)
    metrics = {"log_loss": found.log_loss, "auc": found.auc}
    wanted = judging.Margins(chosen.margin_log_loss, chosen.margin_auc)
    for name, forecast in judging.reference_forecasts(split).items():
        reference = judging.score(label, forecast)
        margins = judging.margins_over(reference, found)
        report(name, reference)
        print(f"margin over {name}: log_loss={margins.log_loss:.4f}; auc={margins.auc:.4f};")
        judging.require(f"the {name} forecast", margins, wanted)
        metrics |= {f"{name}_log_loss": reference.log_loss, f"{name}_auc": reference.auc}
    return metrics


def judge_incumbent(
    split: judging.Split, probability: artifacts.Array, folders: Folders, chosen: Hyperparameters
) -> dict[str, float]:
    """Score the model in service on the same stretch, where there is one; refuse a candidate that gains too little."""
    if folders.incumbent is None:
        return {}
    path = next(iter(sorted(folders.incumbent.rglob("model.onnx"))), None)
    if path is None:
        raise judging.RefusedError("channel incumbent holds no model.onnx")
    label = split.held_out.label
    incumbent = judging.score(label, artifacts.Forecaster(path).low(split.held_out.features))
    report("incumbent", incumbent)
    gain = incumbent.log_loss - judging.score(label, probability).log_loss
    print(f"gain over the incumbent: log_loss={gain:.4f};")
    if gain < chosen.gain_log_loss:
        raise judging.RefusedError(
            f"the new model is no improvement: its log loss on held-out time is better than the incumbent's "
            f"({incumbent.log_loss:.4f}) by {gain:.4f}, wanted {chosen.gain_log_loss}"
        )
    return {"incumbent_log_loss": incumbent.log_loss, "incumbent_auc": incumbent.auc}


def report(name: str, found: judging.Score) -> None:
    """Print metrics in the form that MetricDefinitions look for."""
    print(f"{name}:log_loss={found.log_loss:.6f}; {name}:auc={found.auc:.6f};")


def read_folders(environment: dict[str, str]) -> Folders:
    """Where the container put things."""
    incumbent = environment.get("SM_CHANNEL_INCUMBENT")
    beside = Path(environment.get("SM_OUTPUT_DATA_DIR", "/opt/ml/output/data")).parent
    return Folders(
        training=Path(environment.get("SM_CHANNEL_TRAINING", "/opt/ml/input/data/training")),
        incumbent=Path(incumbent) if incumbent else None,
        model=Path(environment.get("SM_MODEL_DIR", "/opt/ml/model")),
        output=Path(environment.get("SM_OUTPUT_DIR", beside)),
    )


def read_hyperparameters(arguments: Sequence[str], environment: dict[str, str]) -> Hyperparameters:
    """Options by hand, else ``SM_HPS``, else ``hyperparameters.json``, else the defaults.

    Raises:
        RefusedError: a name that this script does not know, or a value that is not of its type.
    """
    given: dict[str, Any] = json.loads(environment.get("SM_HPS") or _configured(environment))
    types = {field.name: type(field.default) for field in fields(Hyperparameters)}
    unknown = sorted(set(given) - set(types))
    if unknown:
        raise judging.RefusedError(f"unknown hyperparameter {unknown[0]!r}; known are {', '.join(sorted(types))}")
    parser = argparse.ArgumentParser(description="Train the forecast of low visibility.")
    for name, kind in types.items():
        parser.add_argument(f"--{name.replace('_', '-')}", dest=name, type=kind)
    by_hand = {name: value for name, value in vars(parser.parse_args(arguments)).items() if value is not None}
    try:
        chosen = Hyperparameters(**{name: types[name](value) for name, value in (given | by_hand).items()})
        chosen.layers()
    except ValueError as error:
        raise judging.RefusedError(f"a hyperparameter is not of its type: {error}") from error
    return chosen


def write_failure(folder: Path, error: Exception) -> str:
    """Leave the reason where SageMaker looks for it: our sentences as they are, anything else with its last lines."""
    expected = isinstance(error, judging.RefusedError | data.ObservationError)
    text = str(error) if expected else "".join(traceback.format_exception(error))
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "failure").write_text(text[-FAILURE_CHARS_MAX:])
    return text


def _configured(environment: dict[str, str]) -> str:
    path = Path(environment.get("SM_INPUT_CONFIG_DIR", "/opt/ml/input/config")) / "hyperparameters.json"
    return path.read_text() if path.is_file() else "{}"


def main() -> int:
    """Run the job; the exit code is 1 after a failure."""
    environment = dict(os.environ)
    folders = read_folders(environment)
    try:
        chosen = read_hyperparameters(sys.argv[1:], environment)
        print(f"hyperparameters {json.dumps(asdict(chosen))}")
        train(folders, chosen)
    except Exception as error:  # noqa: BLE001 - whatever ends the job must reach its FailureReason
        print(f"failed: {write_failure(folders.output, error)}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
