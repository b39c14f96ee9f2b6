"""What the local cloud answers when it refuses: AWS's own error codes, so that a client's handling of them is real.

Not for broken start-up of the local cloud itself (a port that is taken): that is :class:`LocalCloudError`.
"""

from collections.abc import Mapping
from typing import Any

from simulator.errors import SimulatorError


class LocalCloudError(SimulatorError):
    """The local cloud cannot start or go on; the sentence says what to change."""


class AwsError(SimulatorError):
    """A refusal with a service's own error code; it reaches the caller as botocore's ``ClientError``.

    Attributes:
        code: AWS's name, such as ``ConflictException``.
        message: one sentence for the caller.
        members: further members of the error's shape, such as ``resourceId``.
        status: HTTP status; ``None`` means what the service's model gives that code, else 400.
    """

    def __init__(
        self, code: str, message: str, members: Mapping[str, Any] | None = None, status: int | None = None
    ) -> None:
        """Nothing is changed by a request that is answered so."""
        super().__init__(f"{code}: {message}")
        self.code = code
        self.message = message
        self.members = dict(members or {})
        self.status = status


class InvalidRequestError(AwsError):
    """The request contradicts the service's model; the code is the one that service uses."""


class NotRealError(AwsError):
    """Nothing here does what the operation promises. HTTP 501: fail closed, never a pretended success."""

    def __init__(self, what: str) -> None:
        """``what`` is ``service:Operation`` or a sentence that names the part which is not real."""
        super().__init__(
            "NotImplemented",
            f"{what} is not made real by Edgewright's local cloud; see simulator/README.md for what is.",
            status=501,
        )
