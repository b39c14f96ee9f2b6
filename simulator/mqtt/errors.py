"""What can go wrong between a client and the local broker, by phase and cause."""

from simulator.errors import SimulatorError


class MqttError(SimulatorError):
    """Root of the simulated hop's errors."""


class BrokerMissingError(MqttError):
    """No broker of the kind asked for is installed."""


class BrokerStartError(MqttError):
    """A broker was started and did not begin to listen; its log is quoted."""


class BrokerUnavailableError(MqttError):
    """The broker does not answer, or refuses this client. Nothing was delivered for sure; the client goes on trying."""


class PayloadTooLargeError(MqttError):
    """Larger than the broker carries; it was not sent."""
