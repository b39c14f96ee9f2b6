"""Run a candidate on the samples and put it before the gates.

The shell around gates.py: it loads, asks and measures; it decides nothing. What a candidate does wrong while it is
tried, such as not loading at all, is a verdict like any other, so that the report can show it.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from cloud.compilation import gates
from cloud.compilation.errors import ArtifactError, InvalidGraphError
from cloud.compilation.inference import Session
from cloud.compilation.result import GateVerdict
from cloud.compilation.samples import Array, Samples
from cloud.compilation.task import width_of
from cloud.compilation.trained import TrainedModel
from edge_component.contracts.manifest import GoldenTest


@dataclass(frozen=True, slots=True)
class Candidate:
    """One graph that was tried.

    Attributes:
        path: the graph.
        precision: ``fp32`` or ``int8``.
        verdicts: every gate that was asked, in order.
        golden: the tolerance that a device may hold it to; meaningless where a gate refused it.
        probe: its answers to the probe samples (see :func:`probe_of`).
    """

    path: Path
    precision: str
    verdicts: tuple[GateVerdict, ...]
    golden: GoldenTest
    probe: Mapping[str, Array]

    @property
    def refusal(self) -> GateVerdict | None:
        """The first gate that refused it."""
        return next((verdict for verdict in self.verdicts if not verdict.passed), None)


def probe_of(trained: TrainedModel) -> Samples:
    """What candidates are compared on: the labelled samples where there are some, else the golden ones."""
    return trained.evaluation or trained.golden


def try_fp32(path: Path, trained: TrainedModel) -> Candidate:
    """Try an fp32 graph: it loads, and gives the golden outputs."""
    try:
        session = Session(path)
        got, probe = _answers(session, trained)
        expected = session.numbers(trained.golden.outputs)
    except InvalidGraphError as error:
        return _broken(path, "fp32", f"fp32: {error}")
    _require_task_column(trained, got)
    verdicts = (gates.loads("fp32", session.load_ms), gates.golden_exact("fp32", expected, got))
    return Candidate(path, "fp32", verdicts, gates.tolerance("fp32", expected, got), probe)


def try_int8(path: Path, trained: TrainedModel, reference: Candidate) -> Candidate:
    """Try an int8 graph against the fp32 one."""
    try:
        session = Session(path)
        got, probe = _answers(session, trained)
        expected = session.numbers(trained.golden.outputs)
    except InvalidGraphError as error:
        return _broken(path, "int8", f"int8: {error}")
    verdicts = (
        gates.loads("int8", session.load_ms),
        gates.golden_near("int8", expected, got),
        *gates.output_errors("int8", reference.probe, probe),
        *_task_verdicts(trained, reference.probe, probe),
        gates.size("int8", path.stat().st_size, reference.path.stat().st_size),
    )
    return Candidate(path, "int8", verdicts, gates.tolerance("int8", expected, got), probe)


def _answers(session: Session, trained: TrainedModel) -> tuple[dict[str, Array], dict[str, Array]]:
    """To the golden samples and to the probe, as gates compare them."""
    golden, probe = session.answer(trained.golden), session.answer(probe_of(trained))
    return session.numbers(golden), session.numbers(probe)


def _task_verdicts(
    trained: TrainedModel, reference: Mapping[str, Array], found: Mapping[str, Array]
) -> tuple[GateVerdict, ...]:
    task, evaluation = trained.card.task, trained.evaluation
    if task is None or evaluation is None or evaluation.label is None:
        return ()
    before, after = task.loss(reference, evaluation.label), task.loss(found, evaluation.label)
    return (gates.task_loss("int8", task.metric, before, after),)


def _require_task_column(trained: TrainedModel, got: Mapping[str, Array]) -> None:
    task = trained.card.task
    if task is not None and (task.output not in got or task.index >= width_of(got[task.output])):
        raise ArtifactError(f"model.json: task names column {task.index} of output {task.output!r}, which is not there")


def _broken(path: Path, precision: str, sentence: str) -> Candidate:
    return Candidate(path, precision, (gates.does_not_run(precision, sentence),), GoldenTest(0.0, 0.0), {})
