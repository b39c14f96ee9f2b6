"""The compilation stage as a plain CreateProcessingJob request, for boto3 and for Step Functions alike. Pure.

Texts that a state machine knows only when it runs are JSONPaths or intrinsic functions; mark them with
``cloud.training.request.state_parameters``.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from edge_component.contracts.codec import NOTHING
from edge_component.contracts.manifest import PLATFORMS

INPUT_FOLDER = "/opt/ml/processing/input/model"
OUTPUT_FOLDER = "/opt/ml/processing/output"
MESSAGE_FILE = "/opt/ml/output/message"
OUTPUT_NAME = "compilation"


@dataclass(frozen=True, slots=True)
class CompilationRun:
    """What changes from run to run.

    Attributes:
        job_name: unique in the account and region; at most 63 letters, digits and hyphens.
        role_arn: the role that the job assumes.
        image: container image with the ``[compile]`` extra.
        artifact_uri: S3 URI of ``model.tar.gz``, or of a prefix with its files.
        output_uri: S3 prefix that becomes the compilation folder.
        platforms: what is compiled for.
        lineage: where the model came from, kept in the compilation.
        instance_type, volume_gb, max_runtime_s: the machine.
        tags: on the job.
    """

    job_name: str
    role_arn: str
    image: str
    artifact_uri: str
    output_uri: str
    platforms: tuple[str, ...] = PLATFORMS
    lineage: Mapping[str, str] = NOTHING
    instance_type: str = "ml.m5.large"
    volume_gb: int = 10
    max_runtime_s: int = 900
    tags: Mapping[str, str] | None = None


def compilation_request(run: CompilationRun) -> dict[str, Any]:
    """Render CreateProcessingJob's parameters."""
    arguments = ["--input", INPUT_FOLDER, "--output", OUTPUT_FOLDER, "--message", MESSAGE_FILE]
    arguments += [text for platform in run.platforms for text in ("--platform", platform)]
    request: dict[str, Any] = {
        "ProcessingJobName": run.job_name,
        "RoleArn": run.role_arn,
        "AppSpecification": {
            "ImageUri": run.image,
            "ContainerEntrypoint": ["python3", "-m", "cloud.compilation.stage"],
            "ContainerArguments": arguments,
        },
        "ProcessingInputs": [
            {
                "InputName": "model",
                "S3Input": {
                    "S3Uri": run.artifact_uri,
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
    if run.lineage:
        request["Environment"] = {f"EDGEWRIGHT_LINEAGE_{name.upper()}": value for name, value in run.lineage.items()}
    if run.tags:
        request["Tags"] = [{"Key": key, "Value": value} for key, value in run.tags.items()]
    return request
