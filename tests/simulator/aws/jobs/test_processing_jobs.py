"""Processing jobs through boto3 and S3, with real processes, under both isolations."""

import time
import uuid

import pytest
from botocore.exceptions import ClientError

from tests.simulator.aws.jobs.conftest import BUCKET

COPY = (
    "import pathlib, shutil, sys; source, target = map(pathlib.Path, sys.argv[1:3]); "
    "[shutil.copy(p, target / p.name.upper()) for p in source.iterdir()]"
)

INPUT = {
    "InputName": "rows",
    "S3Input": {
        "S3Uri": f"s3://{BUCKET}/data/part/",
        "LocalPath": "/opt/ml/processing/rows",
        "S3DataType": "S3Prefix",
        "S3InputMode": "File",
    },
}


def output(uri: str, mode: str = "EndOfJob") -> dict:
    target = {"S3Uri": uri, "LocalPath": "/opt/ml/processing/out", "S3UploadMode": mode}
    return {"OutputName": "out", "S3Output": target}


def test_a_processing_job_really_processes(client, process, wait, s3):
    name = process(
        "python3", "-c", COPY, "/opt/ml/processing/rows", "/opt/ml/processing/out",
        inputs=(INPUT,), outputs=(output(f"s3://{BUCKET}/processed/"),),
    )  # fmt: skip
    answer = wait(name, "processing")
    assert answer["ProcessingJobStatus"] == "Completed", answer
    assert s3.get_object(Bucket=BUCKET, Key="processed/ROWS.CSV")["Body"].read() == b"1,2,3"
    listed = client("sagemaker").list_processing_jobs(NameContains=name)["ProcessingJobSummaries"]
    assert [entry["ProcessingJobStatus"] for entry in listed] == ["Completed"]


def test_a_processing_job_can_run_a_module_of_edgewright(process, wait):
    answer = wait(process("python3", "-c", "import cloud.errors, edge_component.contracts"), "processing")
    assert answer["ProcessingJobStatus"] == "Completed", answer


def test_a_failed_processing_job_says_why_and_uploads_what_there_is(process, wait, s3):
    script = (
        "import pathlib, sys; pathlib.Path(sys.argv[1], 'report.json').write_text('refused'); "
        "sys.exit('gate size: 9 MB is more than 5 MB')"
    )
    target = f"s3://{BUCKET}/refused-{uuid.uuid4().hex}"
    name = process("python3", "-c", script, "/opt/ml/processing/out", outputs=(output(target),))
    answer = wait(name, "processing")
    assert answer["ProcessingJobStatus"] == "Failed"
    assert answer["FailureReason"] == "AlgorithmError: gate size: 9 MB is more than 5 MB, exit code: 1"
    key = f"{target.removeprefix(f's3://{BUCKET}/')}/report.json"
    assert s3.get_object(Bucket=BUCKET, Key=key)["Body"].read() == b"refused"


def test_a_processing_job_is_stopped(client, process, wait):
    name = process("sleep", "60")
    deadline = time.monotonic() + 20
    while "ProcessingStartTime" not in client("sagemaker").describe_processing_job(ProcessingJobName=name):
        assert time.monotonic() < deadline
    client("sagemaker").stop_processing_job(ProcessingJobName=name)
    assert wait(name, "processing")["ProcessingJobStatus"] == "Stopped"


@pytest.mark.parametrize(
    ("change", "named"),
    [
        ({"AppSpecification": {"ImageUri": "i"}}, "ContainerEntrypoint"),
        ({"ProcessingOutputConfig": {"Outputs": [output("s3://bbb/x", "Continuous")]}}, "S3UploadMode Continuous"),
        (
            {"ProcessingInputs": [{**INPUT, "S3Input": {**INPUT["S3Input"], "LocalPath": "/etc"}}]},
            "LocalPath '/etc'",
        ),
        (
            {"ProcessingInputs": [{**INPUT, "S3Input": {**INPUT["S3Input"], "LocalPath": "/opt/ml/processing/../.."}}]},
            "LocalPath",
        ),
    ],
)
def test_a_processing_job_that_would_not_do_what_it_says_is_refused(process, change, named):
    with pytest.raises(ClientError, match=named) as caught:
        process("true", **change)
    assert caught.value.response["ResponseMetadata"]["HTTPStatusCode"] == 501
