"""The blocking client of the fast path: ask by model name, get an answer or a typed error by the deadline.

The failure this exists for: an application that must know that models have versions and that the runtime is upgraded
now and then. It asks by name; a swap is invisible; when the runtime restarts, the request is sent again (a prediction
has no side effect) until its deadline, and only then fails, with the error that says so.

A ``Client`` may be shared by threads but serves them one at a time: for parallel requests, give each thread its own. An
exception of a signal's handler (Ctrl-C, a watchdog's alarm) may end a request at any moment; the next one connects anew.
After a ``fork`` the child's copy connects anew, and the parent's connection stays the parent's (forks.py); a pickled or
copied client is another one with the same arguments. For asyncio there is aio.py.
"""

import threading
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from time import monotonic, sleep
from types import TracebackType
from typing import Self, TypeVar

from numpy.typing import ArrayLike

from edge_component.client.answers import Answer, Array
from edge_component.client.connection import Connection
from edge_component.client.conversation import Conversation
from edge_component.client.forks import forget_in_children
from edge_component.client.patience import ALLOWED_S_MAX, ANSWERED, Patience, bounded

Result = TypeVar("Result")


class Client:
    """Predictions from the runtime on this device.

    Connects when first used and again whenever it must; creating one does no I/O.
    """

    def __init__(
        self, socket_path: str | Path, *, deadline_s: float = 5.0, key: str | None = None, sequence: str | None = None
    ) -> None:
        """Address the runtime's ``infer.sock``.

        Args:
            socket_path: of the socket.
            deadline_s: for requests that give none of their own.
            key: whose requests these are: where versions share a name, the same key is always answered by the same one.
            sequence: the stream that these requests belong to, for models whose state the runtime carries.
        """
        self._key, self._sequence = key, sequence
        self._socket_path = Path(socket_path)
        self._deadline_s = deadline_s
        self._lock = threading.Lock()
        self._is_busy = False  # so that whoever comes meanwhile waits in another way
        self._connection: Connection | None = None
        forget_in_children(self)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def __reduce__(self) -> tuple[object, ...]:
        """What pickle and copy make: another client, with a connection of its own."""
        again = partial(type(self), deadline_s=self._deadline_s, key=self._key, sequence=self._sequence)
        return again, (self._socket_path,)

    def close(self) -> None:
        """Hang up. The client may be used again: it connects anew."""
        with self._lock:
            self._hang_up()

    def infer(
        self, model: str, inputs: Mapping[str, ArrayLike], *, deadline_s: float | None = None, copy: bool = True
    ) -> Answer:
        """One prediction.

        Args:
            model: the model's name; whichever version is active answers.
            inputs: one array per input. Arrays must have the model's dtype (any byte order); lists are converted.
                A batch is one array whose first axis is the batch, where the model allows it.
            deadline_s: for everything together, connecting and restarts of the runtime included; infinity is for ever.
            copy: ``False`` returns views on the shared memory instead of copies; they hold until the next request
                but one where the model is small (two slots), else until the next request.

        Raises:
            InputError: an input's name, dtype, shape or NaN; the message names the tensor. Or a deadline of NaN.
            UnknownModelError: no such model serves here.
            ModelFailedError: the model failed on this input.
            DeadlineExceededError: the runtime is there, but the answer came too late.
            UnavailableError: no runtime until the deadline.
            BusyError: the runtime's connections were all taken until the deadline.
            ProtocolError, RefusedError: see errors.py.
        """
        left_s = allowed_s = self._deadline_s if deadline_s is None else deadline_s
        if not 0 < allowed_s <= ALLOWED_S_MAX:
            left_s = allowed_s = bounded(allowed_s)
        ends_at_s = monotonic() + allowed_s
        if self._is_busy:
            return self._infer_in_turn(model, inputs, copy, Patience(self._socket_path, model, allowed_s, ends_at_s))
        with self._lock:  # not acquire(): an exception of a signal's handler may come between that and a try
            self._is_busy = True
            try:
                connection = self._connection
                if connection is None or connection.wait_s != left_s:
                    connection = self._connected(left_s)
                    left_s = ends_at_s - monotonic()
                return connection.predict(model, inputs, left_s, copy)
            except ANSWERED:
                raise
            except BaseException as error:  # noqa: BLE001 - raised again by Patience unless it is worth another try
                patience = Patience(self._socket_path, model, allowed_s, ends_at_s)
                return self._ask_again(_asking(model, inputs, copy), error, patience)
            finally:
                self._is_busy = False

    def prepare(
        self, model: str, inputs: Mapping[str, ArrayLike], *, deadline_s: float | None = None
    ) -> "PreparedRequest":
        """Room for requests of these shapes, to be written in place: spares large inputs a copy.

        Raises:
            ClientError: as :meth:`infer`.
        """
        allowed_s = bounded(self._deadline_s if deadline_s is None else deadline_s)
        patience = Patience(self._socket_path, model, allowed_s, monotonic() + allowed_s)
        with self._lock:
            views = self._ask_again(lambda connection, _: connection.prepare(model, inputs), None, patience)
        return PreparedRequest(self, model, views)

    def _forget(self) -> None:
        """In a child that was just forked; see forks.py."""
        self._lock, self._is_busy = threading.Lock(), False
        self._hang_up()

    def _infer_in_turn(self, model: str, inputs: Mapping[str, ArrayLike], copy: bool, patience: Patience) -> Answer:  # noqa: FBT001 - as Channel.answer
        """The same for a thread that must wait for others, for no longer than its own time."""
        lock, taken = self._lock, list[bool]()
        try:
            taken.extend(map(lock.acquire, (True,), (patience.allowed_s,)))  # taken and noted in one call, as in infer
            if not taken[0]:
                raise patience.outwaited()
            return self._ask_again(_asking(model, inputs, copy), None, patience)
        finally:
            if taken and taken[0]:
                lock.release()

    def _ask_again(
        self, ask: Callable[[Connection, float], Result], trouble: BaseException | None, patience: Patience
    ) -> Result:
        """Until it is answered, or patience ends."""
        while True:
            if trouble is not None:
                self._hang_up()  # in whatever state the conversation is: the next one begins anew
                sleep(patience.pause_s(trouble, monotonic()))
            try:
                connection = self._connected(patience.ends_at_s - monotonic())
                return ask(connection, patience.ends_at_s - monotonic())
            except ANSWERED:
                raise
            except BaseException as error:  # noqa: BLE001 - as in infer
                trouble = error

    def _connected(self, left_s: float) -> Connection:
        connection = self._connection
        if connection is None:
            said = Conversation(self._key, self._sequence)
            connection = self._connection = Connection(self._socket_path, left_s, said)
        connection.wait_at_most(left_s)
        return connection

    def _next_views(self, model: str) -> Mapping[str, Array]:
        with self._lock:
            return self._connection.next_views(model) if self._connection is not None else {}

    def _hang_up(self) -> None:
        if self._connection is not None:
            self._connection.close()
            self._connection = None


class PreparedRequest:
    """Inputs that are written where the runtime reads them.

    ::

        request = client.prepare("classifier", {"image": first})
        while True:
            camera.read_into(request.inputs["image"])  # views: ask for them anew for each request
            answer = request.infer()

    Give it a client of its own: other requests to the same model go through the same memory.
    """

    def __init__(self, client: Client, model: str, views: Mapping[str, Array]) -> None:
        """Use :meth:`Client.prepare`."""
        self._client = client
        self._model = model
        self.inputs = views

    def infer(self, *, deadline_s: float | None = None, copy: bool = True) -> Answer:
        """Ask with what ``inputs`` hold; afterwards they are other views, whose content is undefined.

        Raises:
            ClientError: as :meth:`Client.infer`.
        """
        answer = self._client.infer(self._model, self.inputs, deadline_s=deadline_s, copy=copy)
        self.inputs = self._client._next_views(self._model)  # noqa: SLF001 - the two are one
        return answer


def _asking(model: str, inputs: Mapping[str, ArrayLike], copy: bool) -> Callable[[Connection, float], Answer]:  # noqa: FBT001 - as Channel.answer
    return lambda connection, left_s: connection.predict(model, inputs, left_s, copy)
