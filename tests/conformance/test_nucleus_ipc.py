"""One suite over the nucleus IPC, through the unmodified GreengrassCoreIPCClientV2, for every profile.

What the two nuclei truly do differently is declared in their profiles and asserted here, never skipped. The same suite
can be pointed at a real nucleus: ``nucleus`` gives a socket path, tokens and a cloud to look into, nothing else.
"""

import datetime as dt
import queue
import time
from typing import Any

import pytest
from awsiot.greengrasscoreipc import model

from simulator.nucleus.errors import ComponentSlotsError
from tests.conformance.ipc_nucleus import APP, CONNECTION_LOST, PEER, WAIT_S, Nucleus, error_of, json_message


def test_a_token_is_the_door(nucleus: Nucleus) -> None:
    error = error_of(lambda: nucleus.client(token="bm90IGEgdG9rZW4hIQ=="))
    expected = "AWS_IO_SOCKET_CLOSED" if nucleus.profile.closes_on_bad_token else "AccessDenied"
    assert expected in repr(error)
    nucleus.client()  # and the server lives on


def test_so_many_components_get_a_token_and_those_keep_theirs(nucleus: Nucleus) -> None:
    names = [APP, PEER, *(f"com.example.More{number}" for number in range(50))]  # two more than Lite has room for
    places = nucleus.profile.components_max or len(names)
    for name in names[:places]:
        nucleus.call(nucleus.services.tokens.token_of, name)
    for name in names[places:]:
        assert isinstance(error_of(lambda late=name: nucleus.client(late)), ComponentSlotsError)
    nucleus.client(names[places - 1])
    nucleus.client(APP)


def test_configuration_is_read_by_path(nucleus: Nucleus) -> None:
    client = nucleus.client()
    whole = client.get_configuration()
    assert whole.component_name == APP
    assert whole.value["batch"] == 8
    assert client.get_configuration(key_path=["deep"]).value == {"a": 1}
    assert client.get_configuration(key_path=["batch"]).value == {"batch": 8}
    assert client.get_configuration(component_name=PEER).component_name == PEER
    assert isinstance(error_of(lambda: client.get_configuration(key_path=["absent"])), model.ResourceNotFoundError)


def test_an_update_is_merged_announced_and_never_older_than_what_stands(nucleus: Nucleus) -> None:
    client, events = nucleus.client(), queue.Queue[Any]()
    response, stream = client.subscribe_to_configuration_update(on_stream_event=events.put)
    assert isinstance(response, model.SubscribeToConfigurationUpdateResponse)
    now = dt.datetime.now(dt.UTC)
    client.update_configuration(key_path=["deep"], value_to_merge={"b": 2}, timestamp=now)
    event = events.get(timeout=WAIT_S).configuration_update_event
    assert (event.component_name, event.key_path) == (APP, ["deep", "b"])
    client.update_configuration(value_to_merge={"deep": {"b": 3}}, timestamp=now - dt.timedelta(hours=1))
    assert client.get_configuration(key_path=["deep"]).value == {"a": 1, "b": 2}
    stream.close().result(WAIT_S)


def test_an_update_needs_a_timestamp_where_the_nucleus_does(nucleus: Nucleus) -> None:
    client = nucleus.client()
    if nucleus.profile.requires_timestamp:
        error = error_of(lambda: client.update_configuration(value_to_merge={"c": 1}))
        assert isinstance(error, model.InvalidArgumentsError)
    else:
        client.update_configuration(value_to_merge={"c": 1})
        assert client.get_configuration(key_path=["c"]).value == {"c": 1}


@pytest.mark.parametrize("topic", ["telemetry/a/b", "$aws/rules/ingest/edgewright/v1/thing/window"])
def test_a_publish_reaches_the_cloud(nucleus: Nucleus, topic: str) -> None:
    nucleus.client().publish_to_iot_core(topic_name=topic, qos="1", payload=b"\x00binary\xff")
    (published,) = nucleus.cloud.published
    assert (published.topic, published.payload, published.qos) == (topic, b"\x00binary\xff", 1)


def test_offline_a_publish_is_refused_or_spooled(nucleus: Nucleus) -> None:
    client = nucleus.client()
    nucleus.call(nucleus.cloud.online, False)
    if nucleus.profile.spools_offline_bytes:
        client.publish_to_iot_core(topic_name="telemetry/x", qos="1", payload=b"1")
        nucleus.call(nucleus.cloud.online, True)
        client.publish_to_iot_core(topic_name="telemetry/x", qos="1", payload=b"2")
        assert [published.payload for published in nucleus.cloud.published] == [b"1", b"2"]
        return
    error = error_of(lambda: client.publish_to_iot_core(topic_name="telemetry/x", qos="1", payload=b"1"))
    assert isinstance(error, model.ServiceError)
    nucleus.call(nucleus.cloud.online, True)
    client.publish_to_iot_core(topic_name="telemetry/x", qos="1", payload=b"2")
    assert [published.payload for published in nucleus.cloud.published] == [b"2"]


def test_large_publishes_meet_this_nucleus_s_limits(nucleus: Nucleus) -> None:
    client = nucleus.client()
    publish = lambda size: client.publish_to_iot_core(topic_name="telemetry/x", qos="1", payload=bytes(size))  # noqa: E731
    publish(6_000)
    if nucleus.profile.frame_bytes_max is None:
        publish(100_000)
        assert isinstance(error_of(lambda: publish(200_000)), model.ServiceError)
        return
    assert isinstance(error_of(lambda: publish(7_000)), model.ServiceError)
    assert isinstance(error_of(lambda: publish(7_500)), CONNECTION_LOST)
    assert isinstance(error_of(lambda: publish(1)), CONNECTION_LOST)
    nucleus.client().publish_to_iot_core(topic_name="telemetry/x", qos="1", payload=b"a new connection works")


def test_messages_from_the_cloud_arrive_in_order_until_the_stream_is_closed(nucleus: Nucleus) -> None:
    client, events = nucleus.client(), queue.Queue[Any]()
    _, stream = client.subscribe_to_iot_core(topic_name="commands/#", qos="1", on_stream_event=events.put)
    for number in range(20):
        nucleus.call(nucleus.cloud.deliver, "commands/go", b"%d" % number)
    nucleus.call(nucleus.cloud.deliver, "elsewhere", b"no")
    received = [events.get(timeout=WAIT_S).message for _ in range(20)]
    assert [message.payload for message in received] == [b"%d" % number for number in range(20)]
    assert {message.topic_name for message in received} == {"commands/go"}
    stream.close().result(WAIT_S)
    nucleus.call(nucleus.cloud.deliver, "commands/go", b"late")
    assert events.empty()


def test_components_talk_to_each_other(nucleus: Nucleus) -> None:
    listener, speaker, events = nucleus.client(PEER), nucleus.client(APP), queue.Queue[Any]()
    response, stream = listener.subscribe_to_topic(topic="local/x", on_stream_event=events.put)
    assert response.topic_name == "local/x"
    speaker.publish_to_topic(topic="local/x", publish_message=json_message({"n": 1}))
    binary = model.PublishMessage(binary_message=model.BinaryMessage(message=b"\x00\x01"))
    speaker.publish_to_topic(topic="local/x", publish_message=binary)
    first, second = events.get(timeout=WAIT_S), events.get(timeout=WAIT_S)
    assert (first.json_message.message, first.json_message.context.topic) == ({"n": 1}, "local/x")
    assert second.binary_message.message == b"\x00\x01"
    stream.close().result(WAIT_S)


def test_receive_mode_counts_only_where_the_nucleus_reads_it(nucleus: Nucleus) -> None:
    client, events = nucleus.client(), queue.Queue[Any]()
    _, stream = client.subscribe_to_topic(
        topic="local/x", receive_mode=model.ReceiveMode.RECEIVE_MESSAGES_FROM_OTHERS, on_stream_event=events.put
    )
    client.publish_to_topic(topic="local/x", publish_message=json_message({"from": "me"}))
    nucleus.client(PEER).publish_to_topic(topic="local/x", publish_message=json_message({"from": "peer"}))
    received = [events.get(timeout=WAIT_S).json_message.message["from"]]
    if not nucleus.profile.honours_receive_mode:
        received.append(events.get(timeout=WAIT_S).json_message.message["from"])
    assert received[-1] == "peer"
    assert len(received) == (1 if nucleus.profile.honours_receive_mode else 2)
    stream.close().result(WAIT_S)


def test_a_component_reports_its_state(nucleus: Nucleus) -> None:
    client = nucleus.client()
    client.update_state(state=model.ReportedLifecycleState.RUNNING)
    assert nucleus.components.seen == [(APP, "RUNNING")]
    assert isinstance(error_of(lambda: client.update_state(state="FINISHED")), model.InvalidArgumentsError)


def test_a_component_restarts_another(nucleus: Nucleus) -> None:
    client = nucleus.client()
    assert client.restart_component(component_name=PEER).restart_status == "SUCCEEDED"
    assert (PEER, "restart") in nucleus.components.seen
    assert isinstance(
        error_of(lambda: client.restart_component(component_name="com.example.None")), model.ComponentNotFoundError
    )


def test_a_token_can_be_validated(nucleus: Nucleus) -> None:
    client = nucleus.client()
    token = nucleus.call(nucleus.services.tokens.token_of, PEER)
    assert client.validate_authorization_token(token=token).is_valid
    assert isinstance(error_of(lambda: client.validate_authorization_token(token="no")), model.InvalidTokenError)


def test_a_ping_is_answered(nucleus: Nucleus) -> None:
    client = nucleus.client()
    client.client._connection.send_ping().result(WAIT_S)
    assert client.get_configuration(key_path=["batch"]).value == {"batch": 8}


def test_a_vanished_client_leaves_no_subscription(nucleus: Nucleus) -> None:
    client = nucleus.client()
    client.subscribe_to_topic(topic="local/x", on_stream_event=print)
    client.close().result(WAIT_S)
    deadline = time.monotonic() + WAIT_S
    while nucleus.services.topics._subscribers and time.monotonic() < deadline:
        time.sleep(0.01)
    assert nucleus.services.topics._subscribers == []


def test_a_restarted_nucleus_is_noticed_and_reconnected_to(nucleus: Nucleus) -> None:
    client = nucleus.client()
    nucleus.call(nucleus.server.disconnect_all)
    assert isinstance(error_of(client.get_configuration), CONNECTION_LOST)
    assert nucleus.client().get_configuration(key_path=["batch"]).value == {"batch": 8}
