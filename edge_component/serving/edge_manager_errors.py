"""What only the Edge Manager's door can find wrong, and its gRPC status, as the agent documented them.

::

    RequestError                        inference/errors.py
    └── EdgeManagerError
        ├── TensorRefusedError          INVALID_ARGUMENT
        ├── AlreadyLoadedError          ALREADY_EXISTS
        ├── InexpressibleTensorError    UNIMPLEMENTED: a type that the agent's protocol has not
        ├── SegmentForeignError         PERMISSION_DENIED
        ├── SegmentBoundsError          OUT_OF_RANGE
        └── CaptureError
            ├── CaptureOffError         UNIMPLEMENTED
            ├── CaptureIdError          INVALID_ARGUMENT
            ├── CaptureRepeatedError    ALREADY_EXISTS
            ├── CaptureFutureError      OUT_OF_RANGE
            └── CaptureFullError        RESOURCE_EXHAUSTED
"""

from collections.abc import Mapping

from edge_component.errors import DeviceError
from edge_component.inference.errors import RequestError
from edge_component.rpc.errors import GrpcCode
from edge_component.serving.oip_status import status_of


class EdgeManagerError(RequestError):
    """A call of the Edge Manager agent's API could not be carried out."""

    code = "edge-manager-failed"


class TensorRefusedError(EdgeManagerError):
    """A tensor's data does not fit its type and shape, or its type not the model's."""

    code = "edge-manager-tensor"
    usual_remedy = "Send what DescribeModel names, row-major and little-endian."


class AlreadyLoadedError(EdgeManagerError):
    """LoadModel was called for this name before."""

    code = "edge-manager-already-loaded"
    usual_remedy = "Go on with Predict, or call UnLoadModel first."


class InexpressibleTensorError(EdgeManagerError):
    """A tensor of a type that the agent's protocol cannot name."""

    code = "edge-manager-inexpressible"
    usual_remedy = "Ask this model through the Open Inference Protocol's door, or (numbers but bfloat16) the fast path."


class SegmentForeignError(EdgeManagerError):
    """The shared memory is not there, or belongs to nobody who may use this door."""

    code = "edge-manager-segment-foreign"
    usual_remedy = "Create the segment as the runtime's user, or a member of socket_group; or send byte_data."


class SegmentBoundsError(EdgeManagerError):
    """Beyond the segment's end, or more than one tensor may have."""

    code = "edge-manager-segment-bounds"
    usual_remedy = "Keep offset + size within the segment."


class CaptureError(EdgeManagerError):
    """Data could not be taken for capture."""

    code = "edge-manager-capture"


class CaptureOffError(CaptureError):
    """Captures are switched off on this device."""

    code = "edge-manager-capture-off"
    usual_remedy = "Set edge_manager_capture_bytes_max in the component's configuration."


class CaptureIdError(CaptureError):
    """A capture id that is no UUID."""

    code = "edge-manager-capture-id"
    usual_remedy = "Give a new UUID with each call."


class CaptureRepeatedError(CaptureError):
    """A capture of this id was taken before."""

    code = "edge-manager-capture-repeated"
    usual_remedy = "Give a new UUID with each call."


class CaptureFutureError(CaptureError):
    """The inference's timestamp is in the future."""

    code = "edge-manager-capture-future"
    usual_remedy = "Set the client's clock, which is this device's."


class CaptureFullError(CaptureError):
    """More captures wait to be written than may."""

    code = "edge-manager-capture-full"
    usual_remedy = "Capture less often, or only some of the requests."


_CODES: Mapping[type[DeviceError], GrpcCode] = {
    TensorRefusedError: GrpcCode.INVALID_ARGUMENT,
    AlreadyLoadedError: GrpcCode.ALREADY_EXISTS,
    InexpressibleTensorError: GrpcCode.UNIMPLEMENTED,
    SegmentForeignError: GrpcCode.PERMISSION_DENIED,
    SegmentBoundsError: GrpcCode.OUT_OF_RANGE,
    CaptureOffError: GrpcCode.UNIMPLEMENTED,
    CaptureIdError: GrpcCode.INVALID_ARGUMENT,
    CaptureRepeatedError: GrpcCode.ALREADY_EXISTS,
    CaptureFutureError: GrpcCode.OUT_OF_RANGE,
    CaptureFullError: GrpcCode.RESOURCE_EXHAUSTED,
}


def code_of(error: DeviceError) -> GrpcCode:
    """The status of a failed call; what is not this door's own is as at the other gRPC door."""
    return _CODES.get(type(error)) or status_of(error).grpc
