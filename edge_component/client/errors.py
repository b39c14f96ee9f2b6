"""What a device application can meet: one root, leaves named by whose move it is.

::

    ClientError
    ├── UnavailableError       no runtime answered within the deadline (is it installed, is it restarting?); or cut-off
    ├── DeadlineExceededError  the runtime is there; the model took too long
    ├── UnknownModelError      the runtime serves no model of that name
    ├── InputError             the caller's: name, dtype, shape or NaN; the message names the tensor
    ├── ModelFailedError       the model's: it failed on this input
    ├── OverloadedError        more is asked of this model than the device can compute; says when to ask again
    ├── BusyError              the runtime has as many connections as it serves
    ├── ProtocolError          the two do not understand each other: versions too far apart
    └── RefusedError           anything else that the runtime refuses, with its code
"""

from edge_component.contracts.fastpath import Failure


class ClientError(Exception):
    """Root of everything the client raises on purpose.

    Attributes:
        code: the runtime's stable code, such as ``input-shape``.
        remedy: what to do about it; one sentence, may be empty.
    """

    def __init__(self, message: str, code: str, remedy: str = "") -> None:
        """Keep sentence, code and remedy apart."""
        super().__init__(message)
        self.code = code
        self.remedy = remedy

    def __reduce__(self) -> tuple[object, ...]:
        """For pickle: an error that cannot cross to another process leaves a ``multiprocessing.Pool`` waiting for ever."""
        return type(self), (str(self), self.code, self.remedy), self.__dict__


class UnavailableError(ClientError):
    """No runtime answered within the deadline; it was asked again and again until then.

    With the code ``cut-off``: it went away in mid-answer, and when it was there again and asked once more, again.
    """


class DeadlineExceededError(ClientError):
    """The answer did not come within the deadline; the runtime stops working on it."""


class UnknownModelError(ClientError):
    """The runtime serves no model of that name."""


class InputError(ClientError):
    """An input's name, dtype, shape or values are not what the model takes."""


class ModelFailedError(ClientError):
    """The model could not compute an answer for this input."""


class OverloadedError(ClientError):
    """As many requests of this model as may be computed and may wait are there already; this one was not begun.

    Attributes:
        retry_after_s: when it is worth asking again.
    """

    def __init__(self, message: str, code: str, remedy: str = "", retry_after_s: float = 0.0) -> None:
        """Keep the hint."""
        super().__init__(message, code, remedy)
        self.retry_after_s = retry_after_s


class BusyError(ClientError):
    """The runtime serves as many connections as it may."""


class ProtocolError(ClientError):
    """The runtime answered something that this client does not understand."""


class RefusedError(ClientError):
    """The runtime refused for another reason; see ``code``."""


_BY_CODE: dict[str, type[ClientError]] = {
    "deadline-exceeded": DeadlineExceededError,
    "unknown-model": UnknownModelError,
    "unknown-version": UnknownModelError,
    "input-name": InputError,
    "input-dtype": InputError,
    "input-shape": InputError,
    "input-nan": InputError,
    "run-failed": ModelFailedError,
    "output-mismatch": ModelFailedError,
    "busy": BusyError,
    "unsupported-protocol": ProtocolError,
    "protocol-violation": ProtocolError,
}


def error_of(failure: Failure) -> ClientError:
    """The exception for what the runtime answered."""
    if failure.code == "overloaded":
        return OverloadedError(failure.message, failure.code, failure.remedy, (failure.retry_after_ms or 0) / 1000)
    return _BY_CODE.get(failure.code, RefusedError)(failure.message, failure.code, failure.remedy)
