"""Whose fault a failed request is, for every door: what counts against a model on probation."""

from edge_component.config import RuntimeConfig
from edge_component.errors import DeviceError
from edge_component.inference.errors import OutputMismatchError, RunDeadlineError, RunFailedError


def speaks_against_the_model(failure: DeviceError, allowed_s: float, config: RuntimeConfig) -> bool:
    """Such failures count on probation; the others are the caller's, a deadline too short for any model included."""
    if isinstance(failure, RunDeadlineError):
        return allowed_s >= config.fault_deadline_s
    return isinstance(failure, RunFailedError | OutputMismatchError)
