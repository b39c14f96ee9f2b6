"""The compilation stage as a processing job: what :mod:`cloud.compilation.stage` is told, and where. Pure."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from cloud.compilation.result import AUTO
from cloud.jobs.processing import SMALL_MACHINE, Folder, Machine, Stage, processing_request
from edge_component.contracts.codec import NOTHING
from edge_component.contracts.manifest import PLATFORMS

INPUT_PATH = "/opt/ml/processing/input/model"
OUTPUT_PATH = "/opt/ml/processing/output"
MESSAGE_PATH = "/opt/ml/output/message"


@dataclass(frozen=True, slots=True)
class CompilationRun:
    """What changes from run to run.

    Attributes:
        job_name, role_arn, machine: see :class:`~cloud.jobs.processing.Stage`.
        image: container image with the ``[compile]`` extra.
        artifact_uri: S3 URI of ``model.tar.gz``, or of a prefix with its files.
        output_uri: S3 prefix that becomes the compilation folder.
        platforms: what is compiled for.
        lineage: where the model came from, kept in the compilation.
        precision: one of :data:`~cloud.compilation.result.PRECISIONS`.
    """

    job_name: str
    role_arn: str
    image: str
    artifact_uri: str
    output_uri: str
    platforms: tuple[str, ...] = PLATFORMS
    lineage: Mapping[str, str] = NOTHING
    machine: Machine = SMALL_MACHINE
    precision: str = AUTO


def compilation_request(run: CompilationRun) -> dict[str, Any]:
    """Render CreateProcessingJob's parameters."""
    chosen = [text for platform in run.platforms for text in ("--platform", platform)]
    if run.precision != AUTO:
        chosen += ["--precision", run.precision]
    stage = Stage(
        job_name=run.job_name,
        role_arn=run.role_arn,
        image=run.image,
        module="cloud.compilation.stage",
        arguments=("--input", INPUT_PATH, "--output", OUTPUT_PATH, "--message", MESSAGE_PATH, *chosen),
        source=Folder("model", run.artifact_uri, INPUT_PATH),
        target=Folder("compilation", run.output_uri, OUTPUT_PATH),
        machine=run.machine,
        # not arguments: a state machine can fill in an environment's values, but no single element of a list
        environment={f"EDGEWRIGHT_LINEAGE_{name.upper()}": value for name, value in run.lineage.items()},
    )
    return processing_request(stage)
