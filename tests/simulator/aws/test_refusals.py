"""The local cloud refuses what botocore's model forbids, and answers 501 for what is not real."""

import http.client
import urllib.error
import urllib.request
from collections.abc import Callable
from typing import Any

import pytest
from botocore.exceptions import ClientError

from simulator.aws.server import LocalCloud

Client = Callable[[str], Any]


def refusal(action: Callable[[], object]) -> tuple[int, str, str]:
    with pytest.raises(ClientError) as caught:
        action()
    response = caught.value.response
    return response["ResponseMetadata"]["HTTPStatusCode"], response["Error"]["Code"], response["Error"]["Message"]


@pytest.mark.parametrize(
    ("service", "method", "parameters", "code", "constraint"),
    [
        ("iot", "create_thing", {"thingName": "a b"}, "InvalidRequestException", "'thingName' failed"),
        ("kms", "create_key", {"KeySpec": "ECC_P_256"}, "ValidationException", "enum value set"),
        ("kms", "sign", {"KeyId": "k", "Message": b"x" * 4097, "SigningAlgorithm": "ECDSA_SHA_256"},
         "ValidationException", "less than or equal to 4096"),
        ("sqs", "receive_message", {}, "InvalidParameterValue", "'QueueUrl' failed"),
        ("iam", "create_role", {"RoleName": "a/b", "AssumeRolePolicyDocument": "{}"}, "ValidationError", "pattern"),
        ("iot-data", "update_thing_shadow", {"thingName": "x" * 129, "payload": b"{}"},
         "InvalidRequestException", "less than or equal to 128"),
        ("logs", "create_log_group", {"logGroupName": "a b"}, "InvalidParameterException", "pattern"),
        ("cloudwatch", "put_metric_data", {"Namespace": ":no", "MetricData": []}, "ValidationError", "pattern"),
    ],
)  # fmt: skip
def test_what_the_model_forbids_is_refused_with_the_services_own_code(
    client: Client, service: str, method: str, parameters: dict[str, Any], code: str, constraint: str
) -> None:
    status, got, message = refusal(lambda: getattr(client(service), method)(**parameters))
    assert (status, got) == (400, code)
    assert constraint in message


@pytest.mark.parametrize(
    ("service", "method", "parameters", "name"),
    [
        ("athena", "list_work_groups", {}, "athena:ListWorkGroups"),
        ("lambda", "invoke", {"FunctionName": "f"}, "lambda:Invoke"),
        ("codebuild", "list_projects", {}, "codebuild:ListProjects"),
        ("cloudwatch", "put_metric_alarm",
         {"AlarmName": "a", "EvaluationPeriods": 1, "ComparisonOperator": "LessThanThreshold"},
         "cloudwatch:PutMetricAlarm"),
        ("sagemaker", "list_hyper_parameter_tuning_jobs", {}, "sagemaker:ListHyperParameterTuningJobs"),
        ("sagemaker", "start_pipeline_execution", {"PipelineName": "p", "ClientRequestToken": "t" * 40},
         "sagemaker:StartPipelineExecution"),
        ("greengrass", "list_groups", {}, "greengrass:ListGroups"),
        ("iot", "create_provisioning_template",
         {"templateName": "t", "templateBody": "{}", "provisioningRoleArn": "arn:aws:iam::123456789012:role/r"},
         "iot:CreateProvisioningTemplate"),
    ],
)  # fmt: skip
def test_what_is_not_real_answers_501_with_its_name(
    client: Client, service: str, method: str, parameters: dict[str, Any], name: str
) -> None:
    status, code, message = refusal(lambda: getattr(client(service), method)(**parameters))
    assert (status, code) == (501, "NotImplemented")
    assert name in message


@pytest.mark.parametrize("operation", ["create_stack", "update_stack"])
def test_a_template_with_a_type_that_creates_nothing_is_refused_before_anything_is_created(
    client: Client, operation: str
) -> None:
    body = "Resources:\n  Queue: {Type: AWS::SQS::Queue}\n  Job: {Type: AWS::Glue::Job, Role: !Ref Queue}\n"
    status, code, message = refusal(
        lambda: getattr(client("cloudformation"), operation)(StackName="s", TemplateBody=body)
    )
    assert (status, code) == (501, "NotImplemented")
    assert "AWS::Glue::Job" in message
    assert client("cloudformation").describe_stacks()["Stacks"] == []


def test_an_unsigned_request_is_refused(local_cloud: LocalCloud) -> None:
    address = local_cloud.url.removeprefix("http://")
    connection = http.client.HTTPConnection(address)
    connection.request("GET", "/anything")
    response = connection.getresponse()
    assert response.status == 403
    assert b"MissingAuthenticationToken" in response.read()
    connection.close()


@pytest.mark.parametrize("body", ['{"Tags": "no list"}', '{"Tags": ["no structure"]}', "[]", "not json"])
def test_a_body_that_is_not_the_protocols_is_refused(local_cloud: LocalCloud, body: str) -> None:
    request = urllib.request.Request(
        local_cloud.url,
        body.encode(),
        {
            "Authorization": "AWS4-HMAC-SHA256 Credential=local/20260101/us-east-1/kms/aws4_request, Signature=0",
            "X-Amz-Target": "TrentService.CreateKey",
            "Content-Type": "application/x-amz-json-1.1",
        },
    )
    with pytest.raises(urllib.error.HTTPError) as caught:
        urllib.request.urlopen(request)
    with caught.value as answer:
        assert answer.code == 400
        assert answer.headers["X-Amzn-Errortype"] in {"SerializationException", "ValidationException"}


def test_s3_round_trip_and_presigned_url(client: Client) -> None:
    s3 = client("s3")
    s3.create_bucket(Bucket="edgewright")
    s3.put_object(Bucket="edgewright", Key="a/b c.bin", Body=b"bytes", Metadata={"edgewright-sha256": "00ff"})
    assert s3.head_object(Bucket="edgewright", Key="a/b c.bin")["Metadata"] == {"edgewright-sha256": "00ff"}
    url = s3.generate_presigned_url("get_object", Params={"Bucket": "edgewright", "Key": "a/b c.bin"})
    with urllib.request.urlopen(url) as response:
        assert response.read() == b"bytes"
