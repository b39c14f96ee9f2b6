"""Where the nucleus listens for this component, and how long it is waited for.

The failure this exists for: a process that was not started by Greengrass and says so in a traceback. Values only; the
connection is ``nucleus``.
"""

import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Self

from edge_component.backoff import Backoff
from edge_component.nucleus_errors import NoNucleusError

SOCKET_VARIABLE = "AWS_GG_NUCLEUS_DOMAIN_SOCKET_FILEPATH_FOR_COMPONENT"
TOKEN_VARIABLE = "SVCUID"  # noqa: S105 - the variable's name
COMPONENT_NAME = "com.edgewright.Runtime"


@dataclass(frozen=True, slots=True)
class NucleusLimits:
    """How long this component waits for its nucleus.

    Attributes:
        connect_s: for one attempt to connect.
        call_s: for one operation.
        backoff: between two attempts to connect.
        retry: on a connection that works, between two attempts at what the nucleus did not take: a state, a subscription,
            the configuration. Its longest wait is what a nucleus that lacks an operation is spared.
        steady_s: a connection that ended sooner counts as a failed attempt: a nucleus that accepts and hangs up, again and
            again, is not asked thousands of times a minute.
        close_s: for the connection's thread to end, when this component stops.
        configuration_poll_s: the configuration is re-read so often even without an event; on Lite, events stop after a
            component's version changed (aws-greengrass-lite #1016).
    """

    connect_s: float = 10.0
    call_s: float = 10.0
    backoff: Backoff = field(default_factory=lambda: Backoff(0.5, 10.0))
    retry: Backoff = field(default_factory=lambda: Backoff(0.5, 60.0))
    steady_s: float = 10.0
    close_s: float = 2.0
    configuration_poll_s: float = 300.0


@dataclass(frozen=True, slots=True)
class NucleusAddress:
    """Where the nucleus listens for this component, and what proves who it is: the token, or on Lite the name."""

    socket_path: str
    token: str
    component_name: str = COMPONENT_NAME

    @classmethod
    def from_environment(cls, environment: Mapping[str, str] | None = None) -> Self:
        """As Greengrass gives it to every component.

        Raises:
            NoNucleusError: naming the variable that is missing.
        """
        source = os.environ if environment is None else environment
        for variable in (SOCKET_VARIABLE, TOKEN_VARIABLE):
            if not source.get(variable):
                raise NoNucleusError(f"{variable} is not set: this process was not started by Greengrass")
        return cls(source[SOCKET_VARIABLE], source[TOKEN_VARIABLE])
