"""What a real account does and the local cloud does not: profiles, partitions, empty pages, throttling, others' buckets."""

from pathlib import Path

import pytest
from botocore.exceptions import (
    ClientError,
    EndpointConnectionError,
    ProfileNotFound,
    TokenRetrievalError,
    UnauthorizedSSOTokenError,
)
from botocore.stub import Stubber

from cloud.aws.control_plane import redeployment
from cloud.aws.greengrass import Arns, Deployments
from cloud.aws.s3 import ObjectStore
from cloud.aws.session import AwsSession, translated
from cloud.aws.sqs import SqsQueue
from cloud.aws.state_machines import RetrainingExecutions
from cloud.errors import ConflictError, DeniedError, InvalidInputError, NotFoundError, UnavailableError
from cloud.fleet.consumer import QueueMessage
from cloud.fleet.facts import Rejection
from cloud.s3_uri import S3Uri
from cloud.settings import Settings
from tests.cloud.fleet.samples import T0

COMPONENT = "com.edgewright.model.Weather"
GROUP_ARN = "arn:aws:iot:us-east-1:123456789012:thinggroup/stations"


@pytest.fixture(autouse=True)
def nothing_configured(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    for name in ("AWS_PROFILE", "AWS_REGION", "AWS_DEFAULT_REGION", "AWS_ENDPOINT_URL"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "local")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "local")
    monkeypatch.setenv("AWS_CONFIG_FILE", str(tmp_path / "config"))
    (tmp_path / "config").write_text("[profile plant]\nregion = eu-central-1\n")


def test_the_region_of_a_profile_is_used(monkeypatch: pytest.MonkeyPatch) -> None:
    assert AwsSession(Settings.from_environment({}).region).region == "us-east-1", "none is configured"
    monkeypatch.setenv("AWS_PROFILE", "plant")
    session = AwsSession(Settings.from_environment({}).region)
    assert session.region == session.client("sqs").meta.region_name == "eu-central-1"
    assert AwsSession(Settings.from_environment({"AWS_REGION": "eu-west-1"}).region).region == "eu-west-1"


def test_a_profile_that_is_not_there_is_said_in_a_sentence(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_PROFILE", "nobody")
    with pytest.raises(InvalidInputError, match="nobody") as caught:
        AwsSession("")
    assert "AWS_PROFILE" in caught.value.remedy


def test_an_endpoint_that_is_none_is_said_in_a_sentence(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_ENDPOINT_URL", "not a url")
    with pytest.raises(InvalidInputError, match="not a url"):
        AwsSession("us-east-1").client("sqs")


@pytest.mark.parametrize(
    ("region", "prefix"),
    [("eu-west-1", "arn:aws:"), ("us-gov-west-1", "arn:aws-us-gov:"), ("cn-north-1", "arn:aws-cn:")],
)
def test_arns_name_the_partition_of_their_region(region: str, prefix: str) -> None:
    session = AwsSession(region)
    with Stubber(session.client("sts")) as stub:
        stub.add_response("get_caller_identity", {"Account": "123456789012"})
        assert Arns(session).component(COMPONENT).startswith(f"{prefix}greengrass:{region}:123456789012:")


def answer(code: str, status: int = 400) -> ClientError:
    details = {"Error": {"Code": code, "Message": "as it says"}, "ResponseMetadata": {"HTTPStatusCode": status}}
    return ClientError(details, "Do")


@pytest.mark.parametrize(
    "raised",
    [
        answer("RequestThrottled", 403),  # SQS
        answer("RequestLimitExceeded"),
        answer("ThrottledException"),
        answer("ProvisionedThroughputExceededException"),
        answer("SomethingNobodyNamed", 429),
        answer("ConditionalRequestConflict", 409),  # S3: two at once, either may be tried again
        answer("OperationAborted", 409),
        answer("ConcurrentModificationException"),  # EventBridge, IAM, IoT: two set-ups at once
        answer("ConflictingResourceUpdateException", 409),
        answer("AWS.SimpleQueueService.QueueDeletedRecently"),
        answer("RequestAlreadyInProgressException", 409),  # Greengrass: the same client token, still under way
    ],
    ids=lambda error: error.response["Error"]["Code"],
)
def test_what_passes_if_it_is_asked_again_is_unavailable(raised: ClientError) -> None:
    with pytest.raises(UnavailableError) as caught, translated("doing it"):
        raise raised
    assert caught.value.remedy


def test_whoever_is_denied_is_told_apart_and_where_to_look() -> None:
    for code in ("AccessDenied", "UnauthorizedException", "InvalidSignatureException", "RequestTimeTooSkewed"):
        with pytest.raises(DeniedError) as caught, translated("doing it"):
            raise answer(code, 403)
        assert "credentials" in caught.value.remedy


@pytest.mark.parametrize("raised", [UnauthorizedSSOTokenError(), TokenRetrievalError(provider="sso", error_msg="gone")])
def test_a_session_that_has_ended_is_said_with_what_to_do(raised: Exception) -> None:
    with pytest.raises(UnavailableError) as caught, translated("doing it"):
        raise raised
    assert "sign in" in caught.value.remedy.lower()


def test_a_missing_profile_in_mid_work_is_an_input_of_the_user_too() -> None:
    with pytest.raises(InvalidInputError), translated("doing it"):
        raise ProfileNotFound(profile="nobody")


@pytest.fixture
def session() -> AwsSession:
    return AwsSession("us-east-1")


def test_a_first_page_without_the_deployment_does_not_hide_it(session: AwsSession) -> None:
    with Stubber(session.client("greengrassv2")) as stub:
        stub.add_response("list_deployments", {"deployments": [], "nextToken": "n"})
        stub.add_response("list_deployments", {"deployments": [{"deploymentId": "d", "targetArn": GROUP_ARN}]})
        stub.add_response("get_deployment", {"deploymentId": "d", "components": {}})
        latest = Deployments(session).latest(GROUP_ARN)
    assert latest is not None
    assert latest["deploymentId"] == "d"


def test_a_repair_copies_no_tag_that_aws_keeps_for_itself() -> None:
    details = {
        "targetArn": GROUP_ARN,
        "components": {COMPONENT: {"componentVersion": "1.0.0"}},
        "tags": {"aws:cloudformation:stack-name": "s", "owner": "me"},
    }
    assert redeployment(details, COMPONENT, "n")["tags"] == {"owner": "me"}
    assert "tags" not in redeployment({**details, "tags": {"aws:x": "y"}}, COMPONENT, "n")


def test_a_bucket_of_somebody_else_is_never_written_to(session: AwsSession) -> None:
    with Stubber(session.client("s3")) as stub:
        asked = {"Bucket": "edgewright", "ExpectedBucketOwner": "123456789012"}
        stub.add_client_error("head_bucket", "403", http_status_code=403, expected_params=asked)
        with pytest.raises(ConflictError, match="edgewright") as caught:
            ObjectStore(session).ensure_bucket("edgewright", "us-east-1", "123456789012")
    assert "EDGEWRIGHT_BUCKET_OWNER" in caught.value.remedy


def test_a_bucket_that_another_account_keeps_for_us_is_used_and_never_made(session: AwsSession) -> None:
    """A central account for artifacts: its owner is named, and nobody else makes its bucket."""
    settings = Settings.from_environment({"EDGEWRIGHT_BUCKET_OWNER": "999999999999"})
    asked = {"Bucket": "central", "ExpectedBucketOwner": "999999999999"}
    with Stubber(session.client("s3")) as stub:
        stub.add_response("head_bucket", {}, asked)
        ObjectStore(session).ensure_bucket("central", "us-east-1", "123456789012", settings.bucket_owner)
        stub.add_client_error("head_bucket", "404", http_status_code=404, expected_params=asked)
        with pytest.raises(NotFoundError, match="central") as caught:
            ObjectStore(session).ensure_bucket("central", "us-east-1", "123456789012", settings.bucket_owner)
        stub.assert_no_pending_responses()
    assert "999999999999" in caught.value.remedy


def test_an_owner_that_is_no_account_is_named() -> None:
    with pytest.raises(InvalidInputError, match="EDGEWRIGHT_BUCKET_OWNER"):
        Settings.from_environment({"EDGEWRIGHT_BUCKET_OWNER": "central"})


def test_a_bucket_that_two_make_at_once_is_made(session: AwsSession) -> None:
    with Stubber(session.client("s3")) as stub:
        stub.add_client_error("head_bucket", "404", http_status_code=404)
        stub.add_client_error("create_bucket", "BucketAlreadyOwnedByYou", http_status_code=409)
        ObjectStore(session).ensure_bucket("edgewright", "eu-west-1", "123456789012")
        stub.add_client_error("head_bucket", "404", http_status_code=404)
        stub.add_client_error("create_bucket", "BucketAlreadyExists", http_status_code=409)
        with pytest.raises(ConflictError, match="BucketAlreadyExists"):
            ObjectStore(session).ensure_bucket("edgewright", "eu-west-1", "123456789012")


def test_a_reason_that_sqs_would_refuse_is_parked_all_the_same(session: AwsSession) -> None:
    asked = {
        "QueueUrl": "https://sqs/q-dead", "MessageBody": "body",
        "MessageAttributes": {
            "code": {"DataType": "String", "StringValue": "malformed"},
            "reason": {"DataType": "String", "StringValue": "is \ufffd, \ufffd and \u00fc\n"},
        },
    }  # fmt: skip
    with Stubber(session.client("sqs")) as stub:
        stub.add_response("get_queue_url", {"QueueUrl": "https://sqs/q-dead"}, {"QueueName": "q-dead"})
        stub.add_response("send_message", {"MessageId": "m", "MD5OfMessageBody": "0"}, asked)
        rejection = Rejection("malformed", "is \x01, \ud800 and \u00fc\n")
        SqsQueue(session, "q").park(QueueMessage("body", "receipt"), rejection)
        stub.assert_no_pending_responses()


def test_a_claim_that_collided_is_not_taken_for_somebody_else_s(session: AwsSession) -> None:
    with Stubber(session.client("s3")) as stub:
        stub.add_client_error("put_object", "ConditionalRequestConflict", http_status_code=409)
        with pytest.raises(UnavailableError):
            ObjectStore(session).put_new(S3Uri("b", "k"), b"")
        stub.add_client_error("put_object", "PreconditionFailed", http_status_code=412)
        assert ObjectStore(session).put_new(S3Uri("b", "k"), b"") is False


def test_a_state_machine_that_was_removed_has_no_executions(session: AwsSession) -> None:
    """Step Functions has a word of its own for what is not there."""
    arn = "arn:aws:states:us-east-1:123456789012:stateMachine:edgewright-retrain-weather"
    machine = {"stateMachineArn": arn, "name": "edgewright-retrain-weather", "type": "STANDARD", "creationDate": T0}
    source = RetrainingExecutions(session, "edgewright-retrain")
    with Stubber(session.client("stepfunctions")) as stub:
        for _ in range(2):  # it is looked for again: perhaps it was made again
            stub.add_response("list_state_machines", {"stateMachines": [machine]})
            stub.add_client_error("list_executions", "StateMachineDoesNotExist")
            assert source.executions("weather", T0) == ()
        stub.assert_no_pending_responses()


def test_a_region_that_is_none_is_named() -> None:
    """Its endpoint does not resolve, which looks like a network that is gone."""
    with pytest.raises(UnavailableError, match="us-esat-1") as caught, translated("asking"):
        raise EndpointConnectionError(endpoint_url="https://sts.us-esat-1.amazonaws.com/")
    assert "region" in caught.value.remedy


def test_a_queue_that_was_just_made_is_waited_for(session: AwsSession) -> None:
    """SQS: "you must wait at least one second after the queue is created to be able to use it"; the dead-letter queue, too."""
    paused: list[float] = []
    url, dead = "https://sqs/q", "https://sqs/q-dead"
    attributes = {"Attributes": {"QueueArn": "arn:aws:sqs:us-east-1:123456789012:q"}}
    with Stubber(session.client("sqs")) as stub:
        stub.add_client_error("get_queue_url", "AWS.SimpleQueueService.NonExistentQueue")
        stub.add_response("create_queue", {"QueueUrl": dead})
        stub.add_client_error("get_queue_attributes", "AWS.SimpleQueueService.NonExistentQueue")
        stub.add_response("get_queue_attributes", attributes)
        stub.add_client_error("get_queue_url", "AWS.SimpleQueueService.NonExistentQueue")
        stub.add_client_error("create_queue", "InvalidParameterValue", "Dead letter target does not exist.")
        stub.add_response("create_queue", {"QueueUrl": url})
        stub.add_response("get_queue_attributes", attributes)
        stub.add_client_error("set_queue_attributes", "QueueDoesNotExist")
        stub.add_response("set_queue_attributes", {})
        queue = SqsQueue(session, "q", paused.append)
        assert queue.ensure({"Statement": []}) == attributes["Attributes"]["QueueArn"]
        assert (queue.url, queue.dead_url) == (url, dead)
        stub.assert_no_pending_responses()
    assert len(paused) == 3


def test_a_queue_that_sqs_refuses_is_no_matter_of_waiting(session: AwsSession) -> None:
    paused: list[float] = []
    with Stubber(session.client("sqs")) as stub:
        stub.add_client_error("get_queue_url", "QueueDoesNotExist")
        for _ in range(10):
            stub.add_client_error("create_queue", "InvalidParameterValue", "Can only include alphanumeric characters")
        with pytest.raises(InvalidInputError, match="alphanumeric"):
            SqsQueue(session, "b d", paused.append).ensure({"Statement": []})
    assert paused == []
