"""What a component wants done on each connection to its nucleus: heard, told, read; and done again until it is taken.

The failures this exists for: a state, or a subscription, that is told or asked once, at a bad moment, and never again; one
whose stream the nucleus ends while the connection stays, and a component that is deaf from then on; one that is asked for
a second time while the first may still be answered, after which everything is heard twice; and a nucleus that is asked
thousands of times a minute for what it does not have.

It makes no connection and no call (``nucleus`` does, through :class:`Link`). What is refused for what it is, is left until
the configuration, in which the accessControl lies, is read again. One thread does the errands; anybody may ask for one.
"""

import logging
import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from enum import Enum
from typing import Any, Protocol, TypeVar

from edge_component.nucleus_address import NucleusLimits
from edge_component.nucleus_errors import NucleusError, NucleusRefusedError
from edge_component.nucleus_port import Configuration, OnConfigurationChange

logger = logging.getLogger("edge_component.nucleus")

Told = TypeVar("Told")


class Outcome(Enum):
    """What the nucleus made of an attempt."""

    DONE = "done"
    REFUSED = "refused"
    NOT_NOW = "not now"


@dataclass(frozen=True, slots=True)
class StreamHandlers:
    """What awsiot calls, on awscrt's network thread."""

    on_stream_event: Callable[[Any], None]
    on_stream_error: Callable[[Exception], bool]
    on_stream_closed: Callable[[], None]


class Operation(Protocol):
    """An awsiot operation, as far as it is ended here."""

    def close(self) -> object:
        """End its stream, if that is open."""


Open = Callable[[Any, StreamHandlers], tuple[Any, Operation]]
"""Ask a client for a subscription: the answer to come, and the operation."""


class Link(Protocol):
    """The connection that the errands are done on."""

    def is_serving(self) -> bool:
        """Whether it still is one."""

    def configuration(self) -> Configuration:
        """The component's. Raises NucleusError."""

    def update_state(self, state: str) -> None:
        """Tell the nucleus. Raises NucleusError."""

    def subscribe(self, open_stream: Open, handlers: StreamHandlers, operations: list[Operation]) -> None:
        """Ask, put the operation into ``operations``, wait for the answer. Raises NucleusError."""


@dataclass(slots=True, eq=False)
class _Stream:
    """One attempt at a subscription on one connection; ``outcome`` is ``None`` while it is unknown."""

    connection: object
    outcome: Outcome | None = None
    is_over: bool = False


@dataclass(slots=True, eq=False)
class Subscription:
    """One thing to hear.

    Attributes:
        name: for the log.
        open: asks for it.
        on_event: hears what comes, on awscrt's network thread.
    """

    name: str
    open: Open
    on_event: Callable[[Any], None]
    stream: _Stream | None = field(default=None, init=False)

    def is_missing(self, connection: object, *, retries_refused: bool) -> bool:
        """Whether it must be asked for on this connection, for the first time or again."""
        stream = self.stream
        if stream is None or stream.connection is not connection:
            return True
        return retries_refused if stream.outcome is Outcome.REFUSED else stream.is_over


class Errands:
    """See the module's text. ``changed`` guards everything here, and is notified of whatever ends a wait."""

    def __init__(
        self, link: Link, changed: threading.Condition, limits: NucleusLimits, random: Callable[[], float]
    ) -> None:
        """Nothing is wanted yet. ``random`` gives a float in [0, 1), for the backoff."""
        self._link = link
        self._changed = changed
        self._limits = limits
        self._random = random
        self._subscriptions: list[Subscription] = []
        self._on_configuration: list[OnConfigurationChange] = []
        self._told_configuration: Configuration | None = None
        self._state = ""
        self._is_configuration_stale = False
        self._is_wanted = False  # somebody asked for something since the thread last looked
        self._is_lost = False  # the nucleus has ended a stream since then
        self._setbacks_count = 0
        self._lacks: set[str] = set()

    # -- asked for, by anybody -----------------------------------------------------------------------------------------

    def hear(self, subscription: Subscription) -> None:
        """On this connection and every later one."""
        with self._changed:
            self._subscriptions = [*self._subscriptions, subscription]
            self._want()

    def report(self, state: str) -> None:
        """Tell this state, unless another one follows before it could be told."""
        with self._changed:
            self._state = state
            self._want()

    def tell_configuration(self, callback: OnConfigurationChange) -> None:
        """Call with the configuration, once it is read and whenever it has changed."""
        with self._changed:
            self._on_configuration.append(callback)
            self._told_configuration = None
        self.read_configuration()

    def read_configuration(self) -> None:
        """It may have changed."""
        with self._changed:
            self._is_configuration_stale = True
            self._want()

    def _want(self) -> None:
        self._is_wanted = True
        self._changed.notify_all()

    # -- done, by one thread -------------------------------------------------------------------------------------------

    def serve(self, connection: object) -> None:
        """Do what is wanted on a connection, until it ends."""
        self._setbacks_count = 0
        self.read_configuration()
        while self._link.is_serving():
            done = (self._subscribe(connection), self._report_state(), self._refresh_configuration())
            self._wait(is_done=all(done))

    def _wait(self, *, is_done: bool) -> None:
        """Until something is wanted, or the configuration is due; after a setback, until it is time to try again."""
        with self._changed:
            if is_done:
                is_called = self._changed.wait_for(
                    lambda: not self._link.is_serving() or self._is_wanted or self._is_lost,
                    self._limits.configuration_poll_s,
                )
                self._is_configuration_stale |= not is_called
                self._setbacks_count = self._setbacks_count if self._is_lost else 0
            if not is_done or self._is_lost:
                self._setbacks_count += 1
                wait_s = self._limits.retry.wait_s(self._setbacks_count, self._random)
                self._changed.wait_for(lambda: not self._link.is_serving() or self._is_wanted, wait_s)
            self._is_wanted = self._is_lost = False

    def _subscribe(self, connection: object) -> bool:
        """Whether nothing is left to be tried again soon; as for the others."""
        with self._changed:
            again = self._is_configuration_stale
            missing = [one for one in self._subscriptions if one.is_missing(connection, retries_refused=again)]
        outcomes = [self._begin(subscription, _Stream(connection)) for subscription in missing]
        return Outcome.NOT_NOW not in outcomes

    def _begin(self, wanted: Subscription, stream: _Stream) -> Outcome:
        wanted.stream = stream
        operations: list[Operation] = []
        handlers = self._handlers(wanted, stream)
        outcome = self._attempt(wanted.name, lambda: self._link.subscribe(wanted.open, handlers, operations))
        with self._changed:
            stream.outcome = outcome
            self._is_lost |= outcome is Outcome.DONE and stream.is_over
            if outcome is Outcome.NOT_NOW:
                wanted.stream = None
        if outcome is not Outcome.DONE:
            for operation in operations:
                operation.close()  # else a late answer would make it heard twice
        return outcome

    def _handlers(self, wanted: Subscription, stream: _Stream) -> StreamHandlers:
        def on_closed() -> None:
            with self._changed:
                stream.is_over = True
                self._is_lost |= stream.outcome is Outcome.DONE
                self._changed.notify_all()

        def on_error(error: Exception) -> bool:
            self._say_lack(f"an event of {wanted.name}", describe(error))
            return False  # the stream stays, and what comes next is heard

        return StreamHandlers(lambda event: shielded(wanted.on_event, event), on_error, on_closed)

    def _report_state(self) -> bool:
        state = self._state
        if not state:
            return True
        outcome = self._attempt("UpdateState", lambda: self._link.update_state(state))
        with self._changed:
            if outcome is Outcome.DONE and self._state == state:
                self._state = ""
        return outcome is not Outcome.NOT_NOW

    def _refresh_configuration(self) -> bool:
        with self._changed:
            if not self._is_configuration_stale:
                return True
            self._is_configuration_stale = False
        read: list[Configuration] = []
        outcome = self._attempt("GetConfiguration", lambda: read.append(self._link.configuration()))
        if outcome is Outcome.NOT_NOW:
            with self._changed:
                self._is_configuration_stale = True
        for document in read:
            self._tell(document)
        return outcome is not Outcome.NOT_NOW

    def _tell(self, document: Mapping[str, Any]) -> None:
        if document == self._told_configuration:
            return
        self._told_configuration = document
        for callback in list(self._on_configuration):
            shielded(callback, dict(document))

    def _attempt(self, operation: str, act: Callable[[], None]) -> Outcome:
        """Try what a nucleus may not have, or not now; that it does not work is said once, and that it does again."""
        try:
            act()
        except NucleusError as error:
            self._say_lack(operation, str(error))
            return Outcome.REFUSED if isinstance(error, NucleusRefusedError) else Outcome.NOT_NOW
        if operation in self._lacks:
            self._lacks.discard(operation)
            logger.info("nucleus: %s works again", operation)
        return Outcome.DONE

    def _say_lack(self, what: str, why: str) -> None:
        if what not in self._lacks and self._link.is_serving():
            self._lacks.add(what)
            logger.warning("nucleus: %s does not work here, going on without: %s", what, why)


def describe(error: BaseException) -> str:
    """An error of awsiot's in words: its type, its ``message`` where the nucleus sent one that the SDK reads, its repr."""
    message = getattr(error, "message", None)
    return f"{type(error).__name__}: {message or repr(error)}"


def shielded(callback: Callable[[Told], None], told: Told) -> None:
    """Call; what fails is logged, since a caller's callback must not cost everybody the connection."""
    try:
        callback(told)
    except Exception:  # whatever a caller's callback raises
        logger.exception("nucleus: a callback failed")
