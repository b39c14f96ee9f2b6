"""The Greengrass nucleus over IPC, through the unmodified ``GreengrassCoreIPCClientV2``; the only importer of awsiot.

The failures this exists for, all of them measured on Greengrass Lite 2.6.0: a client that never reconnects, so that one
restart of the nucleus (or one frame above 10,000 bytes) makes a component deaf until its next deployment; errors whose
text is always empty; operations that one of the two nuclei does not have; a component that dies because the nucleus is
not there yet. So one thread keeps the connection, for ever; everything else is a call that works or raises one of two
errors; and what goes wrong is named by its type and its ``repr``.

It is not the port, nor the fake (``nucleus_port``). Thread-safe. Callbacks run on the connection's thread and must not
block for long.
"""

import json
import logging
import threading
from collections.abc import Callable, Mapping
from concurrent.futures import Future
from dataclasses import dataclass
from typing import Any, TypeVar

from awscrt.io import ClientBootstrap, DefaultHostResolver, EventLoopGroup, SocketDomain, SocketOptions
from awsiot.eventstreamrpc import Connection, LifecycleHandler, MessageAmendment
from awsiot.greengrasscoreipc.client import GreengrassCoreIPCClient
from awsiot.greengrasscoreipc.clientv2 import GreengrassCoreIPCClientV2
from awsiot.greengrasscoreipc.model import (
    BinaryMessage,
    InvalidArgumentsError,
    InvalidTokenError,
    PublishMessage,
    ReceiveMode,
    ResourceNotFoundError,
    UnauthorizedError,
)

from edge_component.clock import Clock
from edge_component.errors import NucleusError, NucleusRefusedError, NucleusUnavailableError
from edge_component.nucleus_address import NucleusAddress, NucleusLimits
from edge_component.nucleus_port import (
    Configuration,
    OnConfigurationChange,
    OnConnection,
    OnLocalMessage,
    check_size,
)

logger = logging.getLogger(__name__)

Told = TypeVar("Told")

REFUSALS = (UnauthorizedError, InvalidArgumentsError, InvalidTokenError, ResourceNotFoundError)
"""What repeating will not help. ServiceError is not among them: Lite says it while offline."""


@dataclass(slots=True, eq=False)
class _LocalSubscription:
    """What somebody wants to hear; ``made_on`` is the connection that carries it, ``None`` for none yet."""

    topic_filter: str
    callback: OnLocalMessage
    made_on: GreengrassCoreIPCClientV2 | None = None


class _Lifecycle(LifecycleHandler):
    """Tells the connection's thread that it ended; runs on awscrt's network thread, where nothing may block."""

    def __init__(self, on_end: Callable[[], None]) -> None:
        self._on_end = on_end
        self.is_over = False

    def on_disconnect(self, reason: Exception | None) -> None:
        del reason  # awscrt names the same "socket closed" whatever the nucleus's reason was
        self.is_over = True
        self._on_end()


class GreengrassNucleus:
    """See the module's docstring. Nothing is connected before :meth:`start`, which returns at once."""

    def __init__(
        self,
        address: NucleusAddress,
        clock: Clock,
        random: Callable[[], float],
        limits: NucleusLimits | None = None,
    ) -> None:
        """``random`` gives a float in [0, 1), for the backoff."""
        self._address = address
        self._clock = clock
        self._random = random
        self._limits = limits or NucleusLimits()
        logging.getLogger("awsiot.eventstreamrpc").setLevel(
            logging.CRITICAL
        )  # it logs each attempt; we the transitions
        group = EventLoopGroup(1)
        self._bootstrap = ClientBootstrap(group, DefaultHostResolver(group))
        self._client: GreengrassCoreIPCClientV2 | None = None
        self._changed = threading.Condition()
        self._is_closed = False
        self._connection = _Lifecycle(self._wake)
        self._is_configuration_stale = False
        self._configuration_failures_count = 0
        self._state_to_report = ""
        self._told_configuration: Configuration | None = None
        self._on_configuration: list[OnConfigurationChange] = []
        self._on_connection: list[OnConnection] = []
        self._local: list[_LocalSubscription] = []
        self._lacks: set[str] = set()
        self._thread = threading.Thread(target=self._run, name="nucleus", daemon=True)

    # -- the port ------------------------------------------------------------------------------------------------------

    def start(self) -> None:
        """Begin to connect, and go on for ever."""
        self._thread.start()

    @property
    def connected(self) -> bool:
        """See :class:`Nucleus`."""
        return self._client is not None

    def wait_connected(self, timeout_s: float) -> bool:
        """Wait for the first connection; ``False`` if there is none yet, which is no reason not to go on."""
        with self._changed:
            return self._changed.wait_for(lambda: self._client is not None, timeout_s)

    def publish(self, topic: str, payload: bytes) -> None:
        """See :class:`Nucleus`."""
        check_size(payload)
        self._call(lambda client: client.publish_to_iot_core_async(topic_name=topic, qos="1", payload=payload))

    def publish_local(self, topic: str, payload: bytes) -> None:
        """See :class:`Nucleus`."""
        check_size(payload)
        message = PublishMessage(binary_message=BinaryMessage(message=payload))
        self._call(lambda client: client.publish_to_topic_async(topic=topic, publish_message=message))

    def subscribe_local(self, topic_filter: str, callback: OnLocalMessage) -> None:
        """See :class:`Nucleus`. Made on the connection's thread, now and after each reconnection."""
        with self._changed:
            self._local = [*self._local, _LocalSubscription(topic_filter, callback)]
            self._changed.notify_all()

    def configuration(self) -> Configuration:
        """See :class:`Nucleus`."""
        try:
            response = self._call(lambda client: client.get_configuration_async())
        except NucleusRefusedError as error:
            if isinstance(error.__cause__, ResourceNotFoundError):
                return {}
            raise
        value = response.value
        return dict(value) if isinstance(value, Mapping) else {}

    def merge_configuration(self, document: Configuration) -> None:
        """See :class:`Nucleus`. Lite refuses an update without a timestamp, so there always is one."""
        now = self._clock.now()
        self._call(
            lambda client: client.update_configuration_async(key_path=[], timestamp=now, value_to_merge=dict(document))
        )

    def on_configuration_change(self, callback: OnConfigurationChange) -> None:
        """See :class:`Nucleus`."""
        with self._changed:
            self._on_configuration.append(callback)
            self._told_configuration = None
            self._is_configuration_stale = True
            self._changed.notify_all()

    def on_connection(self, callback: OnConnection) -> None:
        """See :class:`Nucleus`."""
        with self._changed:
            self._on_connection.append(callback)

    def report_running(self) -> None:
        """See :class:`Nucleus`."""
        self._report("RUNNING")

    def report_errored(self) -> None:
        """See :class:`Nucleus`."""
        self._report("ERRORED")

    def close(self) -> None:
        """See :class:`Nucleus`."""
        with self._changed:
            self._is_closed = True
            self._changed.notify_all()
            client = self._client
        if client is not None:
            client.close()  # ends the calls that a silent nucleus leaves unanswered
        if self._thread.is_alive() and self._thread is not threading.current_thread():
            self._thread.join(self._limits.close_s)

    # -- the connection's thread ---------------------------------------------------------------------------------------

    def _run(self) -> None:
        failures_count = 0
        while not self._is_closed:
            try:
                client = self._connect()
            except Exception as error:  # noqa: BLE001 - whatever awscrt makes of a missing or strange nucleus
                failures_count += 1
                if failures_count == 1:
                    logger.warning("nucleus: not reachable, trying on: %s", describe(error))
                self._sleep(self._limits.backoff.wait_s(failures_count, self._random))
                continue
            began_s = self._clock.monotonic_s()
            self._serve(client)
            if self._clock.monotonic_s() - began_s >= self._limits.steady_s:
                failures_count = 0
                continue
            failures_count += 1
            self._sleep(self._limits.backoff.wait_s(failures_count, self._random))

    def _connect(self) -> GreengrassCoreIPCClientV2:
        options = SocketOptions()
        options.domain = SocketDomain.Local
        connection = Connection(
            host_name=self._address.socket_path,
            port=0,  # a Unix socket has none
            bootstrap=self._bootstrap,
            socket_options=options,
            connect_message_amender=MessageAmendment.create_static_authtoken_amender(self._address.token),
        )
        self._connection = _Lifecycle(self._wake)
        try:
            connection.connect(self._connection).result(self._limits.connect_s)
        except Exception:
            connection.close()
            raise
        return GreengrassCoreIPCClientV2(client=GreengrassCoreIPCClient(connection), executor=None)

    def _serve(self, client: GreengrassCoreIPCClientV2) -> None:
        with self._changed:
            self._client = client
            self._is_configuration_stale = True
            self._changed.notify_all()
        logger.info("nucleus: connected")
        self._tell_connection(is_connected=True)
        self._subscribe()
        while self._is_serving():
            self._report_state()
            self._subscribe_locally(client)
            self._refresh_configuration()
            self._wait_for_work()
        with self._changed:
            self._client = None
        if not self._is_closed:
            logger.warning("nucleus: the connection ended, reconnecting")
        client.close()
        self._tell_connection(is_connected=False)

    def _is_serving(self) -> bool:
        return not (self._is_closed or self._connection.is_over)

    def _wait_for_work(self) -> None:
        with self._changed:
            has_work = self._changed.wait_for(
                lambda: (
                    not self._is_serving()
                    or self._is_configuration_stale
                    or bool(self._state_to_report)
                    or any(wanted.made_on is not self._client for wanted in self._local)
                ),
                self._configuration_wait_s(),
            )
            if not has_work:
                self._is_configuration_stale = True

    def _configuration_wait_s(self) -> float:
        if not self._configuration_failures_count:
            return self._limits.configuration_poll_s
        return self._limits.backoff.wait_s(self._configuration_failures_count, self._random)

    def _subscribe(self) -> None:
        def note(_event: Any) -> None:  # noqa: ANN401 - awsiot ships no types; the event holds no value anyway
            with self._changed:
                self._is_configuration_stale = True
                self._changed.notify_all()

        self._optional(
            "SubscribeToConfigurationUpdate",
            lambda client: client.subscribe_to_configuration_update_async(on_stream_event=note)[0],
        )

    def _subscribe_locally(self, client: GreengrassCoreIPCClientV2) -> None:
        """Each wanted subscription once per connection; one that is refused is said, and tried with the next one."""
        for wanted in self._local:
            if wanted.made_on is client:
                continue
            wanted.made_on = client
            self._optional(f"SubscribeToTopic {wanted.topic_filter}", _subscribing(wanted))

    def _refresh_configuration(self) -> None:
        with self._changed:
            if not self._is_configuration_stale:
                return
            self._is_configuration_stale = False
        try:
            document = self.configuration()
        except NucleusError as error:
            self._configuration_failures_count += 1
            if self._configuration_failures_count == 1 and self._is_serving():
                logger.warning("nucleus: the configuration cannot be read, trying on: %s", error)
            return
        self._configuration_failures_count = 0
        if document == self._told_configuration:
            return
        self._told_configuration = document
        for callback in list(self._on_configuration):
            _shielded(callback, dict(document))

    def _report(self, state: str) -> None:
        with self._changed:
            self._state_to_report = state
            self._changed.notify_all()

    def _report_state(self) -> None:
        with self._changed:
            state, self._state_to_report = self._state_to_report, ""
        if not state:
            return
        if not self._optional("UpdateState", lambda client: client.update_state_async(state=state)):
            with self._changed:
                if not self._is_serving() and not self._state_to_report:
                    self._state_to_report = state  # told after the next connection

    # -- calls ---------------------------------------------------------------------------------------------------------

    def _call(self, act: Callable[[GreengrassCoreIPCClientV2], "Future[Any]"]) -> Any:  # noqa: ANN401 - awsiot's shapes
        client = self._client
        if client is None:
            raise NucleusUnavailableError("there is no connection to the nucleus")
        try:
            return act(client).result(self._limits.call_s)
        except REFUSALS as error:
            raise NucleusRefusedError(describe(error)) from error
        except Exception as error:  # awsiot and awscrt share no root; each is a way of not being available
            raise NucleusUnavailableError(describe(error)) from error

    def _optional(self, operation: str, act: Callable[[GreengrassCoreIPCClientV2], "Future[Any]"]) -> bool:
        """Do what a nucleus may not have; an absence is said once."""
        try:
            self._call(act)
        except NucleusError as error:
            if operation not in self._lacks and self._is_serving():
                self._lacks.add(operation)
                logger.warning("nucleus: %s does not work here, going on without: %s", operation, error)
            return False
        self._lacks.discard(operation)
        return True

    def _wake(self) -> None:
        with self._changed:
            self._changed.notify_all()

    def _tell_connection(self, *, is_connected: bool) -> None:
        for callback in list(self._on_connection):
            _shielded(callback, is_connected)

    def _sleep(self, wait_s: float) -> None:
        with self._changed:
            self._changed.wait_for(lambda: self._is_closed, wait_s)


def _subscribing(wanted: _LocalSubscription) -> Callable[[GreengrassCoreIPCClientV2], "Future[Any]"]:
    def on_event(event: Any) -> None:  # noqa: ANN401 - awsiot ships no types
        _shielded(lambda told: wanted.callback(*told), _local_message(event))

    def act(client: GreengrassCoreIPCClientV2) -> "Future[Any]":
        subscribed: Future[Any] = client.subscribe_to_topic_async(
            topic=wanted.topic_filter,
            receive_mode=ReceiveMode.RECEIVE_MESSAGES_FROM_OTHERS,  # Lite ignores it, and may give us our own
            on_stream_event=on_event,
        )[0]
        return subscribed

    return act


def _local_message(event: Any) -> tuple[str, bytes]:  # noqa: ANN401 - awsiot ships no types
    """Topic and payload; a JSON message as its text."""
    binary, parsed = event.binary_message, event.json_message
    if binary is not None:
        return binary.context.topic, bytes(binary.message or b"")
    return parsed.context.topic, json.dumps(parsed.message).encode()


def describe(error: BaseException) -> str:
    """An error of awsiot's in words: its type, its ``message`` where the nucleus sent one that the SDK reads, its repr."""
    message = getattr(error, "message", None)
    return f"{type(error).__name__}: {message or repr(error)}"


def _shielded(callback: Callable[[Told], None], told: Told) -> None:
    try:
        callback(told)
    except Exception:  # a caller's callback must not cost everybody the connection
        logger.exception("nucleus: a callback failed")
