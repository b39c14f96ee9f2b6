"""Failed requests: whose fault they are, which every door tells probation, and how the fast path tells its client."""

from edge_component.config import RuntimeConfig
from edge_component.contracts.fastpath import Failure
from edge_component.errors import DeviceError
from edge_component.inference.deadline import TICK_S
from edge_component.inference.errors import (
    AnswerTooLargeError,
    OutputMismatchError,
    OverloadedError,
    RunCancelledError,
    RunDeadlineError,
    RunFailedError,
)


def speaks_against_the_model(failure: DeviceError, allowed_s: float, config: RuntimeConfig) -> bool:
    """Such failures count on probation; the others are the caller's, a deadline too short for any model included."""
    if isinstance(failure, RunDeadlineError):
        return allowed_s >= config.fault_deadline_s
    return isinstance(failure, RunFailedError | OutputMismatchError)


def as_cancelled(failure: DeviceError, took_s: float, allowed_s: float) -> DeviceError:
    """A run that was stopped well before its deadline was stopped because its client had gone: nobody's failure."""
    if isinstance(failure, RunDeadlineError) and took_s < allowed_s - TICK_S:
        return RunCancelledError("the client did not wait for the answer")
    return failure


def failure_of(error: DeviceError) -> Failure:
    """The wire form of a device's error."""
    needed_bytes = error.needed_bytes if isinstance(error, AnswerTooLargeError) else None
    retry_after_ms = error.retry_after_ms if isinstance(error, OverloadedError) else None
    return Failure(error.code, str(error), error.remedy, needed_bytes, retry_after_ms)
