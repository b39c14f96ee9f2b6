"""The model registry through boto3: what is put in comes out again, whole."""

import json
import uuid

import pytest
from botocore.exceptions import ClientError


@pytest.fixture
def group(client):
    name = f"weather-{uuid.uuid4().hex[:8]}"
    client("sagemaker").create_model_package_group(
        ModelPackageGroupName=name, ModelPackageGroupDescription="low visibility"
    )
    return name


@pytest.fixture
def register(client, group):
    def make(**members: object) -> str:
        return client("sagemaker").create_model_package(ModelPackageGroupName=group, **members)["ModelPackageArn"]

    return make


def test_a_package_keeps_every_member_of_its_request(client, group, register):
    members = {
        "ModelPackageDescription": "1.0.0",
        "InferenceSpecification": {
            "Containers": [{"Image": "edgewright-jobs:latest", "ModelDataUrl": "s3://bucket/model.tar.gz"}],
            "SupportedContentTypes": ["application/x-npy"],
            "SupportedResponseMIMETypes": ["application/x-npy"],
        },
        "ModelMetrics": {"ModelQuality": {"Statistics": {"ContentType": "json", "S3Uri": "s3://bucket/metrics.json"}}},
        "CustomerMetadataProperties": {"digest": "ab" * 32, "component": "com.edgewright.model.Weather"},
    }
    arn = register(**members)
    answer = client("sagemaker").describe_model_package(ModelPackageName=arn)
    assert {name: answer[name] for name in members} == members
    assert (answer["ModelPackageVersion"], answer["ModelApprovalStatus"]) == (1, "PendingManualApproval")
    assert arn.endswith(f"model-package/{group}/1")


def test_versions_grow_and_are_never_given_again(client, group, register):
    first, second = register(), register()
    client("sagemaker").delete_model_package(ModelPackageName=second)
    assert [arn.rpartition("/")[2] for arn in (first, second, register())] == ["1", "2", "3"]
    with pytest.raises(ClientError, match="does not exist"):
        client("sagemaker").describe_model_package(ModelPackageName=second)


def test_the_same_client_token_registers_once(register):
    token = uuid.uuid4().hex
    assert register(ClientToken=token) == register(ClientToken=token)


def test_approval_is_kept_listed_and_announced(client, group, register, new_queue, drain):
    queue_url = new_queue()
    pattern = {
        "source": ["aws.sagemaker"],
        "detail-type": ["SageMaker Model Package State Change"],
        "detail": {"ModelPackageGroupName": [group], "ModelApprovalStatus": ["Approved"]},
    }
    client("events").put_rule(Name=group, EventPattern=json.dumps(pattern))
    queue_arn = f"arn:aws:sqs:us-east-1:123456789012:{queue_url.rpartition('/')[2]}"
    client("events").put_targets(Rule=group, Targets=[{"Id": "1", "Arn": queue_arn}])
    arn, other = register(), register()
    client("sagemaker").update_model_package(
        ModelPackageArn=arn, ModelApprovalStatus="Approved", ApprovalDescription="beats the baseline"
    )
    approved = client("sagemaker").list_model_packages(ModelPackageGroupName=group, ModelApprovalStatus="Approved")
    assert [entry["ModelPackageArn"] for entry in approved["ModelPackageSummaryList"]] == [arn]
    everything = client("sagemaker").list_model_packages(ModelPackageGroupName=group)["ModelPackageSummaryList"]
    assert [entry["ModelPackageArn"] for entry in everything] == [other, arn]
    detail = json.loads(drain(queue_url, 1)[0])["detail"]
    assert (detail["ModelPackageArn"], detail["UpdatedModelPackageFields"]) == (
        arn,
        ["ModelApprovalStatus", "ApprovalDescription"],
    )


def test_metadata_is_merged_and_removed_by_name(client, register):
    arn = register(CustomerMetadataProperties={"a": "1", "b": "2"})
    client("sagemaker").update_model_package(
        ModelPackageArn=arn, CustomerMetadataProperties={"c": "3"}, CustomerMetadataPropertiesToRemove=["a"]
    )
    answer = client("sagemaker").describe_model_package(ModelPackageName=arn)
    assert answer["CustomerMetadataProperties"] == {"b": "2", "c": "3"}


def test_groups_are_described_listed_and_deleted_only_when_empty(client, group, register):
    arn = register()
    sagemaker = client("sagemaker")
    described = sagemaker.describe_model_package_group(ModelPackageGroupName=group)
    assert described["ModelPackageGroupDescription"] == "low visibility"
    listed = sagemaker.list_model_package_groups(NameContains=group)["ModelPackageGroupSummaryList"]
    assert [entry["ModelPackageGroupName"] for entry in listed] == [group]
    with pytest.raises(ClientError, match="still has model packages"):
        sagemaker.delete_model_package_group(ModelPackageGroupName=group)
    sagemaker.delete_model_package(ModelPackageName=arn)
    sagemaker.delete_model_package_group(ModelPackageGroupName=group)
    with pytest.raises(ClientError, match="does not exist"):
        sagemaker.describe_model_package_group(ModelPackageGroupName=group)


def test_what_contradicts_the_registry_is_refused(client, group):
    sagemaker = client("sagemaker")
    with pytest.raises(ClientError, match="already exists"):
        sagemaker.create_model_package_group(ModelPackageGroupName=group)
    with pytest.raises(ClientError, match="does not exist"):
        sagemaker.create_model_package(ModelPackageGroupName="nowhere")
    with pytest.raises(ClientError, match="unversioned") as caught:
        sagemaker.create_model_package(ModelPackageName="alone")
    assert caught.value.response["ResponseMetadata"]["HTTPStatusCode"] == 501
    with pytest.raises(ClientError, match="ValidationException"):
        sagemaker.create_model_package(ModelPackageGroupName=group, ModelApprovalStatus="Perhaps")
