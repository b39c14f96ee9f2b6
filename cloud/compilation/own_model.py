"""Bring your own ONNX: a model file and some sample requests become a compilation, without any training job.

The failure this exists for: a model of unknown origin that is published on trust. It takes the same road as one of our
own, through admission and gates; what it does not bring is made from the samples where that is honest (golden outputs,
by ONNX Runtime, from the very graph) and left out where it is not (a baseline from few samples, a task without labels).

Samples are an ``.npz`` archive, arrays named like the model's inputs (``input:`` before the name is optional): either
one request, each array the whole tensor, or several, stacked along a new axis 0. Expected outputs may be among them,
as ``output:<name>``; then the model must give them.
"""

import json
import tempfile
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from cloud.compilation.admission import Admitted, admit, require_size
from cloud.compilation.baseline import SAMPLES_MIN, baseline_of, watched_inputs, watched_outputs
from cloud.compilation.errors import GateError, NotOnnxError
from cloud.compilation.inference import Session
from cloud.compilation.outputs import as_answered
from cloud.compilation.report import Report
from cloud.compilation.result import AUTO
from cloud.compilation.samples import (
    GOLDEN_COUNT_MAX,
    INPUT_PREFIX,
    OUTPUT_PREFIX,
    Array,
    Samples,
    read_arrays,
    require_fit,
    samples_of,
    write_samples,
)
from cloud.compilation.stage import Order, compile_model
from cloud.compilation.trained import CALIBRATION_FILE, CARD_FILE
from cloud.errors import InvalidInputError, ModelRefusedError
from cloud.names import MODEL_NAME_PATTERN, model_component
from edge_component.contracts.codec import schema_name, to_bytes
from edge_component.contracts.manifest import BASELINE_FILE, GOLDEN_FILE, MODEL_FILE, PLATFORMS

CALIBRATION_COUNT_MIN = 16
"""Fewer requests say too little about the ranges of activations; then there is no int8 variant."""

CALIBRATION_COUNT_MAX = 512

GOLDEN_S_MAX = 5.0
"""Of the golden samples' answers here: a device, which may be ten times slower, has a minute for them and for loading."""

REPEATS_COUNT = 3
"""Of the first request, to see whether its answer stays the same."""


@dataclass(frozen=True, slots=True)
class OwnModel:
    """What its owner gives.

    Attributes:
        onnx_path: the model, one self-contained file.
        samples_path: requests; see the module's head.
        model_name: what clients will ask for.
    """

    onnx_path: Path
    samples_path: Path
    model_name: str

    @property
    def component_name(self) -> str:
        """The component that will carry it."""
        return model_component(self.model_name)


def compile_own_model(
    own: OwnModel, output: Path, platforms: tuple[str, ...] = PLATFORMS, precision: str = AUTO
) -> Report:
    """Compile into ``output``; the folder is what a processing job would have written.

    ``precision`` is one of :data:`~cloud.compilation.result.PRECISIONS`.

    Raises:
        InvalidInputError: the name cannot be a model's.
        ModelRefusedError: the model or its samples were refused; ``output`` holds the report if it came to a gate.
    """
    with tempfile.TemporaryDirectory(prefix="edgewright-own-") as work:
        folder = prepare(own, Path(work))
        report = compile_model(Order(folder, output, platforms, {"source_file": own.onnx_path.name}, precision))
    report.require_compiled()
    return report


def prepare(own: OwnModel, folder: Path) -> Path:
    """Write into ``folder`` what a training job would have left.

    Raises:
        InvalidInputError, ModelRefusedError: as above; what is in the folder then is of no use.
    """
    if not MODEL_NAME_PATTERN.fullmatch(own.model_name):
        raise InvalidInputError(
            f"{own.model_name!r} cannot be a model's name",
            "Use lower-case letters, digits and hyphens, a letter first, at most 31; `runtime` is the runtime itself.",
        )
    if not own.onnx_path.is_file():
        raise NotOnnxError(f"{own.onnx_path} is not a file", "Give the .onnx file itself.")
    data = _read(own.onnx_path)
    with _naming(own.onnx_path):
        admitted = admit(data)
    (folder / MODEL_FILE).write_bytes(data)
    samples = _samples(own.samples_path, admitted)
    with _naming(own.onnx_path):
        session = Session(folder / MODEL_FILE)
        admitted = as_answered(admitted, session, samples)
        began_s = time.monotonic()
        answers = session.answer(samples)
        took_s = time.monotonic() - began_s
        _require_repeatable(answers, session, samples)
    if samples.outputs:
        require_fit(own.samples_path.name, samples.outputs, admitted.outputs)
    kept = golden_count(samples.count, took_s)
    golden = _first(samples if samples.outputs else replace(samples, outputs=answers), kept)
    write_samples(folder / GOLDEN_FILE, golden)
    if samples.count >= CALIBRATION_COUNT_MIN:
        write_samples(folder / CALIBRATION_FILE, replace(_first(samples, CALIBRATION_COUNT_MAX), outputs={}))
    _describe(own, admitted, samples, answers, folder)
    return folder


def golden_count(sample_count: int, answered_s: float) -> int:
    """How many samples a device is to answer in its trial, of so many that took so long here; one at least."""
    return max(min(sample_count, GOLDEN_COUNT_MAX, int(sample_count * GOLDEN_S_MAX / max(answered_s, 1e-9))), 1)


def _read(path: Path) -> bytes:
    try:
        with _naming(path):
            require_size(path.stat().st_size)
        return path.read_bytes()
    except OSError as error:
        raise NotOnnxError(f"{path} cannot be read: {error.strerror}", "Check who may read it.") from error


@contextmanager
def _naming(path: Path) -> Iterator[None]:
    """A refusal begins with the file that its reader gave: of several models, which one."""
    try:
        yield
    except ModelRefusedError as error:
        raise type(error)(f"{path.name}: {error}", error.remedy) from error


def _require_repeatable(answers: Mapping[str, Array], session: Session, samples: Samples) -> None:
    """A golden test on the device would refuse what answers by chance, long after it was published.

    More than once: of ONNX Runtime's dropout in training mode the first two answers are the same (1.31).
    """
    first = _first(samples, 1)
    for _ in range(REPEATS_COUNT):
        for name, repeated in session.answer(first).items():
            if not np.array_equal(answers[name][:1], repeated, equal_nan=repeated.dtype.kind == "f"):
                raise GateError(
                    f"output {name!r} differs when the same request is asked again",
                    "Take random operators out of the graph (RandomNormal, Multinomial, dropout in training mode), or "
                    "make their numbers an input.",
                )


def _samples(path: Path, admitted: Admitted) -> Samples:
    arrays = read_arrays(path)
    ranks = {f"{INPUT_PREFIX}{spec.name}": len(spec.shape) for spec in admitted.inputs}
    ranks |= {spec.name: len(spec.shape) for spec in admitted.inputs}
    asked = {name: array for name, array in arrays.items() if not name.startswith(OUTPUT_PREFIX)}
    if asked and all(array.ndim == ranks.get(name, -1) for name, array in asked.items()):
        arrays = {name: array[None] for name, array in arrays.items()}
    samples = samples_of(path.name, arrays)
    require_fit(path.name, samples.inputs, admitted.inputs)
    return replace(samples, label=None)


def _describe(own: OwnModel, admitted: Admitted, samples: Samples, answers: dict[str, Array], folder: Path) -> None:
    """Write ``model.json``, and the baseline where there are samples enough."""
    features, outputs = watched_inputs(admitted.inputs), watched_outputs(admitted.outputs)
    if samples.count < SAMPLES_MIN or not features:
        features, outputs = (), ()
    else:
        baseline = baseline_of(own.model_name, features, outputs, samples.inputs, answers)
        (folder / BASELINE_FILE).write_bytes(to_bytes(baseline.to_document()))
    card = {
        "schema": schema_name("model", 1),
        "model_name": own.model_name,
        "component_name": own.component_name,
        "features": [feature.to_document() for feature in features],
        "watched_outputs": [output.to_document() for output in outputs],
        "nan_policy": "accept",
        "metrics": {},
    }
    (folder / CARD_FILE).write_text(json.dumps(card))


def _first(samples: Samples, count: int) -> Samples:
    return Samples(
        {name: array[:count] for name, array in samples.inputs.items()},
        {name: array[:count] for name, array in samples.outputs.items()},
    )
