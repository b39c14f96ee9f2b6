"""Submit a training job and bring back what it made.

The failure this exists for: a job that reads something else than what was meant. So the sources and, where a folder is
given, the data are copied below the job's own S3 prefix before it starts: what trained a model can always be read again.

Submitting again under the same name does not start a second job and uploads nothing: it follows the first.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from cloud.errors import InvalidInputError
from cloud.jobs.follow import FollowLimits, OnChange, follow
from cloud.jobs.job import JobKind, Jobs, JobState
from cloud.jobs.start import start_once, was_started
from cloud.s3_uri import S3Uri
from cloud.training.request import TrainingRun, training_request
from cloud.training.specification import Specification

DATA_BYTES_MAX = 5_000_000_000
"""A data folder larger than this is better copied to S3 once, and given by its URI."""


class Uploads(Protocol):
    """Where sources and data are copied to."""

    def put_file(self, uri: S3Uri, path: Path) -> None:
        """Write a file's bytes, whatever was there."""


@dataclass(frozen=True, slots=True)
class TrainingOrder:
    """What is asked for.

    Attributes:
        job_name: see ``cloud.jobs.job.job_name``.
        bucket: everything of the job lies below ``s3://<bucket>/training/<job_name>/``.
        role_arn, image: of the job.
        data: ``s3://…`` of the training data, or a folder that is copied.
        incumbent: ``s3://…`` prefix of the model in service, or its ``.onnx`` file; empty where there is none.
        hyperparameters: override the specification's.
    """

    job_name: str
    bucket: str
    role_arn: str
    image: str
    data: str
    incumbent: str = ""
    hyperparameters: Mapping[str, str] | None = None

    @property
    def prefix(self) -> S3Uri:
        """Where the job's own objects lie."""
        return S3Uri(self.bucket, f"training/{self.job_name}")


@dataclass(frozen=True, slots=True)
class TrainingResult:
    """What a completed job made."""

    job_name: str
    job_arn: str
    artifact_uri: str
    metrics: Mapping[str, float]
    duration_s: float


def submit(specification: Specification, order: TrainingOrder, uploads: Uploads, jobs: Jobs) -> bool:
    """Copy what the job reads, and start it; ``False`` if one of that name exists: it and what it has read are left alone.

    Raises:
        InvalidInputError: data, incumbent or a hyperparameter cannot be used; nothing was started.
        UnavailableError: AWS did not answer; submit again under the same name.
    """
    specification.check_hyperparameters(order.hyperparameters or {})
    if was_started(jobs, JobKind.TRAINING, order.job_name):
        return False
    for source in specification.job_files:
        uploads.put_file(order.prefix / "code" / source, specification.folder / source)
    run = TrainingRun(
        job_name=order.job_name,
        role_arn=order.role_arn,
        image=order.image,
        code_uri=f"{order.prefix / 'code'}/",
        data_uri=_data_uri(order, uploads),
        output_uri=f"s3://{order.bucket}/training",
        incumbent_uri=_incumbent_uri(order, uploads),
        hyperparameters=order.hyperparameters,
        tags={"edgewright:model": specification.model_name},
    )
    return start_once(jobs, JobKind.TRAINING, order.job_name, training_request(specification, run))


def await_result(
    jobs: Jobs,
    job_name: str,
    on_change: OnChange = lambda _: None,
    limits: FollowLimits = FollowLimits(),  # noqa: B008 - frozen
) -> TrainingResult:
    """Follow a training job to its end.

    Raises:
        JobFailedError: with SageMaker's reason and the script's last lines.
        JobUnfinishedError: it goes on.
    """
    return result_of(follow(jobs, JobKind.TRAINING, job_name, on_change, limits))


def result_of(state: JobState) -> TrainingResult:
    """A completed job's result."""
    return TrainingResult(state.name, state.arn, state.output_uri, state.metrics, state.duration_s)


def _data_uri(order: TrainingOrder, uploads: Uploads) -> str:
    if "://" in order.data:
        return str(S3Uri.parse(order.data))
    folder = Path(order.data)
    paths = sorted(path for path in folder.rglob("*") if path.is_file() and not _is_hidden(path.relative_to(folder)))
    if not paths:
        raise InvalidInputError(f"{folder} holds no data", "Give a folder with files, or an S3 URI.")
    _upload(uploads, order.prefix / "data", folder, paths)
    return f"{order.prefix / 'data'}/"


def _is_hidden(path: Path) -> bool:
    return any(part.startswith(".") for part in path.parts)


def _upload(uploads: Uploads, prefix: S3Uri, folder: Path, paths: Iterable[Path]) -> None:
    size_bytes = sum(path.stat().st_size for path in paths)
    if size_bytes > DATA_BYTES_MAX:
        raise InvalidInputError(
            f"{folder} holds {size_bytes} bytes; {DATA_BYTES_MAX} are copied at most",
            "Copy the data to S3 once, and give its URI.",
        )
    for path in paths:
        uploads.put_file(prefix / path.relative_to(folder).as_posix(), path)


def _incumbent_uri(order: TrainingOrder, uploads: Uploads) -> str:
    if not order.incumbent or "://" in order.incumbent:
        return str(S3Uri.parse(order.incumbent)) if order.incumbent else ""
    path = Path(order.incumbent)
    if not path.is_file():
        raise InvalidInputError(f"{path} is not a file", "Give the .onnx file of the model in service.")
    uploads.put_file(order.prefix / "incumbent" / "model.onnx", path)
    return f"{order.prefix / 'incumbent'}/"
