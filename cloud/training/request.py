"""A specification as a plain CreateTrainingJob request, for boto3 and for Step Functions alike. Pure.

The failure this exists for: a retraining state machine whose request drifts away from what ``edgewright train`` asks
for. Both are rendered here; where a state machine knows a value only when it runs, that value is a JSONPath (``$.…``)
or an intrinsic function (``States.…``), which ``cloud.infrastructure.state_parameters`` marks as such.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from cloud.training.specification import Specification

CODE_FOLDER = "/opt/ml/input/data/code"
ARTIFACT_FILE = "model.tar.gz"


@dataclass(frozen=True, slots=True)
class TrainingRun:
    """What changes from run to run. Every text may be a JSONPath or an intrinsic function of a state machine.

    Attributes:
        job_name: unique in the account and region; at most 63 letters, digits and hyphens.
        role_arn: the role that the job assumes.
        image: container image.
        code_uri: S3 prefix with the specification's sources.
        data_uri: S3 prefix with the training data.
        output_uri: S3 prefix; the artifact is ``<output_uri>/<job_name>/output/model.tar.gz``.
        incumbent_uri: S3 prefix with the ``model.onnx`` in service, or empty.
        hyperparameters: override the specification's.
        tags: on the job.
    """

    job_name: str
    role_arn: str
    image: str
    code_uri: str
    data_uri: str
    output_uri: str
    incumbent_uri: str = ""
    hyperparameters: Mapping[str, str] | None = None
    tags: Mapping[str, str] | None = None


def training_request(specification: Specification, run: TrainingRun) -> dict[str, Any]:
    """Render CreateTrainingJob's parameters."""
    channels = {"code": run.code_uri, "training": run.data_uri}
    if run.incumbent_uri:
        channels["incumbent"] = run.incumbent_uri
    machine = specification.training
    request: dict[str, Any] = {
        "TrainingJobName": run.job_name,
        "RoleArn": run.role_arn,
        "AlgorithmSpecification": {
            "TrainingImage": run.image,
            "TrainingInputMode": "File",
            "ContainerEntrypoint": ["python3", f"{CODE_FOLDER}/{specification.entry_point}"],
            "MetricDefinitions": [{"Name": name, "Regex": regex} for name, regex in specification.metrics.items()],
        },
        "HyperParameters": {**specification.hyperparameters, **(run.hyperparameters or {})},
        "InputDataConfig": [_channel(name, uri) for name, uri in channels.items()],
        "OutputDataConfig": {"S3OutputPath": run.output_uri},
        "ResourceConfig": {
            "InstanceType": machine.instance_type,
            "InstanceCount": machine.instance_count,
            "VolumeSizeInGB": machine.volume_gb,
        },
        "StoppingCondition": {"MaxRuntimeInSeconds": machine.max_runtime_s},
    }
    if run.tags:
        request["Tags"] = [{"Key": key, "Value": value} for key, value in run.tags.items()]
    return request


def _channel(name: str, uri: str) -> dict[str, Any]:
    return {
        "ChannelName": name,
        "InputMode": "File",
        "DataSource": {
            "S3DataSource": {"S3DataType": "S3Prefix", "S3Uri": uri, "S3DataDistributionType": "FullyReplicated"}
        },
    }
