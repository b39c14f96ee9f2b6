"""EventBridge through PutEvents and through the services' own events, to what the targets received."""

import json
import time
import uuid

import pytest
from botocore.exceptions import ClientError

from simulator.aws.event import Event

ACCOUNT = "123456789012"


def queue_arn(queue_url: str) -> str:
    return f"arn:aws:sqs:us-east-1:{ACCOUNT}:{queue_url.rpartition('/')[2]}"


@pytest.fixture
def make_rule(client):
    made = []

    def make(pattern: dict, *targets: dict, **options: object) -> str:
        name = f"rule-{uuid.uuid4().hex}"
        client("events").put_rule(Name=name, EventPattern=json.dumps(pattern), **options)
        made.append(name)
        numbered = [{"Id": str(number), **target} for number, target in enumerate(targets)]
        client("events").put_targets(Rule=name, Targets=numbered)
        return name

    yield make
    for name in made:
        targets = client("events").list_targets_by_rule(Rule=name)["Targets"]
        if targets:
            client("events").remove_targets(Rule=name, Ids=[target["Id"] for target in targets])
        client("events").delete_rule(Name=name)


def put(client, source: str, detail: object, detail_type: str = "Drift Found") -> dict:
    text = detail if isinstance(detail, str) else json.dumps(detail)
    return client("events").put_events(Entries=[{"Source": source, "DetailType": detail_type, "Detail": text}])


def test_a_user_event_reaches_the_queue_whole(client, make_rule, new_queue, drain):
    queue_url = new_queue()
    make_rule(
        {"source": ["edgewright.drift"], "detail": {"psi": [{"numeric": [">", 0.2]}]}}, {"Arn": queue_arn(queue_url)}
    )
    put(client, "edgewright.drift", {"psi": 0.1})
    answer = put(client, "edgewright.drift", {"psi": 0.5, "thing": "JFK"})
    assert answer["FailedEntryCount"] == 0
    (body,) = drain(queue_url, 1)
    event = json.loads(body)
    assert event["detail"] == {"psi": 0.5, "thing": "JFK"}
    assert (event["source"], event["detail-type"], event["account"]) == ("edgewright.drift", "Drift Found", ACCOUNT)
    assert event["id"] == answer["Entries"][0]["EventId"]
    assert set(event) == {"version", "id", "detail-type", "source", "account", "time", "region", "resources", "detail"}


def test_a_service_event_reaches_the_queue(local_cloud, make_rule, new_queue, drain):
    queue_url = new_queue()
    make_rule({"source": ["aws.greengrass"]}, {"Arn": queue_arn(queue_url), "InputPath": "$.resources[0]"})
    local_cloud.cloud.events.emit(
        Event("aws.greengrass", "Greengrass V2 Effective Deployment Status Change", {"reason": "x"}, ("arn:core",))
    )
    assert drain(queue_url, 1) == ['"arn:core"']


def test_each_target_gets_its_own_input_and_a_disabled_rule_sends_nothing(client, make_rule, new_queue, drain):
    whole, constant, silent = new_queue(), new_queue(), new_queue()
    make_rule({"source": ["s"]}, {"Arn": queue_arn(whole)}, {"Arn": queue_arn(constant), "Input": '{"go": true}'})
    make_rule({"source": ["s"]}, {"Arn": queue_arn(silent)}, State="DISABLED")
    put(client, "s", {"a": 1})
    assert json.loads(drain(whole, 1)[0])["detail"] == {"a": 1}
    assert drain(constant, 1) == ['{"go": true}']
    assert "Messages" not in client("sqs").receive_message(QueueUrl=silent)


def test_what_a_target_does_not_take_goes_to_its_dead_letter_queue(client, make_rule, new_queue, drain):
    dead = new_queue()
    gone = f"arn:aws:sqs:us-east-1:{ACCOUNT}:no-such-queue"
    make_rule({"source": ["s2"]}, {"Arn": gone, "DeadLetterConfig": {"Arn": queue_arn(dead)}})
    put(client, "s2", {"a": 1})
    assert json.loads(drain(dead, 1)[0])["detail"] == {"a": 1}


def test_a_target_that_a_stack_brought_in_and_nothing_delivers_to_ends_in_the_dead_letters(client, new_queue, drain):
    dead = new_queue()
    rule = {
        "Type": "AWS::Events::Rule",
        "Properties": {
            "EventPattern": {"source": ["by-stack"]},
            "Targets": [
                {
                    "Id": "1",
                    "Arn": f"arn:aws:lambda:us-east-1:{ACCOUNT}:function:f",
                    "DeadLetterConfig": {"Arn": queue_arn(dead)},
                }
            ],
        },
    }
    client("cloudformation").create_stack(StackName="rules", TemplateBody=json.dumps({"Resources": {"Rule": rule}}))
    put(client, "by-stack", {"a": 1})
    assert json.loads(drain(dead, 1)[0])["detail"] == {"a": 1}


def test_a_log_group_target_gets_the_event(client, make_rule):
    client("logs").create_log_group(logGroupName="/edgewright/events")
    make_rule({"source": ["s3"]}, {"Arn": f"arn:aws:logs:us-east-1:{ACCOUNT}:log-group:/edgewright/events"})
    put(client, "s3", {"n": 7})
    deadline = time.monotonic() + 10
    while not (found := client("logs").filter_log_events(logGroupName="/edgewright/events")["events"]):
        assert time.monotonic() < deadline
    assert json.loads(found[0]["message"])["detail"] == {"n": 7}


@pytest.mark.parametrize(
    ("source", "detail", "code"),
    [
        ("aws.greengrass", {}, "NotAuthorizedForSourceException"),
        ("s", "{not json", "MalformedDetail"),
        ("s", "[1]", "MalformedDetail"),
        ("s", json.dumps({"x": "y" * 300_000}), "InvalidArgument"),
    ],
)
def test_an_entry_that_eventbridge_does_not_take_says_why(client, source, detail, code):
    answer = put(client, source, detail)
    assert answer["FailedEntryCount"] == 1
    assert answer["Entries"][0]["ErrorCode"] == code


def test_more_than_ten_entries_and_a_bus_that_is_not_there_are_refused(client):
    entry = {"Source": "s", "DetailType": "d", "Detail": "{}"}
    with pytest.raises(ClientError, match="ValidationException"):
        client("events").put_events(Entries=[entry] * 11)
    with pytest.raises(ClientError, match="ResourceNotFoundException"):
        client("events").put_events(Entries=[{**entry, "EventBusName": "nowhere"}])


@pytest.mark.parametrize(
    "target",
    [
        {"Id": "1", "Arn": f"arn:aws:lambda:us-east-1:{ACCOUNT}:function:f"},
        {"Id": "1", "Arn": "arn:aws:kinesis:us-east-1:1:stream/s"},
    ],
)
def test_a_target_that_nothing_would_reach_is_refused(client, make_rule, target):
    name = make_rule({"source": ["x"]}, {"Arn": f"arn:aws:sqs:us-east-1:{ACCOUNT}:q"})
    with pytest.raises(ClientError, match="EventBridge target") as caught:
        client("events").put_targets(Rule=name, Targets=[target])
    assert caught.value.response["ResponseMetadata"]["HTTPStatusCode"] == 501


def test_a_schedule_which_would_never_fire_is_refused(client):
    with pytest.raises(ClientError, match="ScheduleExpression"):
        client("events").put_rule(Name="hourly", ScheduleExpression="rate(1 hour)")


def test_an_input_transformer_with_an_unknown_placeholder_is_refused(client, make_rule):
    name = make_rule({"source": ["x"]}, {"Arn": f"arn:aws:sqs:us-east-1:{ACCOUNT}:q"})
    target = {"Id": "2", "Arn": f"arn:aws:sqs:us-east-1:{ACCOUNT}:q", "InputTransformer": {"InputTemplate": "<y>"}}
    with pytest.raises(ClientError, match="<y>"):
        client("events").put_targets(Rule=name, Targets=[target])


def test_a_pattern_can_be_tried(client):
    event = {"id": "1", "account": ACCOUNT, "source": "s", "time": "2026-01-01T00:00:00Z", "region": "us-east-1",
             "resources": [], "detail-type": "d", "detail": {"a": 1}}  # fmt: skip
    for pattern, expected in (({"source": ["s"]}, True), ({"detail": {"a": [2]}}, False)):
        answer = client("events").test_event_pattern(EventPattern=json.dumps(pattern), Event=json.dumps(event))
        assert answer["Result"] is expected
