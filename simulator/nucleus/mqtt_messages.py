"""The cloud connection over a real broker: :class:`simulator.nucleus.ports.CloudMessages` on ``simulator.mqtt``.

The failure it exists for: a device whose loop stands still while a broker is away. Everything of the MQTT client that
blocks runs in threads here; its callbacks are handed to the device's loop.

Concurrency: methods belong to the device's event loop. One thread connects and goes on trying.
"""

import asyncio
import logging
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

from simulator.mqtt import BrokerAddress, BrokerUnavailableError, Credentials, Message, MqttClient, PayloadTooLargeError
from simulator.nucleus.errors import CloudOfflineError
from simulator.nucleus.ports import Deliver

CONNECT_TRY_S = 5.0

logger = logging.getLogger(__name__)


class MqttMessages:
    """One device's connection; may be started again after :meth:`stop`."""

    def __init__(
        self,
        address: BrokerAddress,
        thing_name: str,
        credentials: Credentials | None,
        packet_bytes_max: int | None = None,
    ) -> None:
        """Nothing is contacted. A message to the device above ``packet_bytes_max`` is dropped, as Lite's client does."""
        self._address = address
        self._thing_name = thing_name
        self._credentials = credentials
        self._packet_bytes_max = packet_bytes_max
        self._delivers: dict[str, list[Deliver]] = {}
        self._client: MqttClient | None = None
        self._stopped = threading.Event()
        self._blocking: ThreadPoolExecutor | None = None
        self._loop: asyncio.AbstractEventLoop | None = None
        self._unconfirmed: set[str] = set()

    @property
    def connected(self) -> bool:
        """Whether the connection stands now."""
        return self._client is not None and self._client.is_connected

    async def start(self, on_connection: Callable[[bool], None]) -> None:
        """Connect in the background, for as long as it takes."""
        loop = self._loop = asyncio.get_running_loop()
        self._stopped = threading.Event()
        self._blocking = ThreadPoolExecutor(1, thread_name_prefix=f"mqtt-{self._thing_name}")
        client = self._client = MqttClient(
            self._address,
            self._thing_name,
            self._credentials,
            on_connected=lambda connected: self._news(connected, on_connection),
        )
        for topic_filter in self._delivers:
            client.subscribe(topic_filter, self._receiver(loop, topic_filter))
        self._blocking.submit(_connect, client, self._stopped)

    async def publish(self, topic: str, payload: bytes, qos: int = 1) -> None:
        """Hand over to the client, which delivers in the background.

        Raises:
            CloudOfflineError: not connected, or larger than the broker carries.
        """
        if self._client is None:
            raise CloudOfflineError("not started")
        try:
            self._client.publish_soon(topic, payload, qos)
        except (BrokerUnavailableError, PayloadTooLargeError) as error:
            raise CloudOfflineError(str(error)) from error

    async def subscribe(self, topic_filter: str, deliver: Deliver) -> Callable[[], None]:
        """Several subscribers may share a filter; the broker knows it once."""
        loop = asyncio.get_running_loop()
        others = self._delivers.setdefault(topic_filter, [])
        others.append(deliver)
        if len(others) == 1 and self._client is not None and self._blocking is not None:
            if self._client.is_connected:
                await loop.run_in_executor(self._blocking, self._ask_for, topic_filter)
            else:
                self._unconfirmed.add(topic_filter)
        return lambda: self._unsubscribe(topic_filter, deliver)

    async def stop(self) -> None:
        """Disconnect; the filters are forgotten with the connection."""
        client, blocking = self._client, self._blocking
        self._client = self._blocking = None
        self._stopped.set()
        self._delivers.clear()
        if client is not None and blocking is not None:
            await asyncio.get_running_loop().run_in_executor(blocking, client.disconnect)
            blocking.shutdown(wait=False)

    def _unsubscribe(self, topic_filter: str, deliver: Deliver) -> None:
        others = self._delivers.get(topic_filter, [])
        if deliver in others:
            others.remove(deliver)
        if not others and self._delivers.pop(topic_filter, None) is not None and self._client and self._blocking:
            self._blocking.submit(_quietly, self._client.unsubscribe, topic_filter)

    def _receiver(self, loop: asyncio.AbstractEventLoop, topic_filter: str) -> Callable[[Message], None]:
        def receive(message: Message) -> None:
            size = len(message.topic) + len(message.payload)
            if self._packet_bytes_max is not None and size > self._packet_bytes_max:
                logger.warning("%s: %d bytes on %s never arrive", self._thing_name, size, message.topic)
                return
            self._hand_over(loop, self._deliver, topic_filter, message)

        return receive

    def _deliver(self, topic_filter: str, message: Message) -> None:
        for deliver in list(self._delivers.get(topic_filter, ())):
            deliver(message.topic, message.payload)

    def _news(self, connected: bool, on_connection: Callable[[bool], None]) -> None:  # noqa: FBT001 - the news itself
        """A new connection is announced only when everything asked for while offline is subscribed: answers follow."""
        blocking, loop = self._blocking, self._loop
        if blocking is None or loop is None or self._stopped.is_set():
            return

        def tell() -> None:
            while connected and self._unconfirmed:
                self._ask_for(self._unconfirmed.pop())
            self._hand_over(loop, on_connection, connected)

        blocking.submit(tell)

    def _ask_for(self, topic_filter: str) -> None:
        client, loop = self._client, self._loop
        if client is not None and loop is not None and topic_filter in self._delivers:
            _quietly(client.subscribe, topic_filter, self._receiver(loop, topic_filter))

    def _hand_over(self, loop: asyncio.AbstractEventLoop, function: Callable[..., None], *arguments: object) -> None:
        if not self._stopped.is_set() and not loop.is_closed():
            loop.call_soon_threadsafe(function, *arguments)


def _connect(client: MqttClient, stopped: threading.Event) -> None:
    while not stopped.is_set():
        try:
            client.connect(CONNECT_TRY_S)
        except BrokerUnavailableError as error:
            logger.info("%s", error)
        else:
            return


def _quietly(function: Callable[..., None], *arguments: object) -> None:
    try:
        function(*arguments)
    except BrokerUnavailableError as error:
        logger.info("%s; it is asked for again on the next connection", error)
