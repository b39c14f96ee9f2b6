"""For tests: a nucleus that answers each operation as its script says, frame by frame; what is not scripted succeeds."""

import contextlib
import json
import socket
import threading
from collections import defaultdict, deque
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from edge_component.backoff import Backoff
from edge_component.clock import SystemClock
from edge_component.nucleus import GreengrassNucleus
from edge_component.nucleus_address import NucleusAddress, NucleusLimits
from simulator.nucleus.eventstream import PRELUDE_BYTES, Flags, Message, MessageType, decode, encode, frame_length
from simulator.nucleus.ipc_operations import NAMESPACE

JSON = {":content-type": "application/json"}


@dataclass(frozen=True)
class Request:
    """One frame of the client's on a stream."""

    operation: str
    stream_id: int
    flags: Flags
    payload: Mapping[str, Any]

    def respond(self, document: Mapping[str, Any] | None = None) -> bytes:
        return self.frame(f"{self.operation}Response", document or {})

    def event(self, shape: str, document: Mapping[str, Any]) -> bytes:
        return self.frame(shape, document)

    def refuse(self, shape: str) -> bytes:
        return self.frame(shape, {"message": shape}, MessageType.APPLICATION_ERROR, Flags.TERMINATE_STREAM)

    def end(self) -> bytes:
        head = {":message-type": 0, ":message-flags": int(Flags.TERMINATE_STREAM), ":stream-id": self.stream_id}
        return encode(Message(head))

    def frame(
        self,
        shape: str,
        document: Mapping[str, Any],
        kind: MessageType = MessageType.APPLICATION_MESSAGE,
        flags: Flags = Flags.NONE,
    ) -> bytes:
        head = {":message-type": int(kind), ":message-flags": int(flags), ":stream-id": self.stream_id}
        headers = {**head, **JSON, "service-model-type": NAMESPACE + shape}
        return encode(Message(headers, json.dumps(document).encode()))


HANG_UP = None
SILENCE = b""
Answer = Callable[[Request], bytes | None]
"""Bytes to send, ``SILENCE``, or ``HANG_UP``."""


class ScriptedNucleus:
    """``script`` holds, for an operation, the answers to come; the last one stays."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.script: dict[str, deque[Answer]] = defaultdict(deque)
        self.requests: list[Request] = []
        self.greetings: list[Mapping[str, Any]] = []
        self.greets = True
        self._connections: list[socket.socket] = []
        self.threads: list[threading.Thread] = []
        self._listening = socket.socket(socket.AF_UNIX)
        self._listening.bind(str(path))
        self._listening.listen()
        self._start(self._accept)

    def answer(self, operation: str, *answers: Answer) -> None:
        self.script[operation] = deque(answers)

    def count(self, operation: str) -> int:
        return sum(request.operation == operation for request in list(self.requests))

    def ended(self) -> set[int]:
        """Streams that the client has ended."""
        return {request.stream_id for request in list(self.requests) if Flags.TERMINATE_STREAM in request.flags}

    def send(self, data: bytes) -> None:
        """To the latest client."""
        self._connections[-1].sendall(data)

    def hang_up(self) -> None:
        for connection in self._connections:
            _shut(connection)

    def close(self) -> None:
        _shut(self._listening)
        self.hang_up()
        for thread in self.threads:
            thread.join()
        for connection in (*self._connections, self._listening):
            connection.close()
        self.path.unlink()

    def _start(self, target: Callable[..., None], *arguments: object) -> None:
        self.threads.append(threading.Thread(target=target, args=arguments))
        self.threads[-1].start()

    def _accept(self) -> None:
        while True:
            try:
                connection, _ = self._listening.accept()
            except OSError:
                return
            self._connections.append(connection)
            self._start(self._serve, connection)

    def _serve(self, connection: socket.socket) -> None:
        with connection.makefile("rb") as frames:
            try:
                greeting = _read(frames)
                if greeting is None:
                    return
                self.greetings.append(json.loads(greeting.payload))
                if self.greets:
                    connection.sendall(encode(Message({":message-type": 5, ":message-flags": 1, ":stream-id": 0})))
                while (message := _read(frames)) is not None:
                    answer = self._answer(message)
                    if answer is HANG_UP:
                        break
                    connection.sendall(answer)
            except OSError:
                pass
            _shut(connection)

    def _answer(self, message: Message) -> bytes | None:
        operation = message.text("operation").removeprefix(NAMESPACE)
        request = Request(operation, message.stream_id, message.flags, json.loads(message.payload or b"{}"))
        self.requests.append(request)
        if Flags.TERMINATE_STREAM in request.flags:
            return request.end()
        answers = self.script[operation]
        answer = (answers.popleft() if len(answers) > 1 else answers[0]) if answers else Request.respond
        return answer(request)


def connect(path: Path, random: Callable[[], float] = lambda: 0.5, **limits: Any) -> GreengrassNucleus:
    """A client of it, in a hurry, started."""
    chosen: dict[str, Any] = {"connect_s": 5.0, "call_s": 0.2, "backoff": Backoff(0.01, 0.05), **limits}
    chosen.setdefault("retry", Backoff(0.01, 0.05))
    nucleus = GreengrassNucleus(NucleusAddress(str(path), "token"), SystemClock(), random, NucleusLimits(**chosen))
    nucleus.start()
    return nucleus


def _read(frames: Any) -> Message | None:
    prelude = frames.read(PRELUDE_BYTES)
    if len(prelude) < PRELUDE_BYTES:
        return None
    return decode(prelude + frames.read(frame_length(prelude) - PRELUDE_BYTES))


def _shut(connection: socket.socket) -> None:
    with contextlib.suppress(OSError):
        connection.shutdown(socket.SHUT_RDWR)
