"""A service's methods over its .proto, as the gRPC server calls them: messages read, errors told, answers written.

What both gRPC doors have in common. The classes of the messages come from the .proto's text (proto_text.py).
"""

import logging
from collections.abc import Callable, Generator, Iterator, Mapping
from typing import Any

from google.protobuf.message import DecodeError

from edge_component.errors import DeviceError, sentence_of
from edge_component.rpc.calls import Call, Reply, Streaming, Unary
from edge_component.rpc.errors import CallEnded, GrpcCode
from edge_component.rpc.messages import Buffer
from edge_component.serving.proto_text import Rpc

log = logging.getLogger(__name__)

Message = Any
"""A protobuf message: its class is made at run time."""
Fields = dict[str, Any]
CodeOf = Callable[[DeviceError], GrpcCode]


def read(rpc: Rpc, data: Buffer) -> Message:
    """A request.

    Raises:
        CallEnded: it is none.
    """
    try:
        return rpc.request.FromString(data)
    except DecodeError as error:
        raise CallEnded(GrpcCode.INVALID_ARGUMENT, f"not a message of the protocol: {error}") from error


def unary(rpc: Rpc, method: Callable[[Message, Call], Fields], code_of: CodeOf) -> Unary:
    """A method that takes a message and returns its answer's fields, or raises DeviceError."""

    def answer(data: Buffer, call: Call) -> Reply:
        return Reply((rpc.response(**method(read(rpc, data), call)).SerializeToString(),))

    return ending_in_status(answer, code_of)


def ending_in_status(method: Unary, code_of: CodeOf) -> Unary:
    """The same method, whose DeviceErrors end its call."""

    def answer(data: Buffer, call: Call) -> Reply:
        try:
            return method(data, call)
        except DeviceError as error:
            raise ended(error, code_of) from error

    return answer


def stream_ending_in_status(method: Streaming, code_of: CodeOf) -> Streaming:
    """The same for one that takes and returns any number of messages."""

    def answer(received: Iterator[Buffer], call: Call) -> Generator[Reply, None, None]:
        try:
            yield from method(received, call)
        except DeviceError as error:
            raise ended(error, code_of) from error

    return answer


def ended(error: DeviceError, code_of: CodeOf) -> CallEnded:
    """How an error of the device ends a call."""
    return CallEnded(code_of(error), sentence_of(error))


def paths(service: str, methods: Mapping[str, Any]) -> dict[bytes, Any]:
    """Methods by the paths that clients call them by."""
    return {f"/{service}/{name}".encode(): method for name, method in methods.items()}
