"""Basic Ingest from a device's client through a real broker and the rules engine into SQS, over both brokers."""

import base64
import json
import time

import boto3
import pytest

from simulator.aws.server import CloudOptions, LocalCloud

SQL = (
    "SELECT encode(*, 'base64') AS payload_b64, topic(3) AS thing_name, topic(4) AS kind, "
    "timestamp() AS received_at_ms FROM 'edgewright/v1/+/+'"
)
INGEST = "$aws/rules/edgewright_ingest/edgewright/v1/{}/window"


@pytest.fixture
def queue(broker, tmp_path, monkeypatch):
    """A function that receives until there are so many records."""
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    with LocalCloud(CloudOptions(tmp_path, broker=broker.address)) as cloud:
        keys = {"aws_access_key_id": "local", "aws_secret_access_key": "local", "region_name": "us-east-1"}
        sqs = boto3.client("sqs", endpoint_url=cloud.url, **keys)
        url = sqs.create_queue(QueueName="ingest")["QueueUrl"]
        action = {"sqs": {"roleArn": "arn:aws:iam::123456789012:role/rules", "queueUrl": url}}
        boto3.client("iot", endpoint_url=cloud.url, **keys).create_topic_rule(
            ruleName="edgewright_ingest", topicRulePayload={"sql": SQL, "actions": [action]}
        )

        def receive(count: int, patience_s: float | None = None) -> list[dict]:
            records: list[dict] = []
            deadline = time.monotonic() + (patience_s or 20)
            while len(records) < count:
                if time.monotonic() > deadline:
                    assert patience_s is not None, records
                    break
                got = sqs.receive_message(QueueUrl=url, MaxNumberOfMessages=10, WaitTimeSeconds=1)
                for message in got.get("Messages", []):
                    records.append(json.loads(message["Body"]))
                    sqs.delete_message(QueueUrl=url, ReceiptHandle=message["ReceiptHandle"])
            return records

        yield receive


def test_telemetry_of_two_things_arrives_under_their_own_names(queue, connect):
    for thing in ("thing-a", "thing-b"):
        connect(thing).publish(INGEST.format(thing), b"\x00" + thing.encode())
    records = sorted(queue(2), key=lambda record: record["thing_name"])
    assert [record["thing_name"] for record in records] == ["thing-a", "thing-b"]
    assert [base64.b64decode(record["payload_b64"]) for record in records] == [b"\x00thing-a", b"\x00thing-b"]


def test_a_forged_name_reaches_nothing_where_the_broker_enforces_identity(queue, connect, broker):
    connect("thing-b").publish(INGEST.format("thing-a"), b"forged")
    connect("thing-a").publish(INGEST.format("thing-a"), b"true")
    got = [base64.b64decode(record["payload_b64"]) for record in queue(1 if broker.traits.enforces_identity else 2)]
    assert got == ([b"true"] if broker.traits.enforces_identity else [b"forged", b"true"])


def outage(broker, wait_until, *clients):
    broker.stop()
    wait_until(lambda: not any(client.is_connected for client in clients))
    broker.start()
    wait_until(lambda: all(client.is_connected for client in clients))


def test_what_the_broker_acknowledged_after_its_outage_reaches_the_rule(queue, connect, wait_until, broker):
    thing = connect("thing-a")
    received: list[dict] = []
    for number in range(2):
        outage(broker, wait_until, thing)
        while not broker.traits.keeps_sessions_over_restart:  # it forgot the cloud's: wait until the cloud is back
            thing.publish(INGEST.format("thing-a"), b"probe")
            if queue(1, patience_s=2):
                break
        thing.publish(INGEST.format("thing-a"), str(number).encode())
        while str(number).encode() not in [base64.b64decode(record["payload_b64"]) for record in received]:
            received += queue(1)
