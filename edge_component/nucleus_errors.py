"""The branch of the device's exception tree that a call of the nucleus can end in, whichever stands behind the port.

::

    DeviceError
    └── NucleusError
        └── NucleusUnavailableError  NucleusRefusedError  NoNucleusError
"""

from edge_component.errors import DeviceError


class NucleusError(DeviceError):
    """The nucleus did not do as asked. Names the foreign error's type: awsiot's errors have no text of their own."""

    code = "nucleus-failed"


class NucleusUnavailableError(NucleusError):
    """It cannot be reached, or has itself no way to the cloud; the same call may work later."""

    code = "nucleus-unavailable"
    usual_remedy = "Check that Greengrass runs on this device and is online; nothing is lost meanwhile."


class NucleusRefusedError(NucleusError):
    """It refuses this very call; repeating it will not help."""

    code = "nucleus-refused"
    usual_remedy = "Compare the component's accessControl with what the message names, and deploy the component again."


class NoNucleusError(NucleusError):
    """This process was not started by Greengrass: it was given no address or token for IPC."""

    code = "no-nucleus"
    usual_remedy = "Run it as the component com.edgewright.Runtime, or set both variables by hand."
