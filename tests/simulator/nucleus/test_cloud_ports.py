"""The real ports against the local cloud: what they answer, and what they say when they cannot."""

import base64
import hashlib
import json
import os
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import boto3
import pytest

from simulator.aws.server import CloudOptions, LocalCloud
from simulator.mqtt import BrokerAddress, MqttClient, start_broker
from simulator.nucleus.core_device import CoreDevice, DeviceOptions
from simulator.nucleus.data_plane import DataPlane
from simulator.nucleus.errors import ProvisioningError, ResolutionError, SourceRefusedError, SourceUnavailableError
from simulator.nucleus.host import NucleusHost
from simulator.nucleus.mqtt_messages import MqttMessages
from simulator.nucleus.ports import Platform
from simulator.nucleus.process import ProcessOptions, make_device
from simulator.nucleus.provision import provision
from tests.simulator.nucleus.world import World

HERE = Platform("linux", "amd64", "aws_nucleus_lite")
PLAIN = BrokerAddress("127.0.0.1", 1)


@pytest.fixture(scope="module")
def cloud(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LocalCloud]:
    with pytest.MonkeyPatch.context() as patch, LocalCloud(CloudOptions(tmp_path_factory.mktemp("cloud"))) as running:
        for name in [name for name in os.environ if name.startswith("AWS_")]:
            patch.delenv(name)
        for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
            patch.setenv(name, "local")
        patch.setenv("AWS_ENDPOINT_URL", running.url)
        patch.setenv("AWS_EC2_METADATA_DISABLED", "true")
        yield running


def client(service: str) -> Any:
    return boto3.client(service, region_name="us-east-1")


def test_provisioning_twice_leaves_one_of_each(cloud: LocalCloud, tmp_path: Path) -> None:
    for _ in range(2):
        assert provision("t-1", ["g-1", "g-2"], PLAIN, tmp_path) is None
    assert len(client("iot").list_thing_principals(thingName="t-1")["principals"]) == 1
    assert set(DataPlane(cloud.url, "t-1").thing_groups()) == {"g-1", "g-2"}
    assert (tmp_path / "privKey.key").stat().st_mode & 0o077 == 0


def test_a_component_is_resolved_and_its_artifact_fetched(cloud: LocalCloud, tmp_path: Path) -> None:
    provision("t-2", [], PLAIN, tmp_path)
    client("s3").create_bucket(Bucket="bucket-b")
    client("s3").put_object(Bucket="bucket-b", Key="k/a.txt", Body=b"artifact")
    recipe = {
        "RecipeFormatVersion": "2020-01-25", "ComponentName": "com.example.A", "ComponentVersion": "1.0.0",
        "ComponentPublisher": "t", "ComponentDescription": "t",
        "Manifests": [{"Platform": {"os": "linux", "runtime": "*"}, "Lifecycle": {"run": "true"},
                       "Artifacts": [{"Uri": "s3://bucket-b/k/a.txt"}]}],
    }  # fmt: skip
    client("greengrassv2").create_component_version(inlineRecipe=json.dumps(recipe).encode())
    source = DataPlane(cloud.url, "t-2")
    answer = source.resolve("com.example.A", ">=1.0.0 <2.0.0", HERE)
    assert answer.version == "1.0.0"
    digest = json.loads(answer.recipe)["Manifests"][0]["Artifacts"][0]["Digest"]
    source.fetch(answer.arn, "s3://bucket-b/k/a.txt", tmp_path / "a.txt")
    assert base64.b64decode(digest) == hashlib.sha256((tmp_path / "a.txt").read_bytes()).digest()


def test_no_is_told_from_no_answer(cloud: LocalCloud, tmp_path: Path) -> None:
    provision("t-3", [], PLAIN, tmp_path)
    source, stranger = DataPlane(cloud.url, "t-3"), DataPlane(cloud.url, "nobody")
    with pytest.raises(ResolutionError, match=r"com\.example\.None"):
        source.resolve("com.example.None", "1.0.0", HERE)
    with pytest.raises(SourceRefusedError, match="403"):
        stranger.thing_groups()
    with pytest.raises(SourceRefusedError, match="absent"):
        source.fetch("arn", "s3://absent/x", tmp_path / "x")
    with pytest.raises(SourceRefusedError, match="neither in S3"):
        source.fetch("arn", "ftp://x/y", tmp_path / "y")
    with pytest.raises(SourceUnavailableError):
        DataPlane("http://127.0.0.1:9", "t-3").thing_groups()


def test_provisioning_without_a_cloud_says_what_to_set(
    cloud: LocalCloud, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AWS_ENDPOINT_URL", "http://127.0.0.1:9")
    monkeypatch.setenv("AWS_MAX_ATTEMPTS", "1")
    with pytest.raises(ProvisioningError, match="t-4") as caught:
        provision("t-4", [], PLAIN, tmp_path)
    assert "AWS_ENDPOINT_URL" in caught.value.remedy
    monkeypatch.delenv("AWS_ENDPOINT_URL")
    with pytest.raises(ProvisioningError, match="no cloud endpoint"):
        make_device(ProcessOptions("t-4", tmp_path, PLAIN))


def test_a_packet_too_large_for_the_nucleus_never_arrives(root: Path) -> None:
    with start_broker(root / "broker", "iotcore") as broker, NucleusHost() as host:
        messages = MqttMessages(broker.address, "t", None, packet_bytes_max=5_000)
        seen: list[bytes] = []
        connected, arrived = threading.Event(), threading.Event()

        def deliver(_topic: str, payload: bytes) -> None:
            seen.append(payload)
            arrived.set()

        host.run(messages.start(lambda up: connected.set() if up else None))
        assert connected.wait(15)
        host.run(messages.subscribe("commands/#", deliver))
        with MqttClient(broker.address, "sender") as sender:
            sender.publish("commands/a", bytes(6_000))
            sender.publish("commands/a", b"fits")
        assert arrived.wait(15)
        assert seen == [b"fits"]
        host.run(messages.stop())


def test_several_devices_share_a_process(root: Path) -> None:
    with NucleusHost() as host:
        worlds = [World(root / name) for name in ("a", "b")]
        devices = [host.start(CoreDevice(DeviceOptions(w.root.name, w.root), w.cloud, w.source)) for w in worlds]
        assert [host.call(device.status)["running"] for device in devices] == [True, True]
    assert [device.running for device in devices] == [False, False]
