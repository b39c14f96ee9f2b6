"""The allow-list: which of moto's operations do what they say, by name. Everything else answers 501.

The failure this exists for: moto's SageMaker tuning, transform and pipeline jobs are at once ``Completed``, its alarms
never evaluate, its Athena always succeeds with no rows, its CloudFormation reports CREATE_COMPLETE for types of which
it creates nothing. A scenario that passes on those proves nothing. So an operation stands here only if it was tried
against moto 5.2.5 and its effect was seen through another operation; half-real ones are narrowed by a check.

What Edgewright performs itself is not listed here but registered by the module that performs it.
"""

import json
from collections.abc import Mapping

import yaml

from simulator.aws.cloud import Cloud
from simulator.aws.errors import NotRealError
from simulator.aws.operations import Call


def _names(text: str) -> frozenset[str]:
    return frozenset(text.split())


MOTO_REAL: Mapping[str, frozenset[str]] = {
    "s3": _names(
        """CreateBucket HeadBucket DeleteBucket ListBuckets GetBucketLocation
        PutObject GetObject HeadObject DeleteObject DeleteObjects CopyObject GetObjectAttributes
        ListObjects ListObjectsV2 ListObjectVersions
        CreateMultipartUpload UploadPart UploadPartCopy CompleteMultipartUpload AbortMultipartUpload
        ListParts ListMultipartUploads
        PutBucketVersioning GetBucketVersioning PutObjectTagging GetObjectTagging DeleteObjectTagging
        PutBucketTagging GetBucketTagging DeleteBucketTagging
        PutBucketEncryption GetBucketEncryption DeleteBucketEncryption
        PutBucketPolicy GetBucketPolicy DeleteBucketPolicy
        PutPublicAccessBlock GetPublicAccessBlock DeletePublicAccessBlock
        PutBucketLifecycleConfiguration GetBucketLifecycleConfiguration DeleteBucketLifecycle
        PutBucketOwnershipControls GetBucketOwnershipControls"""
    ),
    "sqs": _names(
        """CreateQueue DeleteQueue GetQueueUrl ListQueues GetQueueAttributes SetQueueAttributes PurgeQueue
        SendMessage SendMessageBatch ReceiveMessage DeleteMessage DeleteMessageBatch
        ChangeMessageVisibility ChangeMessageVisibilityBatch ListDeadLetterSourceQueues
        TagQueue UntagQueue ListQueueTags AddPermission RemovePermission"""
    ),
    "sns": _names(
        """CreateTopic DeleteTopic ListTopics GetTopicAttributes SetTopicAttributes Subscribe Unsubscribe
        ListSubscriptions ListSubscriptionsByTopic GetSubscriptionAttributes SetSubscriptionAttributes
        Publish PublishBatch TagResource UntagResource ListTagsForResource"""
    ),
    "kms": _names(
        """CreateKey DescribeKey ListKeys EnableKey DisableKey ScheduleKeyDeletion CancelKeyDeletion
        CreateAlias UpdateAlias DeleteAlias ListAliases GetPublicKey Sign Verify Encrypt Decrypt
        GenerateDataKey GenerateDataKeyWithoutPlaintext GenerateRandom GetKeyPolicy PutKeyPolicy
        TagResource UntagResource ListResourceTags UpdateKeyDescription"""
    ),
    "sts": _names("GetCallerIdentity AssumeRole GetAccessKeyInfo"),
    "iam": _names(
        """CreateRole GetRole ListRoles DeleteRole UpdateRole UpdateAssumeRolePolicy TagRole UntagRole ListRoleTags
        PutRolePolicy GetRolePolicy DeleteRolePolicy ListRolePolicies
        CreatePolicy GetPolicy DeletePolicy ListPolicies CreatePolicyVersion GetPolicyVersion ListPolicyVersions
        DeletePolicyVersion SetDefaultPolicyVersion AttachRolePolicy DetachRolePolicy ListAttachedRolePolicies
        CreateUser GetUser DeleteUser ListUsers PutUserPolicy AttachUserPolicy DetachUserPolicy
        CreateAccessKey DeleteAccessKey ListAccessKeys"""
    ),
    "iot": _names(
        """CreateThing DescribeThing UpdateThing DeleteThing ListThings
        CreateThingType DescribeThingType DeprecateThingType DeleteThingType ListThingTypes
        CreateThingGroup DescribeThingGroup UpdateThingGroup DeleteThingGroup ListThingGroups
        AddThingToThingGroup RemoveThingFromThingGroup UpdateThingGroupsForThing
        ListThingsInThingGroup ListThingGroupsForThing
        CreateKeysAndCertificate CreateCertificateFromCsr RegisterCertificateWithoutCA DescribeCertificate
        UpdateCertificate DeleteCertificate ListCertificates
        CreatePolicy GetPolicy DeletePolicy ListPolicies CreatePolicyVersion GetPolicyVersion DeletePolicyVersion
        ListPolicyVersions SetDefaultPolicyVersion AttachPolicy DetachPolicy ListAttachedPolicies
        ListTargetsForPolicy AttachThingPrincipal DetachThingPrincipal ListThingPrincipals ListPrincipalThings
        CreateRoleAlias DescribeRoleAlias UpdateRoleAlias DeleteRoleAlias ListRoleAliases SearchIndex"""
    ),
    "iot-data": _names("GetThingShadow UpdateThingShadow DeleteThingShadow ListNamedShadowsForThing"),
    "logs": _names(
        """CreateLogGroup DeleteLogGroup DescribeLogGroups CreateLogStream DeleteLogStream DescribeLogStreams
        PutLogEvents GetLogEvents FilterLogEvents PutRetentionPolicy DeleteRetentionPolicy
        TagResource UntagResource ListTagsForResource"""
    ),
    "cloudwatch": _names(
        """PutMetricData GetMetricData GetMetricStatistics ListMetrics
        PutDashboard GetDashboard ListDashboards DeleteDashboards"""
    ),
    "dynamodb": _names(
        """CreateTable DescribeTable DeleteTable ListTables UpdateTable PutItem GetItem UpdateItem DeleteItem
        Query Scan BatchGetItem BatchWriteItem TransactGetItems TransactWriteItems
        DescribeTimeToLive DescribeContinuousBackups TagResource UntagResource ListTagsOfResource"""
    ),
    "secretsmanager": _names(
        """CreateSecret DescribeSecret GetSecretValue PutSecretValue UpdateSecret DeleteSecret RestoreSecret
        ListSecrets ListSecretVersionIds TagResource UntagResource"""
    ),
    "ssm": _names(
        """PutParameter GetParameter GetParameters GetParametersByPath GetParameterHistory DescribeParameters
        DeleteParameter DeleteParameters AddTagsToResource RemoveTagsFromResource ListTagsForResource"""
    ),
    "ecr": _names("CreateRepository DescribeRepositories DeleteRepository ListImages PutImage BatchGetImage"),
    "kinesis": _names(
        """CreateStream DescribeStream DescribeStreamSummary DeleteStream ListStreams ListShards
        PutRecord PutRecords GetShardIterator GetRecords"""
    ),
    "cloudformation": _names(
        """CreateStack UpdateStack DeleteStack DescribeStacks ListStacks DescribeStackResource DescribeStackResources
        ListStackResources DescribeStackEvents GetTemplate GetTemplateSummary ValidateTemplate ListExports
        CreateChangeSet DescribeChangeSet ExecuteChangeSet DeleteChangeSet ListChangeSets"""
    ),
}

CLOUDFORMATION_REAL = _names(
    """AWS::S3::Bucket AWS::IAM::Role AWS::IAM::ManagedPolicy AWS::DynamoDB::Table AWS::IoT::Thing AWS::IoT::RoleAlias
    AWS::Events::Rule AWS::SQS::Queue AWS::SNS::Topic AWS::Logs::LogGroup AWS::CloudWatch::Dashboard
    AWS::ECR::Repository AWS::SSM::Parameter AWS::Kinesis::Stream"""
)
"""Types of which moto's CloudFormation creates a resource that then works through its own API; a test makes each.

Not AWS::KMS::Key (its policy breaks DescribeKey) and not AWS::IoT::Policy (its document is no JSON afterwards).
"""


def install(cloud: Cloud) -> None:
    """Trust moto with the list, and narrow CloudFormation to the types that it creates."""
    for service, names in MOTO_REAL.items():
        cloud.operations.trust_moto(service, names)
    for operation in ("CreateStack", "UpdateStack", "CreateChangeSet"):
        cloud.operations.before("cloudformation", operation, refuse_unreal_types)


def refuse_unreal_types(call: Call) -> None:
    """Refuse a template with a type of which nothing would be created.

    Raises:
        NotRealError: naming the types.
    """
    unreal = sorted(template_types(call.parameters.get("TemplateBody") or "") - CLOUDFORMATION_REAL)
    if call.parameters.get("TemplateURL"):
        raise NotRealError("cloudformation with TemplateURL (pass TemplateBody)")
    if unreal:
        raise NotRealError(f"cloudformation resource type {', '.join(unreal)}")


class _TemplateLoader(yaml.SafeLoader):
    """YAML in which CloudFormation's short functions (``!Ref`` …) are read as their bare values."""


def _bare(loader: yaml.SafeLoader, _suffix: str, node: yaml.Node) -> object:
    if isinstance(node, yaml.ScalarNode):
        return loader.construct_scalar(node)
    if isinstance(node, yaml.SequenceNode):
        return loader.construct_sequence(node)
    return loader.construct_mapping(node) if isinstance(node, yaml.MappingNode) else None


_TemplateLoader.add_multi_constructor("!", _bare)


def template_types(body: str) -> frozenset[str]:
    """The resource types of a CloudFormation template in JSON or YAML; empty for one that cannot be read."""
    try:
        template = json.loads(body) if body.lstrip().startswith("{") else yaml.load(body, _TemplateLoader)  # noqa: S506 - a SafeLoader
    except (ValueError, yaml.YAMLError):
        return frozenset()  # moto refuses it with the service's own error
    resources = template.get("Resources") if isinstance(template, dict) else None
    return frozenset(
        str(resource["Type"])
        for resource in (resources if isinstance(resources, dict) else {}).values()
        if isinstance(resource, dict) and "Type" in resource
    )
