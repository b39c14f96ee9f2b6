"""HTTP/2's rules for what a client sends (RFC 9113): each frame checked, and what it means handed on.

What a client may cost here is bounded: a header block by ``BLOCK_BYTES_MAX`` however many frames it takes, data by the
windows, all other frames by their sizes. Streams' states are the RFC's (5.1) as far as a server meets them: a number is
open while ``calls`` has it, idle beyond ``newest``, and else closed; what comes for a closed one is thrown away.

Belongs to whichever thread reads the connection.
"""

from collections.abc import Callable
from typing import Protocol

from edge_component.rpc.answers import Answers
from edge_component.rpc.calls import Call
from edge_component.rpc.errors import CallEnded, ConnectionBroken
from edge_component.rpc.flow import Outgoing
from edge_component.rpc.frames import (
    CONNECTION,
    HEAD_BYTES,
    PING_BYTES,
    PREFACE,
    WINDOW_BYTES,
    Code,
    Flag,
    Kind,
    Setting,
    frame,
    read_number,
    read_settings,
    settings,
    window_update,
    without_padding,
)
from edge_component.rpc.headers import BLOCK_BYTES_MAX, HEADERS_BYTES_MAX, Head, HeaderReader
from edge_component.rpc.intake import BUFFER_BYTES, Intake

CALLS_MAX = 128
"""Open on one connection at once."""
CONNECTION_WINDOW_BYTES = 16_777_216
FRAME_BYTES_TAKEN = 1_048_576
"""The largest payload that clients are told they may send."""


class Hearing(Protocol):
    """Who is told what a client's frames mean; each may raise OSError where the client cannot be told something."""

    def call(self, number: int) -> Call | None:
        """The call on a stream, while it is open."""

    def begin(self, number: int, head: Head, *, has_all: bool) -> None:
        """A call's headers are there."""

    def took(self, call: Call) -> CallEnded | None:
        """Some of its data is there; returns why it must end, if it must."""

    def ended(self, call: Call) -> None:
        """The client has said everything."""

    def failed(self, call: Call, ended: CallEnded, *, has_all: bool) -> None:
        """Its data cannot be taken."""

    def ponged(self) -> None:
        """The client has answered a ping."""

    def cancelled(self, call: Call) -> None:
        """The client waits no longer."""


class ClientProtocol:
    """What one client sends.

    Attributes:
        newest: the highest stream that it has begun.
    """

    def __init__(self, intake: Intake, answers: Answers, room: Outgoing, hearing: Hearing, unasked_bytes: int) -> None:
        """Of parts that the connection shares; ``unasked_bytes`` of each call may come by themselves."""
        self.newest = 0
        self._intake = intake
        self._answers = answers
        self._room = room
        self._hearing = hearing
        self._unasked_bytes = unasked_bytes
        self._headers = HeaderReader()
        self._block: tuple[int, int, bytearray] | None = None
        """A header block that goes on: stream, the first frame's flags, what there is."""
        self._unsaid_bytes = 0
        self._window_bytes = CONNECTION_WINDOW_BYTES

    def greet(self) -> None:
        """Say what we take, and hear the client's preface.

        Raises:
            ConnectionBroken: it speaks something else.
            OSError: it has gone.
        """
        own = {
            Setting.MAX_CONCURRENT_STREAMS: CALLS_MAX,
            Setting.INITIAL_WINDOW_SIZE: self._unasked_bytes,
            Setting.MAX_FRAME_SIZE: FRAME_BYTES_TAKEN,
            Setting.MAX_HEADER_LIST_SIZE: HEADERS_BYTES_MAX,
        }
        self._answers.send(
            settings({int(key): value for key, value in own.items()})
            + window_update(CONNECTION, CONNECTION_WINDOW_BYTES - WINDOW_BYTES)
        )
        if self._intake.take(len(PREFACE)) != PREFACE:
            raise ConnectionBroken(Code.PROTOCOL_ERROR, "this door speaks gRPC, over HTTP/2 with prior knowledge")

    def read_frame(self, *, may_idle: bool = True) -> bool:
        """Read one frame and do what it says; whether there was one.

        Raises:
            ConnectionBroken: it is against the rules.
            OSError: the connection is over, or the frame did not come in time.
        """
        head = self._intake.head(may_idle=may_idle and self._block is None)
        if head is None:
            return False
        kind, flags, number, size = head
        if self._block is not None and (kind != Kind.CONTINUATION or number != self._block[0]):
            raise ConnectionBroken(Code.PROTOCOL_ERROR, "a header block was interrupted")
        if kind == Kind.DATA:
            self._data(flags, number, size)
            return True
        if kind == Kind.HEADERS:
            self._begin_block(flags, number, self._part_of_block(size))
        elif kind == Kind.CONTINUATION:
            self._continuation(flags, number, self._part_of_block(size))
        elif kind in _ACTS:
            if size > BUFFER_BYTES - HEAD_BYTES:
                raise ConnectionBroken(Code.FRAME_SIZE_ERROR, f"a frame of kind {kind} with {size} bytes")
            _ACTS[kind](self, flags, number, self._intake.take(size))
        elif kind == Kind.PUSH_PROMISE:
            raise ConnectionBroken(Code.PROTOCOL_ERROR, "a client cannot push")
        elif size > FRAME_BYTES_TAKEN:
            raise ConnectionBroken(Code.FRAME_SIZE_ERROR, f"a frame of kind {kind} with {size} bytes")
        else:  # PRIORITY and GOAWAY ask for nothing, and unknown kinds are to be passed over
            self._intake.take_into(None, size)
        return True

    def give_room(self, call: Call) -> None:
        """Let the client send more of a call, unless its messages wait to be taken. From any thread.

        Raises:
            OSError: the connection is over.
        """
        size = call.claim_room()
        if size:
            self._answers.send_soon(window_update(call.number, size))

    def _part_of_block(self, size: int) -> bytes:
        if size > BLOCK_BYTES_MAX:
            raise ConnectionBroken(Code.ENHANCE_YOUR_CALM, f"a header block of more than {BLOCK_BYTES_MAX} bytes")
        if size <= BUFFER_BYTES:
            return self._intake.take(size)
        sizes = (min(BUFFER_BYTES, size - at) for at in range(0, size, BUFFER_BYTES))
        return b"".join(map(self._intake.take, sizes))

    def _begin_block(self, flags: int, number: int, payload: bytes) -> None:
        if not number % 2:
            raise ConnectionBroken(Code.PROTOCOL_ERROR, f"a client's streams are odd; {number} is not")
        if flags & (Flag.PADDED | Flag.PRIORITY):
            try:
                payload = without_padding(flags, payload)
            except ValueError as error:
                raise ConnectionBroken(Code.PROTOCOL_ERROR, str(error)) from error
        self._go_on(flags, number, flags, payload)

    def _continuation(self, flags: int, number: int, payload: bytes) -> None:
        if self._block is None:
            raise ConnectionBroken(Code.PROTOCOL_ERROR, "a header block goes on that did not begin")
        if not payload and not flags & Flag.END_HEADERS:
            raise ConnectionBroken(Code.ENHANCE_YOUR_CALM, "a header block goes on with nothing")
        _, first_flags, block = self._block
        block += payload
        self._go_on(flags, number, first_flags, block)

    def _go_on(self, flags: int, number: int, first_flags: int, block: bytes | bytearray) -> None:
        if len(block) > BLOCK_BYTES_MAX:
            raise ConnectionBroken(Code.ENHANCE_YOUR_CALM, f"a header block of more than {BLOCK_BYTES_MAX} bytes")
        if not flags & Flag.END_HEADERS:
            self._block = number, first_flags, bytearray(block) if isinstance(block, bytes) else block
            return
        self._block = None
        head = self._headers.read(bytes(block))  # of closed streams as well: the next blocks refer to it
        has_all = bool(first_flags & Flag.END_STREAM)
        if number > self.newest:
            self.newest = number
            self._hearing.begin(number, head, has_all=has_all)
            return
        call = self._hearing.call(number)
        if call is None:
            return
        if call.has_all:
            raise ConnectionBroken(Code.STREAM_CLOSED, f"headers of stream {number}, which has ended")
        if not has_all:
            raise ConnectionBroken(Code.PROTOCOL_ERROR, f"headers in the middle of stream {number}")
        self._end(call)  # a client's trailers say nothing else

    def _data(self, flags: int, number: int, size: int) -> None:
        """A DATA frame; its payload is read as it comes, to where it belongs."""
        call = self._data_for(number, size)
        padding = 0
        if flags & Flag.PADDED:
            padding, size = self._padding(size), size - 1
        has_all = bool(flags & Flag.END_STREAM)
        try:
            self._intake.take_into(call.incoming if call is not None else None, size - padding)
            trouble = self._hearing.took(call) if call is not None else None
        except CallEnded as ended:
            trouble = ended
        if padding:
            self._intake.take_into(None, padding)
        if call is None:
            return
        if trouble is not None:
            self._hearing.failed(call, trouble, has_all=has_all)
        elif has_all:
            self._end(call)
        else:
            call.tell()
            self.give_room(call)

    def _data_for(self, number: int, size: int) -> Call | None:
        """Whose data it is, if it is anybody's who still wants it; counted."""
        if size > FRAME_BYTES_TAKEN:
            raise ConnectionBroken(Code.FRAME_SIZE_ERROR, f"a DATA frame of {size} bytes")
        if number > self.newest or not number % 2:
            raise ConnectionBroken(Code.PROTOCOL_ERROR, f"data of stream {number}, which nobody began")
        self._count(size)
        call = self._hearing.call(number)
        if call is not None and call.has_all:
            raise ConnectionBroken(Code.STREAM_CLOSED, f"data of stream {number}, which has ended")
        if call is not None and not call.count(size):
            raise ConnectionBroken(Code.FLOW_CONTROL_ERROR, f"more data of stream {number} than there may be")
        return call

    def _padding(self, size: int) -> int:
        """How much of a payload of that size is padding, which its first byte says."""
        padding = self._intake.take(1)[0] if size else 0
        if padding >= size:
            raise ConnectionBroken(Code.PROTOCOL_ERROR, "more padding than payload")
        return padding

    def _end(self, call: Call) -> None:
        call.has_all = True
        call.tell()
        self._hearing.ended(call)

    def _count(self, size: int) -> None:
        """The connection's own window."""
        self._window_bytes -= size
        if self._window_bytes < 0:
            raise ConnectionBroken(Code.FLOW_CONTROL_ERROR, "more data than the connection has room for")
        self._unsaid_bytes += size
        if self._unsaid_bytes >= CONNECTION_WINDOW_BYTES // 2:
            self._answers.send_soon(window_update(CONNECTION, self._unsaid_bytes))
            self._window_bytes += self._unsaid_bytes
            self._unsaid_bytes = 0

    def _reset(self, _: int, number: int, payload: bytes) -> None:
        if len(payload) != 4:
            raise ConnectionBroken(Code.FRAME_SIZE_ERROR, "RST_STREAM has 4 bytes")
        if number > self.newest or not number:
            raise ConnectionBroken(Code.PROTOCOL_ERROR, f"stream {number} is reset, which nobody began")
        call = self._hearing.call(number)
        if call is not None:
            self._hearing.cancelled(call)

    def _settings(self, flags: int, number: int, payload: bytes) -> None:
        if number:
            raise ConnectionBroken(Code.PROTOCOL_ERROR, "SETTINGS are the connection's, and no stream's")
        if len(payload) % 6 or (flags & Flag.ACK and payload):
            raise ConnectionBroken(Code.FRAME_SIZE_ERROR, f"a SETTINGS frame of {len(payload)} bytes")
        if flags & Flag.ACK:
            return
        for key, value in dict(read_settings(payload)).items():  # the last of each counts; a frame has room for 10,000
            if key == Setting.INITIAL_WINDOW_SIZE:
                self._room.begin_with(value)
            elif key == Setting.MAX_FRAME_SIZE:
                self._room.frames_of(value)
        self._answers.send_soon(frame(Kind.SETTINGS, Flag.ACK, CONNECTION))

    def _ping(self, flags: int, number: int, payload: bytes) -> None:
        if number:
            raise ConnectionBroken(Code.PROTOCOL_ERROR, "a PING is the connection's, and no stream's")
        if len(payload) != PING_BYTES:
            raise ConnectionBroken(Code.FRAME_SIZE_ERROR, "a PING has 8 bytes")
        if flags & Flag.ACK:
            self._hearing.ponged()
        else:
            self._answers.send_soon(frame(Kind.PING, Flag.ACK, CONNECTION, payload))

    def _window_update(self, _: int, number: int, payload: bytes) -> None:
        if len(payload) != 4:
            raise ConnectionBroken(Code.FRAME_SIZE_ERROR, "WINDOW_UPDATE has 4 bytes")
        if number > self.newest:
            raise ConnectionBroken(Code.PROTOCOL_ERROR, f"room for stream {number}, which nobody began")
        self._room.more(number, read_number(payload) & 0x7FFFFFFF)


_ACTS: dict[int, Callable[[ClientProtocol, int, int, bytes], None]] = {
    Kind.RST_STREAM: ClientProtocol._reset,  # noqa: SLF001 - its own
    Kind.SETTINGS: ClientProtocol._settings,  # noqa: SLF001
    Kind.PING: ClientProtocol._ping,  # noqa: SLF001
    Kind.WINDOW_UPDATE: ClientProtocol._window_update,  # noqa: SLF001
}
