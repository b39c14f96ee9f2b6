"""The publishing stage as a processing job: what :mod:`cloud.publishing.stage` is told, and where. Pure."""

from dataclasses import dataclass
from typing import Any

from cloud.jobs.processing import SMALL_MACHINE, Folder, Machine, Stage, processing_request
from cloud.publishing.versions import AUTO

INPUT_PATH = "/opt/ml/processing/input/compilation"
OUTPUT_PATH = "/opt/ml/processing/output"


@dataclass(frozen=True, slots=True)
class PublicationRun:
    """What changes from run to run.

    Attributes:
        job_name, role_arn, machine: see :class:`~cloud.jobs.processing.Stage`.
        image: container image with the ``[cloud]`` extra.
        compilation_uri: S3 prefix of a compilation folder.
        output_uri: S3 prefix for ``publication.json``.
        bucket: where records and artifacts go.
        signing_key: ``kms:<key id, alias/name or ARN>``; a key file would not be in the container.
        version: three numbers, or ``auto`` for the next minor version.
    """

    job_name: str
    role_arn: str
    image: str
    compilation_uri: str
    output_uri: str
    bucket: str
    signing_key: str
    version: str = AUTO
    machine: Machine = SMALL_MACHINE


def publication_request(run: PublicationRun) -> dict[str, Any]:
    """Render CreateProcessingJob's parameters."""
    stage = Stage(
        job_name=run.job_name,
        role_arn=run.role_arn,
        image=run.image,
        module="cloud.publishing.stage",
        arguments=(
            "--compilation", INPUT_PATH, "--output", OUTPUT_PATH, "--version", run.version,
            "--bucket", run.bucket, "--key", run.signing_key,
        ),
        source=Folder("compilation", run.compilation_uri, INPUT_PATH),
        target=Folder("publication", run.output_uri, OUTPUT_PATH),
        machine=run.machine,
    )  # fmt: skip
    return processing_request(stage)
