"""The worlds in which the nucleus port is tried: in memory, and awsiot's client against the local nucleus's IPC server."""

import asyncio
import base64
import logging
import os
import queue
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

import pytest

from edge_component.backoff import Backoff
from edge_component.clock import SystemClock
from edge_component.nucleus import GreengrassNucleus
from edge_component.nucleus_address import NucleusAddress, NucleusLimits
from edge_component.nucleus_port import InMemoryNucleus, Nucleus
from simulator.nucleus.ipc_operations import Operations
from simulator.nucleus.ipc_server import IpcServer
from simulator.nucleus.ports import InMemoryMessages
from simulator.nucleus.profile import JAVA, LITE, Profile
from simulator.nucleus.services import ComponentView, ConfigurationStore, Services

WAIT_S = 15.0
COMPONENT = "com.edgewright.Runtime"
ALLOWED = "$aws/rules/edgewright_ingest/#"


def eventually(condition: Callable[[], bool], what: str) -> None:
    deadline = time.monotonic() + WAIT_S
    while not condition():
        assert time.monotonic() < deadline, f"never: {what}"
        time.sleep(0.01)


def await_connection(connections: "queue.Queue[bool]", is_connected: bool) -> None:
    """Wait for a report; the one before it may be of the connection during which the callback was registered."""
    if connections.get(timeout=WAIT_S) is not is_connected:
        assert connections.get(timeout=WAIT_S) is is_connected


class World(Protocol):
    """A nucleus and everything around it that a test may do to it."""

    nucleus: Nucleus
    refused_topic: str

    def set_online(self, is_online: bool) -> None: ...
    def set_configuration(self, document: dict[str, Any]) -> None: ...
    def lose_connection(self) -> None: ...
    def restore_connection(self) -> None: ...
    def published(self) -> list[tuple[str, bytes]]: ...
    def heard_locally(self) -> list[tuple[str, bytes]]: ...
    def say_locally(self, topic: str, payload: bytes) -> None: ...
    def states(self) -> list[str]: ...
    def close(self) -> None: ...


class MemoryWorld:
    refused_topic = "elsewhere/topic"

    def __init__(self) -> None:
        self.nucleus = InMemoryNucleus(document={"heartbeat_s": 60}, refused_topics={self.refused_topic})

    def set_online(self, is_online: bool) -> None:
        self.nucleus.is_online = is_online

    def set_configuration(self, document: dict[str, Any]) -> None:
        self.nucleus.set_configuration(document)

    def lose_connection(self) -> None:
        self.nucleus.set_connected(False)

    def restore_connection(self) -> None:
        self.nucleus.set_connected(True)

    def published(self) -> list[tuple[str, bytes]]:
        return list(self.nucleus.published)

    def heard_locally(self) -> list[tuple[str, bytes]]:
        return list(self.nucleus.published_locally)

    def say_locally(self, topic: str, payload: bytes) -> None:
        self.nucleus.receive_local(topic, payload)

    def states(self) -> list[str]:
        return list(self.nucleus.states)

    def close(self) -> None:
        self.nucleus.close()


@dataclass
class Components:
    """Takes down what a component says of itself."""

    states: list[str] = field(default_factory=list)

    def views(self) -> list[ComponentView]:
        return [ComponentView(COMPONENT, "0.1.0", "RUNNING")]

    def report_state(self, name: str, state: str) -> None:
        self.states.append(state)

    async def restart(self, name: str) -> None:
        raise KeyError(name)

    async def stop_component(self, name: str) -> None:
        raise KeyError(name)


class IpcWorld:
    refused_topic = "elsewhere/topic"

    def __init__(self, folder: Path, profile: Profile, is_listening: bool = True) -> None:
        self.loop = asyncio.new_event_loop()
        self.thread = threading.Thread(target=self.loop.run_forever)
        self.thread.start()
        self.cloud, self.components = InMemoryMessages(), Components()
        self.services = Services(ConfigurationStore(), self.cloud, self.components)
        self.profile = profile
        self.path = folder / profile.socket_name
        self.server: IpcServer | None = None
        access = {"operations": ["aws.greengrass#PublishToIoTCore"], "resources": [ALLOWED]}
        self.at_ms = 1
        local = {"operations": ["*"], "resources": ["edgewright/*"]}
        self.access = {"aws.greengrass.ipc.mqttproxy": {"up": access}, "aws.greengrass.ipc.pubsub": {"local": local}}
        self.set_configuration({"heartbeat_s": 60, "accessControl": self.access})
        self.heard: list[tuple[str, bytes]] = []
        self.services.topics.subscribe("edgewright/out", self._hear)
        self.run(self.cloud.start(lambda _connected: None))
        if is_listening:
            self.restore_connection()
        token = self.call(self.services.tokens.token_of, COMPONENT)
        limits = NucleusLimits(connect_s=2.0, call_s=5.0, backoff=Backoff(0.02, 0.1), configuration_poll_s=60.0)
        self.nucleus = GreengrassNucleus(NucleusAddress(str(self.path), token), SystemClock(), lambda: 0.5, limits)
        self.nucleus.start()
        if is_listening:
            assert self.nucleus.wait_connected(WAIT_S)

    def run(self, coroutine: Any) -> Any:
        return asyncio.run_coroutine_threadsafe(coroutine, self.loop).result(WAIT_S)

    def call(self, function: Callable[..., Any], *arguments: Any) -> Any:
        async def run() -> Any:
            return function(*arguments)

        return self.run(run())

    def set_online(self, is_online: bool) -> None:
        self.cloud.connected = is_online

    def set_configuration(self, document: dict[str, Any]) -> None:
        self.at_ms += 1
        self.call(self.services.configurations.merge, COMPONENT, (), document, int(time.time() * 1000) + self.at_ms)

    def lose_connection(self) -> None:
        assert self.server is not None
        self.run(self.server.close())
        self.server = None

    def drop_connections(self) -> None:
        assert self.server is not None
        self.call(self.server.disconnect_all)

    def restore_connection(self) -> None:
        operations = Operations(self.profile, self.services)
        own = {os.getpid(): COMPONENT}
        self.server = IpcServer(self.path, self.profile, operations, self.services.tokens, own.get)
        self.run(self.server.start())

    def published(self) -> list[tuple[str, bytes]]:
        return [(message.topic, message.payload) for message in self.cloud.published]

    def _hear(self, _sender: str, topic: str, message: Mapping[str, Any]) -> None:
        self.heard.append((topic, base64.b64decode(message["binaryMessage"]["message"])))

    def heard_locally(self) -> list[tuple[str, bytes]]:
        return list(self.heard)

    def say_locally(self, topic: str, payload: bytes) -> None:
        content = {"message": base64.b64encode(payload).decode(), "context": {"topic": topic}}
        self.call(self.services.topics.publish, "com.example.Sensor", topic, {"binaryMessage": content})

    def states(self) -> list[str]:
        return list(self.components.states)

    def close(self) -> None:
        self.nucleus.close()
        if self.server is not None:
            self.lose_connection()
        self.loop.call_soon_threadsafe(self.loop.stop)
        self.thread.join(WAIT_S)
        self.loop.close()


@pytest.fixture(autouse=True)
def log_level(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, "edge_component")


@pytest.fixture(params=["memory", "lite", "java"])
def world(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[World]:
    profiles = {"lite": LITE, "java": JAVA}
    made = MemoryWorld() if request.param == "memory" else IpcWorld(tmp_path, profiles[request.param])
    try:
        yield made
    finally:
        made.close()


@pytest.fixture
def make_ipc_world(tmp_path: Path) -> Iterator[Callable[..., IpcWorld]]:
    made: list[IpcWorld] = []

    def make(profile: Profile = LITE, is_listening: bool = True) -> IpcWorld:
        made.append(IpcWorld(tmp_path, profile, is_listening))
        return made[-1]

    yield make
    for world in made:
        world.close()
