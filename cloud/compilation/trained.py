"""What training left for compiling: a folder, or the ``model.tar.gz`` that SageMaker makes of it.

An artifact is untrusted input: only files with known names are taken out of the archive, never a path out of it, and
each is bounded.

    model.onnx        the graph, fp32
    golden.npz        requests and their answers
    model.json        names, what telemetry watches, the task
    calibration.npz   optional: without it there is no int8 variant
    evaluation.npz    optional: without it no gate on the task's metric
    baseline.json     optional: without it no drift detection
"""

import tarfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from cloud.compilation.errors import ArtifactError
from cloud.compilation.samples import GOLDEN_COUNT_MAX, Samples, read_samples
from cloud.compilation.task import Task
from cloud.names import MODEL_COMPONENT_PATTERN, MODEL_NAME_PATTERN
from edge_component.contracts.baseline import Baseline
from edge_component.contracts.codec import NOTHING, Fields, as_json, from_bytes
from edge_component.contracts.errors import ContractError
from edge_component.contracts.limits import LIMITS
from edge_component.contracts.manifest import (
    BASELINE_FILE,
    GOLDEN_FILE,
    MODEL_FILE,
    NAN_POLICIES,
    Feature,
    WatchedOutput,
)

ARTIFACT_FILE = "model.tar.gz"
CARD_FILE = "model.json"
CALIBRATION_FILE = "calibration.npz"
EVALUATION_FILE = "evaluation.npz"
FILES = (MODEL_FILE, CARD_FILE, GOLDEN_FILE, CALIBRATION_FILE, EVALUATION_FILE, BASELINE_FILE)
FILE_BYTES_MAX = 2_000_000_000
CARD_BYTES_MAX = 1_000_000


@dataclass(frozen=True, slots=True)
class Card:
    """``model.json``: who the model is, and what is watched and judged."""

    model_name: str
    component_name: str
    features: tuple[Feature, ...] = ()
    watched_outputs: tuple[WatchedOutput, ...] = ()
    nan_policy: str = "accept"
    task: Task | None = None
    metrics: Mapping[str, Any] = NOTHING

    @classmethod
    def from_bytes(cls, data: bytes) -> "Card":
        """Decode.

        Raises:
            ContractError: naming the field.
        """
        fields = Fields(from_bytes(data, CARD_BYTES_MAX))
        fields.schema("model", 1)
        return cls(
            model_name=fields.text("model_name", pattern=MODEL_NAME_PATTERN),
            component_name=fields.text("component_name", pattern=MODEL_COMPONENT_PATTERN),
            features=fields.items("features", Feature.read),
            watched_outputs=fields.items("watched_outputs", WatchedOutput.read),
            nan_policy=fields.choice("nan_policy", NAN_POLICIES),
            task=fields.optional("task", lambda name: fields.nested(name, Task.read)),
            metrics=fields.table("metrics", as_json),
        )


@dataclass(frozen=True, slots=True)
class TrainedModel:
    """Everything that compiling reads, decoded."""

    model_bytes: bytes
    card: Card
    golden: Samples
    calibration: Samples | None
    evaluation: Samples | None
    baseline_bytes: bytes | None


def read_trained(folder: Path) -> TrainedModel:
    """Read an unpacked artifact.

    Raises:
        ArtifactError: a file is missing or malformed.
        SamplesError: an archive of samples is; above all ``golden.npz``.
    """
    card = _read_card(folder)
    golden = read_samples(folder / GOLDEN_FILE)
    if not golden.outputs:
        raise ArtifactError(f"{GOLDEN_FILE} holds no expected outputs", "Name them output:<name of the output>.")
    if golden.count > GOLDEN_COUNT_MAX:
        raise ArtifactError(
            f"{GOLDEN_FILE} holds {golden.count} samples; {GOLDEN_COUNT_MAX} are allowed", "Give fewer."
        )
    return TrainedModel(
        model_bytes=_read(folder / MODEL_FILE),
        card=card,
        golden=golden,
        calibration=_optional_samples(folder / CALIBRATION_FILE),
        evaluation=_optional_samples(folder / EVALUATION_FILE),
        baseline_bytes=_read_baseline(folder / BASELINE_FILE, card),
    )


def unpack(source: Path, folder: Path) -> Path:
    """The folder that holds an artifact's files: ``source`` itself, or what its ``model.tar.gz`` holds, unpacked.

    Raises:
        ArtifactError: no archive where one should be.
    """
    archive = source if source.is_file() else source / ARTIFACT_FILE
    if not archive.is_file():
        return source
    try:
        with tarfile.open(archive) as tar:
            for member in tar:
                name = member.name.removeprefix("./")
                if name in FILES and member.isfile():
                    _extract(tar, member, folder / name)
    except (tarfile.TarError, OSError, EOFError) as error:
        raise ArtifactError(f"{archive.name} is not an archive of a training job: {error}") from error
    return folder


def _extract(tar: tarfile.TarFile, member: tarfile.TarInfo, path: Path) -> None:
    if member.size > FILE_BYTES_MAX:
        raise ArtifactError(f"{member.name} has {member.size} bytes; {FILE_BYTES_MAX} are allowed")
    stream = tar.extractfile(member)
    if stream is not None:
        path.write_bytes(stream.read())


def _read_card(folder: Path) -> Card:
    try:
        return Card.from_bytes(_read(folder / CARD_FILE))
    except ContractError as error:
        raise ArtifactError(f"{CARD_FILE}: {error}", "Correct the named field in the training script.") from error


def _read_baseline(path: Path, card: Card) -> bytes | None:
    if not path.is_file():
        return None
    data = path.read_bytes()
    try:
        baseline = Baseline.from_bytes(data)
    except ContractError as error:
        raise ArtifactError(f"{BASELINE_FILE}: {error}", "Correct the named field in the training script.") from error
    watched = [feature.name for feature in card.features] + [output.name for output in card.watched_outputs]
    known = {column.name for column in (*baseline.features, *baseline.outputs)}
    missing = sorted(set(watched) - known)
    if missing or len(data) > LIMITS.baseline_bytes_max:
        raise ArtifactError(f"{BASELINE_FILE} lacks {', '.join(missing)}", f"{CARD_FILE} names what is watched.")
    return data


def _read(path: Path) -> bytes:
    if not path.is_file():
        raise ArtifactError(
            f"{path.name} is missing from what training left", "The script writes it into SM_MODEL_DIR."
        )
    return path.read_bytes()


def _optional_samples(path: Path) -> Samples | None:
    return read_samples(path) if path.is_file() else None
