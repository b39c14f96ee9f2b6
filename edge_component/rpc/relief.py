"""Sees to it that a connection is read on while a long call is answered by the thread that read it.

The failure this exists for: a call is answered where it was read, since waking another thread costs more than most models
take (40 to 200 us measured, against 5 to 60). But then nobody hears that the client cancels, or asks whether the server
lives, until the answer is there and the client has taken it; a client that writes before it reads would wait for ever. So
one thread looks at the calls under way, and a connection whose present one takes longer than ``LONG_S`` is given another
thread to read it. As long as calls are short it changes nothing, and without any it sleeps.

One for each server. Thread-safe.
"""

import threading
import time
import weakref
from typing import Protocol

LONG_S = 0.02


class Relieved(Protocol):
    """What may need to be relieved."""

    def answers_since_s(self) -> float | None:
        """When its reading thread began to answer a call, by the monotonic clock; ``None`` while it reads."""

    def relieve(self, since_s: float) -> None:
        """Read on in another thread, if it still answers the call that it began then."""


class Relief:
    """The thread that looks.

    Attributes:
        is_awake: it will look within ``LONG_S``; whoever begins to answer while it is not must :meth:`wake` it.
    """

    def __init__(self) -> None:
        """Start with :meth:`start`."""
        self._watched: weakref.WeakSet[Relieved] = weakref.WeakSet()
        self._lock = threading.Lock()
        self._woken = threading.Event()
        self._stopping = False
        self.is_awake = False
        self._thread = threading.Thread(target=self._watch, name="grpc-relief", daemon=True)

    def start(self) -> None:
        """Begin to look."""
        self._thread.start()

    def stop(self) -> None:
        """End the thread."""
        self._stopping = True
        self._woken.set()
        if self._thread.ident is not None:
            self._thread.join()

    def watch(self, connection: Relieved) -> None:
        """Look at this one too, as long as it lives."""
        with self._lock:
            self._watched.add(connection)

    def wake(self) -> None:
        """Look from now on, until nothing is under way."""
        self.is_awake = True
        self._woken.set()

    def _watch(self) -> None:
        while not self._stopping:
            if not self._look():
                self.is_awake = False
                if not self._look():  # whoever began meanwhile saw us awake
                    self._woken.wait()
                self._woken.clear()
                self.is_awake = True
            time.sleep(LONG_S)

    def _look(self) -> bool:
        """Relieve those that have taken long; whether anything is under way."""
        with self._lock:
            watched = list(self._watched)
        is_any = False
        for connection in watched:
            since_s = connection.answers_since_s()
            if since_s is not None:
                is_any = True
                if time.monotonic() - since_s > LONG_S:
                    connection.relieve(since_s)
        return is_any
