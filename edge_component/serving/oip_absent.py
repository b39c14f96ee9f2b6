"""Extensions of Triton's that this runtime has not: what their calls are answered with, alike at both doors.

The failure this exists for: a client that tidies up before it begins (each of Triton's shared-memory examples unregisters
CUDA regions that nobody registered) and dies of an answer that it does not know. What there is nothing of can be listed and
removed; what would have to be done is refused by name, with the way that there is.
"""

from typing import NoReturn

from edge_component.serving.oip_errors import OipUnsupportedError, RegionUnknownError


def no_cuda_region(name: str) -> None:
    """The status of one region, or of all if the name is empty: there are none.

    Raises:
        RegionUnknownError: one was asked for.
    """
    if name:
        raise RegionUnknownError(f"no CUDA region {name!r:.100} is registered; there is no CUDA shared memory here")


def refuse_cuda() -> NoReturn:
    """Register a region.

    Raises:
        OipUnsupportedError: always.
    """
    raise OipUnsupportedError(
        "the extension cuda_shared_memory is not built", "Use system shared memory, or send the tensors themselves."
    )


def refuse_tracing() -> NoReturn:
    """Read or change what is traced.

    Raises:
        OipUnsupportedError: always.
    """
    raise OipUnsupportedError(
        "the extension trace is not built", "Set slow_request_ms in the runtime component's configuration."
    )


def refuse_log_settings() -> NoReturn:
    """Read or change what is logged.

    Raises:
        OipUnsupportedError: always.
    """
    raise OipUnsupportedError(
        "the extension logging is not built", "Set log_format in the runtime component's configuration."
    )
