"""Topic rules through CreateTopicRule and a message on the bus, to what arrives in SQS and S3."""

import base64
import json
import time
import uuid

import pytest
from botocore.exceptions import ClientError

INGEST_SQL = (
    "SELECT encode(*, 'base64') AS payload_b64, topic(3) AS thing_name, topic(4) AS kind, "
    "timestamp() AS received_at_ms FROM 'edgewright/v1/+/+'"
)
ROLE = "arn:aws:iam::123456789012:role/rules"


@pytest.fixture
def make_rule(client):
    made = []

    def make(sql: str, *actions: dict, **payload: object) -> str:
        name = f"rule_{uuid.uuid4().hex}"
        client("iot").create_topic_rule(
            ruleName=name, topicRulePayload={"sql": sql, "actions": list(actions), **payload}
        )
        made.append(name)
        return name

    yield make
    for name in made:
        client("iot").delete_topic_rule(ruleName=name)


def sqs(queue_url: str, **members: object) -> dict:
    return {"sqs": {"roleArn": ROLE, "queueUrl": queue_url, **members}}


def test_basic_ingest_reaches_the_queue_with_the_topic_as_identity(bus, new_queue, drain, make_rule):
    queue_url = new_queue()
    name = make_rule(INGEST_SQL, sqs(queue_url))
    bus.publish(f"$aws/rules/{name}/edgewright/v1/thing-a/window", b"\x00 any bytes")
    (body,) = drain(queue_url, 1)
    record = json.loads(body)
    assert base64.b64decode(record["payload_b64"]) == b"\x00 any bytes"
    assert (record["thing_name"], record["kind"]) == ("thing-a", "window")
    assert abs(record["received_at_ms"] - time.time() * 1000) < 60_000


def test_a_message_on_the_plain_topic_matches_the_from_clause_once(bus, new_queue, drain, make_rule):
    queue_url, other = new_queue(), new_queue()
    make_rule(INGEST_SQL, sqs(queue_url))
    make_rule("SELECT kind FROM 'edgewright/v1/+/+' WHERE size > 3", sqs(other))
    bus.publish("edgewright/v1/thing-a/extra/level", b"{}")
    for size in (1, 5):
        bus.publish("edgewright/v1/thing-a/window", json.dumps({"kind": "k", "size": size}).encode())
    assert len(drain(queue_url, 2)) == 2
    assert drain(other, 1) == ['{"kind":"k"}']


def test_messages_keep_their_order_and_none_is_lost(bus, client, make_rule):
    bucket = f"b-{uuid.uuid4().hex}"
    client("s3").create_bucket(Bucket=bucket)
    make_rule("SELECT * FROM 'raw/#'", {"s3": {"roleArn": ROLE, "bucketName": bucket, "key": "${topic(2)}/${n}.json"}})
    for number in range(50):
        bus.publish("raw/thing-a", json.dumps({"n": number}).encode())
    deadline = time.monotonic() + 10
    while (found := client("s3").list_objects_v2(Bucket=bucket).get("KeyCount", 0)) < 50:
        assert time.monotonic() < deadline, found
    assert client("s3").get_object(Bucket=bucket, Key="thing-a/49.json")["Body"].read() == b'{"n": 49}'


def test_republish_reaches_a_second_rule(bus, new_queue, drain, make_rule):
    queue_url = new_queue()
    make_rule("SELECT *, topic() AS came_by FROM 'second/+'", sqs(queue_url))
    make_rule("SELECT a FROM 'first/+'", {"republish": {"roleArn": ROLE, "topic": "second/${topic(2)}"}})
    bus.publish("first/thing-a", b'{"a":1,"b":2}')
    assert drain(queue_url, 1) == ['{"a":1,"came_by":"second/thing-a"}']


def test_a_failed_action_reaches_the_error_action_and_the_others_still_run(bus, new_queue, drain, make_rule):
    good, errors = new_queue(), new_queue()
    missing = {"s3": {"roleArn": ROLE, "bucketName": "no-such-bucket", "key": "k"}}
    name = make_rule("SELECT * FROM 'fragile'", missing, sqs(good), errorAction=sqs(errors))
    bus.publish("fragile", b"payload")
    assert drain(good, 1) == ["payload"]
    report = json.loads(drain(errors, 1)[0])
    assert report["ruleName"] == name
    assert base64.b64decode(report["base64OriginalPayload"]) == b"payload"
    (failure,) = report["failures"]
    assert (failure["failedAction"], failure["failedResource"]) == ("S3Action", "no-such-bucket")
    assert "NoSuchBucket" in failure["errorMessage"]


def test_a_queue_that_is_gone_is_named_in_the_error_report(bus, new_queue, drain, make_rule):
    errors = new_queue()
    gone = f"{errors.rpartition('/')[0]}/gone"
    make_rule("SELECT * FROM 'gone'", sqs(gone), errorAction=sqs(errors))
    bus.publish("gone", b"payload")
    (failure,) = json.loads(drain(errors, 1)[0])["failures"]
    assert (failure["failedAction"], failure["failedResource"]) == ("SqsAction", gone)
    assert "NonExistentQueue" in failure["errorMessage"]


def test_bytes_that_are_no_text_need_base64_and_the_failure_says_so(bus, new_queue, drain, make_rule):
    encoded, plain, errors = new_queue(), new_queue(), new_queue()
    make_rule("SELECT * FROM 'bytes'", sqs(encoded, useBase64=True), sqs(plain), errorAction=sqs(errors))
    bus.publish("bytes", b"\xff\xfe")
    assert drain(encoded, 1) == ["//4="]
    assert "UnicodeDecodeError" in drain(errors, 1)[0]


def test_disabled_deleted_and_replaced_rules_do_what_they_say(bus, client, new_queue, drain, make_rule):
    queue_url = new_queue()
    name = make_rule("SELECT 1 AS version FROM 'switch'", sqs(queue_url))
    client("iot").disable_topic_rule(ruleName=name)
    bus.publish("switch", b"{}")
    client("iot").enable_topic_rule(ruleName=name)
    bus.publish("switch", b"{}")
    client("iot").replace_topic_rule(
        ruleName=name, topicRulePayload={"sql": "SELECT 2 AS version FROM 'switch'", "actions": [sqs(queue_url)]}
    )
    bus.publish("switch", b"{}")
    assert drain(queue_url, 2) == ['{"version":1}', '{"version":2}']
    assert client("iot").get_topic_rule(ruleName=name)["rule"]["sql"].startswith("SELECT 2")


@pytest.mark.parametrize(
    ("payload", "status", "named"),
    [
        ({"sql": "SELECT clientid() FROM 'a'", "actions": [sqs("q")]}, 501, "clientid"),
        (
            {"sql": "SELECT * FROM 'a'", "actions": [{"lambda": {"functionArn": "arn:aws:lambda:::function:f"}}]},
            501,
            "lambda",
        ),
        ({"sql": "SELECT * FROM 'a'", "actions": [], "awsIotSqlVersion": "beta"}, 501, "beta"),
        ({"sql": "DELETE everything", "actions": [sqs("q")]}, 400, "expected SELECT"),
    ],
)
def test_a_rule_that_would_not_run_is_refused_when_it_is_made(client, payload, status, named):
    name = f"refused_{uuid.uuid4().hex}"
    with pytest.raises(ClientError, match=named) as caught:
        client("iot").create_topic_rule(ruleName=name, topicRulePayload=payload)
    assert caught.value.response["ResponseMetadata"]["HTTPStatusCode"] == status
    assert name not in {rule["ruleName"] for rule in client("iot").list_topic_rules()["rules"]}


def test_basic_ingest_for_a_rule_that_does_not_exist_is_dropped_and_said(bus, caplog):
    bus.publish("$aws/rules/nobody/edgewright/v1/thing-a/window", b"{}")
    assert "nobody" in caplog.text
