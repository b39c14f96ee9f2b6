"""A local cloud that stops takes its jobs and executions with it."""

import functools
import json
import time
from pathlib import Path

import boto3
import pytest

from simulator.aws import sagemaker, server
from simulator.aws.job_runs import JobLimits
from simulator.aws.server import CloudOptions, LocalCloud

STUBBORN = (
    "import os, signal, time; signal.signal(signal.SIGTERM, signal.SIG_IGN); "
    "open({marker!r}, 'w').write(str(os.getpid())); time.sleep(300)"
)


@pytest.fixture
def cloud(tmp_path, monkeypatch):
    install = functools.partial(sagemaker.install, limits=JobLimits(shutdown_grace_s=0.3))
    services = [install if service is sagemaker.install else service for service in server.SERVICES]
    monkeypatch.setattr(server, "SERVICES", tuple(services))
    with LocalCloud(CloudOptions(tmp_path / "state")) as running:
        yield running


def test_a_stubborn_job_of_a_running_machine_is_gone_after_stop(cloud, tmp_path):
    keys = {"aws_access_key_id": "local", "aws_secret_access_key": "local", "region_name": "us-east-1"}
    marker = (
        Path("/tmp") / f"edgewright-{tmp_path.name}-{time.time_ns()}"
    )  # the one place a job may write outside of its own
    job = {
        "ProcessingJobName": "stubborn",
        "RoleArn": "arn:aws:iam::123456789012:role/edgewright",
        "AppSpecification": {
            "ImageUri": "edgewright-jobs:latest",
            "ContainerEntrypoint": ["python3", "-c", STUBBORN.format(marker=str(marker))],
        },
        "ProcessingResources": {
            "ClusterConfig": {"InstanceType": "ml.m5.large", "InstanceCount": 1, "VolumeSizeInGB": 1}
        },
    }
    task = {
        "Type": "Task",
        "Resource": "arn:aws:states:::sagemaker:createProcessingJob.sync",
        "Parameters": job,
        "End": True,
    }
    states = boto3.client("stepfunctions", endpoint_url=cloud.url, **keys)
    machine = states.create_state_machine(
        name="m", roleArn=job["RoleArn"], definition=json.dumps({"StartAt": "T", "States": {"T": task}})
    )["stateMachineArn"]
    states.start_execution(stateMachineArn=machine)
    deadline = time.monotonic() + 30
    while not marker.exists() or not marker.read_text():
        assert time.monotonic() < deadline
        time.sleep(0.02)
    cloud.stop()
    process_id = marker.read_text()
    marker.unlink()
    assert not Path(f"/proc/{process_id}").exists()
    assert list((cloud.cloud.state_dir / "jobs").iterdir()) == []
