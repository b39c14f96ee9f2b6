"""For tests: an IPC server on an event loop of its own, and unmodified clients of the SDK that connect to it."""

import asyncio
import threading
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import awsiot.greengrasscoreipc
import pytest
from awscrt.exceptions import AwsCrtError
from awsiot.eventstreamrpc import ConnectionClosedError, StreamClosedError
from awsiot.greengrasscoreipc import model
from awsiot.greengrasscoreipc.clientv2 import GreengrassCoreIPCClientV2

from simulator.nucleus.ipc_operations import Operations
from simulator.nucleus.ipc_server import IpcServer
from simulator.nucleus.ports import InMemoryMessages
from simulator.nucleus.profile import Profile
from simulator.nucleus.services import (
    ComponentView,
    ConfigurationStore,
    Services,
    SpoolingMessages,
    Tokens,
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
    "aws.greengrass.Cli": {"all": {"operations": ["*"], "resources": ["*"]}},
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
        tokens = Tokens(profile.components_max)
        self.services = Services(ConfigurationStore(), cloud, self.components, tokens=tokens)
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


def error_of(action: Callable[[], object]) -> BaseException:
    with pytest.raises(Exception) as caught:  # noqa: PT011 - the exact type is what the callers assert
        action()
    return caught.value


def message_of(error: BaseException) -> str | None:
    return error.message  # type: ignore[attr-defined]


def json_message(content: dict[str, Any]) -> model.PublishMessage:
    return model.PublishMessage(json_message=model.JsonMessage(message=content))
