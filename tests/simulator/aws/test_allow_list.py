"""The allow-list is true: its names exist, moto has them, the README says the same, and half-real parts are refused."""

import importlib
import json
from collections.abc import Callable
from typing import Any

import pytest
from moto.core.responses import BaseResponse
from moto.core.utils import camelcase_to_underscores, get_service_model

from simulator.aws.operations import Operations, Source
from simulator.aws.published_list import README, listing, real_operations, rewritten
from simulator.aws.unreal import CLOUDFORMATION_REAL, MOTO_REAL, template_types

Client = Callable[[str], Any]


@pytest.mark.parametrize("service", sorted(real_operations()))
def test_every_name_is_an_operation_of_the_service(service: str) -> None:
    unknown = set(real_operations()[service]) - set(get_service_model(service).operation_names)
    assert not unknown


def test_the_readme_lists_what_is_real() -> None:
    text = README.read_text()
    assert text == rewritten(text, listing(real_operations())), "run python -m simulator.aws.published_list"


def test_a_page_without_markers_is_refused() -> None:
    with pytest.raises(ValueError, match="markers"):
        rewritten("nothing here", "")


def test_ours_goes_before_motos() -> None:
    operations = Operations()
    operations.trust_moto("iot", ["CreateJob", "CreateThing"])
    operations.serve("iot", {"CreateJob": lambda call: {}})
    assert operations.source("iot", "CreateJob") is Source.EDGEWRIGHT
    assert operations.source("iot", "CreateThing") is Source.MOTO
    assert operations.source("iot", "CreateFleetMetric") is None


def test_template_types_are_read_from_json_and_yaml() -> None:
    assert template_types('{"Resources": {"A": {"Type": "AWS::S3::Bucket"}}}') == {"AWS::S3::Bucket"}
    assert template_types("Resources:\n  A: {Type: AWS::X::Y, P: !GetAtt B.C, Q: !Sub ['a', {}]}") == {"AWS::X::Y"}
    assert template_types("Resources: 5") == template_types("{") == template_types("a: [") == frozenset()


ROLE = {"Version": "2012-10-17", "Statement": []}
RESOURCES: dict[str, tuple[dict[str, Any], Callable[[Client, str], object]]] = {
    "AWS::S3::Bucket": ({"BucketName": "cfn-bucket"}, lambda c, _: c("s3").head_bucket(Bucket="cfn-bucket")),
    "AWS::IAM::Role": (
        {"RoleName": "cfn-role", "AssumeRolePolicyDocument": ROLE},
        lambda c, _: c("iam").get_role(RoleName="cfn-role"),
    ),
    "AWS::IAM::ManagedPolicy": (
        {"ManagedPolicyName": "cfn-policy", "PolicyDocument": {**ROLE, "Statement": [
            {"Effect": "Allow", "Action": "s3:GetObject", "Resource": "*"}]}},
        lambda c, arn: c("iam").get_policy(PolicyArn=arn),
    ),
    "AWS::DynamoDB::Table": (
        {"TableName": "cfn-table", "KeySchema": [{"AttributeName": "k", "KeyType": "HASH"}],
         "AttributeDefinitions": [{"AttributeName": "k", "AttributeType": "S"}], "BillingMode": "PAY_PER_REQUEST"},
        lambda c, name: c("dynamodb").describe_table(TableName=name),
    ),
    "AWS::IoT::Thing": ({"ThingName": "cfn-thing"}, lambda c, _: c("iot").describe_thing(thingName="cfn-thing")),
    "AWS::IoT::RoleAlias": (
        {"RoleAlias": "cfn-alias", "RoleArn": "arn:aws:iam::123456789012:role/r"},
        lambda c, _: c("iot").describe_role_alias(roleAlias="cfn-alias"),
    ),
    "AWS::Events::Rule": (
        {"Name": "cfn-rule", "EventPattern": {"source": ["a"]}, "State": "ENABLED"},
        lambda c, _: c("events").describe_rule(Name="cfn-rule"),
    ),
    "AWS::SQS::Queue": ({"QueueName": "cfn-queue"}, lambda c, _: c("sqs").get_queue_url(QueueName="cfn-queue")),
    "AWS::SNS::Topic": ({"TopicName": "cfn-topic"}, lambda c, arn: c("sns").get_topic_attributes(TopicArn=arn)),
    "AWS::Logs::LogGroup": (
        {"LogGroupName": "cfn-logs"},
        lambda c, _: c("logs").describe_log_groups(logGroupNamePrefix="cfn-logs")["logGroups"][0],
    ),
    "AWS::CloudWatch::Dashboard": (
        {"DashboardName": "cfn-dashboard", "DashboardBody": '{"widgets": []}'},
        lambda c, _: c("cloudwatch").get_dashboard(DashboardName="cfn-dashboard"),
    ),
    "AWS::ECR::Repository": (
        {"RepositoryName": "cfn-repository"},
        lambda c, _: c("ecr").describe_repositories(repositoryNames=["cfn-repository"]),
    ),
    "AWS::SSM::Parameter": (
        {"Name": "cfn-parameter", "Type": "String", "Value": "v"},
        lambda c, _: c("ssm").get_parameter(Name="cfn-parameter"),
    ),
    "AWS::Kinesis::Stream": (
        {"Name": "cfn-stream", "ShardCount": 1},
        lambda c, _: c("kinesis").describe_stream(StreamName="cfn-stream"),
    ),
}  # fmt: skip


@pytest.mark.parametrize("kind", sorted(CLOUDFORMATION_REAL))
def test_each_trusted_resource_type_is_really_created(client: Client, kind: str) -> None:
    properties, look = RESOURCES[kind]
    name = kind.replace("::", "")
    template = {"Resources": {"It": {"Type": kind, "Properties": properties}}}
    client("cloudformation").create_stack(StackName=name, TemplateBody=json.dumps(template))
    [resource] = client("cloudformation").describe_stack_resources(StackName=name)["StackResources"]
    assert look(client, resource.get("PhysicalResourceId", ""))


@pytest.mark.parametrize(
    "service", sorted(set(MOTO_REAL) - {"s3"})
)  # moto's S3 has other method names; it is tried above
def test_motos_part_of_the_list_is_what_moto_implements(service: str) -> None:
    module = importlib.import_module(f"moto.{service.replace('-', '')}.responses")
    classes = [each for each in vars(module).values() if isinstance(each, type) and issubclass(each, BaseResponse)]
    names = MOTO_REAL[service]
    assert [name for name in names if not any(hasattr(each, camelcase_to_underscores(name)) for each in classes)] == []
