"""The Greengrass nucleus over IPC, through the unmodified ``GreengrassCoreIPCClientV2``; the only importer of awsiot.

The failures this exists for, all of them measured on Greengrass Lite 2.6.0: a client that never reconnects, so that one
restart of the nucleus (or one frame above 10,000 bytes) makes a component deaf until its next deployment; errors whose
text is always empty; operations that one of the two nuclei does not have; a component that dies because the nucleus is
not there yet. And, read in Lite's source: a ggipcd that restarts has forgotten every token, and refuses those of the
components that run on, for ever. So one thread keeps the connection; what is to be heard and told on it is
``nucleus_errands``'s; everything else is a call that works or raises one of two errors; and what goes wrong is named by its
type and its ``repr``.

It is not the port, nor the fake (``nucleus_port``). Thread-safe. Callbacks run on the connection's thread, those for local
messages on awscrt's, which carries every answer: they must not block.
"""

import json
import logging
import threading
from collections.abc import Callable, Mapping
from concurrent.futures import Future
from dataclasses import dataclass
from typing import Any

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
from edge_component.nucleus_address import NucleusAddress, NucleusLimits
from edge_component.nucleus_errands import Errands, Open, Operation, StreamHandlers, Subscription, describe, shielded
from edge_component.nucleus_errors import NucleusRefusedError, NucleusUnavailableError
from edge_component.nucleus_port import (
    Configuration,
    OnConfigurationChange,
    OnConnection,
    OnLocalMessage,
    check_size,
)

logger = logging.getLogger(__name__)

REFUSALS = (UnauthorizedError, InvalidArgumentsError, InvalidTokenError, ResourceNotFoundError)
"""What repeating will not help. ServiceError is not among them: Lite says it while offline."""


@dataclass(slots=True, eq=False)
class _LocalTopic:
    """Who wants to hear a filter's messages: one stream serves all of them."""

    topic_filter: str
    callbacks: tuple[OnLocalMessage, ...] = ()

    def open(self, client: GreengrassCoreIPCClientV2, handlers: StreamHandlers) -> tuple[Any, Operation]:
        others = ReceiveMode.RECEIVE_MESSAGES_FROM_OTHERS  # Lite ignores it, and may give us our own
        return _open_stream(client.subscribe_to_topic_async, handlers, topic=self.topic_filter, receive_mode=others)

    def tell(self, event: Any) -> None:  # noqa: ANN401 - awsiot ships no types
        topic, payload = _local_message(event, self.topic_filter)
        for callback in self.callbacks:
            shielded(lambda told: told(topic, payload), callback)


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
        self._is_reached = False
        self._connection = _Lifecycle(self._wake)
        self._on_connection: list[OnConnection] = []
        self._local: dict[str, _LocalTopic] = {}
        self._errands = Errands(self, self._changed, self._limits, random)
        self._errands.hear(
            Subscription(
                "SubscribeToConfigurationUpdate",
                lambda client, handlers: _open_stream(client.subscribe_to_configuration_update_async, handlers),
                lambda _event: self._errands.read_configuration(),  # it holds no value
            )
        )
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
            topic = self._local.get(topic_filter)
            if topic is not None:
                topic.callbacks = (*topic.callbacks, callback)
                return
            topic = self._local[topic_filter] = _LocalTopic(topic_filter, (callback,))
        self._errands.hear(Subscription(f"SubscribeToTopic {topic_filter}", topic.open, topic.tell))

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

    def on_configuration_change(self, callback: OnConfigurationChange) -> None:
        """See :class:`Nucleus`."""
        self._errands.tell_configuration(callback)

    def on_connection(self, callback: OnConnection) -> None:
        """See :class:`Nucleus`."""
        with self._changed:
            self._on_connection.append(callback)

    def report_running(self) -> None:
        """See :class:`Nucleus`."""
        self._errands.report("RUNNING")

    def report_errored(self) -> None:
        """See :class:`Nucleus`."""
        self._errands.report("ERRORED")

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
        """With the token; where that is refused, by name, which Lite compares with the systemd unit of this process."""
        try:
            return self._greet({"authToken": self._address.token})
        except TimeoutError:
            raise
        except Exception as refusal:
            if not self._is_reached:
                raise
            try:
                client = self._greet({"componentName": self._address.component_name})
            except Exception:  # noqa: BLE001 - also the Java nucleus, which knows no names: its first word counts
                raise refusal from None
            logger.info("nucleus: it knows this component's token no more, but its name")
            return client

    def _greet(self, proof: Mapping[str, str]) -> GreengrassCoreIPCClientV2:
        def amend() -> MessageAmendment:
            self._is_reached = True  # called once there is a socket
            return MessageAmendment(payload=json.dumps(proof).encode())

        self._is_reached = False
        options = SocketOptions()
        options.domain = SocketDomain.Local
        connection = Connection(
            host_name=self._address.socket_path,
            port=0,  # a Unix socket has none
            bootstrap=self._bootstrap,
            socket_options=options,
            connect_message_amender=amend,
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
            self._changed.notify_all()
        logger.info("nucleus: connected")
        self._tell_connection(is_connected=True)
        self._errands.serve(client)
        with self._changed:
            self._client = None
        if not self._is_closed:
            logger.warning("nucleus: the connection ended, reconnecting")
        client.close()
        self._tell_connection(is_connected=False)

    # -- the errands' link ---------------------------------------------------------------------------------------------

    def is_serving(self) -> bool:
        """See :class:`Link`."""
        return not (self._is_closed or self._connection.is_over)

    def update_state(self, state: str) -> None:
        """See :class:`Link`."""
        self._call(lambda client: client.update_state_async(state=state))

    def subscribe(self, open_stream: Open, handlers: StreamHandlers, operations: list[Operation]) -> None:
        """See :class:`Link`."""

        def ask(client: GreengrassCoreIPCClientV2) -> "Future[Any]":
            answer: Future[Any]
            answer, operation = open_stream(client, handlers)
            operations.append(operation)
            return answer

        self._call(ask)

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

    def _wake(self) -> None:
        with self._changed:
            self._changed.notify_all()

    def _tell_connection(self, *, is_connected: bool) -> None:
        for callback in list(self._on_connection):
            shielded(callback, is_connected)

    def _sleep(self, wait_s: float) -> None:
        with self._changed:
            self._changed.wait_for(lambda: self._is_closed, wait_s)


def _open_stream(
    subscribe: Callable[..., tuple[Any, Operation]], handlers: StreamHandlers, **to_what: object
) -> tuple[Any, Operation]:
    return subscribe(
        on_stream_event=handlers.on_stream_event,
        on_stream_error=handlers.on_stream_error,
        on_stream_closed=handlers.on_stream_closed,
        **to_what,
    )


def _local_message(event: Any, topic_filter: str) -> tuple[str, bytes]:  # noqa: ANN401 - awsiot ships no types
    """Topic and payload; a JSON message as its text. Where a nucleus names no topic, the filter stands for it."""
    message = event.binary_message or event.json_message
    topic = topic_filter if message.context is None else message.context.topic
    if event.binary_message is None:
        return topic, json.dumps(message.message).encode()
    return topic, bytes(message.message or b"")
