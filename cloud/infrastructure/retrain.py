"""The retraining state machine: drift event in, next version published. Pure.

Train → Compile → Publish, each a SageMaker job that the machine waits for. Each request is rendered by the same builder
that the command line uses, so the two cannot drift apart. Publishing registers the version as well (the stage does both,
so that a version that exists is always in the registry). Rolling the version out is nobody's decision here.

Every job is named after the incident, so that an event delivered twice, or a machine started twice, trains once: the
second run ends at ``Train`` with ResourceInUse. A model that is no better than the one in service ends the machine there
too, with the training script's reason. The whole has a deadline, which leaves each job the time that ``model.toml`` gives
it.
"""

from dataclasses import dataclass
from typing import Any

from cloud.compilation.request import CompilationRun, compilation_request
from cloud.infrastructure.state_parameters import state_parameters
from cloud.publishing.request import PublicationRun, publication_request
from cloud.settings import Settings
from cloud.training.request import TrainingRun, training_request
from cloud.training.specification import Specification

WAITING_S = 3_600
"""For machines to be found and images to be pulled, over all jobs: SageMaker's own limits begin after that."""

INCIDENT = "$.detail.incident_id"
VERSION = "$.detail.model_version"
TASK = "arn:aws:states:::sagemaker:{}.sync"


@dataclass(frozen=True, slots=True)
class Retraining:
    """What a model's machine is made for.

    Attributes:
        specification: ``model.toml``.
        code_uri: S3 prefix with its sources.
        data_uri: S3 prefix with the training data, which grows.
        hyperparameters: override the specification's, for retraining only.
    """

    specification: Specification
    code_uri: str
    data_uri: str
    hyperparameters: dict[str, str]


def definition(retraining: Retraining, settings: Settings) -> dict[str, Any]:
    """The machine in Amazon States Language. Its input is EventBridge's drift event (see ``cloud.drift.journal``)."""
    model = retraining.specification.model_name
    return {
        "Comment": f"Retrain {model} when it no longer fits the world. Rendered by edgewright setup.",
        "StartAt": "Train",
        "TimeoutSeconds": timeout_s(retraining.specification),
        "States": {
            "Train": {
                **_job("createTrainingJob", _training(retraining, settings), "Compile"),
                "ResultSelector": {
                    "artifact_uri.$": "$.ModelArtifacts.S3ModelArtifacts",
                    "job_arn.$": "$.TrainingJobArn",
                },
                "ResultPath": "$.train",
            },
            "Compile": {
                **_job("createProcessingJob", _compilation(retraining, settings), "Publish"),
                "ResultSelector": {"output_uri.$": "$.ProcessingOutputConfig.Outputs[0].S3Output.S3Uri"},
                "ResultPath": "$.compile",
            },
            "Publish": {
                **_job("createProcessingJob", _publication(retraining, settings), None),
                "ResultSelector": {"output_uri.$": "$.ProcessingOutputConfig.Outputs[0].S3Output.S3Uri"},
                "ResultPath": "$.publish",
            },
        },
    }


def timeout_s(specification: Specification) -> int:
    """The longest that a retraining may take."""
    machines = (specification.training, specification.compilation, specification.publication)
    return sum(machine.max_runtime_s for machine in machines) + WAITING_S


def named(step: str) -> str:
    """The name of an incident's job, as an intrinsic function."""
    return f"States.Format('{{}}-{step}', {INCIDENT})"


def _job(action: str, request: dict[str, Any], then: str | None) -> dict[str, Any]:
    state: dict[str, Any] = {"Type": "Task", "Resource": TASK.format(action), "Parameters": state_parameters(request)}
    return state | ({"Next": then} if then else {"End": True})


def _training(retraining: Retraining, settings: Settings) -> dict[str, Any]:
    specification = retraining.specification
    incumbent = f"s3://{settings.bucket}/incumbents/{specification.model_name}"
    run = TrainingRun(
        job_name=named("train"),
        role_arn=settings.role_arn,
        image=settings.job_image,
        code_uri=retraining.code_uri,
        data_uri=retraining.data_uri,
        output_uri=f"s3://{settings.bucket}/training",
        incumbent_uri=f"States.Format('{incumbent}/{{}}/', {VERSION})",
        hyperparameters=retraining.hyperparameters,
        tags={"edgewright:model": specification.model_name},
    )
    return training_request(specification, run)


def _compilation(retraining: Retraining, settings: Settings) -> dict[str, Any]:
    run = CompilationRun(
        job_name=named("compile"),
        role_arn=settings.role_arn,
        image=settings.job_image,
        artifact_uri="$.train.artifact_uri",
        output_uri=f"States.Format('s3://{settings.bucket}/compilations/{{}}', {INCIDENT})",
        platforms=retraining.specification.platforms,
        lineage={
            "training_job_arn": "$.train.job_arn",
            "artifact_uri": "$.train.artifact_uri",
            "incident_id": INCIDENT,
        },
        machine=retraining.specification.compilation,
    )
    return compilation_request(run)


def _publication(retraining: Retraining, settings: Settings) -> dict[str, Any]:
    run = PublicationRun(
        job_name=named("publish"),
        role_arn=settings.role_arn,
        image=settings.job_image,
        compilation_uri="$.compile.output_uri",
        output_uri=f"States.Format('s3://{settings.bucket}/retrained/{{}}', {INCIDENT})",
        bucket=settings.bucket,
        signing_key=settings.signing_key,
        machine=retraining.specification.publication,
    )
    return publication_request(run)
