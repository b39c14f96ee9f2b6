"""One suite over the nucleus IPC, through the unmodified GreengrassCoreIPCClientV2, for every profile.

What the two nuclei truly do differently is declared in their profiles and asserted here, never skipped. The same suite
can be pointed at a real nucleus: ``nucleus`` gives a socket path, tokens and a cloud to look into, nothing else.
"""

import asyncio
import datetime as dt
import queue
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import awsiot.greengrasscoreipc
import pytest
from awscrt.exceptions import AwsCrtError
from awsiot.eventstreamrpc import ConnectionClosedError, StreamClosedError
from awsiot.greengrasscoreipc import model
from awsiot.greengrasscoreipc.clientv2 import GreengrassCoreIPCClientV2

from simulator.nucleus.ipc_operations import Call, OperationError, Operations
from simulator.nucleus.ipc_server import IpcServer
from simulator.nucleus.ports import InMemoryMessages
from simulator.nucleus.profile import JAVA, LITE, Profile
from simulator.nucleus.services import (
    ComponentView,
    ConfigurationStore,
    Services,
    SpoolingMessages,
)

WAIT_S = 10.0
CONNECTION_LOST = (ConnectionClosedError, StreamClosedError, AwsCrtError, RuntimeError)
"""What a call can end with when the nucleus goes away: which one is a race, and AwsCrtError is no RuntimeError."""

APP, PEER = "com.example.App", "com.example.Peer"

ACCESS = {
    "aws.greengrass.ipc.mqttproxy": {
        "publish": {
            "operations": ["aws.greengrass#PublishToIoTCore"],
            "resources": ["telemetry/*", "$aws/rules/ingest/#"],
        },
        "subscribe": {"operations": ["aws.greengrass#SubscribeToIoTCore"], "resources": ["commands/#"]},
    },
    "aws.greengrass.ipc.pubsub": {"all": {"operations": ["*"], "resources": ["local/*"]}},
}


@dataclass
class FakeComponents:
    """Three components as plain objects."""

    seen: list[tuple[str, str]] = field(default_factory=list)

    def views(self) -> list[ComponentView]:
        return [ComponentView(APP, "1.0.0", "RUNNING"), ComponentView(PEER, "2.0.0", "RUNNING")]

    def report_state(self, name: str, state: str) -> None:
        self.seen.append((name, state))

    async def restart(self, name: str) -> None:
        if name not in {APP, PEER}:
            raise KeyError(name)
        self.seen.append((name, "restart"))

    async def stop_component(self, name: str) -> None:
        self.seen.append((name, "stop"))


class Nucleus:
    """An IPC server on its own event loop, and clients that connect to it."""

    def __init__(self, folder: Path, profile: Profile) -> None:
        self.profile = profile
        self.loop = asyncio.new_event_loop()
        self.thread = threading.Thread(target=self.loop.run_forever)
        self.thread.start()
        self.cloud = InMemoryMessages()
        self.components = FakeComponents()
        cloud = (
            SpoolingMessages(self.cloud, profile.spools_offline_bytes) if profile.spools_offline_bytes else self.cloud
        )
        self.services = Services(ConfigurationStore(), cloud, self.components)
        self.server = IpcServer(
            folder / profile.socket_name, profile, Operations(profile, self.services), self.services.tokens
        )
        self.clients: list[GreengrassCoreIPCClientV2] = []
        self.run(self.cloud.start(lambda _connected: None))
        self.run(self.server.start())
        self.call(
            self.services.configurations.merge, APP, (), {"accessControl": ACCESS, "batch": 8, "deep": {"a": 1}}, 1
        )
        self.call(self.services.configurations.merge, PEER, (), {"accessControl": ACCESS}, 1)

    def run(self, coroutine: Any) -> Any:
        return asyncio.run_coroutine_threadsafe(coroutine, self.loop).result(WAIT_S)

    def call(self, function: Callable[..., Any], *arguments: Any) -> Any:
        async def run() -> Any:
            return function(*arguments)

        return self.run(run())

    def client(self, component: str = APP, token: str | None = None) -> GreengrassCoreIPCClientV2:
        raw = awsiot.greengrasscoreipc.connect(
            ipc_socket=str(self.server.path),
            authtoken=token or self.call(self.services.tokens.token_of, component),
            timeout=WAIT_S,
        )
        client = GreengrassCoreIPCClientV2(client=raw)
        self.clients.append(client)
        return client

    def close(self) -> None:
        for client in self.clients:
            client.close().exception(WAIT_S)
        self.run(self.server.close())
        self.loop.call_soon_threadsafe(self.loop.stop)
        self.thread.join(WAIT_S)
        self.loop.close()


@pytest.fixture(params=[LITE, JAVA], ids=lambda profile: profile.name)
def nucleus(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Nucleus]:
    running = Nucleus(tmp_path, request.param)
    try:
        yield running
    finally:
        running.close()


def error_of(action: Callable[[], object]) -> BaseException:
    with pytest.raises(Exception) as caught:  # noqa: PT011 - the exact type is what the callers assert
        action()
    return caught.value


def message_of(error: BaseException) -> str | None:
    return error.message  # type: ignore[attr-defined]


def test_a_token_is_the_door(nucleus: Nucleus) -> None:
    error = error_of(lambda: nucleus.client(token="bm90IGEgdG9rZW4hIQ=="))
    expected = "AWS_IO_SOCKET_CLOSED" if nucleus.profile.closes_on_bad_token else "AccessDenied"
    assert expected in repr(error)
    nucleus.client()  # and the server lives on


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


@pytest.mark.parametrize("topic", ["telemetry/a/b", "$aws/rules/ingest/edgewright/v1/thing/window"])
def test_a_publish_reaches_the_cloud(nucleus: Nucleus, topic: str) -> None:
    nucleus.client().publish_to_iot_core(topic_name=topic, qos="1", payload=b"\x00binary\xff")
    (published,) = nucleus.cloud.published
    assert (published.topic, published.payload, published.qos) == (topic, b"\x00binary\xff", 1)


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


def json_message(content: dict[str, Any]) -> model.PublishMessage:
    return model.PublishMessage(json_message=model.JsonMessage(message=content))


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


def test_a_root_update_that_is_no_object_is_refused(nucleus: Nucleus) -> None:
    call = Call("UpdateConfiguration", APP, {"valueToMerge": 5, "timestamp": 1}, lambda *_: None)
    with pytest.raises(OperationError, match="must be an object") as caught:
        nucleus.run(Operations(nucleus.profile, nucleus.services).answer(call))
    assert caught.value.shape == "InvalidArgumentsError"


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
