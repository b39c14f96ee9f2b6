"""The branch of the device's exception tree that one prediction can end in; each leaf says whose fault it is.

::

    DeviceError
    └── RequestError
        ├── InputNameError  InputTypeError  InputShapeError  InputNanError          the caller's
        ├── RunFailedError  OutputMismatchError                                    the model's
        ├── RunDeadlineError  RunCancelledError                                    either's, and the caller's own wish
        ├── StaleChannelError  AnswerTooLargeError                                 nobody's: ask again on a new channel
        ├── OverloadedError  SequenceLimitError                                    too many others': ask again later
        └── UnknownChannelError  ChannelLimitError  BusyError
            ProtocolViolationError  UnsupportedProtocolError                       the client's
"""

from edge_component.errors import DeviceError


class RequestError(DeviceError):
    """One prediction could not be answered."""

    code = "request-failed"


class InputNameError(RequestError):
    """An input is missing, or the model has none of that name."""

    code = "input-name"
    usual_remedy = "Give exactly the model's inputs; `edgewright-edge models MODEL` lists them."


class InputTypeError(RequestError):
    """An input has another dtype than the model's; nothing is cast silently."""

    code = "input-dtype"
    usual_remedy = "Convert the array with .astype(...)."


class InputShapeError(RequestError):
    """An input's shape does not fit the model's."""

    code = "input-shape"
    usual_remedy = "Give the shape that the model takes; -1 is any size."


class InputNanError(RequestError):
    """An input holds NaN, and the model's manifest says that such input is refused."""

    code = "input-nan"
    usual_remedy = "Fill or drop missing values before asking, or publish the model with nan_policy: accept."


class RunFailedError(RequestError):
    """ONNX Runtime failed in mid-run: the model's fault."""

    code = "run-failed"
    usual_remedy = "The input is of the right form but the graph cannot compute it; check its values."


class RunDeadlineError(RequestError):
    """The deadline passed; the run was stopped."""

    code = "deadline-exceeded"
    usual_remedy = "Allow more time, or use a smaller model."


class RunCancelledError(RequestError):
    """The caller did not want the answer any more; the run was stopped."""

    code = "cancelled"


class OverloadedError(RequestError):
    """As many requests of this model as may be computed and may wait are there already; this one was not begun."""

    code = "overloaded"
    usual_remedy = "Ask again after retry_after_ms, or less often; in_flight_max and queue_max are the limits."

    def __init__(self, message: str, retry_after_ms: int) -> None:
        """Say when it is worth asking again."""
        super().__init__(message)
        self.retry_after_ms = retry_after_ms

    def __reduce__(self) -> tuple[object, ...]:
        """For pickle, which calls with the message alone otherwise."""
        return type(self), (str(self), self.retry_after_ms), self.__dict__


class SequenceLimitError(RequestError):
    """As many sequences as the runtime carries state for are under way, or this one is being computed just now."""

    code = "sequence-limit"
    usual_remedy = "End sequences that are done, or raise sequences_max in the component's configuration."


class OutputMismatchError(RequestError):
    """An output has another type or rank than the manifest says: the model's fault."""

    code = "output-mismatch"
    usual_remedy = "Publish the model again from its own compilation."


class AnswerTooLargeError(RequestError):
    """An output does not fit the channel's shared memory; open a channel with ``needed_bytes`` for each output."""

    code = "answer-too-large"

    def __init__(self, message: str, needed_bytes: int) -> None:
        """Say how much room the largest output needs."""
        super().__init__(message)
        self.needed_bytes = needed_bytes

    def __reduce__(self) -> tuple[object, ...]:
        """As :class:`OverloadedError`'s."""
        return type(self), (str(self), self.needed_bytes), self.__dict__


class StaleChannelError(RequestError):
    """The model that serves now has other inputs or outputs than the channel was opened for; open a new one."""

    code = "stale-channel"


class UnknownChannelError(RequestError):
    """A request for a channel that this connection has not opened."""

    code = "unknown-channel"


class ChannelLimitError(RequestError):
    """More channels, or a larger one, than one connection may have."""

    code = "channel-limit"
    usual_remedy = "Split the batch or close a channel, or raise channel_bytes_max or channels_max in the component's configuration."


class BusyError(RequestError):
    """As many connections as the runtime serves are open."""

    code = "busy"
    usual_remedy = "Use one connection per thread, or raise connections_max in the component's configuration."


class ProtocolViolationError(RequestError):
    """A message that the protocol does not allow here; the connection is closed."""

    code = "protocol-violation"


class UnsupportedProtocolError(RequestError):
    """Client and runtime have no protocol version in common."""

    code = "unsupported-protocol"
    usual_remedy = "Use the client that came with this runtime's version, or a later runtime."
