"""State machines through boto3: real tasks, real failures, and EventBridge starting them."""

import json
import time
import uuid

import pytest
from botocore.exceptions import ClientError

ACCOUNT = "123456789012"
ROLE = f"arn:aws:iam::{ACCOUNT}:role/edgewright"
BUCKET = "machines-bucket"


@pytest.fixture(scope="module")
def s3(client):
    made = client("s3")
    made.create_bucket(Bucket=BUCKET)
    return made


@pytest.fixture
def make_machine(client):
    def make(states: dict, start: str | None = None) -> str:
        definition = {"StartAt": start or next(iter(states)), "States": states}
        return client("stepfunctions").create_state_machine(
            name=f"m-{uuid.uuid4().hex}", definition=json.dumps(definition), roleArn=ROLE
        )["stateMachineArn"]

    return make


@pytest.fixture
def finish(client):
    def wait(execution_arn: str, timeout_s: float = 40) -> dict:
        deadline = time.monotonic() + timeout_s
        while True:
            answer = client("stepfunctions").describe_execution(executionArn=execution_arn)
            if answer["status"] != "RUNNING":
                return answer
            assert time.monotonic() < deadline, answer
            time.sleep(0.05)

    return wait


@pytest.fixture
def run(client, make_machine, finish):
    def execute(states: dict, given: dict | None = None) -> dict:
        arn = make_machine(states)
        started = client("stepfunctions").start_execution(stateMachineArn=arn, input=json.dumps(given or {}))
        return finish(started["executionArn"])

    return execute


def task(resource: str, parameters: dict, **fields: object) -> dict:
    state = {"Type": "Task", "Resource": f"arn:aws:states:::{resource}", "Parameters": parameters, **fields}
    return state if "Next" in state else {**state, "End": True}


@pytest.fixture
def training(s3):
    """Parameters of createTrainingJob for a script."""

    def parameters(script: str, name: str | None = None) -> dict:
        name = name or f"job-{uuid.uuid4().hex}"
        s3.put_object(Bucket=BUCKET, Key=f"code/{name}/training.py", Body=script.encode())
        source = {"S3DataType": "S3Prefix", "S3Uri": f"s3://{BUCKET}/code/{name}/"}
        return {
            "TrainingJobName": name,
            "RoleArn": ROLE,
            "AlgorithmSpecification": {
                "TrainingImage": "edgewright-jobs:latest",
                "TrainingInputMode": "File",
                "ContainerEntrypoint": ["python3", "/opt/ml/input/data/code/training.py"],
            },
            "InputDataConfig": [{"ChannelName": "code", "DataSource": {"S3DataSource": source}}],
            "OutputDataConfig": {"S3OutputPath": f"s3://{BUCKET}/out"},
            "ResourceConfig": {"InstanceType": "ml.m5.large", "InstanceCount": 1, "VolumeSizeInGB": 10},
            "StoppingCondition": {"MaxRuntimeInSeconds": 60},
        }

    return parameters


def processing(name: str, *command: str) -> dict:
    cluster = {"InstanceType": "ml.m5.large", "InstanceCount": 1, "VolumeSizeInGB": 10}
    return {
        "ProcessingJobName": name,
        "RoleArn": ROLE,
        "AppSpecification": {"ImageUri": "edgewright-jobs:latest", "ContainerEntrypoint": list(command)},
        "ProcessingResources": {"ClusterConfig": cluster},
    }


def test_train_compile_register_is_one_machine(client, run, training):
    group = f"group-{uuid.uuid4().hex[:8]}"
    client("sagemaker").create_model_package_group(ModelPackageGroupName=group)
    package = {
        "ModelPackageGroupName": group,
        "ModelApprovalStatus": "PendingManualApproval",
        "CustomerMetadataProperties": {"model.$": "$.trained.ModelArtifacts.S3ModelArtifacts"},
    }
    name = f"compile-{uuid.uuid4().hex}"
    script = "import os, pathlib\npathlib.Path(os.environ['SM_MODEL_DIR'], 'm').write_text('x')\nprint('trained')"
    answer = run(
        {
            "Train": task("sagemaker:createTrainingJob.sync", training(script), ResultPath="$.trained", Next="Compile"),
            "Compile": task(
                "sagemaker:createProcessingJob.sync", processing(name, "true"), ResultPath="$.compiled", Next="Register"
            ),
            "Register": task("aws-sdk:sagemaker:createModelPackage", package, ResultPath="$.registered"),
        }
    )
    assert answer["status"] == "SUCCEEDED", answer
    output = json.loads(answer["output"])
    assert output["trained"]["TrainingJobStatus"] == "Completed"
    assert isinstance(output["trained"]["CreationTime"], int)
    assert output["compiled"]["ProcessingJobStatus"] == "Completed"
    described = client("sagemaker").describe_model_package(ModelPackageName=output["registered"]["ModelPackageArn"])
    assert described["CustomerMetadataProperties"] == {"model": output["trained"]["ModelArtifacts"]["S3ModelArtifacts"]}


def test_a_failed_job_fails_the_task_with_its_reason(run, training):
    answer = run({"Train": task("sagemaker:createTrainingJob.sync", training("raise ValueError('no rows')"))})
    assert (answer["status"], answer["error"]) == ("FAILED", "States.TaskFailed")
    cause = json.loads(answer["cause"])
    assert cause["TrainingJobStatus"] == "Failed"
    assert "ValueError: no rows" in cause["FailureReason"]


def test_a_machine_may_catch_a_failed_job(run):
    catch = [{"ErrorEquals": ["States.TaskFailed"], "ResultPath": "$.error", "Next": "Said"}]
    states = {
        "Compile": task(
            "sagemaker:createProcessingJob.sync", processing(f"c-{uuid.uuid4().hex}", "false"), Catch=catch
        ),
        "Said": {"Type": "Pass", "End": True},
    }
    answer = run(states)
    assert answer["status"] == "SUCCEEDED"
    assert json.loads(json.loads(answer["output"])["error"]["Cause"])["ProcessingJobStatus"] == "Failed"


def test_without_sync_the_task_returns_the_arn_at_once(client, run, training):
    parameters = training("import time\ntime.sleep(60)")
    answer = run({"Train": task("sagemaker:createTrainingJob", parameters)})
    assert json.loads(answer["output"])["TrainingJobArn"].endswith(parameters["TrainingJobName"])
    client("sagemaker").stop_training_job(TrainingJobName=parameters["TrainingJobName"])


def test_a_duplicate_name_and_a_malformed_request_have_the_names_aws_gives_them(run, training):
    parameters = training("pass")
    run({"Train": task("sagemaker:createTrainingJob.sync", parameters)})
    again = run({"Train": task("sagemaker:createTrainingJob.sync", parameters)})
    assert again["error"] == "SageMaker.ResourceInUseException"
    malformed = run({"Train": task("sagemaker:createTrainingJob.sync", {**training("pass"), "RoleArn": "nobody"})})
    assert malformed["error"] == "SageMaker.AmazonSageMakerException"
    assert "RoleArn" in malformed["cause"] or "roleArn" in malformed["cause"]


def test_stopping_an_execution_stops_its_job(client, make_machine, finish, training):
    parameters = training("import time\ntime.sleep(60)")
    arn = make_machine({"Train": task("sagemaker:createTrainingJob.sync", parameters)})
    execution = client("stepfunctions").start_execution(stateMachineArn=arn)["executionArn"]

    def status() -> str | None:
        try:
            name = parameters["TrainingJobName"]
            return client("sagemaker").describe_training_job(TrainingJobName=name)["SecondaryStatus"]
        except ClientError:
            return None

    deadline = time.monotonic() + 30
    while status() != "Training":
        assert time.monotonic() < deadline
        time.sleep(0.05)
    client("stepfunctions").stop_execution(executionArn=execution)
    assert finish(execution)["status"] == "ABORTED"
    while status() != "Stopped":
        assert time.monotonic() < deadline
        time.sleep(0.05)


def test_sdk_tasks_speak_pascal_case_and_write_times_as_text(client, run, s3):
    s3.put_object(Bucket=BUCKET, Key="hello", Body=b"hello")
    client("iot").create_thing(thingName="ewr", attributePayload={"attributes": {"site": "newark"}})
    answer = run(
        {
            "Look": task(
                "aws-sdk:s3:headObject", {"Bucket": BUCKET, "Key": "hello"}, ResultPath="$.head", Next="Describe"
            ),
            "Describe": task("aws-sdk:iot:describeThing", {"ThingName": "ewr"}, ResultPath="$.thing", Next="Say"),
            "Say": {"Type": "Pass", "Parameters": {
                "since.$": "$$.Execution.StartTime", "thing.$": "$.thing", "head.$": "$.head"}, "End": True},
        }
    )  # fmt: skip
    assert answer["status"] == "SUCCEEDED", answer
    output = json.loads(answer["output"])
    assert output["thing"]["Attributes"] == {"site": "newark"}
    assert output["head"]["LastModified"].endswith("Z")
    assert output["since"].endswith("Z")


def test_an_sdk_error_has_the_services_name_and_can_be_caught_by_it(run):
    catch = [{"ErrorEquals": ["Iot.ResourceNotFoundException"], "Next": "Absent"}]
    states = {
        "Describe": task("aws-sdk:iot:describeThing", {"ThingName": "nobody"}, Catch=catch),
        "Absent": {"Type": "Pass", "Result": "absent", "End": True},
    }
    assert json.loads(run(states)["output"]) == "absent"


def test_messages_and_events_leave_a_machine(client, run, new_queue, drain):
    queue_url = new_queue()
    states = {
        "Send": task("sqs:sendMessage", {"QueueUrl": queue_url, "MessageBody": {"a": 1}}, Next="Emit"),
        "Emit": task(
            "events:putEvents", {"Entries": [{"Source": "edgewright", "DetailType": "Done", "Detail": {"b": 2}}]}
        ),
    }
    name = f"done-{uuid.uuid4().hex}"
    client("events").put_rule(Name=name, EventPattern=json.dumps({"source": ["edgewright"]}))
    arn = f"arn:aws:sqs:us-east-1:{ACCOUNT}:{queue_url.rpartition('/')[2]}"
    client("events").put_targets(Rule=name, Targets=[{"Id": "1", "Arn": arn, "InputPath": "$.detail"}])
    assert run(states)["status"] == "SUCCEEDED"
    assert [json.loads(body) for body in drain(queue_url, 2)] == [{"a": 1}, {"b": 2}]


def test_an_event_starts_the_machine_with_its_transformed_input(client, make_machine, finish):
    arn = make_machine({"Say": {"Type": "Pass", "End": True}})
    client("events").put_rule(Name="drift", EventPattern=json.dumps({"detail-type": ["Drift Found"]}))
    transformer = {"InputPathsMap": {"thing": "$.detail.thing"}, "InputTemplate": '{"retrain_for": <thing>}'}
    target = {"Id": "1", "Arn": arn, "RoleArn": ROLE, "InputTransformer": transformer}
    client("events").put_targets(Rule="drift", Targets=[target])
    entry = {"Source": "edgewright.drift", "DetailType": "Drift Found", "Detail": '{"thing": "JFK"}'}
    for _ in range(2):
        assert client("events").put_events(Entries=[entry])["FailedEntryCount"] == 0
    deadline = time.monotonic() + 20
    while len(found := client("stepfunctions").list_executions(stateMachineArn=arn)["executions"]) < 2:
        assert time.monotonic() < deadline
        time.sleep(0.02)
    assert json.loads(finish(found[0]["executionArn"])["output"]) == {"retrain_for": "JFK"}


def test_names_are_kept_and_unnamed_executions_get_their_own(client, make_machine, finish):
    arn = make_machine({"Say": {"Type": "Pass", "End": True}})
    sfn = client("stepfunctions")
    started = [sfn.start_execution(stateMachineArn=arn)["executionArn"] for _ in range(2)]
    assert started[0] != started[1]
    named = sfn.start_execution(stateMachineArn=arn, name="mine")["executionArn"]
    assert named.endswith(":mine")
    finish(named)
    with pytest.raises(ClientError, match="ExecutionAlreadyExists"):
        sfn.start_execution(stateMachineArn=arn, name="mine", input='{"other": 1}')
    history = sfn.get_execution_history(executionArn=named)["events"]
    assert [event["type"] for event in history][:: len(history) - 1] == ["ExecutionStarted", "ExecutionSucceeded"]


def test_an_unknown_execution_is_said_so(client):
    arn = f"arn:aws:states:us-east-1:{ACCOUNT}:execution:none:none"
    with pytest.raises(ClientError) as caught:
        client("stepfunctions").describe_execution(executionArn=arn)
    assert caught.value.response["Error"]["Code"] == "ExecutionDoesNotExist"


@pytest.mark.parametrize(
    "resource",
    [
        "sagemaker:createTransformJob.sync",
        "sagemaker:createModelPackage",
        "aws-sdk:sagemaker:createHyperParameterTuningJob",
        "aws-sdk:nosuchservice:go",
        "lambda:invoke",
        "sqs:sendMessage.waitForTaskToken",
    ],
)
def test_a_task_that_nothing_real_would_perform_is_refused_when_the_machine_is_made(make_machine, resource):
    nested = {"Each": {"Type": "Parallel", "End": True, "Branches": [
        {"StartAt": "Deep", "States": {"Deep": task(resource, {})}}]}}  # fmt: skip
    with pytest.raises(ClientError, match=resource.split(":")[1].split(".")[0]) as caught:
        make_machine(nested)
    assert caught.value.response["ResponseMetadata"]["HTTPStatusCode"] == 501


def test_a_lambda_function_and_an_express_machine_are_refused(client, make_machine):
    state = {"Type": "Task", "Resource": f"arn:aws:lambda:us-east-1:{ACCOUNT}:function:f", "End": True}
    with pytest.raises(ClientError, match="only arn:aws:states"):
        make_machine({"Call": state})
    with pytest.raises(ClientError, match="EXPRESS"):
        client("stepfunctions").create_state_machine(
            name="fast", definition='{"StartAt":"A","States":{"A":{"Type":"Pass","End":true}}}', roleArn=ROLE,
            type="EXPRESS",
        )  # fmt: skip
