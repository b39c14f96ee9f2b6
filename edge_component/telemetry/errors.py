"""The branch of the device's exception tree that telling the cloud can end in; predictions are not touched by any of it.

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
    usual_remedy = "Free disk space on the device, and check its disk."


class OutboxClosedError(TelemetryError):
    """The runtime is stopping; the message was not taken."""

    code = "outbox-closed"
