"""What one connection may take of memory and of time; what a door may take is server.py's ``Capacity``."""

from dataclasses import dataclass

from edge_component.rpc.protocol import CALLS_MAX, CONNECTION_WINDOW_BYTES

UNASKED_BYTES_MAX = 1_048_576
"""Larger messages cost one more word to the client; and so much may come of each of ``CALLS_MAX`` calls."""


@dataclass(frozen=True, slots=True)
class Limits:
    """What one connection may take.

    Attributes:
        message_bytes_max: of one message.
        request_s_max: from a call's headers to the end of its message; for one frame; and for the client to have room, or to
            take what one write gives it.
        idle_s: how long a connection without calls is kept; ``None`` for ever.
        answer_s_max: for one message of an answer, from its beginning to its end, however steadily the client takes it.
    """

    message_bytes_max: int = 64_000_000
    request_s_max: float = 30.0
    idle_s: float | None = None
    answer_s_max: float = 120.0

    @property
    def held_bytes_max(self) -> int:
        """Of a connection's large requests that are not answered yet: two of the largest, and a few others; the rest wait."""
        return 2 * self.message_bytes_max + CONNECTION_WINDOW_BYTES

    @property
    def unasked_bytes(self) -> int:
        """Of each call, what may come by itself: all of a message that is not large. Of all calls, no more than the above."""
        return min(UNASKED_BYTES_MAX, self.held_bytes_max // CALLS_MAX)
