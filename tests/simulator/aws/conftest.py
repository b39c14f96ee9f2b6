"""One local cloud for each test module (it starts in milliseconds, and each starts empty), with boto3 clients."""

import os
import time
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import boto3
import pytest
from botocore.config import Config

from simulator.aws.bus import InMemoryBus
from simulator.aws.event import Event, InMemoryEvents
from simulator.aws.server import CloudOptions, LocalCloud
from tests.simulator.aws.greengrass_fleet import Client, Fleet

os.environ.setdefault("AWS_EC2_METADATA_DISABLED", "true")


@pytest.fixture(scope="module")
def local_cloud(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LocalCloud]:
    with LocalCloud(CloudOptions(Path(tmp_path_factory.mktemp("cloud")))) as running:
        yield running


@pytest.fixture(scope="module")
def client(local_cloud: LocalCloud) -> Callable[[str], Any]:
    made: dict[str, Any] = {}

    def make(service: str) -> Any:
        if service not in made:
            # boto3 checks types and minima by itself; what is sent here must be judged by the cloud
            config = Config(retries={"total_max_attempts": 1}, parameter_validation=False)
            made[service] = boto3.client(
                service,
                endpoint_url=local_cloud.url,
                aws_access_key_id="local",
                aws_secret_access_key="local",
                region_name="us-east-1",
                config=config,
            )
        return made[service]

    return make


@pytest.fixture
def new_queue(client: Callable[[str], Any]) -> Callable[[], str]:
    return lambda: client("sqs").create_queue(QueueName=f"q-{uuid.uuid4().hex}")["QueueUrl"]


@pytest.fixture
def drain(client: Callable[[str], Any]) -> Callable[..., list[str]]:
    """Receive until there are ``count`` bodies."""

    def receive(queue_url: str, count: int, timeout_s: float = 15.0) -> list[str]:
        bodies: list[str] = []
        deadline = time.monotonic() + timeout_s
        while len(bodies) < count:
            assert time.monotonic() < deadline, f"only {bodies}"
            got = client("sqs").receive_message(QueueUrl=queue_url, MaxNumberOfMessages=10, WaitTimeSeconds=1)
            bodies += [message["Body"] for message in got.get("Messages", [])]
        return bodies

    return receive


@pytest.fixture
def bus(local_cloud: LocalCloud) -> InMemoryBus:
    found = local_cloud.cloud.bus
    assert isinstance(found, InMemoryBus)
    return found


@pytest.fixture
def fleet(client: Client, bus: InMemoryBus) -> Fleet:
    return Fleet(client, bus)


@pytest.fixture
def events(local_cloud: LocalCloud, monkeypatch: pytest.MonkeyPatch) -> list[Event]:
    sink = InMemoryEvents()
    monkeypatch.setattr(local_cloud.cloud, "events", sink)
    return sink.emitted
