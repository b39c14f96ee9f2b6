"""Training jobs through boto3 and S3, with real processes, under both isolations."""

import io
import json
import tarfile
import time
import uuid
from pathlib import Path

import pytest
from botocore.exceptions import ClientError

from simulator.aws.container import Isolation
from tests.simulator.aws.jobs.conftest import BUCKET, channel

TRAINING_SCRIPT = """
import json, os, pathlib
hyperparameters = json.loads(pathlib.Path("{config}/hyperparameters.json").read_text())
rows = pathlib.Path(os.environ["SM_CHANNEL_TRAINING"], "part/rows.csv").read_text()
for epoch in range(3):
    print(f"epoch={{epoch}} loss={{1 / (epoch + 1):.3f}};", flush=True)
pathlib.Path(os.environ["SM_MODEL_DIR"], "model.json").write_text(json.dumps(
    {{"rows": rows, "rate": hyperparameters["rate"], "decoded": json.loads(os.environ["SM_HPS"])["rate"]}}))
pathlib.Path(os.environ["SM_OUTPUT_DATA_DIR"], "report.txt").write_text("fine")
"""


def unpacked(s3, key: str) -> dict[str, bytes]:
    body = s3.get_object(Bucket=BUCKET, Key=key)["Body"].read()
    with tarfile.open(fileobj=io.BytesIO(body)) as archive:
        return {member.name: archive.extractfile(member).read() for member in archive if member.isfile()}


def test_a_training_job_really_trains(client, s3, train, wait, isolation):
    config = "/opt/ml/input/config" if isolation is Isolation.BUBBLEWRAP else "../../config"
    script = TRAINING_SCRIPT.format(config=config)
    if isolation is Isolation.FOLDER:
        script = "import os; os.chdir(os.path.dirname(__file__))\n" + script
    name = train(script, HyperParameters={"rate": "0.5"})
    answer = wait(name)
    assert answer["TrainingJobStatus"] == "Completed", answer.get("FailureReason")
    assert answer["ModelArtifacts"]["S3ModelArtifacts"] == f"s3://{BUCKET}/out/{name}/output/model.tar.gz"
    model = unpacked(s3, f"out/{name}/output/model.tar.gz")
    assert json.loads(model["model.json"]) == {"rows": "1,2,3", "rate": "0.5", "decoded": 0.5}
    assert unpacked(s3, f"out/{name}/output/output.tar.gz") == {"report.txt": b"fine"}
    (metric,) = answer["FinalMetricDataList"]
    assert (metric["MetricName"], round(metric["Value"], 3)) == ("loss", 0.333)
    statuses = [step["Status"] for step in answer["SecondaryStatusTransitions"]]
    assert statuses == ["Starting", "Downloading", "Training", "Uploading", "Completed"]
    events = client("logs").filter_log_events(logGroupName="/aws/sagemaker/TrainingJobs", logStreamNamePrefix=name)[
        "events"
    ]
    assert [event["message"] for event in events][-1] == "epoch=2 loss=0.333;"


def test_a_script_that_raises_fails_the_job_with_its_last_lines(train, wait, s3):
    name = train("print('before')\nraise ValueError('column wind_gust is empty')")
    answer = wait(name)
    assert answer["TrainingJobStatus"] == "Failed"
    assert answer["FailureReason"].startswith("AlgorithmError: ")
    assert answer["FailureReason"].endswith("ValueError: column wind_gust is empty, exit code: 1")
    with pytest.raises(ClientError, match="404"):
        s3.head_object(Bucket=BUCKET, Key=f"out/{name}/output/model.tar.gz")


def test_what_the_script_wrote_as_its_failure_comes_first(train, wait):
    script = (
        "import os, pathlib, sys\n"
        "pathlib.Path(os.environ['SM_OUTPUT_DIR'], 'failure').write_text('the data has no rows of January')\n"
        "sys.exit('giving up')"
    )
    reason = wait(train(script))["FailureReason"]
    assert reason == "AlgorithmError: the data has no rows of January\ngiving up, exit code: 1"


def test_the_environment_is_clean_and_has_what_a_role_gives(train, wait, s3, monkeypatch):
    monkeypatch.setenv("SECRET_OF_THE_PARENT", "1")
    script = (
        "import json, os, pathlib, boto3\n"
        "pathlib.Path(os.environ['SM_MODEL_DIR'], 'env.json').write_text(json.dumps(dict(os.environ)))\n"
        "pathlib.Path(os.environ['SM_MODEL_DIR'], 'buckets').write_text(\n"
        "    str([b['Name'] for b in boto3.client('s3').list_buckets()['Buckets']]))\n"
    )
    name = train(script, Environment={"MINE": "yes"})
    answer = wait(name)
    assert answer["TrainingJobStatus"] == "Completed", answer.get("FailureReason")
    model = unpacked(s3, f"out/{name}/output/model.tar.gz")
    environment = json.loads(model["env.json"])
    assert "SECRET_OF_THE_PARENT" not in environment
    assert environment["MINE"] == "yes"
    assert environment["SM_CHANNELS"] == '["code", "training"]'
    assert environment["TRAINING_JOB_NAME"] == name
    assert BUCKET in model["buckets"].decode()


def test_stopping_gives_the_job_time_to_save_and_its_model_is_kept(client, train, wait, s3):
    script = (
        "import os, pathlib, signal, sys, time\n"
        "def save(*_):\n"
        "    pathlib.Path(os.environ['SM_MODEL_DIR'], 'partial').write_text('half')\n"
        "    sys.exit(0)\n"
        "signal.signal(signal.SIGTERM, save)\n"
        "print('loss=0.7;', flush=True)\n"
        "time.sleep(60)\n"
    )
    name = train(script)
    deadline = time.monotonic() + 20
    while not wait(name, status="Training").get("FinalMetricDataList"):
        assert time.monotonic() < deadline
    client("sagemaker").stop_training_job(TrainingJobName=name)
    answer = wait(name)
    assert (answer["TrainingJobStatus"], answer["SecondaryStatus"]) == ("Stopped", "Stopped")
    assert unpacked(s3, f"out/{name}/output/model.tar.gz") == {"partial": b"half"}
    assert "Stopping" in [step["Status"] for step in answer["SecondaryStatusTransitions"]]
    with pytest.raises(ClientError, match="is in status Stopped"):
        client("sagemaker").stop_training_job(TrainingJobName=name)


def test_a_job_out_of_time_says_so(train, wait):
    answer = wait(train("import time\ntime.sleep(60)", StoppingCondition={"MaxRuntimeInSeconds": 1}))
    assert (answer["TrainingJobStatus"], answer["SecondaryStatus"]) == ("Stopped", "MaxRuntimeExceeded")


def test_checkpoints_leave_a_running_job_and_come_back_to_the_next(client, train, wait, s3, isolation):
    script = (
        "import pathlib, sys, time\n"
        "folder = pathlib.Path(sys.argv[1])\n"
        "step = max([int(p.name) for p in folder.iterdir()], default=0) + 1\n"
        "(folder / str(step)).write_text('x')\n"
        "print(f'loss={step};', flush=True)\n"
        "time.sleep(60 if step == 1 else 0)\n"
    )
    config = {"CheckpointConfig": {"S3Uri": f"s3://{BUCKET}/checkpoints/{uuid.uuid4().hex}/"}}
    prefix = config["CheckpointConfig"]["S3Uri"].removeprefix(f"s3://{BUCKET}/")
    first = train(script, arguments=("/opt/ml/checkpoints",), **config)
    deadline = time.monotonic() + 20
    while not s3.list_objects_v2(Bucket=BUCKET, Prefix=prefix).get("KeyCount"):
        assert time.monotonic() < deadline, "no checkpoint arrived while the job ran"
    client("sagemaker").stop_training_job(TrainingJobName=first)
    wait(first)
    second = wait(train(script, arguments=("/opt/ml/checkpoints",), **config))
    assert second["TrainingJobStatus"] == "Completed", second
    assert second["FinalMetricDataList"][0]["Value"] == 2


def test_a_channel_without_objects_fails_the_job_and_names_it(train, wait):
    answer = wait(train("pass", InputDataConfig=[channel("code", f"s3://{BUCKET}/misspelt/")]))
    assert answer["FailureReason"] == f"ClientError: no object has the prefix s3://{BUCKET}/misspelt/"


def test_an_output_bucket_that_is_not_there_fails_the_job(train, wait):
    answer = wait(train("pass", OutputDataConfig={"S3OutputPath": "s3://no-such-bucket/out"}))
    assert answer["TrainingJobStatus"] == "Failed"
    assert "cannot upload s3://no-such-bucket/out" in answer["FailureReason"]


def test_names_are_unique_and_unknown_ones_are_said_so(client, train, wait):
    name = train("pass")
    wait(name)
    with pytest.raises(ClientError) as caught:
        train("pass", name=name)
    assert caught.value.response["Error"]["Code"] == "ResourceInUse"
    with pytest.raises(ClientError, match="Requested resource not found"):
        client("sagemaker").describe_training_job(TrainingJobName="nobody")


@pytest.mark.parametrize(
    ("change", "named"),
    [
        ({"AlgorithmSpecification": {"TrainingImage": "i", "TrainingInputMode": "File"}}, "ContainerEntrypoint"),
        (
            {"AlgorithmSpecification": {
                "TrainingImage": "i", "TrainingInputMode": "Pipe", "ContainerEntrypoint": ["x"]}},
            "TrainingInputMode Pipe",
        ),
        ({"ResourceConfig": {"InstanceType": "ml.m5.large", "InstanceCount": 2, "VolumeSizeInGB": 1}}, "one instance"),
        ({"EnableNetworkIsolation": True}, "EnableNetworkIsolation"),
        ({"CheckpointConfig": {"S3Uri": "s3://bbb/c", "LocalPath": "/elsewhere"}}, "LocalPath"),
    ],
)  # fmt: skip
def test_what_would_have_no_effect_is_refused(train, change, named):
    with pytest.raises(ClientError, match=named) as caught:
        train("pass", **change)
    assert caught.value.response["ResponseMetadata"]["HTTPStatusCode"] == 501


@pytest.mark.parametrize("pattern", ["loss=([", "loss=.*"])
def test_a_metric_definition_that_cannot_be_used_is_refused(train, pattern):
    algorithm = {
        "TrainingImage": "i",
        "TrainingInputMode": "File",
        "ContainerEntrypoint": ["true"],
        "MetricDefinitions": [{"Name": "loss", "Regex": pattern}],
    }
    with pytest.raises(ClientError, match="metric loss") as caught:
        train("pass", AlgorithmSpecification=algorithm)
    assert caught.value.response["Error"]["Code"] == "ValidationException"


def test_listing_filters_sorts_and_pages(client, train, wait):
    prefix = f"list-{uuid.uuid4().hex[:8]}"
    names = [train("pass", name=f"{prefix}-{number}") for number in range(3)]
    for name in names:
        wait(name)
    pages, token = [], None
    while True:
        answer = client("sagemaker").list_training_jobs(
            NameContains=prefix, StatusEquals="Completed", MaxResults=2, **({"NextToken": token} if token else {})
        )
        pages.append([entry["TrainingJobName"] for entry in answer["TrainingJobSummaries"]])
        token = answer.get("NextToken")
        if token is None:
            break
    assert pages == [[names[2], names[1]], [names[0]]]
    failed = client("sagemaker").list_training_jobs(NameContains=prefix, StatusEquals="Failed")
    assert failed["TrainingJobSummaries"] == []


def test_state_changes_reach_eventbridge(client, train, wait, new_queue, drain):
    queue_url = new_queue()
    client("events").put_rule(
        Name="training-ended",
        EventPattern=json.dumps(
            {
                "source": ["aws.sagemaker"],
                "detail-type": ["SageMaker Training Job State Change"],
                "detail": {"TrainingJobStatus": ["Failed"]},
            }
        ),
    )
    arn = f"arn:aws:sqs:us-east-1:123456789012:{queue_url.rpartition('/')[2]}"
    client("events").put_targets(Rule="training-ended", Targets=[{"Id": "1", "Arn": arn}])
    wait(train("pass"))
    failed = train("raise SystemExit(9)")
    event = json.loads(drain(queue_url, 1)[0])
    assert event["detail"]["TrainingJobName"] == failed
    assert event["detail"]["FailureReason"].endswith("exit code: 9")
    assert isinstance(event["detail"]["CreationTime"], int)


def test_a_job_leaves_no_folder_behind(local_cloud, train, wait):
    wait(train("pass"))
    jobs = Path(local_cloud.cloud.state_dir) / "jobs"
    deadline = time.monotonic() + 10
    while list(jobs.iterdir()):
        assert time.monotonic() < deadline, list(jobs.iterdir())
        time.sleep(0.02)
