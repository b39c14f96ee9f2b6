"""What each profile refuses over IPC: without a policy, for a topic that AWS IoT does not bear, or because it is not built."""

import asyncio
import datetime as dt
import json
import math
from collections.abc import Mapping
from typing import Any

import pytest
from awsiot.greengrasscoreipc import model

from simulator.nucleus.eventstream import Message, encode
from simulator.nucleus.ipc_operations import Call, OperationError, Operations
from simulator.nucleus.profile import JAVA
from tests.conformance.ipc_nucleus import APP, PEER, Nucleus, error_of, json_message, message_of


@pytest.mark.parametrize(
    "arguments",
    [{"key_path": ["accessControl"], "value_to_merge": {}}, {"value_to_merge": {"accessControl": {}}}],
    ids=["by path", "by value"],
)
def test_a_component_cannot_widen_its_own_access(nucleus: Nucleus, arguments: dict[str, Any]) -> None:
    client, now = nucleus.client(), dt.datetime.now(dt.UTC)
    assert isinstance(
        error_of(lambda: client.update_configuration(timestamp=now, **arguments)), model.InvalidArgumentsError
    )


def test_what_no_policy_allows_is_unauthorized(nucleus: Nucleus) -> None:
    client = nucleus.client()
    refused = [
        lambda: client.publish_to_iot_core(topic_name="other", qos="1", payload=b""),
        lambda: client.publish_to_iot_core(topic_name="commands/x", qos="1", payload=b""),
        lambda: client.subscribe_to_iot_core(topic_name="telemetry/x", qos="1", on_stream_event=print),
        lambda: client.publish_to_topic(topic="global", publish_message=json_message({})),
        lambda: client.subscribe_to_topic(topic="global", on_stream_event=print),
    ]
    for action in refused:
        error = error_of(action)
        assert isinstance(error, model.UnauthorizedError)
        assert (message_of(error) is None) == (nucleus.profile.error_fields[0] == "_message")
    assert nucleus.cloud.published == []


@pytest.mark.parametrize(
    "topic", ["telemetry/#", "telemetry/+", "telemetry/" + "x" * 256, "telemetry/a/b/c/d/e/f/g/h"],
    ids=["rest", "level", "long", "deep"],
)  # fmt: skip
def test_a_topic_for_which_aws_iot_hangs_up_is_refused(nucleus: Nucleus, topic: str) -> None:
    error = error_of(lambda: nucleus.client().publish_to_iot_core(topic_name=topic, qos="1", payload=b""))
    assert type(error).__name__ == nucleus.profile.bad_topic_error
    assert nucleus.cloud.published == []
    deep = "$aws/rules/ingest/" + "x/" * 7 + "x" * 200  # Basic Ingest's prefix does not count
    nucleus.client().publish_to_iot_core(topic_name=deep, qos="1", payload=b"")


@pytest.mark.parametrize("topic_filter", ["commands/#/x", "commands/a#", "commands/+a/b"])
def test_what_is_no_filter_is_refused(nucleus: Nucleus, topic_filter: str) -> None:
    client = nucleus.client()
    error = error_of(lambda: client.subscribe_to_iot_core(topic_name=topic_filter, qos="1", on_stream_event=print))
    assert type(error).__name__ == nucleus.profile.bad_topic_error


def test_what_touches_other_components_needs_a_policy(nucleus: Nucleus) -> None:
    own = {"aws.greengrass.Cli": {"one": {"operations": ["*"], "resources": [APP]}}}
    nucleus.call(nucleus.services.configurations.merge, "com.example.Third", ("accessControl",), own, 2)
    client = nucleus.client("com.example.Third")
    assert client.restart_component(component_name=APP).restart_status == "SUCCEEDED"
    assert isinstance(error_of(lambda: client.restart_component(component_name=PEER)), model.UnauthorizedError)
    if "ListComponents" in nucleus.profile.operations:
        assert isinstance(error_of(client.list_components), model.UnauthorizedError)
        assert client.get_component_details(component_name=APP).component_details.version == "1.0.0"


def test_an_optional_capability_answers_or_is_a_service_error(nucleus: Nucleus) -> None:
    client = nucleus.client()
    if "ListComponents" in nucleus.profile.operations:
        details = client.get_component_details(component_name=PEER).component_details
        assert (details.version, details.state) == ("2.0.0", "RUNNING")
        assert [component.component_name for component in client.list_components().components] == [APP, PEER]
    else:
        assert isinstance(error_of(client.list_components), model.ServiceError)
    assert isinstance(error_of(lambda: client.get_thing_shadow(thing_name="t", shadow_name="s")), model.ServiceError)
    assert client.get_configuration(key_path=["batch"]).value == {"batch": 8}  # the connection survives both


def test_an_operation_that_is_not_simulated_is_named_where_text_can_be_seen(nucleus: Nucleus) -> None:
    client = nucleus.client()
    error = error_of(lambda: client.subscribe_to_component_updates(on_stream_event=print))
    assert isinstance(error, model.ServiceError)
    if nucleus.profile.error_fields[0] == "message":
        assert "SubscribeToComponentUpdates is not simulated" in str(message_of(error))
    operations = Operations(nucleus.profile, nucleus.services)
    for operation in nucleus.profile.unsimulated_operations:
        with pytest.raises(OperationError, match=f"{operation} is not simulated"):
            nucleus.run(operations.answer(Call(operation, APP, {}, lambda *_: None)))


def test_every_operation_of_the_sdk_is_served_or_named(nucleus: Nucleus) -> None:
    shapes = {name.removesuffix("Request") for name in dir(model) if name.endswith("Request")}
    real = nucleus.profile.operations | nucleus.profile.unsimulated_operations
    assert not nucleus.profile.operations & nucleus.profile.unsimulated_operations
    if nucleus.profile is JAVA:
        assert real == shapes


DEEP: dict[str, Any] = {}
for _ in range(100):
    DEEP = {"deeper": DEEP}


@pytest.mark.parametrize(
    ("operation", "request_", "words"),
    [
        ("UpdateConfiguration", {"valueToMerge": 5, "timestamp": 1}, "must be an object"),
        ("UpdateConfiguration", {"valueToMerge": DEEP, "timestamp": 1}, "levels"),
        ("UpdateConfiguration", {"valueToMerge": {}, "timestamp": math.nan}, "finite"),
        ("UpdateConfiguration", {"valueToMerge": {}, "timestamp": math.inf}, "finite"),
        ("UpdateConfiguration", {"valueToMerge": {}, "timestamp": "now"}, "number of seconds"),
        ("GetConfiguration", {"componentName": ["x"]}, "componentName"),
        ("SubscribeToConfigurationUpdate", {"componentName": 5}, "componentName"),
        ("PublishToIoTCore", {"topicName": "telemetry/x", "qos": "2"}, "qos"),
        ("PublishToIoTCore", {"topicName": "telemetry/x", "payload": "###"}, "base64"),
    ],
)
def test_what_no_sdk_sends_is_refused_by_its_field(
    nucleus: Nucleus, operation: str, request_: dict[str, Any], words: str
) -> None:
    call = Call(operation, APP, request_, lambda *_: None)
    with pytest.raises(OperationError, match=words) as caught:
        nucleus.run(Operations(nucleus.profile, nucleus.services).answer(call))
    assert caught.value.shape == "InvalidArgumentsError"


def frame(payload: Mapping[str, Any], **headers: object) -> bytes:
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    return encode(Message({f":{name}": value for name, value in named.items()}, json.dumps(payload).encode()))


def test_a_stream_that_is_in_use_is_not_opened_again(nucleus: Nucleus) -> None:
    """Its subscription would be nobody's any more, and never end."""
    token = nucleus.call(nucleus.services.tokens.token_of, APP)
    connect = frame({"authToken": token}, message_type=4, message_flags=0, stream_id=0, version="0.1.0")
    request = encode(
        Message(
            {":message-type": 0, ":message-flags": 0, ":stream-id": 1,
             "operation": "aws.greengrass#SubscribeToConfigurationUpdate"},
            b"{}",
        )
    )  # fmt: skip

    async def ask() -> None:
        reader, writer = await asyncio.open_unix_connection(str(nucleus.server.path))
        writer.write(connect + request + request)
        await reader.read()  # to the end: the nucleus hangs up
        writer.close()

    nucleus.run(ask())
    assert nucleus.services.configurations._watchers == []
