"""What every broker must do for the simulated hop; where one honestly cannot, its traits say so."""

import pytest

from simulator.mqtt import (
    CLOUD_NAME,
    Broker,
    BrokerAddress,
    BrokerUnavailableError,
    MqttClient,
    PayloadTooLargeError,
    credentials_for,
)
from simulator.mqtt.client import ClientLimits

JOBS = "$aws/things/thing-a/jobs/notify"
INGEST = "$aws/rules/edgewright_ingest/edgewright/v1/thing-a/heartbeat"


def test_a_published_message_reaches_a_subscriber_with_its_dollar(connect, new_inbox):
    inbox = new_inbox()
    connect().subscribe("$aws/rules/#", inbox)
    connect("thing-a").publish(INGEST, b"\x00\xff payload")
    (message,) = inbox.wait_for(1)
    assert (message.topic, message.payload) == (INGEST, b"\x00\xff payload")


def test_messages_of_one_publisher_arrive_in_order(connect, new_inbox):
    inbox = new_inbox()
    connect().subscribe("edgewright/v1/+/window", inbox)
    thing = connect("thing-a")
    for number in range(200):
        thing.publish_soon("edgewright/v1/thing-a/window", str(number).encode())
    assert [int(message.payload) for message in inbox.wait_for(200)] == list(range(200))


def test_a_callback_may_publish_and_subscribe(connect, new_inbox):
    thing, cloud, answers = connect("thing-a"), connect(), new_inbox()
    thing.subscribe("$aws/things/thing-a/jobs/get/accepted", answers)
    cloud.subscribe(
        "$aws/things/+/jobs/get",
        lambda message: cloud.publish("$aws/things/thing-a/jobs/get/accepted", b"answer to " + message.payload),
    )
    thing.publish("$aws/things/thing-a/jobs/get", b"1")
    assert answers.wait_for(1)[0].payload == b"answer to 1"


def test_a_callback_that_raises_costs_its_own_message_only(connect, new_inbox, caplog):
    inbox = new_inbox()

    def fragile(message):
        if message.payload == b"bad":
            raise ValueError("cannot read this")
        inbox(message)

    connect().subscribe(JOBS, fragile)
    publisher = connect()
    publisher.publish(JOBS, b"bad")
    publisher.publish(JOBS, b"good")
    assert [message.payload for message in inbox.wait_for(1)] == [b"good"]
    assert "cannot read this" in caplog.text


def test_a_wildcard_in_the_first_level_never_covers_dollar_topics(connect, new_inbox):
    everything, cloud = new_inbox(), connect()
    cloud.subscribe("#", everything)
    cloud.publish(JOBS, b"hidden")
    cloud.publish("edgewright/v1/thing-a/window", b"seen")
    assert [message.payload for message in everything.wait_for(1)] == [b"seen"]


def test_overlapping_filters_each_get_a_message_once_where_the_broker_sends_one_copy(connect, new_inbox, broker):
    narrow, wide, marker, cloud = new_inbox(), new_inbox(), new_inbox(), connect()
    cloud.subscribe(JOBS, narrow)
    cloud.subscribe("$aws/things/+/jobs/#", wide)
    cloud.subscribe("marker", marker)
    cloud.publish(JOBS, b"once")
    cloud.publish("marker", b"after it")
    marker.wait_for(1)
    copies = 1 if broker.traits.delivers_overlaps_once else 2
    assert (len(narrow.messages), len(wide.messages)) == (copies, copies)


def test_unsubscribing_stops_delivery(connect, new_inbox):
    inbox, marker, cloud = new_inbox(), new_inbox(), connect()
    cloud.subscribe(JOBS, inbox)
    cloud.subscribe("marker", marker)
    cloud.unsubscribe(JOBS)
    cloud.publish(JOBS, b"late")
    cloud.publish("marker", b"after it")
    marker.wait_for(1)
    assert inbox.messages == []


def test_a_payload_as_large_as_iot_core_takes_arrives_and_a_larger_one_is_refused_unsent(connect, new_inbox, broker):
    inbox, cloud = new_inbox(), connect()
    cloud.subscribe(JOBS, inbox)
    cloud.publish(JOBS, bytes(broker.address.payload_bytes_max))
    assert len(inbox.wait_for(1)[0].payload) == 131_072
    with pytest.raises(PayloadTooLargeError, match="131073 bytes"):
        cloud.publish(JOBS, bytes(broker.address.payload_bytes_max + 1))


def test_after_an_outage_clients_reconnect_and_have_their_subscriptions(connect, new_inbox, wait_until, broker):
    inbox, seen = new_inbox(), []
    cloud, thing = connect(), connect("thing-a", on_connected=seen.append)
    cloud.subscribe("$aws/rules/#", inbox)
    thing.publish(INGEST, b"before")
    inbox.wait_for(1)

    broker.stop()
    wait_until(lambda: not thing.is_connected and not cloud.is_connected)
    with pytest.raises(BrokerUnavailableError, match="not connected"):
        thing.publish(INGEST, b"into the void")
    broker.start()
    wait_until(lambda: thing.is_connected and cloud.is_connected)

    thing.publish(INGEST, b"after")
    assert [message.payload for message in inbox.wait_for(2)] == [b"before", b"after"]
    wait_until(lambda: seen == [True, False, True])


def test_a_persistent_session_keeps_what_came_while_its_client_was_away(connect, make, new_inbox):
    inbox = new_inbox()
    first = connect(client_id="cloud-rules", persistent=True)
    first.subscribe(JOBS, inbox)
    first.disconnect()
    connect().publish(JOBS, b"while away")
    second = make(client_id="cloud-rules", persistent=True)
    second.subscribe(JOBS, inbox)
    second.connect()
    assert inbox.wait_for(1)[0].payload == b"while away"


def test_a_persistent_session_outlives_an_orderly_restart_where_the_broker_keeps_it(make, connect, new_inbox, broker):
    away = make(client_id="away-during-restart", persistent=True)
    away.subscribe(JOBS, lambda message: None)
    away.connect().disconnect()
    connect().publish(JOBS, b"kept")
    broker.stop()
    broker.start()
    inbox, marker = new_inbox(), new_inbox()
    back = make(client_id="away-during-restart", persistent=True)
    back.subscribe(JOBS, inbox)
    back.subscribe("marker", marker)
    back.connect().publish("marker", b"after it")
    marker.wait_for(1)
    assert bool(inbox.messages) is broker.traits.keeps_sessions_over_restart


def test_connecting_to_nothing_ends_with_a_clear_error(broker, tmp_path):
    nowhere = BrokerAddress("127.0.0.1", 9, tls=broker.address.tls)
    client = MqttClient(nowhere, "lost", credentials_for(broker.address, "thing-a"))
    with pytest.raises(BrokerUnavailableError, match=r"127\.0\.0\.1:9"):
        client.connect(timeout_s=0.5)
    client.disconnect()
    client.disconnect()


def test_a_thing_is_kept_to_its_own_topics_where_the_broker_enforces_identity(connect, new_inbox, broker: Broker):
    spy, truth = new_inbox(), new_inbox()
    intruder, cloud, owner = connect("thing-b"), connect(), connect("thing-a")
    intruder.subscribe("$aws/things/thing-a/#", spy)
    cloud.subscribe("$aws/rules/#", truth)
    cloud.publish(JOBS, b"for thing-a only")
    intruder.publish(INGEST, b"forged")
    owner.publish(INGEST, b"true")
    got = truth.wait_for(1 if broker.traits.enforces_identity else 2)
    assert (b"forged" in [message.payload for message in got]) is not broker.traits.enforces_identity
    assert bool(spy.messages) is not broker.traits.enforces_identity


def test_a_client_without_a_certificate_of_the_authority_is_refused_where_identity_is_enforced(broker, tmp_path):
    if not broker.traits.enforces_identity:
        with MqttClient(broker.address, "anybody") as client:
            assert client.is_connected
        return
    with pytest.raises(BrokerUnavailableError, match="asks for a certificate"):
        MqttClient(broker.address, "anybody")
    from datetime import UTC, datetime

    from simulator.mqtt.authority import Authority

    foreign = Authority(tmp_path)
    foreign.create(datetime.now(UTC))
    client = MqttClient(
        broker.address, "impostor", foreign.issue(CLOUD_NAME, datetime.now(UTC)), limits=ClientLimits(retry_s=0.1)
    )
    with pytest.raises(BrokerUnavailableError):
        client.connect(timeout_s=1)
    client.disconnect()
