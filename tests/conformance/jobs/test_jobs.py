"""The jobs port: what holds for SageMaker (here the local cloud's, running real jobs) and for the fake that ships."""

import uuid
from collections.abc import Callable, Iterator
from typing import Any

import boto3
import pytest

from cloud.aws.sagemaker import SageMakerJobs
from cloud.aws.session import AwsSession
from cloud.errors import ConflictError, NotFoundError
from cloud.jobs.follow import FollowLimits, follow
from cloud.jobs.job import JobFailedError, JobKind, Jobs, JobState
from cloud.jobs.memory import MemoryJobs

BUCKET = "jobs"
LIMITS = FollowLimits(poll_s=0.05, poll_s_max=0.2, patience_s=60)


def sagemaker(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Jobs]:
    from simulator.aws.server import CloudOptions, LocalCloud

    with LocalCloud(CloudOptions(tmp_path_factory.mktemp("cloud"))) as cloud, pytest.MonkeyPatch.context() as patch:
        variables = {
            "AWS_ENDPOINT_URL": cloud.url,
            "AWS_ACCESS_KEY_ID": "local",
            "AWS_SECRET_ACCESS_KEY": "local",
            "AWS_EC2_METADATA_DISABLED": "true",
        }
        for name, value in variables.items():
            patch.setenv(name, value)
        boto3.client("s3", region_name="us-east-1").create_bucket(Bucket=BUCKET)
        yield SageMakerJobs(AwsSession("us-east-1"))


def memory(_: pytest.TempPathFactory) -> Iterator[Jobs]:
    yield MemoryJobs()


@pytest.fixture(scope="module", params=[sagemaker, memory])
def jobs(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Jobs]:
    yield from request.param(tmp_path_factory)


@pytest.fixture
def name(jobs: Jobs) -> Callable[..., str]:
    """A fresh job name; the fake is told how its job will end, as SageMaker finds out by running it."""

    def fresh(status: str = "Completed", lines: tuple[str, ...] = ()) -> str:
        chosen = f"job-{uuid.uuid4().hex[:12]}"
        if isinstance(jobs, MemoryJobs):
            looks = [JobState(chosen, f"arn:{chosen}", "InProgress", "InProgress")]
            jobs.states[chosen] = [*looks, JobState(chosen, f"arn:{chosen}", status, status)]
            jobs.logs[chosen] = lines
        return chosen

    return fresh


def processing(name: str, code: str) -> dict[str, Any]:
    return {
        "ProcessingJobName": name,
        "RoleArn": "arn:aws:iam::123456789012:role/edgewright",
        "AppSpecification": {"ImageUri": "jobs:1", "ContainerEntrypoint": ["python3", "-c", code]},
        "ProcessingResources": {
            "ClusterConfig": {"InstanceCount": 1, "InstanceType": "ml.m5.large", "VolumeSizeInGB": 1}
        },
    }


def test_a_started_job_is_followed_to_its_end(jobs: Jobs, name: Callable[..., str]) -> None:
    chosen = name()
    arn = jobs.start(JobKind.PROCESSING, processing(chosen, "print('hello')"))
    assert chosen in arn
    end = follow(jobs, JobKind.PROCESSING, chosen, limits=LIMITS)
    assert (end.name, end.status, end.has_ended) == (chosen, "Completed", True)


def test_a_name_is_given_once(jobs: Jobs, name: Callable[..., str]) -> None:
    chosen = name()
    jobs.start(JobKind.PROCESSING, processing(chosen, "pass"))
    with pytest.raises(ConflictError):
        jobs.start(JobKind.PROCESSING, processing(chosen, "pass"))


@pytest.mark.parametrize("kind", list(JobKind))
def test_a_job_that_was_never_started_is_not_found(jobs: Jobs, kind: JobKind) -> None:
    with pytest.raises(NotFoundError):
        jobs.state(kind, "nobody")


@pytest.mark.parametrize("kind", list(JobKind))
def test_a_job_without_a_log_has_no_lines(jobs: Jobs, kind: JobKind) -> None:
    assert jobs.last_lines(kind, "nobody", 5) == ()


def test_a_failed_job_says_its_last_lines(jobs: Jobs, name: Callable[..., str]) -> None:
    chosen = name("Failed", tuple(f"line {number}" for number in range(30)))
    code = "[print('line', number) for number in range(30)]; raise SystemExit(1)"
    jobs.start(JobKind.PROCESSING, processing(chosen, code))
    with pytest.raises(JobFailedError, match="line 29") as caught:
        follow(jobs, JobKind.PROCESSING, chosen, limits=LIMITS)
    assert caught.value.state.status == "Failed"
    assert jobs.last_lines(JobKind.PROCESSING, chosen, 2) == ("line 28", "line 29")
