"""The asyncio client of the fast path: the same conversation as client.py, without a thread and without blocking the loop.

The failure this exists for: a control loop in asyncio that either blocks on its model or pays for a thread per request.
Waiting is the loop's own (``add_reader`` on the socket), so it works with any loop that has that.

An ``AsyncClient`` belongs to one event loop and has one request under way at a time; others wait for it in order. For
parallel requests make several. A cancelled request costs its connection, since the answer would be read by the next one.
"""

import asyncio
import os
import socket
import threading
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from functools import partial
from pathlib import Path
from types import TracebackType
from typing import Self

from numpy.typing import ArrayLike

from edge_component.client.answers import Answer
from edge_component.client.connection import receive
from edge_component.client.conversation import Conversation, Received, Result, Steps
from edge_component.client.forks import forget_in_children
from edge_component.client.patience import ANSWERED, Patience, bounded
from edge_component.contracts.unix_address import unix_address


class AsyncClient:
    """Predictions from the runtime on this device, awaited.

    Connects when first used and again whenever it must; creating one does no I/O.
    """

    def __init__(
        self, socket_path: str | Path, *, deadline_s: float = 5.0, key: str | None = None, sequence: str | None = None
    ) -> None:
        """As :class:`~edge_component.client.client.Client`."""
        self._socket_path = Path(socket_path)
        self._deadline_s = deadline_s
        self._key, self._sequence = key, sequence
        self._lock = asyncio.Lock()
        self._connection: _Connection | None = None
        forget_in_children(self)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def __reduce__(self) -> tuple[object, ...]:
        """As :class:`~edge_component.client.client.Client`."""
        again = partial(type(self), deadline_s=self._deadline_s, key=self._key, sequence=self._sequence)
        return again, (self._socket_path,)

    def close(self) -> None:
        """Hang up. The client may be used again: it connects anew, and so does a request that is under way."""
        if self._connection is not None:
            self._connection.close()
            self._connection = None

    async def infer(
        self, model: str, inputs: Mapping[str, ArrayLike], *, deadline_s: float | None = None, copy: bool = True
    ) -> Answer:
        """One prediction; arguments, promises and errors are :meth:`Client.infer`'s.

        The deadline includes waiting for the requests before it.

        Raises:
            ClientError: as :meth:`Client.infer`.
        """
        allowed_s = bounded(self._deadline_s if deadline_s is None else deadline_s)
        patience = Patience(self._socket_path, model, allowed_s, time.monotonic() + allowed_s)
        try:
            async with asyncio.timeout(allowed_s):
                await self._lock.acquire()
        except TimeoutError as error:
            raise patience.outwaited() from error
        try:
            return await self._ask(model, inputs, patience, copy=copy)
        finally:
            self._lock.release()

    async def _ask(self, model: str, inputs: Mapping[str, ArrayLike], patience: Patience, *, copy: bool) -> Answer:
        while True:
            try:
                connection = await self._connected(patience.ends_at_s - time.monotonic())
                left_s = patience.ends_at_s - time.monotonic()
                steps = connection.conversation.predict(model, inputs, left_s, copy=copy)
                return await connection.drive(steps, left_s)
            except ANSWERED:
                raise
            except BaseException as error:  # noqa: BLE001 - raised again by Patience unless it is worth another try
                self.close()  # in whatever state the conversation is: the next one begins anew
                pause_s = patience.pause_s(error, time.monotonic())
            await asyncio.sleep(pause_s)

    def _forget(self) -> None:
        """In a child that was just forked; see forks.py."""
        self._lock = asyncio.Lock()
        connection, self._connection = self._connection, None
        if connection is not None:
            connection.forget()

    async def _connected(self, left_s: float) -> "_Connection":
        if self._connection is None:
            connection = _Connection(Conversation(self._key, self._sequence))
            try:
                await connection.open(self._socket_path, left_s)
            except BaseException:
                connection.close()
                raise
            self._connection = connection
        return self._connection


class _Connection:
    """A socket that is never blocked on, and the conversation held on it."""

    def __init__(self, conversation: Conversation) -> None:
        self.conversation = conversation
        self._waiting: asyncio.Future[None] | None = None
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET | socket.SOCK_NONBLOCK)

    async def open(self, socket_path: Path, left_s: float) -> None:
        """Connect and greet; raises OSError or ClientError."""
        try:
            with unix_address(socket_path) as address:
                self._socket.connect(address)
            await self.drive(self.conversation.greet(threading.get_native_id()), left_s)
        except BlockingIOError as error:
            raise TimeoutError("the connection was not accepted in time") from error

    def close(self) -> None:
        """Hang up; whoever waits for an answer is told, and the loop no longer watches the descriptor."""
        if self._waiting is not None and not self._waiting.done():
            self._waiting.set_exception(ConnectionAbortedError("the client was closed"))
            loop = self._waiting.get_loop()
            loop.remove_reader(self._socket)
            loop.remove_writer(self._socket)
        self.forget()

    def forget(self) -> None:
        """Let go of the descriptor, in a process whose loop never watched it."""
        self._socket.close()
        self.conversation.channels.clear()

    async def drive(self, steps: Steps[Result], left_s: float) -> Result:
        """Carry out the steps; raises BlockingIOError when time is up, as a blocking socket with a time limit does."""
        try:
            async with asyncio.timeout(left_s):
                return await self._drive(steps)
        except TimeoutError as error:
            raise BlockingIOError(f"not answered within {left_s:g} s") from error

    async def _drive(self, steps: Steps[Result]) -> Result:
        try:
            message = next(steps)
            while True:
                received = await self._exchange(message)
                try:
                    message = steps.send(received)
                finally:
                    if received.descriptor is not None:
                        os.close(received.descriptor)
        except StopIteration as done:
            result: Result = done.value
            return result

    async def _exchange(self, message: bytes | bytearray) -> Received:
        loop = asyncio.get_running_loop()
        with suppress(BrokenPipeError):  # turned away before we could say anything: why is what waits to be read
            await self._when(loop.add_writer, loop.remove_writer, lambda: self._socket.send(message))
        return await self._when(loop.add_reader, loop.remove_reader, lambda: receive(self._socket))

    async def _when(
        self, watch: Callable[..., object], unwatch: Callable[[int], object], attempt: Callable[[], Result]
    ) -> Result:
        """Try, and where the socket is not ready, wait until it is and try again."""
        while True:
            try:
                return attempt()
            except BlockingIOError:
                descriptor = self._socket.fileno()
                ready = self._waiting = asyncio.get_running_loop().create_future()
                watch(descriptor, _tell, ready)
                try:
                    await ready
                finally:
                    self._waiting = None
                    if self._socket.fileno() == descriptor:  # else closed, and perhaps somebody else's by now
                        unwatch(descriptor)


def _tell(ready: "asyncio.Future[None]") -> None:
    if not ready.done():
        ready.set_result(None)
