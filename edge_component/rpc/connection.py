"""One connection: who reads it, who answers its calls, and how it ends.

The failures this exists for: a call that waits for a thread to wake (half of what Python's gRPC server takes for a small
model), and, the other way round, calls of one client that wait for each other. So a call is answered by the thread that
read it as long as this client asks for one thing at a time (placement.py); if one takes long all the same, another thread
reads on (relief.py).

Who reads is whose token ``_reader`` is; nobody else touches the intake. A client costs a thread, ``CALLS_MAX`` open calls,
and messages of ``held_bytes_max`` together; a request has ``request_s_max`` from its headers to its end, and a message of
an answer ``answer_s_max``.
"""

import logging
import threading
import time
from collections.abc import Callable

from edge_component.rpc.answering import Answering
from edge_component.rpc.answers import Answers
from edge_component.rpc.calls import Call, Service
from edge_component.rpc.duplex import Duplex
from edge_component.rpc.errors import CallEnded, ConnectionBroken, GrpcCode
from edge_component.rpc.flow import Outgoing
from edge_component.rpc.frames import (
    CONNECTION,
    PING_BYTES,
    STREAMS_MAX,
    Code,
    Kind,
    frame,
    go_away,
    reset,
    window_update,
)
from edge_component.rpc.headers import HEADERS_BYTES_MAX, Head
from edge_component.rpc.holding import Holding
from edge_component.rpc.intake import Intake
from edge_component.rpc.limits import Limits
from edge_component.rpc.messages import ENCODINGS, Incoming
from edge_component.rpc.placement import Placement
from edge_component.rpc.protocol import CALLS_MAX, ClientProtocol
from edge_component.rpc.workers import Share, Workers

log = logging.getLogger(__name__)

CLOSES = "the door closes"


class Connection:
    """Serves one client to its end; see :meth:`serve`."""

    def __init__(self, duplex: Duplex, service: Service, workers: Workers, limits: Limits) -> None:
        """Nothing is read yet."""
        self._duplex = duplex
        self._service = service
        self._workers = workers
        self._share = Share()
        self._limits = limits
        self._lock = threading.Lock()
        self._calls: dict[int, Call] = {}
        self._accepted = 0
        self._answering_count = 0
        self._none_answers = threading.Condition(self._lock)
        self._is_told = self._is_draining = self._is_leaving = self._is_over = False

        self._room = Outgoing()
        self._answers = Answers(duplex, self._room, limits.request_s_max, limits.answer_s_max)
        self._answering = Answering(service, self._answers, self._close)
        self._intake = Intake(duplex, limits.request_s_max, self._idle)
        self._unasked_bytes = limits.unasked_bytes
        self._protocol = ClientProtocol(self._intake, self._answers, self._room, self, self._unasked_bytes)
        self._holding = Holding(limits.held_bytes_max, self._unasked_bytes, self._admit)
        self._placement = Placement()

        self._reader: object = None
        self._since_s: float | None = None
        self._relieving: threading.Thread | None = None
        self._answered_at_count = -1

    def serve(self) -> None:
        """Greet, then answer until the client hangs up or breaks the rules. Returns when no call is under way any more."""
        self._workers.relief.watch(self)
        token = self._reader = object()
        self._read_on(token, self._protocol.greet)
        while self._relieving is not None:
            relieving, self._relieving = self._relieving, None
            relieving.join()
        with self._lock:
            self._is_over = True
            self._none_answers.wait_for(lambda: not self._answering_count)
        self._service.close()

    def drain(self) -> None:
        """Have the client make its next calls elsewhere, and hang up when it has its answers. From any thread.

        Hung up on at once, it would lose the calls that are on their way, not knowing whether they were answered. So none
        is refused before the client has shown, by answering a ping, that it has heard (RFC 9113, 6.8).
        """
        with self._lock:
            if self._is_told:
                return
            self._is_told = True
        ping = frame(Kind.PING, 0, CONNECTION, bytes(PING_BYTES))
        self._tell(go_away(STREAMS_MAX, Code.NO_ERROR, CLOSES) + ping)

    def ponged(self) -> None:
        """See :class:`~edge_component.rpc.protocol.Hearing`; nothing but :meth:`drain` pings."""
        with self._lock:
            if self._is_draining or not self._is_told:
                return
            self._is_draining, accepted = True, self._accepted
        self._tell(go_away(accepted, Code.NO_ERROR, CLOSES))

    def leave(self) -> None:
        """For a client that was told and stays: hang up when the calls under way are answered. From any thread."""
        self.drain()
        self.ponged()
        with self._lock:
            self._is_leaving = True
            is_idle = not self._calls
        if is_idle:
            self._duplex.stop_receiving()

    def _tell(self, frames: bytes) -> None:
        try:
            self._answers.send_at_once(frames)
        except OSError as error:
            log.debug("a client was not told: %s", error)

    # Reading: by whoever has the token.

    def _read_on(self, token: object, first: Callable[[], None] | None = None) -> None:
        try:
            if first is not None:
                first()
            while self._reader is token and self._protocol.read_frame():
                pass
        except ConnectionBroken as broken:
            self._say_goodbye(broken)
        except OSError as error:
            log.debug("a gRPC client went away: %s", error)
        except Exception:  # a defect of ours costs this connection only
            log.exception("a gRPC connection ended in an unforeseen error")
        if self._reader is token:
            self._part()

    def _say_goodbye(self, broken: ConnectionBroken) -> None:
        self._tell(go_away(self._protocol.newest, broken.code, broken.reason))

    def _part(self) -> None:
        """Nothing more is read: nobody waits for what is under way."""
        self._room.end()
        with self._lock:
            calls = list(self._calls.values())
        for call in calls:
            call.is_over = True
            call.tell()
        self._duplex.hang_up()

    def _idle(self, silent_s: float) -> None:
        """From time to time; nothing has come for so long."""
        late_ns = time.perf_counter_ns() - int(self._limits.request_s_max * 1e9)
        for call in self._open():
            if call.is_late(late_ns):
                late = CallEnded(GrpcCode.DEADLINE_EXCEEDED, f"no whole request in {self._limits.request_s_max:g} s")
                self.failed(call, late, has_all=False)
        if self._limits.idle_s is not None and silent_s >= self._limits.idle_s and not self._calls:
            raise ConnectionBroken(Code.NO_ERROR, "no calls for long; connect anew")

    def _open(self) -> list[Call]:
        with self._lock:
            return list(self._calls.values())

    # What the client's frames mean: see Hearing.

    def call(self, number: int) -> Call | None:
        """See :class:`~edge_component.rpc.protocol.Hearing`."""
        call = self._calls.get(number)
        return call if call is not None and not call.is_deaf else None

    def begin(self, number: int, head: Head, *, has_all: bool) -> None:
        """See :class:`~edge_component.rpc.protocol.Hearing`."""
        if not head.is_grpc:
            self._answers.refuse(number, has_all=has_all)
            return
        incoming = Incoming(
            head.encoding, self._limits.message_bytes_max, self._service.memory,
            lambda size: self._holding.claim(number, size),
        )  # fmt: skip
        is_streaming = head.path in self._service.streaming
        call = Call(number, head, incoming, self._unasked_bytes, is_streaming=is_streaming)
        with self._lock:
            is_late = self._is_draining
            if not is_late:
                self._calls[number], self._accepted = call, number
        if is_late:
            self._answers.send_soon(
                reset(number, Code.REFUSED_STREAM)
            )  # GOAWAY has said so; some wait to hear it of each
            return
        self._room.open(number)
        try:
            self._check(head)
            if is_streaming:
                self._hand_on(lambda: self._answering.stream(call, self._taken))
        except CallEnded as ended:
            self._answering.end_early(call, ended, has_all=has_all)
            return
        if has_all:
            call.has_all = True
            call.tell()
            self.ended(call)

    def _check(self, head: Head) -> None:
        """Raises CallEnded for a call that is not let in."""
        if len(self._calls) > CALLS_MAX + self._workers.threads_max:  # who was answered may be counted still
            raise CallEnded(GrpcCode.RESOURCE_EXHAUSTED, f"{CALLS_MAX} calls are open on this connection already")
        if head.size > HEADERS_BYTES_MAX:
            raise CallEnded(
                GrpcCode.RESOURCE_EXHAUSTED, f"headers may have {HEADERS_BYTES_MAX} bytes; these have {head.size}"
            )
        self._service.admit(head)
        if head.path not in self._service.unary and head.path not in self._service.streaming:
            raise CallEnded(GrpcCode.UNIMPLEMENTED, f"there is no {head.path.decode('latin-1')[:200]} here")
        if head.encoding not in ENCODINGS:
            raise CallEnded(GrpcCode.UNIMPLEMENTED, f"messages in {head.encoding.decode('latin-1')[:50]} are not taken")

    def took(self, call: Call) -> CallEnded | None:
        """See :class:`~edge_component.rpc.protocol.Hearing`."""
        held_bytes = call.incoming.held_bytes
        if held_bytes <= self._unasked_bytes or self._holding.covers(call.number, held_bytes):
            return None
        return CallEnded(
            GrpcCode.RESOURCE_EXHAUSTED,
            f"no room for {held_bytes} bytes of this call beside the others of its connection",
        )

    def _admit(self, number: int, size: int) -> None:
        """A large message may come."""
        call = self._calls.get(number)
        if call is None:  # over meanwhile
            self._holding.leave(number)
            return
        call.admit(size)
        try:
            self._answers.send_soon(window_update(number, size))
        except OSError as error:  # whoever reads sees it too
            log.debug("a client was not told that its message may come: %s", error)

    def _taken(self, call: Call, size: int) -> None:
        """A message of a stream has been answered."""
        self._holding.give_back(call.number, size)
        self._protocol.give_room(call)

    def failed(self, call: Call, ended: CallEnded, *, has_all: bool) -> None:
        """See :class:`~edge_component.rpc.protocol.Hearing`."""
        if call.is_streaming:
            call.fail(ended)  # its own thread says so
        else:
            self._answering.end_early(call, ended, has_all=has_all)

    def cancelled(self, call: Call) -> None:
        """See :class:`~edge_component.rpc.protocol.Hearing`."""
        call.is_over = True
        call.tell()
        self._room.close(call.number)
        if not (call.has_all or call.is_streaming):
            self._close(call)  # else by whoever answers it: it counts, and its messages do, until that thread is free

    def ended(self, call: Call) -> None:
        """See :class:`~edge_component.rpc.protocol.Hearing`."""
        if call.is_streaming:
            return
        pipelined = self._answered_at_count == self._intake.received_count
        try:
            if self._placement.place(len(self._calls), self._intake.overlaps_count, pipelined=pipelined):
                self._answer_here(call)
            else:
                self._hand_on(lambda: self._answering.finish(call, self._answering.outcome(call), None))
        except CallEnded as ended:
            self._answering.end_early(call, ended, has_all=True)

    def _close(self, call: Call) -> None:
        """Nothing more of it is sent."""
        self._room.close(call.number)
        with self._lock:
            self._calls.pop(call.number, None)
            is_drained = self._is_leaving and not self._calls
        self._holding.leave(call.number)
        if is_drained:
            self._duplex.stop_receiving()

    # Threads.

    def _hand_on(self, answer: Callable[[], None]) -> None:
        """To one of the server's threads. Raises CallEnded where that is not possible."""
        with self._lock:
            self._answering_count += 1

        def work() -> None:
            try:
                answer()
            finally:
                self._answered()

        try:
            self._workers.submit(self._share, work)
        except CallEnded:
            self._answered()
            raise

    def _answered(self, token: object = None) -> None:
        """One call less; ``token`` as of when it was begun, if it was answered where it was read."""
        with self._lock:
            if token is self._reader:
                self._since_s = None
            self._answering_count -= 1
            if self._is_over:
                self._none_answers.notify()

    def _answer_here(self, call: Call) -> None:
        """By the thread that reads; it goes on reading unless it was relieved of that meanwhile."""
        token, self._answered_at_count = self._reader, self._intake.received_count
        with self._lock:
            self._answering_count += 1
        self._begin_answering()
        try:
            self._answering.finish(call, self._answering.outcome(call), lambda: self._read_for_room(token))
        finally:
            self._answered(token)

    def _begin_answering(self) -> None:
        """From now on this thread does not read; another one will, should it take long."""
        self._since_s = time.monotonic()
        relief = self._workers.relief
        if not relief.is_awake:
            relief.wake()

    def _read_for_room(self, token: object) -> bool | None:
        """Read once, in the middle of an answer, and say whether there was something; ``None`` where another thread reads."""
        with self._lock:
            if self._reader is not token:
                return None
            self._since_s = None
        is_on = self._protocol.read_frame(may_idle=False)
        self._begin_answering()
        return is_on

    def answers_since_s(self) -> float | None:
        """See :class:`~edge_component.rpc.relief.Relieved`."""
        return self._since_s

    def relieve(self, since_s: float) -> None:
        """See :class:`~edge_component.rpc.relief.Relieved`."""
        with self._lock:
            if self._since_s != since_s:
                return
            token = object()
            thread = threading.Thread(target=self._read_on, args=(token,), name="grpc-reader", daemon=True)
            self._reader, self._since_s, before = token, None, self._reader
            try:
                thread.start()
            except RuntimeError as error:  # no more threads: it stays as it was
                log.warning("a connection is not read while its call is answered: %s", error)
                self._reader = before
                return
            self._relieving = thread
            self._placement.took_long()
