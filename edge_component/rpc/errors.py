"""What ends a connection, a stream or a call.

- ConnectionBroken: the client broke HTTP/2's rules; GOAWAY, and nothing more is read.
- CallEnded: what a call ends in instead of an answer, a status and a sentence.
- NoRoomError: an answer that the client has no room for, or no longer wants.
"""

from enum import IntEnum

from edge_component.rpc.frames import Code


class GrpcCode(IntEnum):
    """gRPC's status codes (grpc/doc/statuscodes.md) as far as anything here ends in them."""

    OK = 0
    CANCELLED = 1
    INVALID_ARGUMENT = 3
    DEADLINE_EXCEEDED = 4
    NOT_FOUND = 5
    ALREADY_EXISTS = 6
    PERMISSION_DENIED = 7
    RESOURCE_EXHAUSTED = 8
    OUT_OF_RANGE = 11
    UNIMPLEMENTED = 12
    INTERNAL = 13
    UNAVAILABLE = 14
    UNAUTHENTICATED = 16


class ConnectionBroken(Exception):  # noqa: N818 - what has happened to it, which is no fault of ours
    """The client broke the rules of HTTP/2; whatever it sends next cannot be understood."""

    def __init__(self, code: Code, reason: str) -> None:
        """``reason`` is told to the client."""
        super().__init__(reason)
        self.code = code
        self.reason = reason


class CallEnded(Exception):  # noqa: N818 - every call ends; most of them without this
    """A call that is not answered."""

    def __init__(self, status: GrpcCode, sentence: str) -> None:
        """``sentence`` is told to the client."""
        super().__init__(sentence)
        self.status = status
        self.sentence = sentence


class NoRoomError(Exception):
    """An answer, or the rest of it, cannot be sent: there was no room for it in time, or the call is over."""
