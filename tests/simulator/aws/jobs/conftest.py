"""A local cloud whose jobs run under each isolation, a bucket with some rows, and jobs in one call."""

import functools
import time
import uuid

import pytest

from simulator.aws import sagemaker, server
from simulator.aws.container import ContainerLimits, Isolation, available_isolation
from simulator.aws.job_runs import JobLimits
from simulator.aws.server import CloudOptions, LocalCloud

BUCKET = "jobs-bucket"
ROLE = "arn:aws:iam::123456789012:role/edgewright"


@pytest.fixture(scope="module", params=list(Isolation), ids=lambda isolation: isolation.value)
def isolation(request):
    if request.param is Isolation.BUBBLEWRAP and available_isolation() is not Isolation.BUBBLEWRAP:
        pytest.skip("bubblewrap (apt install bubblewrap) is not usable here")
    return request.param


@pytest.fixture(scope="module")
def local_cloud(tmp_path_factory, isolation):
    limits = JobLimits(ContainerLimits(stop_grace_s=5), sync_interval_s=0.05, shutdown_grace_s=1, isolation=isolation)
    installs = [
        functools.partial(sagemaker.install, limits=limits) if install is sagemaker.install else install
        for install in server.SERVICES
    ]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(server, "SERVICES", tuple(installs))
        with LocalCloud(CloudOptions(tmp_path_factory.mktemp("cloud"))) as running:
            yield running


@pytest.fixture(scope="module")
def s3(client):
    made = client("s3")
    made.create_bucket(Bucket=BUCKET)
    made.put_object(Bucket=BUCKET, Key="data/part/rows.csv", Body=b"1,2,3")
    return made


@pytest.fixture
def train(client, s3):
    """Start a training job of a script; its name."""

    def start(script: str, name: str | None = None, arguments: tuple[str, ...] = (), **request: object) -> str:
        name = name or f"job-{uuid.uuid4().hex}"
        s3.put_object(Bucket=BUCKET, Key=f"code/{name}/training.py", Body=script.encode())
        definition = {
            "AlgorithmSpecification": {
                "TrainingImage": "edgewright-jobs:latest",
                "TrainingInputMode": "File",
                "ContainerEntrypoint": ["python3", "/opt/ml/input/data/code/training.py"],
                **({"ContainerArguments": list(arguments)} if arguments else {}),
                "MetricDefinitions": [{"Name": "loss", "Regex": "loss=([0-9.]+);"}],
            },
            "InputDataConfig": [
                channel("code", f"s3://{BUCKET}/code/{name}/"),
                channel("training", f"s3://{BUCKET}/data"),
            ],
            "OutputDataConfig": {"S3OutputPath": f"s3://{BUCKET}/out"},
            "ResourceConfig": {"InstanceType": "ml.m5.large", "InstanceCount": 1, "VolumeSizeInGB": 10},
            "StoppingCondition": {"MaxRuntimeInSeconds": 60},
            "RoleArn": ROLE,
            **request,
        }
        client("sagemaker").create_training_job(TrainingJobName=name, **definition)
        return name

    return start


@pytest.fixture
def process(client, s3):
    """Start a processing job of a command; its name."""

    def start(*command: str, inputs: tuple = (), outputs: tuple = (), **request: object) -> str:
        name = f"job-{uuid.uuid4().hex}"
        definition = {
            "AppSpecification": {"ImageUri": "edgewright-jobs:latest", "ContainerEntrypoint": list(command)},
            "ProcessingInputs": list(inputs),
            "ProcessingOutputConfig": {"Outputs": list(outputs)},
            "ProcessingResources": {
                "ClusterConfig": {"InstanceType": "ml.m5.large", "InstanceCount": 1, "VolumeSizeInGB": 10}
            },
            "RoleArn": ROLE,
            **request,
        }
        client("sagemaker").create_processing_job(ProcessingJobName=name, **definition)
        return name

    return start


def channel(name: str, uri: str) -> dict:
    source = {"S3DataType": "S3Prefix", "S3Uri": uri, "S3DataDistributionType": "FullyReplicated"}
    return {"ChannelName": name, "DataSource": {"S3DataSource": source}}


@pytest.fixture
def wait(client):
    def until(name: str, kind: str = "training", status: str | None = None, timeout_s: float = 30) -> dict:
        describe = getattr(client("sagemaker"), f"describe_{kind}_job")
        deadline = time.monotonic() + timeout_s
        while True:
            answer = describe(**{f"{kind.title()}JobName": name})
            reached = answer[f"{kind.title()}JobStatus"]
            if reached == status or (status is None and reached not in {"InProgress", "Stopping"}):
                return answer
            if status is not None and answer.get("SecondaryStatus") == status:
                return answer
            assert time.monotonic() < deadline, answer
            time.sleep(0.02)

    return until
