"""The nucleus as the runtime sees it: a small port and an in-memory fake that ships.

The failure this exists for: a runtime that cannot start, serve or be tested without a Greengrass nucleus beside it.
Everything here is portable between Greengrass Lite and the Java nucleus: of IPC it takes PublishToIoTCore,
GetConfiguration, SubscribeToConfigurationUpdate, UpdateState, PublishToTopic and SubscribeToTopic, and nothing else.

The real one is ``nucleus``, the only importer of awsiot. One conformance suite runs on both. Thread-safe, both of them.
"""

import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Protocol

from edge_component.contracts.limits import LIMITS
from edge_component.nucleus_errors import NucleusRefusedError, NucleusUnavailableError

Configuration = Mapping[str, Any]
OnConfigurationChange = Callable[[Configuration], None]
OnConnection = Callable[[bool], None]
OnLocalMessage = Callable[[str, bytes], None]
"""Topic and payload; called on a thread of the nucleus's, which it must not block."""


class Nucleus(Protocol):
    """What the runtime asks of the nucleus."""

    @property
    def connected(self) -> bool:
        """Whether there is an IPC connection now. Says nothing of the nucleus's own connection to the cloud."""

    def publish(self, topic: str, payload: bytes) -> None:
        """Publish to AWS IoT Core with QoS 1; returns when the nucleus has taken it.

        Raises:
            NucleusUnavailableError: not now (Greengrass Lite answers so at once while it is offline).
            NucleusRefusedError: never in this form; also for a payload above ``LIMITS.publish_bytes_max``, of which
                a few kilobytes more would cost the connection.
        """

    def publish_local(self, topic: str, payload: bytes) -> None:
        """Publish to the components of this device, as a binary message; whoever does not listen now never gets it.

        Raises:
            NucleusUnavailableError, NucleusRefusedError: as for :meth:`publish`.
        """

    def subscribe_local(self, topic_filter: str, callback: OnLocalMessage) -> None:
        """Call with what is published locally under this filter (``+`` and ``#`` as in MQTT), JSON messages as text.

        Never raises: the subscription is kept, and made anew after each reconnection and whenever the nucleus ends it; one
        that is refused is logged, and tried again when the configuration has changed. What is published meanwhile is
        lost, since local topics keep nothing. What this component itself publishes comes back on Greengrass Lite, and
        does not on the Java nucleus.
        """

    def configuration(self) -> Configuration:
        """This component's configuration; scalars may be strings (YAML recipes on Lite). Empty if it has none.

        Raises:
            NucleusUnavailableError, NucleusRefusedError: as for :meth:`publish`.
        """

    def on_configuration_change(self, callback: OnConfigurationChange) -> None:
        """Call with the whole configuration whenever it has changed, and once when it is first known.

        On a thread of the nucleus's. Changes that happened while there was no connection are found after the next one.
        """

    def on_connection(self, callback: OnConnection) -> None:
        """Call with ``True`` after each connection and with ``False`` after each loss of it; on the same thread.

        One that is registered while a connection is being made may be told of that one or not.
        """

    def report_running(self) -> None:
        """Tell the nucleus that the component works; never raises: it is kept, and told until it is taken."""

    def report_errored(self) -> None:
        """Tell the nucleus that the component does not work; see :meth:`report_running`."""

    def close(self) -> None:
        """Let go of the connection; idempotent."""


@dataclass(slots=True)
class InMemoryNucleus:
    """A nucleus without a process: set the fields as you like, at any time.

    Attributes:
        is_connected: whether IPC works; change it through :meth:`set_connected`, which tells the callbacks.
        is_online: whether the nucleus reaches the cloud; publishes fail while it does not.
        document: the configuration; change it through :meth:`set_configuration`, which tells the callbacks.
        refused_topics: topics whose publishes are refused.
        published: every publish that was taken, in order.
        published_locally: every local one; what others publish comes through :meth:`receive_local`.
        states: every state reported, in order.
    """

    is_connected: bool = True
    is_online: bool = True
    document: Configuration = field(default_factory=dict)
    refused_topics: set[str] = field(default_factory=set)
    published: list[tuple[str, bytes]] = field(default_factory=list)
    published_locally: list[tuple[str, bytes]] = field(default_factory=list)
    states: list[str] = field(default_factory=list)
    _on_change: list[OnConfigurationChange] = field(default_factory=list)
    _told: Configuration | None = None
    _on_connection: list[OnConnection] = field(default_factory=list)
    _on_local: list[tuple[str, OnLocalMessage]] = field(default_factory=list)
    _lock: threading.Lock = field(default_factory=threading.Lock)

    @property
    def connected(self) -> bool:
        """See :class:`Nucleus`."""
        return self.is_connected

    def publish(self, topic: str, payload: bytes) -> None:
        """See :class:`Nucleus`."""
        with self._lock:
            check_size(payload)
            self._require_connection()
            if topic in self.refused_topics:
                raise NucleusRefusedError(f"UnauthorizedError: publishing to {topic}")
            if not self.is_online:
                raise NucleusUnavailableError("ServiceError: the nucleus is offline")
            self.published.append((topic, bytes(payload)))

    def publish_local(self, topic: str, payload: bytes) -> None:
        """See :class:`Nucleus`."""
        with self._lock:
            check_size(payload)
            self._require_connection()
            if topic in self.refused_topics:
                raise NucleusRefusedError(f"UnauthorizedError: publishing to {topic}")
            self.published_locally.append((topic, bytes(payload)))

    def subscribe_local(self, topic_filter: str, callback: OnLocalMessage) -> None:
        """See :class:`Nucleus`."""
        self._on_local.append((topic_filter, callback))

    def receive_local(self, topic: str, payload: bytes) -> None:
        """Another component publishes."""
        for topic_filter, callback in list(self._on_local):
            if self.is_connected and topic_filter not in self.refused_topics and topic_matches(topic_filter, topic):
                callback(topic, bytes(payload))

    def configuration(self) -> Configuration:
        """See :class:`Nucleus`."""
        with self._lock:
            self._require_connection()
            return dict(self.document)

    def on_configuration_change(self, callback: OnConfigurationChange) -> None:
        """See :class:`Nucleus`."""
        self._on_change.append(callback)
        if self.is_connected:
            self._tell_configuration()

    def on_connection(self, callback: OnConnection) -> None:
        """See :class:`Nucleus`."""
        self._on_connection.append(callback)

    def report_running(self) -> None:
        """See :class:`Nucleus`."""
        self.states.append("RUNNING")

    def report_errored(self) -> None:
        """See :class:`Nucleus`."""
        self.states.append("ERRORED")

    def close(self) -> None:
        """See :class:`Nucleus`."""
        self.is_connected = False

    def set_configuration(self, document: Configuration) -> None:
        """Change the configuration, as a deployment would."""
        self.document = dict(document)
        if self.is_connected:
            self._tell_configuration()

    def set_connected(self, is_connected: bool) -> None:  # noqa: FBT001 - the name says what the flag means
        """Break or mend the IPC connection."""
        self.is_connected = is_connected
        for callback in list(self._on_connection):
            callback(is_connected)
        if is_connected:
            self._tell_configuration()

    def _tell_configuration(self) -> None:
        if self.document == self._told:
            return
        self._told = dict(self.document)
        for callback in list(self._on_change):
            callback(dict(self.document))

    def _require_connection(self) -> None:
        if not self.is_connected:
            raise NucleusUnavailableError("ConnectionClosedError: there is no nucleus")


def check_size(payload: bytes) -> None:
    """Refuse what would cost the connection; see :meth:`Nucleus.publish`."""
    if len(payload) > LIMITS.publish_bytes_max:
        raise NucleusRefusedError(
            f"a payload of {len(payload)} bytes; a publish holds at most {LIMITS.publish_bytes_max}",
            "Split the message before it is published.",
        )


def topic_matches(topic_filter: str, topic: str) -> bool:
    """Whether a filter with ``+`` and ``#`` covers a topic (MQTT 3.1.1, 4.7)."""
    wanted, found = topic_filter.split("/"), topic.split("/")
    for level, part in enumerate(wanted):
        if part == "#":
            return level == len(wanted) - 1
        if level >= len(found) or part not in {"+", found[level]}:
            return False
    return len(wanted) == len(found)
