"""The container contract of SageMaker jobs: the files below ``/opt/ml`` and the variables, as pure functions.

Sources: "How Amazon SageMaker AI provides training information" and "Run scripts with your own processing container"
(developer guide), and the variables of sagemaker-training (its README), which scripts expect under any entry point.
Hyperparameters arrive as strings in ``hyperparameters.json``, and decoded where they are JSON in ``SM_HPS``.

It writes nothing (:mod:`simulator.aws.job_runs` does) and runs nothing (:mod:`simulator.aws.container`).
"""

import json
import os
import re
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from simulator.aws.container import ML_ROOT
from simulator.aws.json_types import Json

HOST = "algo-1"
MODEL_DIR = f"{ML_ROOT}/model"
OUTPUT_DATA_DIR = f"{ML_ROOT}/output/data"
FAILURE_FILE = f"{ML_ROOT}/output/failure"
MESSAGE_FILE = f"{ML_ROOT}/output/message"
CHECKPOINTS_DIR = f"{ML_ROOT}/checkpoints"
HOME_DIR = f"{ML_ROOT}/home"
TRAINING_DIRS = (
    MODEL_DIR,
    OUTPUT_DATA_DIR,
    f"{ML_ROOT}/input/config",
    f"{ML_ROOT}/code",
    CHECKPOINTS_DIR,
    HOME_DIR,
)
PROCESSING_DIRS = (f"{ML_ROOT}/config", f"{ML_ROOT}/output", f"{ML_ROOT}/processing", HOME_DIR)

Request = Mapping[str, Any]
"""The parameters of CreateTrainingJob or CreateProcessingJob, by the service model's names."""


@dataclass(frozen=True, slots=True)
class Platform:
    """What every job of this local cloud sees of it: what an image, a role and an instance give on AWS.

    Attributes:
        url: the AWS endpoint.
        region: AWS region.
        program_dir: folder of the interpreter that ``python3`` means.
        import_root: folder that holds the Edgewright packages.
        cpu_count: what ``SM_NUM_CPUS`` says.
    """

    url: str
    region: str
    program_dir: Path
    import_root: Path
    cpu_count: int

    @classmethod
    def of_this_process(cls, url: str, region: str) -> "Platform":
        """Jobs get the interpreter, and hence the packages, of the local cloud."""
        root = Path(__file__).resolve().parents[2]
        return cls(url, region, Path(sys.executable).parent, root, os.cpu_count() or 1)

    def environment(self) -> dict[str, str]:
        """The variables of any job."""
        return {
            "PATH": f"{self.program_dir}:/usr/local/bin:/usr/bin:/bin",
            "PYTHONPATH": str(self.import_root),
            "PYTHONUNBUFFERED": "1",
            "LANG": "C.UTF-8",
            "HOME": HOME_DIR,
            "TMPDIR": HOME_DIR,
            "AWS_ENDPOINT_URL": self.url,
            "AWS_ACCESS_KEY_ID": "local",
            "AWS_SECRET_ACCESS_KEY": "local",
            "AWS_REGION": self.region,
            "AWS_DEFAULT_REGION": self.region,
            "AWS_EC2_METADATA_DISABLED": "true",
            "ORT_DISABLE_TELEMETRY": "1",
        }


def channel_dir(name: str) -> str:
    """Where a training channel's files are."""
    return f"{ML_ROOT}/input/data/{name}"


def training_files(request: Request) -> dict[str, str]:
    """The configuration files of a training job, by path."""
    config = f"{ML_ROOT}/input/config"
    return {
        f"{config}/hyperparameters.json": json.dumps(dict(request.get("HyperParameters") or {})),
        f"{config}/resourceconfig.json": json.dumps(_resources(request["ResourceConfig"].get("InstanceType"))),
        f"{config}/inputdataconfig.json": json.dumps(
            {channel["ChannelName"]: _channel(channel) for channel in channels(request)}
        ),
    }


def training_environment(request: Request, job_arn: str, platform: Platform) -> dict[str, str]:
    """All variables of a training job; the request's own ``Environment`` wins."""
    hyperparameters = {name: _decoded(text) for name, text in (request.get("HyperParameters") or {}).items()}
    names = [channel["ChannelName"] for channel in channels(request)]
    return {
        **platform.environment(),
        "TRAINING_JOB_NAME": request["TrainingJobName"],
        "TRAINING_JOB_ARN": job_arn,
        "SM_MODEL_DIR": MODEL_DIR,
        "SM_OUTPUT_DIR": f"{ML_ROOT}/output",
        "SM_OUTPUT_DATA_DIR": OUTPUT_DATA_DIR,
        "SM_INPUT_DIR": f"{ML_ROOT}/input",
        "SM_INPUT_CONFIG_DIR": f"{ML_ROOT}/input/config",
        "SM_CHANNELS": json.dumps(names),
        **{f"SM_CHANNEL_{_variable(name)}": channel_dir(name) for name in names},
        "SM_HPS": json.dumps(hyperparameters),
        **{f"SM_HP_{_variable(name)}": _as_text(value) for name, value in hyperparameters.items()},
        "SM_USER_ARGS": json.dumps(list(request["AlgorithmSpecification"].get("ContainerArguments") or ())),
        "SM_HOSTS": json.dumps([HOST]),
        "SM_CURRENT_HOST": HOST,
        "SM_CURRENT_INSTANCE_TYPE": request["ResourceConfig"].get("InstanceType") or "local",
        "SM_NUM_CPUS": str(platform.cpu_count),
        "SM_NUM_GPUS": "0",
        "SM_LOG_LEVEL": "20",
        **(request.get("Environment") or {}),
    }


def processing_files(request: Request, job_arn: str) -> dict[str, str]:
    """The configuration files of a processing job, by path."""
    cluster = request["ProcessingResources"]["ClusterConfig"]
    described = {"ProcessingJobArn": job_arn, **request}
    return {
        f"{ML_ROOT}/config/processingjobconfig.json": json.dumps(described, default=str),
        f"{ML_ROOT}/config/resourceconfig.json": json.dumps(_resources(cluster.get("InstanceType"))),
    }


def processing_environment(request: Request, job_arn: str, platform: Platform) -> dict[str, str]:
    """All variables of a processing job; the request's own ``Environment`` wins."""
    return {
        **platform.environment(),
        "PROCESSING_JOB_NAME": request["ProcessingJobName"],
        "PROCESSING_JOB_ARN": job_arn,
        **(request.get("Environment") or {}),
    }


def channels(request: Request) -> Sequence[Mapping[str, Any]]:
    """A training job's input channels."""
    return request.get("InputDataConfig") or ()


def _channel(channel: Mapping[str, Any]) -> dict[str, str]:
    source = channel["DataSource"]["S3DataSource"]
    return {
        "TrainingInputMode": channel.get("InputMode") or "File",
        "S3DistributionType": source.get("S3DataDistributionType") or "FullyReplicated",
        "RecordWrapperType": channel.get("RecordWrapperType") or "None",
        **({"ContentType": channel["ContentType"]} if channel.get("ContentType") else {}),
    }


def _resources(instance_type: str | None) -> dict[str, Any]:
    kind = instance_type or "local"
    group = {"instance_group_name": "homogeneousCluster", "instance_type": kind, "hosts": [HOST]}
    return {
        "current_host": HOST,
        "current_instance_type": kind,
        "current_group_name": group["instance_group_name"],
        "hosts": [HOST],
        "instance_groups": [group],
        "network_interface_name": "lo",
    }


def _variable(name: str) -> str:
    return re.sub(r"[^A-Z0-9_]", "_", name.upper())


def _decoded(text: str) -> Any:  # noqa: ANN401 - whatever JSON holds
    try:
        return json.loads(text)
    except ValueError:
        return text


def _as_text(value: Json) -> str:
    return value if isinstance(value, str) else json.dumps(value)
