"""The client of the fast path: ask by model name, get an answer or a typed error by the deadline.

The failure this exists for: an application that must know that models have versions and that the runtime is upgraded
now and then. It asks by name; a swap is invisible; when the runtime restarts, the request is sent again (a prediction
has no side effect) until its deadline, and only then fails, with the error that says so.

A ``Client`` may be shared by threads but serves them one at a time: for parallel requests, give each thread its own.
It must not be used across ``fork``.
"""

import threading
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Self

from numpy.typing import ArrayLike

from edge_component.client.channel import Array, TooSmallError
from edge_component.client.connection import AskAgainError, Connection
from edge_component.client.errors import (
    BusyError,
    DeadlineExceededError,
    InputError,
    ModelFailedError,
    RefusedError,
    UnavailableError,
    UnknownModelError,
)
from edge_component.contracts.heartbeat import ModelRef

RETRY_S = 0.005
RETRY_S_MAX = 0.2
REOPENS_MAX = 8
"""Channels opened anew for one request: each is a swap to other tensors, or an answer that outgrew its room."""

ANSWERED = (InputError, UnknownModelError, ModelFailedError, DeadlineExceededError, RefusedError)
"""Errors that are whole answers: the conversation with the runtime goes on."""


@dataclass(frozen=True, slots=True)
class Answer:
    """One answer, and exactly who gave it.

    Attributes:
        outputs: arrays by output name, in the model's dtypes.
        model: name, version and bundle digest of the one model that computed all of it.
        run_us: how long the model itself ran, in µs.
    """

    outputs: Mapping[str, Array]
    model: ModelRef
    run_us: int


class Client:
    """Predictions from the runtime on this device.

    Connects when first used and again whenever it must; creating one does no I/O.
    """

    def __init__(self, socket_path: str | Path, *, deadline_s: float = 5.0) -> None:
        """Address the runtime's ``infer.sock``; ``deadline_s`` holds for requests that give none of their own."""
        self._socket_path = Path(socket_path)
        self._deadline_s = deadline_s
        self._lock = threading.Lock()
        self._connection: Connection | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Hang up. The client may be used again: it connects anew."""
        with self._lock:
            self._hang_up()

    def infer(
        self, model: str, inputs: Mapping[str, ArrayLike], *, deadline_s: float | None = None, copy: bool = True
    ) -> Answer:
        """Ask a model.

        Args:
            model: its name, such as ``weather``; whichever version is active answers.
            inputs: one array per input. Arrays must have the model's dtype (any byte order); lists are converted.
                A batch is one array whose first axis is the batch, where the model allows it.
            deadline_s: for everything together, connecting and restarts of the runtime included.
            copy: ``False`` returns views on the shared memory instead of copies; they hold until the next request
                but one where the model is small (two slots), else until the next request.

        Raises:
            InputError: an input's name, dtype, shape or NaN; the message names the tensor.
            UnknownModelError: no such model serves here.
            ModelFailedError: the model failed on this input.
            DeadlineExceededError: the runtime is there, but the answer came too late.
            UnavailableError: no runtime until the deadline.
            BusyError: the runtime's connections were all taken until the deadline.
            ProtocolError, RefusedError: see errors.py.
        """
        allowed_s = left_s = self._deadline_s if deadline_s is None else deadline_s
        ends_at_s = time.monotonic() + allowed_s
        pause_s = RETRY_S
        with self._lock:
            while True:
                try:
                    return self._ask(model, inputs, left_s, copy=copy)
                except ANSWERED:
                    raise
                except BaseException as error:  # noqa: BLE001 - raised again below unless it is worth another try
                    self._hang_up()  # in whatever state the conversation is: the next one begins anew
                    self._raise_unless_retried(error, model, allowed_s, ends_at_s - pause_s)
                time.sleep(pause_s)
                pause_s = min(pause_s * 2, RETRY_S_MAX)
                left_s = ends_at_s - time.monotonic()

    def _ask(self, model: str, inputs: Mapping[str, ArrayLike], left_s: float, *, copy: bool) -> Answer:
        connection = self._connected(left_s)
        known = connection.channel(model)
        channel, is_fresh = known or connection.open(model, inputs), known is None
        for _ in range(REOPENS_MAX):
            try:
                outputs, answered_by, run_us = connection.ask(channel, inputs, left_s, copy=copy)
            except InputError as error:
                if is_fresh or error.code == "input-nan":
                    raise
                channel, is_fresh = connection.open(model, inputs), True  # a swap may have brought other inputs
            except TooSmallError:
                channel = connection.open(model, inputs)
            except AskAgainError as again:
                channel = connection.open(model, inputs, again.failure.needed_bytes or 0)
            else:
                return Answer(outputs, answered_by, run_us)
        raise RefusedError(f"{model} changed its tensors {REOPENS_MAX} times in one request", "stale-channel")

    def _connected(self, left_s: float) -> Connection:
        if self._connection is None:
            self._connection = Connection(self._socket_path, left_s)
        self._connection.wait_at_most(left_s)
        return self._connection

    def _raise_unless_retried(self, error: BaseException, model: str, allowed_s: float, last_try_at_s: float) -> None:
        if isinstance(error, BlockingIOError):  # SO_RCVTIMEO ran out: connected, asked, not answered
            raise DeadlineExceededError(
                f"{model} did not answer within {allowed_s:g} s", "deadline-exceeded", "Allow more time."
            ) from error
        if not isinstance(error, OSError | BusyError):
            raise error
        if time.monotonic() < last_try_at_s:
            return
        if isinstance(error, BusyError):
            raise error
        raise UnavailableError(
            f"no runtime answered on {self._socket_path} within {allowed_s:g} s ({error})",
            "runtime-unavailable",
            "Is the component com.edgewright.Runtime installed and running? See `edgewright-edge doctor`.",
        ) from error

    def _hang_up(self) -> None:
        if self._connection is not None:
            self._connection.close()
            self._connection = None
