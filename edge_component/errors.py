"""The device's exception tree: one root, leaves named by phase and cause.

Foreign errors (ONNX Runtime, cryptography, awscrt, the file system) are wrapped once, at the port that meets them, with
``from``. Every leaf carries a stable ``code``, which crosses the admin socket and reaches the fleet manager, and a
``remedy``: what a person should do about it.
"""

from typing import ClassVar


class DeviceError(Exception):
    """Root of everything the device raises on purpose.

    Attributes:
        code: stable, kebab-case; part of the contract with the fleet manager, never renamed.
        remedy: what the reader should do next; one sentence.
    """

    code: ClassVar[str] = "device-error"

    def __init__(self, message: str, remedy: str = "") -> None:
        """Keep the sentence and its remedy apart, so that each door can show them in its own way."""
        super().__init__(message)
        self.remedy = remedy
