"""Greengrass IPC over a Unix socket: event-stream RPC for an unmodified ``GreengrassCoreIPCClientV2``.

The failure it exists for: components that were only ever tried against a mock of their client. Here the real client
connects, and meets the nucleus's habits: the token check, the frame limit that closes the connection, errors whose text
the SDK cannot see, subscriptions that end with the stream.

It does not know what an operation means (``ipc_operations.py``) nor how bytes are framed (``eventstream.py``).

Concurrency: one event loop; one task per connection and one per running operation. A response always precedes the
events of its stream, which keep their order.
"""

import asyncio
import contextlib
import json
import logging
import socket
import struct
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from simulator.nucleus.errors import ComponentSlotsError, FrameError
from simulator.nucleus.eventstream import (
    FRAME_BYTES_MAX,
    PRELUDE_BYTES,
    Flags,
    Message,
    MessageType,
    decode,
    encode,
    frame_length,
)
from simulator.nucleus.ipc_operations import NAMESPACE, Call, OperationError, Operations
from simulator.nucleus.profile import Profile
from simulator.nucleus.services import Tokens

PROTOCOL_VERSION = "0.1.0"
BACKLOG_BYTES_MAX = 4 * 1024 * 1024
"""Unsent bytes after which a client that does not read is disconnected."""

HANG_UP_S = 2.0
"""How long a refused client may take to close its end."""

logger = logging.getLogger(__name__)


class IpcServer:
    """Listens until closed. The socket file is replaced if it is a leftover."""

    def __init__(
        self,
        path: Path,
        profile: Profile,
        operations: Operations,
        tokens: Tokens,
        component_of_process: Callable[[int], str | None] = lambda _pid: None,
    ) -> None:
        """``component_of_process`` proves a peer that names itself instead of showing a token (Lite)."""
        self.path = path
        self.profile = profile
        self.operations = operations
        self.tokens = tokens
        self.component_of_process = component_of_process
        self._connections: dict[_Connection, asyncio.Task[None]] = {}
        self._server: asyncio.Server | None = None

    async def start(self) -> None:
        """Listen; every local user may connect (mode 0666), since the token decides."""
        self.path.unlink(missing_ok=True)
        self._server = await asyncio.start_unix_server(self._accept, str(self.path))
        self.path.chmod(0o666)

    @property
    def is_open(self) -> bool:
        """Whether it listens."""
        return self._server is not None

    async def close(self) -> None:
        """Drop every connection and the socket."""
        if self._server is not None:
            self._server.close()
            self._server = None
        self.disconnect_all()
        await asyncio.gather(*self._connections.values(), return_exceptions=True)
        self.path.unlink(missing_ok=True)

    def disconnect_all(self) -> None:
        """Drop every connection, as a restarted nucleus does."""
        for connection in list(self._connections):
            connection.abort()

    async def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        if len(self._connections) >= self.profile.clients_max:
            logger.warning("ipc: refused a connection: %d are open", len(self._connections))
            writer.transport.abort()
            return
        connection = _Connection(self, reader, writer)
        task = asyncio.current_task()
        assert task is not None
        self._connections[connection] = task
        try:
            await connection.serve()
        finally:
            del self._connections[connection]
            connection.abort()


class _Connection:
    """One client: reads frames until the end, or until one that this nucleus does not bear."""

    def __init__(self, server: IpcServer, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._server = server
        self._reader = reader
        self._writer = writer
        self._streams: dict[int, _Stream] = {}
        self._component = ""

    async def serve(self) -> None:
        try:
            while True:
                await self._take(await self._read())
        except (asyncio.IncompleteReadError, ConnectionError):
            pass
        except FrameError as error:
            logger.warning("ipc: closing the connection of %s: %s", self._component or "a stranger", error)

    def abort(self) -> None:
        for stream in list(self._streams.values()):
            stream.end()
        self._streams.clear()
        self._writer.transport.abort()

    async def _read(self) -> Message:
        prelude = await self._reader.readexactly(PRELUDE_BYTES)
        limit_bytes = self._server.profile.frame_bytes_max or FRAME_BYTES_MAX
        length = frame_length(prelude, limit_bytes)
        return decode(prelude + await self._reader.readexactly(length - PRELUDE_BYTES), limit_bytes)

    async def _take(self, message: Message) -> None:
        if not self._component:
            await self._connect(message)
        elif message.stream_id == 0:
            self._control(message)
        elif Flags.TERMINATE_STREAM in message.flags:
            self._terminate(message.stream_id)
        elif message.type is MessageType.APPLICATION_MESSAGE:
            self._request(message)
        else:
            raise FrameError(f"a client may not send {message.type.name}")

    async def _connect(self, message: Message) -> None:
        if message.type is not MessageType.CONNECT or message.text(":version") != PROTOCOL_VERSION:
            raise FrameError("the first message is not CONNECT of version 0.1.0")
        try:
            component, issued = self._identify(_document(message.payload))
        except OperationError as error:
            raise FrameError("CONNECT carries no JSON object") from error
        except ComponentSlotsError as error:
            raise FrameError(str(error)) from error
        if component is None:
            if not self._server.profile.closes_on_bad_token:
                self._send(MessageType.CONNECT_ACK, 0)
                await self._hang_up()
            raise FrameError("the client has no valid token")
        self._component = component
        self._send(MessageType.CONNECT_ACK, 0, Flags.CONNECTION_ACCEPTED, {"svcuid": issued} if issued else {})

    async def _hang_up(self) -> None:
        """Let a refused client read its refusal and go first."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(HANG_UP_S):
                await self._reader.read()

    def _identify(self, request: Mapping[str, Any]) -> tuple[str | None, str]:
        token, name = request.get("authToken"), request.get("componentName")
        if isinstance(token, str):
            return self._server.tokens.component_of(token), ""
        if not isinstance(name, str) or not self._server.profile.issues_tokens:
            return None, ""
        proven = self._server.component_of_process(self._peer_process_id()) == name
        return (name, self._server.tokens.token_of(name)) if proven else (None, "")

    def _peer_process_id(self) -> int:
        peer = self._writer.get_extra_info("socket")
        raw = peer.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, struct.calcsize("3i"))
        return int(struct.unpack("3i", raw)[0])

    def _control(self, message: Message) -> None:
        if message.type is MessageType.PING:
            self._send(MessageType.PING_RESPONSE, 0, payload=message.payload)
        elif message.type is not MessageType.PING_RESPONSE:
            raise FrameError(f"{message.type.name} on stream 0")

    def _terminate(self, stream_id: int) -> None:
        stream = self._streams.pop(stream_id, None)
        if stream is not None:
            stream.end()
            self._send(MessageType.APPLICATION_MESSAGE, stream_id, Flags.TERMINATE_STREAM)

    def _request(self, message: Message) -> None:
        operation = message.text("operation").removeprefix(NAMESPACE)
        if message.stream_id in self._streams:
            raise FrameError(f"stream {message.stream_id} is in use")
        stream = _Stream(self, message.stream_id, operation)
        self._streams[message.stream_id] = stream
        stream.run(self._server.operations, self._component, message.payload)

    def reply(self, stream_id: int, shape: str, document: Mapping[str, Any], *, last: bool) -> bool:
        """Send a response or an event; ``False`` if it is too large for this nucleus and was not sent."""
        if last:
            self._streams.pop(stream_id, None)
        flags = Flags.TERMINATE_STREAM if last and self._server.profile.terminates_unary else Flags.NONE
        return self._send_shape(MessageType.APPLICATION_MESSAGE, stream_id, flags, shape, document)

    def refuse(self, stream_id: int, error: OperationError) -> None:
        self._streams.pop(stream_id, None)
        message_field, code_field = self._server.profile.error_fields
        document = {message_field: str(error), code_field: error.shape}
        self._send_shape(MessageType.APPLICATION_ERROR, stream_id, Flags.TERMINATE_STREAM, error.shape, document)

    def _send_shape(
        self, kind: MessageType, stream_id: int, flags: Flags, shape: str, document: Mapping[str, Any]
    ) -> bool:
        headers = {":content-type": "application/json", "service-model-type": NAMESPACE + shape}
        return self._send(kind, stream_id, flags, headers, json.dumps(document).encode())

    def _send(
        self,
        kind: MessageType,
        stream_id: int,
        flags: Flags = Flags.NONE,
        headers: Mapping[str, str] | None = None,
        payload: bytes = b"",
    ) -> bool:
        head = {":message-type": int(kind), ":message-flags": int(flags), ":stream-id": stream_id}
        frame = encode(Message({**head, **(headers or {})}, payload))
        if len(frame) > (self._server.profile.frame_bytes_max or FRAME_BYTES_MAX):
            logger.warning("ipc: dropped a message of %d bytes to %s", len(frame), self._component)
            return False
        transport = self._writer.transport
        if transport.is_closing():
            return True
        transport.write(frame)
        if transport.get_write_buffer_size() > BACKLOG_BYTES_MAX:
            logger.warning("ipc: %s does not read; disconnected", self._component)
            transport.abort()
        return True


class _Stream:
    """One operation on its stream: its task, what to undo at the end, and the events kept back until the response."""

    def __init__(self, connection: _Connection, stream_id: int, operation: str) -> None:
        self._connection = connection
        self._stream_id = stream_id
        self._operation = operation
        self._on_end: list[Callable[[], None]] = []
        self._early: list[tuple[str, Mapping[str, Any]]] | None = []
        self._task: asyncio.Task[None] | None = None
        self._ended = False

    def run(self, operations: Operations, component: str, payload: bytes) -> None:
        self._task = asyncio.get_running_loop().create_task(self._answer(operations, component, payload))

    def end(self) -> None:
        self._ended = True
        for undo in self._on_end:
            undo()
        self._on_end.clear()

    def emit(self, shape: str, document: Mapping[str, Any]) -> None:
        if self._early is not None:
            self._early.append((shape, document))
        elif not self._ended:
            self._connection.reply(self._stream_id, shape, document, last=False)

    async def _answer(self, operations: Operations, component: str, payload: bytes) -> None:
        try:
            call = Call(self._operation, component, _document(payload), self.emit, self._on_end)
            response = await operations.answer(call)
        except OperationError as error:
            self._connection.refuse(self._stream_id, error)
            return
        except Exception as error:  # an operation's bug must reach its caller, not hang it
            logger.exception("ipc: %s failed", self._operation)
            self._connection.refuse(self._stream_id, OperationError("ServiceError", type(error).__name__))
            return
        if self._ended:
            self.end()  # terminated while the operation was still subscribing
            return
        self._open(response)

    def _open(self, response: Mapping[str, Any]) -> None:
        shape, last = f"{self._operation}Response", not self._on_end
        if not self._connection.reply(self._stream_id, shape, response, last=last):
            self._connection.refuse(self._stream_id, OperationError("ServiceError", "the response is too large"))
            self.end()
        early, self._early = self._early or [], None
        for shape, document in early:
            self.emit(shape, document)


def _document(payload: bytes) -> Mapping[str, Any]:
    with contextlib.suppress(ValueError):
        document = json.loads(payload or b"{}")
        if isinstance(document, dict):
            return document
    raise OperationError("InvalidArgumentsError", "the payload is not a JSON object")
