"""What comes back for a request: an :class:`Answer`, or the error that stands in its place.

Pure; channel.py reads outputs, this reads messages that are not the ordinary answer.
"""

from collections.abc import Mapping
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from edge_component.client.errors import ProtocolError, error_of
from edge_component.contracts.errors import ContractError
from edge_component.contracts.fastpath import FAILED_HEAD, Failure, Kind, unpack_failure
from edge_component.contracts.heartbeat import ModelRef

Array = NDArray[np.generic]
ASK_AGAIN = ("stale-channel", "answer-too-large", "unknown-channel")


class Answer(NamedTuple):
    """One answer, and exactly who gave it; a tuple, since one is made for each request and that is the cheapest.

    Attributes:
        outputs: arrays by output name, in the model's dtypes.
        model: name, version and bundle digest of the one model that computed all of it.
        run_us: how long the model itself ran, in µs.
    """

    outputs: Mapping[str, Array]
    model: ModelRef
    run_us: int


class AskAgainError(Exception):
    """The channel no longer fits (other tensors, more room needed): open another and ask again."""

    def __init__(self, failure: Failure) -> None:
        """Keep what the runtime said."""
        super().__init__(failure.message)
        self.failure = failure


class CutOffError(ConnectionResetError):
    """The runtime took a request and went away before it had answered."""


def failure_in(message: bytes) -> Exception:
    """The error that a message is, where an answer was expected; the caller raises it."""
    if not message:
        return CutOffError("the runtime hung up")
    if message[0] not in (Kind.FAILED, Kind.REFUSED):
        return ProtocolError(f"the runtime answered with a message of kind {message[0]}", "protocol-violation")
    try:
        failure = unpack_failure(message[FAILED_HEAD.size if message[0] == Kind.FAILED else 1 :])
    except ContractError as error:
        return ProtocolError(f"the runtime's refusal is not understood: {error}", "protocol-violation")
    return AskAgainError(failure) if failure.code in ASK_AGAIN else error_of(failure)
