"""A call as whoever answers it sees it, and the service that answers. No I/O.

A call belongs to the thread that answers it; the connection's reading thread adds what comes and says when nobody waits.
"""

import threading
import time
from collections.abc import Callable, Generator, Iterator, Mapping, Sequence
from contextlib import nullcontext
from dataclasses import dataclass, field
from typing import NamedTuple, TypeVar

from edge_component.rpc.errors import CallEnded, GrpcCode
from edge_component.rpc.headers import Head
from edge_component.rpc.messages import Buffer, Incoming, Memory

SHORTEST_S = 1e-6
_NOTHING = nullcontext()
"""Where a call has one thread, nothing is locked."""


class Reply(NamedTuple):
    """One message, in pieces; ``after_sending`` gets ``perf_counter_ns`` from when it was ready, once it has been sent."""

    parts: Sequence[Buffer]
    after_sending: Callable[[int], None] | None = None


class Call:
    """One call.

    Attributes:
        head: its headers.
        began_ns: ``perf_counter_ns`` when they were there.
        since_ns: the same, or when it was told that its message may come: since then it is the client that is waited for.
        number: of its stream.
        is_streaming: it is answered message by message, while more may come.
        has_all: the client has said everything.
        is_over: nobody waits for it any more: cancelled, hung up, or ended early.
    """

    __slots__ = (
        "_allowed_bytes", "_came_bytes", "_changed", "_ends_at_s", "_trouble", "_unasked_bytes", "began_ns", "has_all", "head",
        "incoming", "is_over", "is_streaming", "number", "since_ns",
    )  # fmt: skip

    def __init__(self, number: int, head: Head, incoming: Incoming, unasked_bytes: int, *, is_streaming: bool) -> None:
        """As its headers say; ``unasked_bytes`` of it may come by themselves."""
        self.number = number
        self.head = head
        self.incoming = incoming
        self.is_streaming = is_streaming
        self._unasked_bytes = self._allowed_bytes = unasked_bytes
        self._came_bytes = 0
        self.began_ns = self.since_ns = time.perf_counter_ns()
        self.has_all = self.is_over = False
        self._ends_at_s = time.monotonic() + head.timeout_s if head.timeout_s is not None else None
        self._changed = threading.Condition() if is_streaming else None
        self._trouble: CallEnded | None = None

    def time_left_s(self) -> float | None:
        """Until the client's own deadline; ``SHORTEST_S`` from then on, since 0 is no deadline to many. ``None``: it gave none."""
        return None if self._ends_at_s is None else max(self._ends_at_s - time.monotonic(), SHORTEST_S)

    def is_wanted(self) -> bool:
        """Whether somebody still waits for the answer."""
        return not self.is_over

    def metadata(self, name: bytes) -> str:
        """A header's value; empty if there is none, and the first of several."""
        values = self.head.values(name)
        return values[0].decode("latin-1") if values else ""

    @property
    def is_deaf(self) -> bool:
        """Whatever still comes of it is thrown away."""
        return self.is_over or self._trouble is not None

    def count(self, size: int) -> bool:
        """So much data comes; whether the client may send it. By the thread that reads."""
        self._came_bytes += size
        return self._came_bytes <= self._allowed_bytes

    def admit(self, size: int) -> None:
        """Its message of that size may come, beside what may come by itself. From any thread."""
        self.since_ns = time.perf_counter_ns()
        with self._changed or _NOTHING:
            self._allowed_bytes += size
        self.incoming.admit()

    def is_late(self, late_ns: int) -> bool:
        """Whether its request, or a stream's large message, has been coming since before then. By the thread that reads."""
        if self.has_all or self.is_deaf:
            return False
        incoming = self.incoming
        if self.is_streaming:
            return incoming.missing_bytes > 0 and 0 < incoming.since_ns < late_ns
        waits = incoming.is_waiting and not incoming.whole  # with a second message, it waits for itself
        return self.since_ns < late_ns and not waits

    def claim_room(self) -> int:
        """How much more the client may be told to send; 0 for little, for what it has room for, and while messages wait.

        By the thread that reads, and by the one that takes a stream's messages.
        """
        with self._changed or _NOTHING:
            window_bytes = self._allowed_bytes - self._came_bytes
            size = self._unasked_bytes - window_bytes
            if size < self._unasked_bytes // 2 or 0 < self.incoming.missing_bytes <= window_bytes:
                return 0
            if self.incoming.is_waiting or self.incoming.whole or self.has_all or self.is_deaf:
                return 0
            self._allowed_bytes += size
            return size

    def fail(self, ended: CallEnded) -> None:
        """Whoever asks for its next message gets this."""
        self._trouble = ended
        self.tell()

    def tell(self) -> None:
        """Something has come, or nothing will: called by the reading thread."""
        if self._changed is not None:
            with self._changed:
                self._changed.notify()

    def requests(self, on_taken: Callable[["Call", int], None]) -> Iterator[Buffer]:
        """The client's messages, one by one, each waited for; ``on_taken`` is called after each, with its size.

        Raises:
            CallEnded: nobody waits any more, or the deadline has passed.
        """
        assert self._changed is not None, "of a call that is answered message by message"
        while True:
            with self._changed:
                is_there = self._changed.wait_for(self._has_news, self.time_left_s())
            if self.is_over:
                raise CallEnded(GrpcCode.CANCELLED, "the client has gone")
            if self._trouble is not None:
                raise self._trouble
            if not is_there:
                raise CallEnded(GrpcCode.DEADLINE_EXCEEDED, "the call's deadline has passed")
            if not self.incoming.whole:
                if self.incoming.is_broken_off:
                    raise CallEnded(GrpcCode.INTERNAL, "the call ends in the middle of a message")
                return
            message = self.incoming.whole.popleft()
            yield message
            self.incoming.release(message)
            on_taken(self, len(message))

    def only_request(self) -> Buffer:
        """The one message of a call that has one.

        Raises:
            CallEnded: it has none, or more.
        """
        whole = self.incoming.whole
        if len(whole) != 1 or self.incoming.is_broken_off:
            raise CallEnded(GrpcCode.INTERNAL, f"the call takes one message, and {len(whole)} whole ones came")
        return whole[0]

    def _has_news(self) -> bool:
        return bool(self.incoming.whole) or self.has_all or self.is_deaf


Unary = Callable[[Buffer, Call], Reply]
Streaming = Callable[[Iterator[Buffer], Call], Generator[Reply, None, None]]
Method = TypeVar("Method")


def _admits_all(_: Head) -> None:
    return


@dataclass(frozen=True, slots=True)
class Service:
    """What answers one connection's calls.

    Attributes:
        unary: by path; one message each way. May raise CallEnded.
        streaming: by path; any number each way. May raise CallEnded.
        admit: raises CallEnded for a call that is not let in; nothing of its data has been taken in yet.
        close: called when the connection is over.
        memory: where its requests lie; ``aligned_at`` is the service's to set.
    """

    unary: Mapping[bytes, Unary]
    streaming: Mapping[bytes, Streaming] = field(default_factory=dict)
    admit: Callable[[Head], None] = _admits_all
    close: Callable[[], None] = lambda: None
    memory: Memory = field(default_factory=Memory)
