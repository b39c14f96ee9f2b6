"""The message bus between cloud and devices, as a port of two methods, and its in-memory form.

It exists so that IoT Jobs, rules and fleet status can be tested without a broker, and run over a real one unchanged
(:mod:`simulator.aws.mqtt_bus`). It is not a broker: no sessions, no retained messages, no QoS.

Concurrency: any thread may publish and subscribe. :class:`InMemoryBus` delivers in the publisher's thread, so whoever
publishes must hold no lock that a subscriber takes.
"""

import threading
from collections.abc import Callable
from typing import Protocol

from simulator.mqtt.topics import matches

Listener = Callable[[str, bytes], None]
"""Called with the topic and the payload. It must not block for long."""


class MessageBus(Protocol):
    """Publishes and subscribes with MQTT topics, ``$aws/…`` included, as AWS IoT spells them."""

    def publish(self, topic: str, payload: bytes) -> None:
        """Send to everyone whose filter matches, at least once.

        Raises:
            MqttError: the broker is away or refuses the payload; nothing was delivered for sure.
        """

    def subscribe(self, topic_filter: str, listener: Listener) -> None:
        """Call the listener for every message that matches, for as long as the bus lives."""


class InMemoryBus:
    """A bus inside one process.

    Attributes:
        published: every message so far, in order; tests read it.
    """

    def __init__(self) -> None:
        """No listener, nothing published."""
        self.published: list[tuple[str, bytes]] = []
        self._listeners: list[tuple[str, Listener]] = []
        self._lock = threading.Lock()

    def publish(self, topic: str, payload: bytes) -> None:
        """Deliver before returning."""
        with self._lock:
            self.published.append((topic, payload))
            listeners = [listener for wanted, listener in self._listeners if matches(wanted, topic)]
        for listener in listeners:
            listener(topic, payload)

    def subscribe(self, topic_filter: str, listener: Listener) -> None:
        """Takes effect at once."""
        with self._lock:
            self._listeners.append((topic_filter, listener))
