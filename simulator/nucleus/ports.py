"""What a core device needs of the outside: a cloud to exchange messages with, and a source of components.

Two ports with their in-memory fakes, so that lifecycle, deployments and IPC are tested in milliseconds. The real ones
are ``mqtt_messages.py`` (simulator.mqtt) and ``data_plane.py`` (HTTP and S3).

Concurrency: :class:`CloudMessages` belongs to the device's event loop; :class:`ComponentSource` blocks and is called
from worker threads.
"""

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

from simulator.mqtt.topics import matches
from simulator.nucleus.errors import CloudOfflineError, ResolutionError, SourceRefusedError, SourceUnavailableError
from simulator.nucleus.versions import Version, VersionRange

Deliver = Callable[[str, bytes], None]
"""Called on the device's loop with topic and payload."""


class CloudMessages(Protocol):
    """MQTT as a nucleus uses it. Subscriptions survive a lost connection."""

    @property
    def connected(self) -> bool:
        """Whether a publish has a chance at this moment."""

    async def start(self, on_connection: Callable[[bool], None]) -> None:
        """Begin to connect, and go on for ever; ``on_connection`` hears each change, on the loop."""

    async def publish(self, topic: str, payload: bytes, qos: int = 1) -> None:
        """Hand a message over for delivery; returns before the broker has confirmed it.

        Raises:
            CloudOfflineError: not connected; nothing was kept.
        """

    async def subscribe(self, topic_filter: str, deliver: Deliver) -> Callable[[], None]:
        """Receive matching messages from now on; call what it returns to end that."""

    async def stop(self) -> None:
        """Disconnect; nothing is delivered afterwards."""


@dataclass(frozen=True, slots=True)
class Platform:
    """What manifests and the data plane choose by; ``detail`` is ``architecture.detail``, as ``uname -m`` says it."""

    os: str
    architecture: str
    runtime: str
    detail: str = ""


@dataclass(frozen=True, slots=True)
class ResolvedComponent:
    """The data plane's answer: one version, with its recipe as the cloud keeps it (JSON, digests included)."""

    name: str
    version: str
    arn: str
    recipe: bytes


class ComponentSource(Protocol):
    """Where components come from. Every method blocks.

    Raises (every method):
        SourceUnavailableError: no answer; ask again.
        SourceRefusedError: the answer was no.
    """

    def thing_groups(self) -> tuple[str, ...]:
        """Names of the thing groups that this device belongs to."""

    def resolve(self, name: str, requirement: str, platform: Platform) -> ResolvedComponent:
        """The highest version of a component that satisfies a requirement such as ``1.0.0 >=1.0.0 <2.0.0``.

        Raises:
            ResolutionError: there is none.
        """

    def fetch(self, arn: str, uri: str, destination: Path) -> None:
        """Download an artifact in place: ``destination`` is truncated and then grows, as on the real nucleus."""


@dataclass(slots=True)
class Published:
    """One message that a fake has seen."""

    topic: str
    payload: bytes
    qos: int


@dataclass(slots=True)
class InMemoryMessages:
    """A broker and a connection to it in one object; set :meth:`online` to cut the cable."""

    published: list[Published] = field(default_factory=list)
    connected: bool = False
    answers: dict[str, Callable[[str, bytes], None]] = field(default_factory=dict)
    _subscriptions: list[tuple[str, Deliver]] = field(default_factory=list)
    _on_connection: Callable[[bool], None] | None = None

    async def start(self, on_connection: Callable[[bool], None]) -> None:
        """Connected at once."""
        self._on_connection = on_connection
        self.online(True)

    async def publish(self, topic: str, payload: bytes, qos: int = 1) -> None:
        """Record the message and deliver it to whoever subscribed."""
        if not self.connected:
            raise CloudOfflineError("not connected")
        self.published.append(Published(topic, payload, qos))
        self.deliver(topic, payload)
        for pattern, answer in list(self.answers.items()):
            if matches(pattern, topic):
                answer(topic, payload)

    async def subscribe(self, topic_filter: str, deliver: Deliver) -> Callable[[], None]:
        """Remember it."""
        entry = (topic_filter, deliver)
        self._subscriptions.append(entry)
        return lambda: self._subscriptions.remove(entry) if entry in self._subscriptions else None

    async def stop(self) -> None:
        """Forget every subscription."""
        self.connected = False
        self._subscriptions.clear()

    def deliver(self, topic: str, payload: bytes) -> None:
        """A message from the cloud."""
        for topic_filter, deliver in list(self._subscriptions):
            if matches(topic_filter, topic):
                deliver(topic, payload)

    def online(self, connected: bool) -> None:  # noqa: FBT001 - a switch
        """Cut or restore the connection."""
        self.connected = connected
        if self._on_connection is not None:
            self._on_connection(connected)


@dataclass(slots=True)
class InMemoryComponents:
    """Components as plain objects.

    Attributes:
        recipes: by name and version.
        artifacts: bytes by URI.
        groups: of the device.
        reachable: set to ``False`` and every question is :class:`SourceUnavailableError`.
        questions: what was asked, in order, such as ``resolve com.example.A`` and ``fetch s3://…``.
    """

    recipes: dict[tuple[str, str], bytes] = field(default_factory=dict)
    artifacts: dict[str, bytes] = field(default_factory=dict)
    groups: tuple[str, ...] = ()
    reachable: bool = True
    questions: list[str] = field(default_factory=list)

    def thing_groups(self) -> tuple[str, ...]:
        """As set."""
        self._ask("thing groups")
        return self.groups

    def resolve(self, name: str, requirement: str, platform: Platform) -> ResolvedComponent:
        """The highest that fits; the platform is the recipe's affair."""
        self._ask(f"resolve {name}")
        wanted = VersionRange.parse(requirement)
        fitting = [version for known, version in self.recipes if known == name and version in wanted]
        if not fitting:
            raise ResolutionError(f"no version of {name} satisfies {requirement!r} on {platform.os}")
        version = max(fitting, key=Version.parse)
        return ResolvedComponent(name, version, f"arn:local:{name}:{version}", self.recipes[name, version])

    def fetch(self, arn: str, uri: str, destination: Path) -> None:
        """Write the bytes."""
        self._ask(f"fetch {uri}")
        if uri not in self.artifacts:
            raise SourceRefusedError(f"{uri} of {arn} does not exist")
        destination.write_bytes(self.artifacts[uri])

    def _ask(self, question: str) -> None:
        if not self.reachable:
            raise SourceUnavailableError(f"no answer to: {question}")
        self.questions.append(question)
