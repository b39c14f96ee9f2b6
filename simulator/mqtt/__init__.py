"""The simulated hop between devices and the cloud: a real MQTT broker on this machine, and a client for it.

Start a broker with :func:`start_broker`, hand its :class:`BrokerAddress` around (it is a JSON file), get credentials with
:func:`credentials_for`, and speak through :class:`MqttClient`.
"""

from simulator.mqtt.address import CLOUD_NAME, BrokerAddress, Credentials
from simulator.mqtt.authority import credentials_for
from simulator.mqtt.broker import Broker, BrokerTraits, start_broker
from simulator.mqtt.client import Message, MqttClient
from simulator.mqtt.errors import (
    BrokerMissingError,
    BrokerStartError,
    BrokerUnavailableError,
    MqttError,
    PayloadTooLargeError,
)

__all__ = [
    "CLOUD_NAME",
    "Broker",
    "BrokerAddress",
    "BrokerMissingError",
    "BrokerStartError",
    "BrokerTraits",
    "BrokerUnavailableError",
    "Credentials",
    "Message",
    "MqttClient",
    "MqttError",
    "PayloadTooLargeError",
    "credentials_for",
    "start_broker",
]
