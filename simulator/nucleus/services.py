"""What stands behind the IPC operations: configurations, local topics, tokens, and the two ports they use.

It is not the wire (``ipc_server.py``) and not the meaning of the operations (``ipc_operations.py``).

Concurrency: everything here belongs to the device's event loop.
"""

import base64
import secrets
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

from simulator.mqtt.topics import matches
from simulator.nucleus.configuration import Configuration, KeyPath
from simulator.nucleus.errors import CloudOfflineError, ComponentSlotsError
from simulator.nucleus.ports import CloudMessages, Deliver

TOKEN_BYTES = 12
"""A SVCUID is 16 characters of base64 over so many random bytes. (Measured on Lite.)"""

Cancel = Callable[[], None]


@dataclass(frozen=True, slots=True)
class ComponentView:
    """One installed component as others may see it; ``state`` in Greengrass's words."""

    name: str
    version: str
    state: str


class Components(Protocol):
    """The components, as far as IPC may touch them."""

    def views(self) -> Sequence[ComponentView]:
        """Every installed component."""

    def report_state(self, name: str, state: str) -> None:
        """A component says ``RUNNING`` or ``ERRORED`` of itself."""

    async def restart(self, name: str) -> None:
        """Stop and start it; failures counted so far are forgotten.

        Raises:
            KeyError: not installed.
        """

    async def stop_component(self, name: str) -> None:
        """Stop it.

        Raises:
            KeyError: not installed.
        """


class ConfigurationStore:
    """Every component's configuration, and who wants to hear of changes."""

    def __init__(
        self, configurations: Mapping[str, Configuration] | None = None, on_change: Callable[[], None] = lambda: None
    ) -> None:
        """``on_change`` is called after every write, to persist it, and before anybody is told."""
        self._configurations = dict(configurations or {})
        self._watchers: list[tuple[str, KeyPath, Callable[[KeyPath], None]]] = []
        self._on_change = on_change

    def of(self, component: str) -> Configuration:
        """A component's tree; empty for an unknown one."""
        return self._configurations.get(component, Configuration())

    def all(self) -> Mapping[str, Configuration]:
        """Every tree by component."""
        return dict(self._configurations)

    def put(self, component: str, configuration: Configuration, changed: Sequence[KeyPath]) -> None:
        """Replace a tree, persist, and tell the watchers of the changed paths."""
        self._configurations[component] = configuration
        self._on_change()
        for path in changed:
            for name, prefix, notify in list(self._watchers):
                if name == component and (path[: len(prefix)] == prefix or prefix[: len(path)] == path):
                    notify(path)

    def merge(self, component: str, key_path: Sequence[str], value: object, at_ms: int) -> None:
        """Write a value where it is not older than what stands there."""
        configuration, changed = self.of(component).merge(key_path, value, at_ms)
        self.put(component, configuration, changed)

    def restore(self, configurations: Mapping[str, Configuration]) -> None:
        """Have these trees and no others; watchers hear of what is another one now."""
        for component in self._configurations.keys() - configurations.keys():
            self.forget(component)
        for component, tree in configurations.items():
            before = self.of(component)
            if tree != before:
                self.put(component, tree, [(key,) for key in {**before.root, **tree.root}])

    def forget(self, component: str) -> None:
        """Drop a removed component's tree."""
        if self._configurations.pop(component, None) is not None:
            self._on_change()

    def watch(self, component: str, key_path: KeyPath, notify: Callable[[KeyPath], None]) -> Cancel:
        """Hear the path of every later change at or below ``key_path``."""
        entry = (component, key_path, notify)
        self._watchers.append(entry)
        return lambda: self._watchers.remove(entry) if entry in self._watchers else None


class LocalTopics:
    """Publish and subscribe between the components of one device."""

    def __init__(self) -> None:
        """Nobody listens yet."""
        self._subscribers: list[tuple[str, Callable[[str, str, Mapping[str, Any]], None]]] = []

    def publish(self, sender: str, topic: str, message: Mapping[str, Any]) -> None:
        """Deliver to every matching subscriber, in order of subscription."""
        for topic_filter, deliver in list(self._subscribers):
            if matches(topic_filter, topic):
                deliver(sender, topic, message)

    def subscribe(self, topic_filter: str, deliver: Callable[[str, str, Mapping[str, Any]], None]) -> Cancel:
        """``deliver`` gets sender, topic and message."""
        entry = (topic_filter, deliver)
        self._subscribers.append(entry)
        return lambda: self._subscribers.remove(entry) if entry in self._subscribers else None


class Tokens:
    """SVCUIDs: who may connect to IPC, and as which component. One per component, for the IPC daemon's life."""

    def __init__(
        self, components_max: int | None = None, random_bytes: Callable[[int], bytes] = secrets.token_bytes
    ) -> None:
        """No token has been given out; so many components get one, ``None`` for any number."""
        self._components_max = components_max
        self._random_bytes = random_bytes
        self._components: dict[str, str] = {}

    def token_of(self, component: str) -> str:
        """The component's token; made on first use.

        Raises:
            ComponentSlotsError: there are as many components already.
        """
        for token, name in self._components.items():
            if name == component:
                return token
        if self._components_max is not None and len(self._components) >= self._components_max:
            raise ComponentSlotsError(
                f"{component} gets no token: {self._components_max} components, removed ones included, have one",
                "Restart the nucleus after removing components, or deploy fewer.",
            )
        token = base64.b64encode(self._random_bytes(TOKEN_BYTES)).decode()
        self._components[token] = component
        return token

    def component_of(self, token: str) -> str | None:
        """Whose token it is; ``None`` for one that was never given out."""
        return self._components.get(token)

    def forget(self) -> None:
        """What was given out is worth nothing any more."""
        self._components.clear()


@dataclass(slots=True)
class Services:
    """All of it, as the operations get it."""

    configurations: ConfigurationStore
    cloud: CloudMessages
    components: Components
    topics: LocalTopics = field(default_factory=LocalTopics)
    tokens: Tokens = field(default_factory=Tokens)


class SpoolingMessages:
    """A cloud connection that keeps publishes while offline, oldest first, up to a number of bytes (the Java nucleus)."""

    def __init__(self, inner: CloudMessages, limit_bytes: int) -> None:
        """``inner`` is started and stopped through this."""
        self._inner = inner
        self._limit_bytes = limit_bytes
        self._waiting: list[tuple[str, bytes, int]] = []

    @property
    def connected(self) -> bool:
        """As ``inner`` is."""
        return self._inner.connected

    async def start(self, on_connection: Callable[[bool], None]) -> None:
        """Start ``inner``."""
        await self._inner.start(on_connection)

    async def publish(self, topic: str, payload: bytes, qos: int = 1) -> None:
        """Deliver, or keep a QoS 1 message while offline.

        Raises:
            CloudOfflineError: offline, and QoS 0 or the spool is full.
        """
        await self.flush()
        if self._inner.connected:
            await self._inner.publish(topic, payload, qos)
            return
        kept_bytes = sum(len(waiting) for _, waiting, _ in self._waiting)
        if qos == 0 or kept_bytes + len(payload) > self._limit_bytes:
            raise CloudOfflineError("offline, and the spool does not take this message")
        self._waiting.append((topic, payload, qos))

    async def flush(self) -> None:
        """Deliver what was kept, as long as there is a connection."""
        while self._waiting and self._inner.connected:
            await self._inner.publish(*self._waiting[0])
            del self._waiting[0]

    async def subscribe(self, topic_filter: str, deliver: Deliver) -> Cancel:
        """As ``inner`` does."""
        return await self._inner.subscribe(topic_filter, deliver)

    async def stop(self) -> None:
        """Stop ``inner``; what was kept is lost, as the Java nucleus's memory spool is."""
        await self._inner.stop()
