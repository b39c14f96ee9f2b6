"""How a call's answer leaves: headers, messages, trailers, as the client has room for them.

An ordinary answer fits into what the client takes at once, and is then three frames in one system call. A larger one goes
frame by frame, waiting for room (flow.py). Frames of different calls may alternate; one frame is never interrupted.
"""

import struct
import threading
import time
from collections import deque
from collections.abc import Sequence

from edge_component.rpc.duplex import Duplex
from edge_component.rpc.errors import CallEnded, GrpcCode, NoRoomError
from edge_component.rpc.flow import Outgoing, Wait
from edge_component.rpc.frames import Code, Flag, Kind, head, reset
from edge_component.rpc.headers import ANSWERED, NOT_GRPC, RESPONSE, ending
from edge_component.rpc.messages import PREFIX, Buffer

SOON_S = 0.1
SOON_FRAMES_MAX = 1_000
"""Short frames that wait for their turn; who asks for more of them is not read before they have left."""
JOINED_BYTES_MAX = 65_536
"""Up to which pieces are copied together rather than sent as they are."""

_NUMBER = struct.Struct(">I")
_RESPONSE_HEAD = head(Kind.HEADERS, Flag.END_HEADERS, 0, len(RESPONSE))[:5]
_ANSWERED_HEAD = head(Kind.HEADERS, Flag.END_HEADERS | Flag.END_STREAM, 0, len(ANSWERED))[:5]
_DATA_HEAD = struct.Struct(">HBHIBI")
"""A DATA frame's head and the prefix of the message in it: size, kind and flags, stream, not compressed, size."""


class Answers:
    """Writes to one connection; thread-safe."""

    def __init__(self, duplex: Duplex, room: Outgoing, wait_s: float, message_s: float) -> None:
        """``wait_s``: how long a client may have no room; ``message_s``: how long it may take for one message."""
        self._duplex = duplex
        self._room = room
        self._wait_s = wait_s
        self._message_s = message_s
        self._sending = threading.Lock()
        self._soon: deque[bytes] = deque()

    def send(self, *frames: Buffer) -> None:
        """Whole frames.

        Raises:
            OSError: the client has gone, or takes nothing; then the connection is over.
        """
        if not self._sending.acquire(timeout=self._message_s):
            self._duplex.hang_up()
            raise TimeoutError("the client takes too little of what is sent before this")
        try:
            self._write(frames)
        finally:
            self._sending.release()
        if self._soon:
            self._send_waiting()

    def send_soon(self, frame: bytes) -> None:
        """A short frame, if need be after what is being sent, by whoever sends it: the thread that reads must go on reading.

        Or a client that writes before it reads would wait for us, and we for it.

        Raises:
            OSError: as :meth:`send`.
        """
        if len(self._soon) >= SOON_FRAMES_MAX:
            self.send(frame)
            return
        self._soon.append(frame)
        self._send_waiting()

    def _send_waiting(self) -> None:
        """Unless somebody is sending, who will do it then."""
        while self._soon and self._sending.acquire(blocking=False):
            try:
                self._write((b"".join(self._soon.popleft() for _ in range(len(self._soon))),))
            finally:
                self._sending.release()

    def send_at_once(self, frames: bytes) -> None:
        """Short frames, unless they would have to wait: a client that does not read must keep nobody from closing the door.

        Raises:
            OSError: as :meth:`send`; or they were not sent.
        """
        if not self._sending.acquire(timeout=SOON_S):
            raise TimeoutError("something else is being sent, and the client does not take it")
        try:
            if not self._duplex.takes_more():
                raise TimeoutError("the client takes nothing")
            self._write((frames,))
        finally:
            self._sending.release()
        self._send_waiting()

    def _write(self, frames: Sequence[Buffer]) -> None:
        try:
            self._duplex.send(frames)
        except OSError:
            self._duplex.hang_up()  # perhaps in the middle of a frame
            raise

    def answer(self, stream: int, parts: Sequence[Buffer], wait: Wait) -> None:
        """A call's only message, and that it went well; ``wait`` as in :meth:`Outgoing.take`.

        Raises:
            OSError: see :meth:`send`.
            NoRoomError: the client never had room for it, or wants it no longer.
        """
        size = sum(map(len, parts))
        if self._room.take_all(stream, size + PREFIX.size):
            number, carried = _NUMBER.pack(stream), size + PREFIX.size
            before = b"".join((
                _RESPONSE_HEAD, number, RESPONSE,
                _DATA_HEAD.pack(carried >> 8, carried & 0xFF, Kind.DATA << 8, stream, 0, size),
            ))  # fmt: skip
            after = b"".join((_ANSWERED_HEAD, number, ANSWERED))
            if size <= JOINED_BYTES_MAX:
                self.send(b"".join((before, *parts, after)))
            else:
                self.send(before, *parts, after)
            return
        self.begin(stream)
        self.message(stream, parts, wait)
        self.end(stream, None, is_begun=True)

    def begin(self, stream: int) -> None:
        """The headers before the first message."""
        self.send(_RESPONSE_HEAD + _NUMBER.pack(stream) + RESPONSE)

    def message(self, stream: int, parts: Sequence[Buffer], wait: Wait) -> None:
        """One message, in as many frames as it takes.

        Raises:
            OSError, NoRoomError: see :meth:`answer`; the latter also where it takes too long.
        """
        ends_at_s = time.monotonic() + self._message_s
        for part in (PREFIX.pack(0, sum(map(len, parts))), *parts):
            left = memoryview(part)
            while left:
                wait_s = min(self._wait_s, ends_at_s - time.monotonic())
                taken = self._room.take(stream, len(left), wait, wait_s) if wait_s > 0 else 0
                if not taken:
                    raise NoRoomError(f"{len(left)} bytes are left")
                self.send(head(Kind.DATA, 0, stream, taken), left[:taken])
                left = left[taken:]

    def end(self, stream: int, ended: CallEnded | None, *, is_begun: bool, has_all: bool = True) -> None:
        """How it went; where the client has more to say on this stream, also that nobody listens."""
        block = ending(ended.status, ended.sentence) if ended is not None else ending(GrpcCode.OK, "")
        if not is_begun:
            block = RESPONSE + block
        frames = [head(Kind.HEADERS, Flag.END_HEADERS | Flag.END_STREAM, stream, len(block)) + block]
        if not has_all:
            frames.append(reset(stream, Code.NO_ERROR))
        self.send_soon(b"".join(frames))

    def refuse(self, stream: int, *, has_all: bool) -> None:
        """A request that is no call of gRPC's."""
        frame = head(Kind.HEADERS, Flag.END_HEADERS | Flag.END_STREAM, stream, len(NOT_GRPC)) + NOT_GRPC
        self.send_soon(frame if has_all else frame + reset(stream, Code.NO_ERROR))
