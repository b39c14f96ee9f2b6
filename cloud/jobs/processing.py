"""One of our stages as a plain CreateProcessingJob request, for boto3 and for Step Functions alike. Pure.

A stage is a module of ours that reads one S3 prefix and writes another; what it is told beyond that is its arguments and
environment. Texts that a state machine knows only when it runs are JSONPaths or intrinsic functions; mark them with
``cloud.infrastructure.state_parameters``. Training jobs differ in every field: training/request.py.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from edge_component.contracts.codec import NOTHING


@dataclass(frozen=True, slots=True)
class Machine:
    """What a job runs on, and for how long at most."""

    instance_type: str
    volume_gb: int
    max_runtime_s: int
    instance_count: int = 1


SMALL_MACHINE = Machine(instance_type="ml.m5.large", volume_gb=10, max_runtime_s=900)


@dataclass(frozen=True, slots=True)
class Folder:
    """An S3 prefix, and the folder of the container that it is copied to or from; ``name`` is SageMaker's for the pair."""

    name: str
    uri: str
    path: str


@dataclass(frozen=True, slots=True)
class Stage:
    """What a processing job does.

    Attributes:
        job_name: unique in the account and region; at most 63 letters, digits and hyphens.
        role_arn: the role that the job assumes.
        image: container image that holds ``module``.
        module: run as ``python3 -m <module> <arguments>``.
        source, target: what it reads; what it leaves, copied to S3 at its end.
        machine: one instance.
        environment: variables of the container.
    """

    job_name: str
    role_arn: str
    image: str
    module: str
    arguments: tuple[str, ...]
    source: Folder
    target: Folder
    machine: Machine = SMALL_MACHINE
    environment: Mapping[str, str] = NOTHING


def processing_request(stage: Stage) -> dict[str, Any]:
    """Render CreateProcessingJob's parameters."""
    request: dict[str, Any] = {
        "ProcessingJobName": stage.job_name,
        "RoleArn": stage.role_arn,
        "AppSpecification": {
            "ImageUri": stage.image,
            "ContainerEntrypoint": ["python3", "-m", stage.module],
            "ContainerArguments": list(stage.arguments),
        },
        "ProcessingInputs": [_input(stage.source)],
        "ProcessingOutputConfig": {"Outputs": [_output(stage.target)]},
        "ProcessingResources": {
            "ClusterConfig": {
                "InstanceCount": 1,
                "InstanceType": stage.machine.instance_type,
                "VolumeSizeInGB": stage.machine.volume_gb,
            }
        },
        "StoppingCondition": {"MaxRuntimeInSeconds": stage.machine.max_runtime_s},
    }
    return request | ({"Environment": dict(stage.environment)} if stage.environment else {})


def _input(folder: Folder) -> dict[str, Any]:
    return {
        "InputName": folder.name,
        "S3Input": {
            "S3Uri": folder.uri,
            "LocalPath": folder.path,
            "S3DataType": "S3Prefix",
            "S3InputMode": "File",
            "S3DataDistributionType": "FullyReplicated",
            "S3CompressionType": "None",
        },
    }


def _output(folder: Folder) -> dict[str, Any]:
    return {
        "OutputName": folder.name,
        "S3Output": {"S3Uri": folder.uri, "LocalPath": folder.path, "S3UploadMode": "EndOfJob"},
    }
