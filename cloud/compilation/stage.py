"""The compilation stage: what the SageMaker Processing job runs, and ``edgewright compile --local`` too.

    python3 -m cloud.compilation.stage --input DIR --output DIR --platform linux/x86_64 --platform linux/aarch64

Admit, simplify, make int8, put every candidate before the gates, choose per platform, write the compilation folder
(result.py) and the report. Where int8 fails a gate fp32 is chosen and the reason kept; where fp32 fails, the model is
refused. Exit codes: 0 compiled, 3 refused (the report's sentence is also in the job's exit message), 1 a fault of ours.

One process, one thread. It needs the ``[compile]`` extra alone: no boto3, no command line framework.
"""

import argparse
import json
import os
import shutil
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from cloud.compilation.admission import Admitted, admit, nodes_of
from cloud.compilation.errors import ArtifactError, GateError
from cloud.compilation.inference import Session
from cloud.compilation.outputs import as_answered, corrections
from cloud.compilation.report import REPORT_FILE, REPORT_TEXT_FILE, Report, compiled_report, refusal_report
from cloud.compilation.result import AUTO, COMPILATION_FILE, FP32, PRECISIONS, Compilation, Variant
from cloud.compilation.samples import require_fit, write_samples
from cloud.compilation.trained import TrainedModel, read_trained, unpack
from cloud.compilation.trial import Candidate, probe_of, try_fp32, try_int8
from cloud.compilation.variants import VariantError, quantise, simplify
from cloud.errors import ModelRefusedError
from edge_component.contracts.codec import NOTHING
from edge_component.contracts.manifest import BASELINE_FILE, GOLDEN_FILE, MODEL_FILE, PLATFORMS, TensorSpec

REFUSED_EXIT_CODE = 3
NO_SHARED_MEMORY = ("string", "bfloat16")
"""Element types that the device's fast path refuses: numpy clients have no fixed-size form of them."""
MESSAGE_CHARS_MAX = 1024
"""What SageMaker keeps of a processing job's exit message."""


@dataclass(frozen=True, slots=True)
class Order:
    """What is asked for: from where, to where, for which platforms; ``lineage`` goes into the compilation as it is.

    ``precision`` is one of :data:`~cloud.compilation.result.PRECISIONS`.
    """

    source: Path
    output: Path
    platforms: tuple[str, ...] = PLATFORMS
    lineage: Mapping[str, Any] = NOTHING
    precision: str = AUTO


def compile_model(order: Order) -> Report:
    """Compile, and write the compilation folder and its report. A refusal is a report, not an exception."""
    started = time.monotonic()
    order.output.mkdir(parents=True, exist_ok=True)
    (order.output / COMPILATION_FILE).unlink(missing_ok=True)  # a refusal must not leave an older success to publish
    notes: list[str] = []
    model_name = ""
    with tempfile.TemporaryDirectory(prefix="edgewright-compile-") as work:
        try:
            trained = read_trained(unpack(order.source, Path(work)))
            model_name = trained.card.model_name
            compilation = _compiled(order, trained, Path(work), notes)
        except ModelRefusedError as error:
            report = refusal_report(model_name, error, tuple(notes), time.monotonic() - started)
        else:
            compilation.save(order.output)
            report = compiled_report(model_name, compilation.variants, tuple(notes), time.monotonic() - started)
    (order.output / REPORT_FILE).write_text(json.dumps(report.to_document(), indent=2) + "\n")
    (order.output / REPORT_TEXT_FILE).write_text(report.to_text())
    return report


def _compiled(order: Order, trained: TrainedModel, work: Path, notes: list[str]) -> Compilation:
    declared = admit(trained.model_bytes)
    require_fit(f"{GOLDEN_FILE}, inputs", trained.golden.inputs, declared.inputs)
    original = work / f"original-{MODEL_FILE}"
    original.write_bytes(trained.model_bytes)
    admitted = as_answered(declared, Session(original), trained.golden)
    _require_consistent(trained, admitted)
    notes.extend((*corrections(declared, admitted), *_notes_on_tensors(admitted), *_notes_on_locales(admitted)))
    reference = _fp32(original, trained, admitted, work, notes)
    variants = tuple(_variant(platform, trained, reference, work, order) for platform in order.platforms)
    write_samples(order.output / GOLDEN_FILE, trained.golden)
    if trained.baseline_bytes is not None:
        (order.output / BASELINE_FILE).write_bytes(trained.baseline_bytes)
    card = trained.card
    return Compilation(
        model_name=card.model_name,
        component_name=card.component_name,
        opsets=admitted.opsets,
        inputs=admitted.inputs,
        outputs=admitted.outputs,
        variants=variants,
        features=card.features,
        watched_outputs=card.watched_outputs,
        nan_policy=card.nan_policy,
        lineage={**order.lineage, "metrics": dict(card.metrics)},
    )


def _notes_on_tensors(admitted: Admitted) -> Iterator[str]:
    """Said before it is published, since a device would say it to each client."""
    strange = [spec.name for spec in (*admitted.inputs, *admitted.outputs) if spec.dtype in NO_SHARED_MEMORY]
    if strange:
        yield (
            f"the fast path carries no {' and no '.join(NO_SHARED_MEMORY)} ({', '.join(strange)}): clients must ask this "
            "model through the Open Inference Protocol, whose door is off unless configured"
        )


def _notes_on_locales(admitted: Admitted) -> Iterator[str]:
    """ONNX Runtime asks the system for a locale to change the case of text, or to compare it without case."""
    for node in nodes_of(admitted.model):
        if node.op_type != "StringNormalizer":
            continue
        given = {attribute.name: attribute.s.decode() or attribute.i for attribute in node.attribute}
        keeps_case = given.get("case_change_action", "NONE") == "NONE" and given.get("is_case_sensitive", 0)
        locale = given.get("locale", "en_US")
        if locale != "C" and not keeps_case:
            yield f"each device must have the locale {locale}, which small ones lack: StringNormalizer asks for it"


def _require_consistent(trained: TrainedModel, admitted: Admitted) -> None:
    """Samples and watched columns must be the graph's own."""
    require_fit(f"{GOLDEN_FILE}, outputs", trained.golden.outputs, admitted.outputs)
    require_fit("the evaluation samples", probe_of(trained).inputs, admitted.inputs)
    if trained.calibration is not None:
        require_fit("the calibration samples", trained.calibration.inputs, admitted.inputs)
    inputs = {spec.name: spec for spec in admitted.inputs}
    outputs = {spec.name: spec for spec in admitted.outputs}
    watched = [(feature.name, feature.input, feature.index, inputs) for feature in trained.card.features]
    watched += [(output.name, output.output, output.index, outputs) for output in trained.card.watched_outputs]
    for name, tensor, index, known in watched:
        problem = _why_not_watched(known.get(tensor), index)
        if problem:
            raise ArtifactError(
                f"model.json: {name!r} watches column {index} of {tensor!r}, {problem}",
                "Correct what the training script writes as features and watched_outputs.",
            )


def _why_not_watched(spec: TensorSpec | None, index: int) -> str:
    """As a device sees it, which would only log it: of a scalar, and of a batch's axis alone, there is column 0."""
    if spec is not None and spec.dtype in ("string", "bfloat16"):
        return f"which is {spec.dtype} and cannot be counted"
    width = 0 if spec is None else 1 if spec.shape in ((), (-1,)) else spec.shape[-1]
    return "which is not there" if 0 <= width <= index else ""


def _fp32(original: Path, trained: TrainedModel, admitted: Admitted, work: Path, notes: list[str]) -> Candidate:
    """The simplified graph if it passes, else the graph as it came; what int8 is made from and compared with."""
    as_it_came = try_fp32(original, trained)
    if as_it_came.refusal is not None:
        raise GateError(
            as_it_came.refusal.sentence, "Make the golden outputs with this very graph, by ONNX Runtime on a CPU."
        )
    slim = work / f"slim-{MODEL_FILE}"
    try:
        simplify(admitted.model, slim)
    except VariantError as error:
        notes.append(f"the graph is used as it came: {error}")
        return as_it_came
    simplified = try_fp32(slim, trained)
    if simplified.refusal is not None:
        notes.append(f"the graph is used as it came; simplified it fails a gate: {simplified.refusal.sentence}")
        return as_it_came
    return simplified


def _variant(platform: str, trained: TrainedModel, reference: Candidate, work: Path, order: Order) -> Variant:
    """Choose for one platform, and copy the chosen graph into its folder."""
    candidate, reason = None, "int8 was not tried: fp32 was asked for"
    if order.precision != FP32:
        candidate, reason = _int8(platform, trained, reference, work)
    chosen = candidate if candidate is not None and not reason else reference
    folder = platform.replace("/", "-")
    (order.output / folder).mkdir(exist_ok=True)
    shutil.copyfile(chosen.path, order.output / folder / MODEL_FILE)
    return Variant(
        platform=platform,
        precision=chosen.precision,
        model_path=f"{folder}/{MODEL_FILE}",
        golden=chosen.golden,
        reason=reason,
        verdicts=(*reference.verdicts, *(candidate.verdicts if candidate is not None else ())),
    )


def _int8(platform: str, trained: TrainedModel, reference: Candidate, work: Path) -> tuple[Candidate | None, str]:
    """The int8 candidate, and why it may not be chosen (empty if it may)."""
    if trained.calibration is None:
        return None, "int8 was not tried: there are no calibration samples"
    path = work / f"int8-{platform.replace('/', '-')}-{MODEL_FILE}"
    try:
        quantise(reference.path, path, trained.calibration, platform)
    except VariantError as error:
        return None, str(error)
    candidate = try_int8(path, trained, reference)
    return candidate, candidate.refusal.sentence if candidate.refusal is not None else ""


def read_order(arguments: Sequence[str], environment: Mapping[str, str]) -> tuple[Order, Path]:
    """What to compile, and where the job's exit message goes.

    Lineage comes from the environment, ``EDGEWRIGHT_LINEAGE_<NAME>``: a state machine can fill in an environment's
    values when it runs, but not single elements of a list of arguments.
    """
    parser = argparse.ArgumentParser(prog="python3 -m cloud.compilation.stage", description="Compile a trained model.")
    parser.add_argument("--input", type=Path, required=True, help="folder with model.tar.gz, or with its files")
    parser.add_argument("--output", type=Path, required=True, help="the compilation folder to write")
    parser.add_argument("--platform", action="append", choices=PLATFORMS, help="may be repeated; all if absent")
    parser.add_argument("--precision", choices=PRECISIONS, default=AUTO, help="fp32: no int8 is tried")
    parser.add_argument("--message", type=Path, default=Path("/opt/ml/output/message"), help="the job's exit message")
    chosen = parser.parse_args(arguments)
    prefix = "EDGEWRIGHT_LINEAGE_"
    lineage = {
        name.removeprefix(prefix).lower(): value for name, value in environment.items() if name.startswith(prefix)
    }
    platforms = tuple(chosen.platform or PLATFORMS)
    return Order(chosen.input, chosen.output, platforms, lineage, chosen.precision), chosen.message


def main() -> int:
    """Run the stage and answer with its exit code."""
    order, message = read_order(sys.argv[1:], os.environ)
    report = compile_model(order)
    sys.stdout.write(report.to_text())
    if not report.was_refused:
        return 0
    if message.parent.is_dir():
        text = f"{report.sentence} {report.remedy}".strip()
        message.write_text(text[:MESSAGE_CHARS_MAX])
    return REFUSED_EXIT_CODE


if __name__ == "__main__":
    raise SystemExit(main())
