"""The message bus over a real broker, as ``CN=edgewright-cloud``, which may use every topic.

Publishing does not wait for the broker's acknowledgement: a notification that is lost with the broker is made good by
the device, which asks again when it reconnects, as with AWS IoT.

Concurrency: thread-safe. Listeners run on the MQTT client's own thread, one at a time and in order.
"""

import threading
from functools import partial

from simulator.aws.bus import Listener
from simulator.mqtt import CLOUD_NAME, BrokerAddress, Message, MqttClient, MqttError, credentials_for


class MqttBus:
    """A :class:`~simulator.aws.bus.MessageBus` over :class:`MqttClient`, which knows one callback for each filter."""

    def __init__(self, address: BrokerAddress, connect_timeout_s: float) -> None:
        """Nothing is contacted until :meth:`connect`.

        The session is persistent: after a broker's outage devices may be back before the cloud is, and what the broker
        has acknowledged to them must reach the rules all the same.
        """
        self._connect_timeout_s = connect_timeout_s
        self._client = MqttClient(address, CLOUD_NAME, credentials_for(address, CLOUD_NAME), persistent=True)
        self._listeners: dict[str, list[Listener]] = {}
        self._lock = threading.Lock()

    def connect(self) -> None:
        """Connect; afterwards the connection mends itself.

        Raises:
            BrokerUnavailableError: no broker there; the bus is closed.
        """
        try:
            self._client.connect(self._connect_timeout_s)
        except MqttError:
            self._client.disconnect()
            raise

    def close(self) -> None:
        """Disconnect."""
        self._client.disconnect()

    def publish(self, topic: str, payload: bytes) -> None:
        """Hand over to the broker with QoS 1, without waiting for it."""
        self._client.publish_soon(topic, payload)

    def subscribe(self, topic_filter: str, listener: Listener) -> None:
        """Kept over every reconnection; before :meth:`connect` too."""
        with self._lock:
            listeners = self._listeners.setdefault(topic_filter, [])
            listeners.append(listener)
        if len(listeners) == 1:
            self._client.subscribe(topic_filter, partial(self._deliver, topic_filter))

    def _deliver(self, topic_filter: str, message: Message) -> None:
        with self._lock:
            listeners = list(self._listeners[topic_filter])
        for listener in listeners:
            listener(message.topic, message.payload)
