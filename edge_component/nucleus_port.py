"""The nucleus as the runtime sees it: a port of six things, its errors, and an in-memory fake that ships.

The failure this exists for: a runtime that cannot start, serve or be tested without a Greengrass nucleus beside it.
Everything here is portable between Greengrass Lite and the Java nucleus (``facts``: PublishToIoTCore, GetConfiguration,
SubscribeToConfigurationUpdate, UpdateState); nothing else of IPC is needed for anything essential.

The real one is ``nucleus``, the only importer of awsiot. One conformance suite runs on both. Thread-safe, both of them.
"""

import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Protocol

from edge_component.errors import DeviceError


class NucleusError(DeviceError):
    """The nucleus did not do as asked. Names the foreign error's type: awsiot's errors have no text of their own."""

    code = "nucleus-failed"


class NucleusUnavailableError(NucleusError):
    """It cannot be reached, or has itself no way to the cloud; the same call may work later."""

    code = "nucleus-unavailable"


class NucleusRefusedError(NucleusError):
    """It refuses this very call: not allowed by the recipe's accessControl, or malformed. Repeating it will not help."""

    code = "nucleus-refused"


Configuration = Mapping[str, Any]
OnConfigurationChange = Callable[[Configuration], None]
OnConnection = Callable[[bool], None]


class Nucleus(Protocol):
    """What the runtime asks of the nucleus."""

    @property
    def connected(self) -> bool:
        """Whether there is an IPC connection now. Says nothing of the nucleus's own connection to the cloud."""

    def publish(self, topic: str, payload: bytes) -> None:
        """Publish to AWS IoT Core with QoS 1; returns when the nucleus has taken it.

        Raises:
            NucleusUnavailableError: not now (Greengrass Lite answers so at once while it is offline).
            NucleusRefusedError: never in this form.
        """

    def configuration(self) -> Configuration:
        """This component's configuration; scalars may be strings (YAML recipes on Lite). Empty if it has none.

        Raises:
            NucleusUnavailableError, NucleusRefusedError: as for :meth:`publish`.
        """

    def on_configuration_change(self, callback: OnConfigurationChange) -> None:
        """Call with the whole configuration whenever it changed, on a thread of the nucleus's.

        It is called once after each reconnection too, since a change may have been missed.
        """

    def on_connection(self, callback: OnConnection) -> None:
        """Call with ``True`` after each connection and with ``False`` after each loss of it."""

    def report_running(self) -> None:
        """Tell the nucleus that the component works; never raises: it is kept, and told again after a reconnection."""

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
        states: every state reported, in order.
    """

    is_connected: bool = True
    is_online: bool = True
    document: Configuration = field(default_factory=dict)
    refused_topics: set[str] = field(default_factory=set)
    published: list[tuple[str, bytes]] = field(default_factory=list)
    states: list[str] = field(default_factory=list)
    _on_change: list[OnConfigurationChange] = field(default_factory=list)
    _on_connection: list[OnConnection] = field(default_factory=list)
    _lock: threading.Lock = field(default_factory=threading.Lock)

    @property
    def connected(self) -> bool:
        """See :class:`Nucleus`."""
        return self.is_connected

    def publish(self, topic: str, payload: bytes) -> None:
        """See :class:`Nucleus`."""
        with self._lock:
            self._require_connection()
            if topic in self.refused_topics:
                raise NucleusRefusedError(f"UnauthorizedError: publishing to {topic}")
            if not self.is_online:
                raise NucleusUnavailableError("ServiceError: the nucleus is offline")
            self.published.append((topic, bytes(payload)))

    def configuration(self) -> Configuration:
        """See :class:`Nucleus`."""
        with self._lock:
            self._require_connection()
            return dict(self.document)

    def on_configuration_change(self, callback: OnConfigurationChange) -> None:
        """See :class:`Nucleus`."""
        self._on_change.append(callback)

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
        for callback in list(self._on_change):
            callback(dict(document))

    def set_connected(self, is_connected: bool) -> None:  # noqa: FBT001 - the name says what the flag means
        """Break or mend the IPC connection."""
        self.is_connected = is_connected
        for callback in list(self._on_connection):
            callback(is_connected)
        if is_connected:
            self.set_configuration(self.document)

    def _require_connection(self) -> None:
        if not self.is_connected:
            raise NucleusUnavailableError("ConnectionClosedError: there is no nucleus")
