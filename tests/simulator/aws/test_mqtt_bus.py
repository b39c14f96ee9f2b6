"""The local cloud over a real broker: a device gets its deployment and reports, through MQTT alone."""

import json
import threading
from collections.abc import Iterator
from typing import Any

import boto3
import pytest

from simulator.aws.server import CloudOptions, LocalCloud
from simulator.mqtt import Broker, Message, MqttClient, credentials_for, start_broker

THING, NAMESPACE = "station", "namespace-aws-gg-deployment"
JOBS = f"$aws/things/{THING}/jobs"


@pytest.fixture(scope="module")
def broker(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Broker]:
    with start_broker(tmp_path_factory.mktemp("broker")) as running:
        yield running


@pytest.fixture(scope="module")
def local_cloud(tmp_path_factory: pytest.TempPathFactory, broker: Broker) -> Iterator[LocalCloud]:
    with LocalCloud(CloudOptions(tmp_path_factory.mktemp("state"), broker=broker.address)) as running:
        yield running


class Inbox:
    """What arrived by topic, and a wait for it."""

    def __init__(self) -> None:
        self._arrived: dict[str, list[dict[str, Any]]] = {}
        self._changed = threading.Condition()

    def __call__(self, message: Message) -> None:
        with self._changed:
            self._arrived.setdefault(message.topic, []).append(json.loads(message.payload))
            self._changed.notify_all()

    def next(self, topic: str) -> dict[str, Any]:
        with self._changed:
            assert self._changed.wait_for(lambda: self._arrived.get(topic), timeout=20), f"nothing on {topic}"
            return self._arrived[topic].pop(0)


def test_a_deployment_travels_to_a_device_and_its_report_back(local_cloud: LocalCloud, broker: Broker) -> None:
    def client(service: str) -> Any:
        return boto3.client(
            service, endpoint_url=local_cloud.url, region_name="us-east-1",
            aws_access_key_id="local", aws_secret_access_key="local",
        )  # fmt: skip

    iot, greengrass = client("iot"), client("greengrassv2")
    endpoint = iot.describe_endpoint(endpointType="iot:Data-ATS")["endpointAddress"]
    assert endpoint == f"{broker.address.host}:{broker.address.port}"
    iot.create_thing(thingName=THING)
    iot.create_thing_group(thingGroupName="ring")
    iot.add_thing_to_thing_group(thingName=THING, thingGroupName="ring")
    inbox = Inbox()
    with MqttClient(broker.address, THING, credentials_for(broker.address, THING)) as device:
        device.subscribe(f"{JOBS}/notify-next-{NAMESPACE}", inbox)
        device.subscribe(f"{JOBS}/$next/{NAMESPACE}/get/+", inbox)
        device.subscribe(f"{JOBS}/+/{NAMESPACE}/update/+", inbox)
        deployment_id = greengrass.create_deployment(
            targetArn="arn:aws:iot:us-east-1:123456789012:thinggroup/ring", components={}
        )["deploymentId"]
        assert inbox.next(f"{JOBS}/notify-next-{NAMESPACE}")["execution"]["status"] == "QUEUED"
        device.publish(f"{JOBS}/$next/{NAMESPACE}/get", b'{"clientToken": "jobs-nucleus-lite"}')
        execution = inbox.next(f"{JOBS}/$next/{NAMESPACE}/get/accepted")["execution"]
        assert execution["jobDocument"]["deploymentId"] == deployment_id
        update = f"{JOBS}/{execution['jobId']}/{NAMESPACE}/update"
        device.publish(update, b'{"status": "SUCCEEDED"}')
        inbox.next(f"{update}/accepted")
        report = {"thing": THING, "timestamp": 1, "overallDeviceStatus": "HEALTHY", "components": []}
        device.publish(f"$aws/things/{THING}/greengrassv2/health/json", json.dumps(report).encode())
        device.publish(f"{JOBS}/$next/{NAMESPACE}/get", b"{}")
        assert inbox.next(f"{JOBS}/$next/{NAMESPACE}/get/accepted")["execution"] == {}  # so the report was taken too
        [effective] = greengrass.list_effective_deployments(coreDeviceThingName=THING)["effectiveDeployments"]
        assert effective["coreDeviceExecutionStatus"] == "SUCCEEDED"
