"""One HTTP/1.1 connection on one thread: read a request, have it answered, send the answer, again.

Why our own: the bar is 150 us for a whole request through a real client, of which that client takes most. A pure-Python
protocol stack (h11) takes 50 to 100 us for one exchange, an ASGI server brings an event loop that stops at one core, and a
compiled parser (httptools) is one more wheel for each device platform, to save the 10 us that this takes. What a model server must read is small:
one method, one length, a body; what is not read is refused by name (http_messages.py).

The failures this exists for: clients that send half a request, one byte a second, more than they said, or nothing at all,
and clients that do not read. Each costs its own thread for a bounded time: ``idle_s`` between requests, ``request_s_max``
for the rest of a request once it has begun, and as much for sending. Where a door has keys, a head must pass its ``gate``
before the body is taken in. What is read from and written to is a ByteStream (http_stream.py): plain, or TLS.

A body lies in memory so that its byte at the offset that the service's header names is aligned to 64 bytes: there the binary
tensors begin, and they are used where they lie until the next request.
"""

import logging
import select
import socket
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import NamedTuple, Protocol

import numpy as np

from edge_component.serving.http_messages import (
    HEAD_END,
    NO_HEAD,
    Buffer,
    Head,
    HttpError,
    Reply,
    read_head,
    without_sent,
)
from edge_component.serving.http_stream import ByteStream

log = logging.getLogger(__name__)

ALIGNMENT_BYTES = 64
BODY_KEPT_BYTES = 4_194_304
"""A larger body's memory is given back after its request."""

LINGER_S = 1.0
"""How long what a client still sends is thrown away after a refusal, so that it reads the refusal before the reset."""


@dataclass(frozen=True, slots=True)
class HttpLimits:
    """What one connection may take.

    Attributes:
        head_bytes_max: request line and headers.
        body_bytes_max: of one request.
        idle_s: between two requests.
        first_s: before the first one; 0 for as long as between two.
        request_s_max: from a request's first byte to its last; and for sending the answer.
    """

    head_bytes_max: int = 16_384
    body_bytes_max: int = 64_000_000
    idle_s: float = 600.0
    request_s_max: float = 30.0
    first_s: float = 0.0


class HttpRequest(NamedTuple):
    """A whole request; ``body`` is valid until it is answered. ``began_ns``: ``perf_counter_ns`` when its head was there."""

    head: Head
    body: memoryview
    began_ns: int


AfterSending = Callable[[int], None]
"""What is to be done once the answer has been sent; it gets ``perf_counter_ns`` from when the answer was ready."""


Gate = Callable[[Head], None]
"""Lets a request's head pass, or raises HttpError; its body has not been taken in yet."""


class HttpService(Protocol):
    """What answers; one for each connection.

    Attributes:
        aligned_by: the header, in lower case, that says at which byte of the body binary data begins.
    """

    aligned_by: bytes

    def respond(self, request: HttpRequest) -> tuple[Reply, AfterSending | None]:
        """Answer a request; never raises."""

    def refusal(self, status: int, message: str) -> Reply:
        """The answer to what is no request."""


class HttpConnection:
    """Serves one connection until the client hangs up or breaks the protocol; see :meth:`serve`."""

    def __init__(self, stream: ByteStream, limits: HttpLimits, service: HttpService, gate: Gate | None = None) -> None:
        """Take over the connection."""
        self._stream = stream
        self._receive = stream.receive
        self._gate = gate
        self._limits = limits
        self._service = service
        self._head = bytearray(limits.head_bytes_max)
        self._filled = 0
        self._body = aligned_memory(0)
        self._ends_at_s = 0.0
        self._last_head = b"", NO_HEAD

    def serve(self) -> None:
        """Answer until the end; closes the connection."""
        limits = self._limits
        try:
            self._stream.limit_sending(limits.request_s_max)
            self._stream.limit_receiving(limits.first_s or limits.idle_s)
            goes_on = self._next()
            if limits.first_s:
                self._at_ease()
            while goes_on:
                goes_on = self._next()
        except HttpError as error:
            self._refuse(error)
        except OSError as error:
            log.debug("an HTTP client went away: %s", error)
        finally:
            self._stream.close()

    def _next(self) -> bool:
        """Answer one request; whether the conversation goes on."""
        end = self._receive_head()
        if end < 0:
            return False
        began_ns = time.perf_counter_ns()
        if self._head[:end] != self._last_head[0]:  # a client's requests mostly differ in their bodies alone
            data = bytes(self._head[:end])
            self._last_head = data, read_head(data)
        head = self._last_head[1]
        if self._gate is not None:
            self._gate(head)
        body = self._receive_body(head, end + len(HEAD_END))
        if self._ends_at_s:
            self._at_ease()
        reply, afterwards = self._service.respond(HttpRequest(head, body, began_ns))
        ready_ns = time.perf_counter_ns()
        parts = reply.parts(keep_alive=head.keep_alive)
        try:
            self._send(
                parts if head.method != "HEAD" else parts[:1]
            )  # its client would take a body for the next answer
        finally:  # also when the client gave up waiting
            if afterwards is not None:
                afterwards(ready_ns)
        if len(self._body) > BODY_KEPT_BYTES:
            self._body = aligned_memory(0)
        return head.keep_alive

    def _receive_head(self) -> int:
        """Where the head ends; -1 if the client has hung up, or been silent for too long, between two requests."""
        end = self._head.find(HEAD_END, 0, self._filled)
        while end < 0:
            if self._filled == len(self._head):
                raise HttpError(431, f"a head of more than {len(self._head)} bytes")
            if self._filled:
                self._hurry()
            count = self._receive(memoryview(self._head)[self._filled :])
            if not count and not self._filled:
                return -1
            if not count:
                raise HttpError(408, "the request did not arrive in time")
            searched = max(self._filled - len(HEAD_END) + 1, 0)
            self._filled += count
            end = self._head.find(HEAD_END, searched, self._filled)
        return end

    def _receive_body(self, head: Head, at: int) -> memoryview:
        """The body, aligned; what follows it in the buffer is the next request's beginning."""
        size = head.content_bytes
        if size > self._limits.body_bytes_max:
            raise HttpError(413, f"a body of {size} bytes; at most {self._limits.body_bytes_max} are taken")
        padding = -head.number(self._service.aligned_by, 0) % ALIGNMENT_BYTES
        if len(self._body) < padding + size:
            self._body = aligned_memory(padding + size)
        body = self._body[padding : padding + size]
        here = min(self._filled - at, size)
        body[:here] = memoryview(self._head)[at : at + here]
        rest = self._filled - at - here
        self._head[:rest] = self._head[at + here : self._filled]
        self._filled = rest
        if here < size:
            self._receive_rest(body[here:], waits=head.headers.get(b"expect", b"").lower() == b"100-continue")
        return body

    def _receive_rest(self, target: memoryview, *, waits: bool) -> None:
        if waits:
            self._send([b"HTTP/1.1 100 Continue\r\n\r\n"])
        while target:
            self._hurry()
            count = self._receive(target, socket.MSG_WAITALL)
            if not count:
                raise HttpError(408, f"the last {len(target)} bytes of the body did not arrive in time")
            target = target[count:]

    def _hurry(self) -> None:
        """A request has begun: from now on the rest of it is waited for, and all of that only so long."""
        now_s = time.monotonic()
        if not self._ends_at_s:
            self._ends_at_s = now_s + self._limits.request_s_max
            self._stream.limit_receiving(self._limits.request_s_max)
        elif now_s > self._ends_at_s:
            raise HttpError(408, "the request did not arrive in time")

    def _at_ease(self) -> None:
        self._ends_at_s = 0.0
        self._stream.limit_receiving(self._limits.idle_s)

    def _send(self, parts: Sequence[Buffer]) -> None:
        ends_at_s = time.monotonic() + self._limits.request_s_max
        while parts:
            sent = self._stream.send(parts)
            parts = without_sent(parts, sent)
            if parts and time.monotonic() > ends_at_s:
                raise TimeoutError("the client does not read its answer")

    def _refuse(self, error: HttpError) -> None:
        """Say why, then let the client read it."""
        reply = self._service.refusal(error.status, str(error))
        try:
            self._send(reply._replace(headers=error.headers).parts(keep_alive=False))
            self._stream.linger(LINGER_S)
        except OSError as gone:
            log.debug("an HTTP client that was refused did not listen: %s", gone)


def is_there(connection: socket.socket) -> bool:
    """Whether the client has not hung up; any thread may ask, at any time.

    One that only stops sending is taken to have gone, as most HTTP servers do.
    """
    descriptor = connection.fileno()
    if descriptor < 0:
        return False
    poll = select.poll()
    poll.register(descriptor, select.POLLRDHUP)
    return not poll.poll(0)


def aligned_memory(size_bytes: int) -> memoryview:
    """Memory that begins at a multiple of :data:`ALIGNMENT_BYTES`; untouched, it costs nothing."""
    memory = np.empty(size_bytes + ALIGNMENT_BYTES, np.uint8)
    start = -memory.ctypes.data % ALIGNMENT_BYTES
    return memory.data[start : start + size_bytes]
