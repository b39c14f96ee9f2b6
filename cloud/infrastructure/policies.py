"""Who may do what, as IAM policy documents. Pure; least privilege as far as one role for the whole loop allows.

Source of the actions behind ``.sync``: Step Functions Developer Guide, "IAM policies for integrated services",
SageMaker: a machine that waits for a job keeps an EventBridge rule of its own.
"""

import re
from dataclasses import dataclass
from typing import Any

from cloud.errors import InvalidInputError
from cloud.names import DEAD_SUFFIX
from cloud.settings import Settings

Policy = dict[str, Any]
VERSION = "2012-10-17"
ECR_IMAGE = re.compile(
    r"(?P<account>\d{12})\.dkr\.ecr\.(?P<region>[a-z0-9-]+)\.amazonaws\.com(?P<suffix>\.cn)?/(?P<repository>[^:@]+)([:@].*)?"
)
TRUSTED_SERVICES = {"sagemaker": "*", "states": "stateMachine:*", "events": "rule/*", "iot": "rule/*"}
"""On whose behalf a service may assume the role: its resources of this account and region, as each service's guide says
under "cross-service confused deputy prevention"."""


@dataclass(frozen=True, slots=True)
class Place:
    """Partition, region and account, and the ARNs of what settings name."""

    partition: str
    account: str
    settings: Settings

    @classmethod
    def of(cls, settings: Settings) -> "Place":
        """Read partition and account out of the role's ARN.

        Raises:
            InvalidInputError: it is not an IAM role's ARN, or there is no region.
        """
        if not settings.region:
            raise InvalidInputError("no AWS region is known", "Set AWS_REGION, or a region in the profile.")
        parts = settings.role_arn.split(":")
        if len(parts) != 6 or parts[2] != "iam" or not parts[5].startswith("role/"):
            raise InvalidInputError(
                f"EDGEWRIGHT_ROLE_ARN is {settings.role_arn!r}", "Write arn:aws:iam::<account>:role/<name>."
            )
        return cls(parts[1], parts[4], settings)

    @property
    def role_name(self) -> str:
        """The role's own name, without its path."""
        return self.settings.role_arn.rpartition("/")[2]

    def arn(self, service: str, resource: str) -> str:
        """An ARN in this region and account."""
        return f"arn:{self.partition}:{service}:{self.settings.region}:{self.account}:{resource}"

    @property
    def bucket_arn(self) -> str:
        """Of the bucket."""
        return f"arn:{self.partition}:s3:::{self.settings.bucket}"


def trust_policy(place: Place) -> Policy:
    """The services that may assume the role, each for this account's own resources alone."""
    return _policy(
        *(
            {
                "Effect": "Allow",
                "Principal": {"Service": f"{service}.amazonaws.com"},
                "Action": "sts:AssumeRole",
                "Condition": {
                    "StringEquals": {"aws:SourceAccount": place.account},
                    "ArnLike": {"aws:SourceArn": place.arn(service, resource)},
                },
            }
            for service, resource in TRUSTED_SERVICES.items()
        )
    )


def role_policy(place: Place) -> Policy:
    """What the role may do: run the loop over this bucket, this queue, these jobs and machines, and nothing else."""
    settings = place.settings
    return _policy(
        _allow(["s3:GetObject", "s3:PutObject", "s3:AbortMultipartUpload"], [f"{place.bucket_arn}/*"]),
        _allow(["s3:ListBucket", "s3:GetBucketLocation"], [place.bucket_arn]),
        _allow(["sqs:SendMessage"], [place.arn("sqs", settings.ingest_queue + suffix) for suffix in ("", DEAD_SUFFIX)]),
        _allow(["states:StartExecution"], [place.arn("states", f"stateMachine:{settings.state_machine}*")]),
        *_job_statements(place),
        *_image_statements(settings.job_image),
        *_publishing_statements(place),
    )


def queue_policy(place: Place) -> Policy:
    """EventBridge may send to the ingest queue, for this account's rules only; ``Resource`` is set with the queue."""
    return _policy(
        {
            "Effect": "Allow",
            "Principal": {"Service": "events.amazonaws.com"},
            "Action": "sqs:SendMessage",
            "Condition": {"ArnLike": {"aws:SourceArn": place.arn("events", "rule/edgewright-*")}},
        }
    )


def _job_statements(place: Place) -> list[Policy]:
    jobs = [place.arn("sagemaker", "training-job/*"), place.arn("sagemaker", "processing-job/*")]
    actions = [
        f"sagemaker:{verb}{kind}Job" for kind in ("Training", "Processing") for verb in ("Create", "Describe", "Stop")
    ]
    watched = [
        place.arn("events", f"rule/StepFunctionsGetEventsForSageMaker{kind}JobsRule")
        for kind in ("Training", "Processing")
    ]
    logs = place.arn("logs", "log-group:/aws/sagemaker/*")
    return [
        _allow([*actions, "sagemaker:AddTags"], jobs),
        _allow(["events:PutTargets", "events:PutRule", "events:DescribeRule"], watched),
        _allow(["logs:CreateLogGroup", "logs:CreateLogStream", "logs:DescribeLogStreams", "logs:PutLogEvents"], [logs]),
        {
            **_allow(
                ["cloudwatch:PutMetricData"], ["*"]
            ),  # which knows no resources: its metrics are under a namespace
            "Condition": {"StringLike": {"cloudwatch:namespace": "/aws/sagemaker/*"}},
        },
        {
            **_allow(["iam:PassRole"], [place.settings.role_arn]),
            "Condition": {"StringEquals": {"iam:PassedToService": "sagemaker.amazonaws.com"}},
        },
    ]


def _image_statements(image: str) -> list[Policy]:
    """Jobs pull their image as the role, where it is in a private ECR repository; a public one needs nothing."""
    found = ECR_IMAGE.fullmatch(image)
    if found is None:
        return []
    partition = "aws-cn" if found["suffix"] else "aws-us-gov" if found["region"].startswith("us-gov-") else "aws"
    repository = f"arn:{partition}:ecr:{found['region']}:{found['account']}:repository/{found['repository']}"
    pull = ["ecr:BatchCheckLayerAvailability", "ecr:GetDownloadUrlForLayer", "ecr:BatchGetImage"]
    return [_allow(pull, [repository]), _allow(["ecr:GetAuthorizationToken"], ["*"])]  # the latter knows no resources


def _publishing_statements(place: Place) -> list[Policy]:
    components = place.arn("greengrass", "components:com.edgewright.*")
    packages = [place.arn("sagemaker", "model-package/*"), place.arn("sagemaker", "model-package-group/*")]
    component_actions = ["CreateComponentVersion", "DescribeComponent", "ListComponentVersions", "TagResource"]
    package_actions = [
        "CreateModelPackage", "CreateModelPackageGroup", "DescribeModelPackageGroup", "ListModelPackages",
    ]  # fmt: skip
    statements = [
        _allow([f"greengrass:{action}" for action in component_actions], [components]),
        _allow([f"sagemaker:{action}" for action in package_actions], packages),
    ]
    key = place.settings.signing_key
    return [*statements, _signing_statement(key.removeprefix("kms:"), place)] if key.startswith("kms:") else statements


def _signing_statement(key: str, place: Place) -> Policy:
    """A policy names no alias as a resource. What another account's key is also called only the request can say."""
    actions = ["kms:Sign", "kms:GetPublicKey"]
    if key.startswith("alias/"):
        condition = {"ForAnyValue:StringEquals": {"kms:ResourceAliases": key}}
        return {**_allow(actions, [place.arn("kms", "key/*")]), "Condition": condition}
    if not key.startswith("arn:"):
        return _allow(actions, [place.arn("kms", f"key/{key}")])
    owner, is_alias, name = key.partition(":alias/")
    if not is_alias:
        return _allow(actions, [key])
    return {**_allow(actions, [f"{owner}:key/*"]), "Condition": {"StringEquals": {"kms:RequestAlias": f"alias/{name}"}}}


def _allow(actions: list[str], resources: list[str]) -> Policy:
    return {"Effect": "Allow", "Action": actions, "Resource": resources}


def _policy(*statements: Policy) -> Policy:
    return {"Version": VERSION, "Statement": list(statements)}
