"""The publishing stage as a plain CreateProcessingJob request, for boto3 and for Step Functions alike. Pure.

Texts that a state machine knows only when it runs are JSONPaths or intrinsic functions; mark them with
``cloud.training.request.state_parameters``.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

INPUT_FOLDER = "/opt/ml/processing/input/compilation"
OUTPUT_FOLDER = "/opt/ml/processing/output"
OUTPUT_NAME = "publication"


@dataclass(frozen=True, slots=True)
class PublicationRun:
    """What changes from run to run.

    Attributes:
        job_name: unique in the account and region; at most 63 letters, digits and hyphens.
        role_arn: the role that the job assumes.
        image: container image with the ``[cloud]`` extra.
        compilation_uri: S3 prefix of a compilation folder.
        output_uri: S3 prefix for ``publication.json``.
        bucket: where records and artifacts go.
        signing_key: ``kms:<key id or alias>``; a key file would not be in the container.
        version: three numbers, or ``auto`` for the next minor version.
        instance_type, volume_gb, max_runtime_s: the machine.
        tags: on the job.
    """

    job_name: str
    role_arn: str
    image: str
    compilation_uri: str
    output_uri: str
    bucket: str
    signing_key: str
    version: str = "auto"
    instance_type: str = "ml.m5.large"
    volume_gb: int = 10
    max_runtime_s: int = 900
    tags: Mapping[str, str] | None = None


def publication_request(run: PublicationRun) -> dict[str, Any]:
    """Render CreateProcessingJob's parameters."""
    arguments = ["--compilation", INPUT_FOLDER, "--output", OUTPUT_FOLDER, "--version", run.version]
    arguments += ["--bucket", run.bucket, "--key", run.signing_key]
    request: dict[str, Any] = {
        "ProcessingJobName": run.job_name,
        "RoleArn": run.role_arn,
        "AppSpecification": {
            "ImageUri": run.image,
            "ContainerEntrypoint": ["python3", "-m", "cloud.publishing.stage"],
            "ContainerArguments": arguments,
        },
        "ProcessingInputs": [
            {
                "InputName": "compilation",
                "S3Input": {
                    "S3Uri": run.compilation_uri,
                    "LocalPath": INPUT_FOLDER,
                    "S3DataType": "S3Prefix",
                    "S3InputMode": "File",
                    "S3DataDistributionType": "FullyReplicated",
                    "S3CompressionType": "None",
                },
            }
        ],
        "ProcessingOutputConfig": {
            "Outputs": [
                {
                    "OutputName": OUTPUT_NAME,
                    "S3Output": {"S3Uri": run.output_uri, "LocalPath": OUTPUT_FOLDER, "S3UploadMode": "EndOfJob"},
                }
            ]
        },
        "ProcessingResources": {
            "ClusterConfig": {
                "InstanceCount": 1,
                "InstanceType": run.instance_type,
                "VolumeSizeInGB": run.volume_gb,
            }
        },
        "StoppingCondition": {"MaxRuntimeInSeconds": run.max_runtime_s},
    }
    if run.tags:
        request["Tags"] = [{"Key": key, "Value": value} for key, value in run.tags.items()]
    return request
