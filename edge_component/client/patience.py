"""Whether a request that could not be answered is asked again: a pure decision, shared by every client.

The failure this exists for: a client that gives up because the runtime is being upgraded, and one that waits for ever
because it is gone. A prediction has no side effect, so what breaks with the connection is asked again, at growing
intervals, for as long as the deadline allows; then it fails with the error that says what was missing. But a request that
ends the runtime (there are inputs at which ONNX Runtime crashes) would end each one that is started again, until the
nucleus gives the component up: what was cut off in mid-answer is asked once more, and not a third time.
"""

from dataclasses import dataclass
from pathlib import Path

from edge_component.client.answers import CutOffError
from edge_component.client.errors import (
    BusyError,
    DeadlineExceededError,
    InputError,
    ModelFailedError,
    OverloadedError,
    RefusedError,
    UnavailableError,
    UnknownModelError,
)

ALLOWED_S_MAX = 1e9
"""What "for ever" comes down to: still a time that the operating system's waits accept."""
RETRY_S = 0.005
RETRY_S_MAX = 0.2
CUT_OFF_COUNT = 2
"""A nucleus gives up a component that fails three times within an hour."""

ANSWERED = (InputError, UnknownModelError, ModelFailedError, DeadlineExceededError, OverloadedError, RefusedError)
"""Errors that are whole answers: the conversation with the runtime goes on."""


def bounded(deadline_s: float) -> float:
    """A deadline that can be waited for: positive, and not beyond what a wait can be told.

    Raises:
        DeadlineExceededError: it leaves no time at all.
        InputError: it is not a number.
    """
    if deadline_s > 0:
        return min(deadline_s, ALLOWED_S_MAX)
    if deadline_s <= 0:
        raise DeadlineExceededError(
            f"a deadline of {max(deadline_s, -ALLOWED_S_MAX):g} s leaves no time to ask",
            "deadline-exceeded",
            "Allow more time.",
        )
    raise InputError("a deadline of NaN is not a time", "input-deadline", "Give a number of seconds.")


def unavailable(sentence: str, error: OSError) -> UnavailableError:
    """What to tell of a socket on which nobody answers: one that this user may not use is no runtime that is away."""
    if isinstance(error, PermissionError):
        remedy = "Ask as the component's user or as root, or set socket_group in the component's configuration."
    else:
        remedy = "Is the component com.edgewright.Runtime installed and running? See `edgewright-edge doctor`."
    return UnavailableError(sentence, "runtime-unavailable", remedy)


@dataclass(slots=True)
class Patience:
    """For one request; times are of a monotonic clock, in seconds."""

    socket_path: Path
    model: str
    allowed_s: float
    ends_at_s: float
    _pause_s: float = RETRY_S
    _cut_off_count: int = 0

    def pause_s(self, error: BaseException, now_s: float) -> float:
        """How long to wait before the next try; raises what the caller is to see instead, if there shall be none.

        Raises:
            DeadlineExceededError: connected and asked, but not answered in time.
            UnavailableError, BusyError: the deadline leaves no time for another try; or there was one, and it too was cut off.
            BaseException: ``error`` itself, where trying again cannot help.
        """
        if isinstance(error, BlockingIOError):  # the socket's own time limit ran out
            raise DeadlineExceededError(
                f"{self.model} did not answer within {self.allowed_s:g} s", "deadline-exceeded", "Allow more time."
            ) from error
        if not isinstance(error, OSError | BusyError):
            raise error
        self._cut_off_count += isinstance(error, CutOffError)
        if self._cut_off_count == CUT_OFF_COUNT:
            raise UnavailableError(
                f"the runtime went away {CUT_OFF_COUNT} times while it answered this request to {self.model}",
                "cut-off",
                "If that happens with the same inputs again, they end it: see the runtime's log, and how its process ended.",
            ) from error
        pause_s = self._pause_s
        if now_s + pause_s < self.ends_at_s:
            self._pause_s = min(pause_s * 2, RETRY_S_MAX)
            return pause_s
        if isinstance(error, BusyError):
            raise error
        raise unavailable(
            f"no runtime answered on {self.socket_path} within {self.allowed_s:g} s ({error})", error
        ) from error

    def outwaited(self) -> DeadlineExceededError:
        """The error of a request whose time went by while others on the same client were answered."""
        return DeadlineExceededError(
            f"other requests on this client took all of {self.allowed_s:g} s",
            "deadline-exceeded",
            "Give each thread or task a client of its own.",
        )
