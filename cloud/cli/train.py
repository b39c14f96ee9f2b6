"""``edgewright train``: from a model folder to a finished training job; what it does is ``cloud.training.job``."""

import secrets
from dataclasses import asdict
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated

import typer

from cloud.aws.s3 import ObjectStore
from cloud.aws.sagemaker import SageMakerJobs
from cloud.aws.session import AwsSession
from cloud.cli.arguments import name_value_pairs
from cloud.cli.job_progress import print_followed, print_submitted, shown_job, submitting
from cloud.cli.output import OutputFormat, OutputOption, print_fields
from cloud.jobs.follow import first_look
from cloud.jobs.job import JobKind, job_name
from cloud.settings import Settings
from cloud.training.job import TrainingOrder, await_result, submit
from cloud.training.specification import Specification


def train(
    model_folder: Annotated[Path, typer.Argument(help="Folder with model.toml and the training script.")],
    data: Annotated[
        str, typer.Option(help="Training data: an S3 URI or a folder. Default: s3://<bucket>/data/<model>/.")
    ] = "",
    incumbent: Annotated[str, typer.Option(help="Model in service, to beat: S3 prefix or .onnx file.")] = "",
    hyperparameter: Annotated[list[str] | None, typer.Option(help="name=value; may be repeated.")] = None,
    name: Annotated[str, typer.Option(help="Job name; an existing job is followed. Default: a new one.")] = "",
    bucket: Annotated[str, typer.Option(help="S3 bucket. Default: EDGEWRIGHT_BUCKET.")] = "",
    wait: Annotated[bool, typer.Option(help="Follow the job to its end.")] = True,
    output: OutputOption = OutputFormat.TABLE,
) -> None:
    """Train a model on SageMaker.

    Interrupted, the job goes on; --name follows it again. A job that fails ends with its script's last lines.

    For example:

      edgewright train models/weather --data observations

      edgewright train models/weather --data s3://bucket/observations/ --hyperparameter max_iter=120 --no-wait -o json
    """
    settings = Settings.from_environment()
    specification = Specification.load(model_folder)
    session = AwsSession(settings.region)
    jobs = SageMakerJobs(session)
    chosen_bucket = bucket or settings.bucket
    order = TrainingOrder(
        job_name=name or job_name(specification.model_name, datetime.now(UTC), secrets.token_hex(3)),
        bucket=chosen_bucket,
        role_arn=settings.role_arn,
        image=settings.job_image,
        data=data or f"s3://{chosen_bucket}/data/{specification.model_name}/",
        incumbent=incumbent,
        hyperparameters=name_value_pairs(hyperparameter, "--hyperparameter"),
    )
    with submitting(order.job_name):
        is_new = submit(specification, order, ObjectStore(session), jobs)
    if not is_new:
        print_followed(order.job_name)
    if not wait:
        print_submitted(first_look(jobs, JobKind.TRAINING, order.job_name), output)
        return
    with shown_job("training", JobKind.TRAINING, order.job_name) as on_change:
        result = await_result(jobs, order.job_name, on_change)
    print_fields(asdict(result), output)
