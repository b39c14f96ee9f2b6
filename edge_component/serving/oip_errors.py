"""What only the Open Inference Protocol's doors can find wrong; what each error is over HTTP and gRPC is oip_status.py's.

::

    RequestError                  inference/errors.py
    └── OipError
        ├── OipMalformedError  OipTensorError  OipTooLargeError          the client's message
        ├── OipUnsupportedError                                          asks for what is not there
        └── RegionError                                                  shared memory
            ├── RegionUnknownError  RegionTakenError  RegionLimitError
            └── RegionForeignError  RegionBoundsError
"""

from edge_component.inference.errors import RequestError


class OipError(RequestError):
    """A request of the Open Inference Protocol could not be carried out."""

    code = "oip-failed"


class OipMalformedError(OipError):
    """Not a message of the protocol: bad JSON, a missing field, a field of another type."""

    code = "oip-malformed"
    usual_remedy = "Compare the request with the Open Inference Protocol (KServe V2)."


class OipTensorError(OipError):
    """A tensor's data does not fit its own datatype and shape."""

    code = "oip-tensor"
    usual_remedy = "Send row-major, little-endian data of exactly shape x datatype."


class OipTooLargeError(OipError):
    """Larger than this runtime takes in or gives out."""

    code = "oip-too-large"
    usual_remedy = "Split the batch, use the fast path, or raise oip_body_bytes_max in the component's configuration."


class OipUnsupportedError(OipError):
    """Part of the protocol or of its extensions, and not built, or switched off, in this runtime."""

    code = "oip-unsupported"


class RegionError(OipError):
    """A shared-memory region cannot be used."""

    code = "oip-region"


class RegionUnknownError(RegionError):
    """No region of that name is registered."""

    code = "oip-region-unknown"
    usual_remedy = "Register it first; a restart of the runtime forgets all regions."


class RegionTakenError(RegionError):
    """The name is registered already."""

    code = "oip-region-taken"
    usual_remedy = "Unregister it first, or choose another name."


class RegionLimitError(RegionError):
    """As many regions as the runtime keeps are registered."""

    code = "oip-region-limit"
    usual_remedy = "Unregister regions that are no longer used."


class RegionForeignError(RegionError):
    """The shared memory is not there, or is neither the client's own nor the runtime's."""

    code = "oip-region-foreign"
    usual_remedy = "Create it with shm_open as the user who asks, or as the runtime's user where the client is unknown."


class RegionBoundsError(RegionError):
    """Beyond the region's, or the memory's own, end."""

    code = "oip-region-bounds"
    usual_remedy = "Keep offset + byte_size within what was registered, and do not shrink the memory."
