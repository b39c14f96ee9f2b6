"""One broker of each kind for the whole suite, and clients that are closed after each test."""

import importlib.util
import itertools
import threading
import time
from collections.abc import Callable, Iterator

import pytest

from simulator.mqtt import CLOUD_NAME, Broker, Message, MqttClient, credentials_for, start_broker
from simulator.mqtt.broker import mosquitto_program

KINDS = [
    pytest.param("mosquitto", marks=pytest.mark.skipif(mosquitto_program() is None, reason="apt install mosquitto")),
    pytest.param(
        "iotcore",
        marks=pytest.mark.skipif(importlib.util.find_spec("iotcore") is None, reason="pip install iotcore"),
    ),
]
serial = itertools.count()


@pytest.fixture(scope="session", params=KINDS)
def broker(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Broker]:
    with start_broker(tmp_path_factory.mktemp("broker"), request.param) as running:
        yield running


class Inbox:
    """What a subscriber got; waits on a condition, never for a fixed time."""

    def __init__(self) -> None:
        self.messages: list[Message] = []
        self._arrived = threading.Condition()

    def __call__(self, message: Message) -> None:
        with self._arrived:
            self.messages.append(message)
            self._arrived.notify_all()

    def wait_for(self, count: int, timeout_s: float = 15.0) -> list[Message]:
        with self._arrived:
            assert self._arrived.wait_for(lambda: len(self.messages) >= count, timeout_s), self.messages
            return list(self.messages)


@pytest.fixture
def new_inbox() -> type[Inbox]:
    return Inbox


@pytest.fixture
def wait_until() -> Callable[..., None]:
    def wait(condition: Callable[[], bool], timeout_s: float = 20.0) -> None:
        deadline = time.monotonic() + timeout_s
        while not condition():
            assert time.monotonic() < deadline, "the condition never came true"
            time.sleep(0.02)

    return wait


Connect = Callable[..., MqttClient]


@pytest.fixture
def make(broker: Broker) -> Iterator[Connect]:
    clients: list[MqttClient] = []

    def new_client(name: str = CLOUD_NAME, client_id: str | None = None, **options: object) -> MqttClient:
        client = MqttClient(
            broker.address,
            client_id or f"{name}-{next(serial)}",
            credentials_for(broker.address, name),
            **options,  # type: ignore[arg-type]
        )
        clients.append(client)
        return client

    yield new_client
    for client in clients:
        client.disconnect()


@pytest.fixture
def connect(make: Connect) -> Connect:
    return lambda *arguments, **options: make(*arguments, **options).connect()
