"""The branch of the device's exception tree that telemetry raises.

::

    DeviceError
    └── TelemetryError
        └── OutboxDiskError  OutboxClosedError
"""

from edge_component.errors import DeviceError


class TelemetryError(DeviceError):
    """Something could not be told to the cloud, or not yet; predictions are not touched."""

    code = "telemetry-failed"


class OutboxDiskError(TelemetryError):
    """The file system refused the outbox; what it had acknowledged before is still there."""

    code = "outbox-disk"

    def __init__(self, message: str, remedy: str = "Free disk space, and check the device's disk.") -> None:
        """See :class:`DeviceError`."""
        super().__init__(message, remedy)


class OutboxClosedError(TelemetryError):
    """The runtime is stopping; the message was not taken."""

    code = "outbox-closed"
