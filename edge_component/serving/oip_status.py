"""What each of the device's errors is over HTTP and over gRPC, in one table. The errors themselves know neither.

Sources: RFC 9110 (status codes), gRPC's status code guide.
"""

from collections.abc import Mapping
from dataclasses import dataclass

from edge_component.errors import DeviceError, UnknownModelError
from edge_component.inference.errors import (
    BusyError,
    InputNameError,
    InputNanError,
    InputShapeError,
    InputTypeError,
    OverloadedError,
    RunCancelledError,
    RunDeadlineError,
    SequenceLimitError,
)
from edge_component.rpc.errors import GrpcCode
from edge_component.serving.oip_errors import (
    OipMalformedError,
    OipTensorError,
    OipTooLargeError,
    OipUnsupportedError,
    RegionBoundsError,
    RegionForeignError,
    RegionLimitError,
    RegionTakenError,
    RegionUnknownError,
)


@dataclass(frozen=True, slots=True)
class Status:
    """One outcome, twice."""

    http: int
    grpc: GrpcCode


_CALLERS = Status(400, GrpcCode.INVALID_ARGUMENT)
_STATUSES: Mapping[type[DeviceError], Status] = {
    InputNameError: _CALLERS,
    InputTypeError: _CALLERS,
    InputShapeError: _CALLERS,
    InputNanError: _CALLERS,
    OipMalformedError: _CALLERS,
    OipTensorError: _CALLERS,
    OipTooLargeError: Status(413, GrpcCode.RESOURCE_EXHAUSTED),
    OipUnsupportedError: Status(501, GrpcCode.UNIMPLEMENTED),
    UnknownModelError: Status(404, GrpcCode.NOT_FOUND),
    RunDeadlineError: Status(504, GrpcCode.DEADLINE_EXCEEDED),
    BusyError: Status(503, GrpcCode.RESOURCE_EXHAUSTED),
    OverloadedError: Status(503, GrpcCode.RESOURCE_EXHAUSTED),
    SequenceLimitError: Status(503, GrpcCode.RESOURCE_EXHAUSTED),
    RunCancelledError: Status(503, GrpcCode.CANCELLED),
    RegionUnknownError: Status(404, GrpcCode.NOT_FOUND),
    RegionTakenError: Status(409, GrpcCode.ALREADY_EXISTS),
    RegionLimitError: Status(503, GrpcCode.RESOURCE_EXHAUSTED),
    RegionForeignError: Status(403, GrpcCode.PERMISSION_DENIED),
    RegionBoundsError: Status(400, GrpcCode.OUT_OF_RANGE),
}
_THE_MODELS = Status(500, GrpcCode.INTERNAL)


def status_of(error: DeviceError) -> Status:
    """The nearest class's in the tree; what is not listed is the model's or the runtime's own fault."""
    for kind in type(error).__mro__:
        if kind in _STATUSES:
            return _STATUSES[kind]
    return _THE_MODELS
