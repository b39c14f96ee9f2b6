"""An MQTT client over awscrt, the library that the AWS SDKs themselves use.

The failure this exists for: a client that comes back after a broker's outage without its subscriptions, and a callback
that publishes and thereby blocks the one thread that could deliver its own acknowledgement. Here subscriptions are made
again on every new session, and callbacks run on a thread of the client's own, one at a time and in order.

Thread-safe. A callback may publish and subscribe; one that raises is logged and costs that message only.
"""

import logging
import queue
import threading
import time
from collections.abc import Callable
from concurrent.futures import Future, TimeoutError as FutureTimeoutError
from dataclasses import dataclass
from functools import partial
from types import TracebackType
from typing import Any, Self

from awscrt import exceptions, io, mqtt

from simulator.mqtt.address import BrokerAddress, Credentials
from simulator.mqtt.errors import BrokerUnavailableError, PayloadTooLargeError
from simulator.mqtt.topics import from_wire, matches, to_wire

logger = logging.getLogger(__name__)

CRT_ERRORS = (exceptions.AwsCrtError, mqtt.SubscribeError, RuntimeError)
"""awscrt fails a future with the first two, and raises the last at once where the connection's state forbids a call."""


@dataclass(frozen=True, slots=True)
class ClientLimits:
    """Times of one client.

    Attributes:
        answer_timeout_s: how long a publish or subscribe waits for its acknowledgement.
        retry_s: pause between attempts of the first connection.
        reconnect_min_s, reconnect_max_s: awscrt's own bounds between attempts of later ones.
        keep_alive_s: MQTT keep-alive.
    """

    answer_timeout_s: float = 10.0
    retry_s: float = 0.2
    reconnect_min_s: int = 1
    reconnect_max_s: int = 4
    keep_alive_s: int = 30


@dataclass(frozen=True, slots=True)
class Message:
    """One message as a subscriber sees it; ``topic`` has its real ``$``."""

    topic: str
    payload: bytes


Callback = Callable[[Message], None]


class MqttClient:
    """One connection. ``persistent`` asks the broker to keep QoS 1 messages while this client is away."""

    def __init__(
        self,
        address: BrokerAddress,
        client_id: str,
        credentials: Credentials | None = None,
        *,
        persistent: bool = False,
        limits: ClientLimits | None = None,
        on_connected: Callable[[bool], None] | None = None,
    ) -> None:
        """Nothing is contacted until :meth:`connect`.

        Args:
            address: the broker.
            client_id: unique on the broker; a second connection with it takes the first one's place.
            credentials: needed where ``address.tls`` is set.
            persistent: keep the session on the broker while this client is away.
            limits: times.
            on_connected: told ``True`` on each connection and ``False`` on each loss, on the callbacks' thread.
        """
        self._address = address
        self._limits = limits or ClientLimits()
        self._on_connected = on_connected
        self._subscriptions: dict[str, tuple[Callback, int]] = {}
        self._lock = threading.Lock()
        self._connected = threading.Event()
        self._inbox: queue.SimpleQueue[Callable[[], None] | None] = queue.SimpleQueue()
        self._worker = threading.Thread(target=self._deliver, name=f"mqtt-{client_id}", daemon=True)
        self._connection = self._make_connection(client_id, credentials, persistent=persistent)

    @property
    def is_connected(self) -> bool:
        """Whether the connection stands now."""
        return self._connected.is_set()

    def connect(self, timeout_s: float = 10.0) -> Self:
        """Connect, trying again until ``timeout_s`` is over; afterwards the connection mends itself.

        Raises:
            BrokerUnavailableError: no connection within the time; calling again goes on trying.
        """
        deadline = time.monotonic() + timeout_s
        if not self._worker.is_alive():
            self._worker.start()
        while not self._connected.is_set():
            try:
                self._connection.connect().result(max(0.1, deadline - time.monotonic()))
                self._await_subscriptions()
            except (*CRT_ERRORS, FutureTimeoutError) as error:
                if time.monotonic() + self._limits.retry_s >= deadline:
                    raise self._unavailable(error) from error
                time.sleep(self._limits.retry_s)
        return self

    def publish(self, topic: str, payload: bytes, qos: int = 1) -> None:
        """Publish; with QoS 1, return when the broker has acknowledged.

        Raises:
            PayloadTooLargeError: it was not sent.
            BrokerUnavailableError: not connected (it was not sent), or not acknowledged (it may arrive yet).
        """
        self._answer(self.publish_soon(topic, payload, qos), f"publish to {topic}")

    def publish_soon(self, topic: str, payload: bytes, qos: int = 1) -> "Future[Any]":
        """Like :meth:`publish`, but the acknowledgement is a future's result."""
        if len(payload) > self._address.payload_bytes_max:
            raise PayloadTooLargeError(
                f"{len(payload)} bytes for {topic}; the broker carries {self._address.payload_bytes_max}",
                "Split the message.",
            )
        if not self.is_connected:
            raise self._unavailable("not connected")
        acknowledged: Future[Any]
        wire_topic = to_wire(topic, self._address.dollar_prefix)
        try:
            acknowledged, _ = self._connection.publish(wire_topic, payload, mqtt.QoS(qos))
        except CRT_ERRORS as error:  # the connection broke since we looked
            raise self._unavailable(f"publish to {topic}: {error}") from error
        return acknowledged

    def subscribe(self, topic_filter: str, callback: Callback, qos: int = 1) -> None:
        """Call ``callback`` with each message that the filter covers, from now on and over every reconnection.

        While not connected the filter is kept, and asked for on the next connection: before :meth:`connect` is the time
        to subscribe for a persistent session, whose waiting messages come at once. A second callback for the same
        filter replaces the first. A filter outside the identity's own topics may be granted (mosquitto does); it then
        delivers nothing.

        Raises:
            BrokerUnavailableError: refused or not acknowledged; it is asked for again on the next connection.
        """
        with self._lock:
            self._subscriptions[topic_filter] = (callback, qos)
        if self.is_connected:
            self._answer(self._ask_for(topic_filter, qos), f"subscribe to {topic_filter}")

    def unsubscribe(self, topic_filter: str) -> None:
        """Stop delivery of a filter; unknown filters are ignored.

        Raises:
            BrokerUnavailableError: not acknowledged; nothing is delivered for it any more all the same.
        """
        with self._lock:
            if self._subscriptions.pop(topic_filter, None) is None:
                return
        unsubscribed, _ = self._connection.unsubscribe(to_wire(topic_filter, self._address.dollar_prefix))
        self._answer(unsubscribed, f"unsubscribe from {topic_filter}")

    def disconnect(self) -> None:
        """Close the connection and end the callbacks' thread, for good: a client is not connected a second time.

        Safe to call twice, and for a client that never connected.
        """
        self._connected.clear()
        try:
            self._connection.disconnect().result(self._limits.answer_timeout_s)
        except (*CRT_ERRORS, FutureTimeoutError):
            logger.debug("the connection was gone before it was closed")
        self._inbox.put(None)
        if self._worker.is_alive() and threading.current_thread() is not self._worker:
            self._worker.join(self._limits.answer_timeout_s)

    def __enter__(self) -> Self:
        return self.connect()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.disconnect()

    def _make_connection(self, client_id: str, credentials: Credentials | None, *, persistent: bool) -> Any:  # noqa: ANN401 - awscrt has no types
        connection = mqtt.Connection(
            client=mqtt.Client(io.ClientBootstrap.get_or_create_static_default(), _tls(self._address, credentials)),
            host_name=self._address.host,
            port=self._address.port,
            client_id=client_id,
            clean_session=not persistent,
            keep_alive_secs=self._limits.keep_alive_s,
            reconnect_min_timeout_secs=self._limits.reconnect_min_s,
            reconnect_max_timeout_secs=self._limits.reconnect_max_s,
            on_connection_interrupted=lambda connection, error, **_: self._note_connected(False),  # noqa: ARG005 - awscrt passes them by name
            on_connection_resumed=lambda connection, return_code, session_present, **_: self._resume(),  # noqa: ARG005 - awscrt passes them by name
            disable_metrics=True,
        )
        connection.on_message(self._receive)
        return connection

    def _receive(self, topic: str, payload: bytes, **_: object) -> None:
        message = Message(from_wire(topic, self._address.dollar_prefix), bytes(payload))
        with self._lock:
            wanted = [callback for name, (callback, _) in self._subscriptions.items() if matches(name, message.topic)]
        for callback in wanted:
            self._inbox.put(partial(callback, message))

    def _note_connected(self, connected: bool) -> None:  # noqa: FBT001 - it is the news itself
        (self._connected.set if connected else self._connected.clear)()
        if self._on_connected is not None:
            self._inbox.put(partial(self._on_connected, connected))

    def _deliver(self) -> None:
        while (call := self._inbox.get()) is not None:
            try:
                call()
            except Exception:
                logger.exception("a callback failed")

    def _ask_for(self, topic_filter: str, qos: int) -> "Future[Any]":
        subscribed: Future[Any]
        subscribed, _ = self._connection.subscribe(to_wire(topic_filter, self._address.dollar_prefix), mqtt.QoS(qos))
        return subscribed

    def _ask_for_all(self) -> "dict[str, Future[Any]]":
        with self._lock:
            wanted = [(topic_filter, qos) for topic_filter, (_, qos) in self._subscriptions.items()]
        return {topic_filter: self._ask_for(topic_filter, qos) for topic_filter, qos in wanted}

    def _await_subscriptions(self) -> None:
        for topic_filter, subscribed in self._ask_for_all().items():
            self._answer(subscribed, f"subscribe to {topic_filter}")
        self._note_connected(True)

    def _resume(self) -> None:
        for topic_filter, subscribed in self._ask_for_all().items():
            subscribed.add_done_callback(partial(_log_failure, topic_filter))
        self._note_connected(True)

    def _answer(self, future: "Future[Any]", what: str) -> Any:  # noqa: ANN401 - awscrt has no types
        try:
            return future.result(self._limits.answer_timeout_s)
        except FutureTimeoutError as error:
            raise self._unavailable(f"{what}: not acknowledged") from error
        except CRT_ERRORS as error:
            raise self._unavailable(f"{what}: {error}") from error

    def _unavailable(self, cause: object) -> BrokerUnavailableError:
        return BrokerUnavailableError(
            f"broker at {self._address.host}:{self._address.port}: {cause!s}",
            "Start the broker again, and check that the credentials are this thing's own.",
        )


def _tls(address: BrokerAddress, credentials: Credentials | None) -> io.ClientTlsContext | None:
    if address.tls is None:
        return None
    if credentials is None:
        raise BrokerUnavailableError(
            f"the broker at {address.host}:{address.port} asks for a certificate", "Get it with credentials_for()."
        )
    options = io.TlsContextOptions.create_client_with_mtls_from_path(
        str(credentials.certificate), str(credentials.private_key)
    )
    options.override_default_trust_store_from_path(None, str(address.tls))
    return io.ClientTlsContext(options)


def _log_failure(topic_filter: str, future: "Future[Any]") -> None:
    if future.exception() is not None:
        logger.error("no subscription to %s: %r", topic_filter, future.exception())
