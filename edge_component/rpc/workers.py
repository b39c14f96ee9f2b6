"""A server's threads for calls that are not answered where they were read, shared out among its connections.

The failure this exists for: a client that asks for much and takes no answer. Each of its answers holds a thread until the
client has had its time, and the calls of all others would wait for that, or be refused. So a connection may have a thread, or a
call, as long as it has fewer than are left for others, and ``THREADS_LEAST`` and ``CALLS_LEAST`` whatever others have. A client
that is alone has half of all; each further one that takes what it can gets less, and none gets nothing.

What a connection may not have a thread for yet waits in its own queue, and the queues take turns. Thread-safe.
"""

import logging
import threading
from collections import deque
from collections.abc import Callable
from contextlib import suppress

from edge_component.cores import run_anywhere
from edge_component.rpc.errors import CallEnded, GrpcCode
from edge_component.rpc.relief import Relief

log = logging.getLogger(__name__)

CALLS_LEAST = 8
THREADS_LEAST = 2
"""So that one with a stream open is answered besides."""

Work = Callable[[], None]


class Share:
    """What one connection has of a server's threads and calls; written under the lock of its :class:`Workers`."""

    __slots__ = ("calls_count", "running_count", "waiting")

    def __init__(self) -> None:
        """Nothing."""
        self.calls_count = self.running_count = 0
        self.waiting: deque[Work] = deque()


class Workers:
    """One server's; ``relief`` watches the calls that are answered where they were read, ``threads_max`` are for the rest."""

    def __init__(self, name: str, threads_max: int, calls_max: int) -> None:
        """As many for one connection that is alone; threads begin when they are first needed."""
        self.relief = Relief()
        self.threads_max = threads_max
        self._name = name
        self._changed = threading.Condition()
        self._calls_left = 2 * (calls_max + threads_max)  # a client hears an answer before its thread is free
        self._threads_left = 2 * threads_max
        self._turns: deque[Share] = deque()
        """Whose calls wait, in the order in which they are looked at."""
        self._idle_count = self._called_count = 0
        """Threads that wait; those that were called, or begin, and have not looked yet."""
        self._is_stopping = False

    def submit(self, share: Share, work: Work) -> None:
        """Have a call answered; what it raises is logged.

        Raises:
            CallEnded: too many are answered already, the server is closing, or the system has no thread for it.
        """
        with self._changed:
            if share.calls_count >= max(self._calls_left, CALLS_LEAST):
                raise CallEnded(
                    GrpcCode.RESOURCE_EXHAUSTED,
                    f"{share.calls_count} of this connection's calls are being answered; try again",
                )
            if self._is_stopping:
                raise CallEnded(GrpcCode.UNAVAILABLE, "no thread for this call: the server is closing")
            if not share.waiting:
                self._turns.append(share)
            share.waiting.append(work)
            if self._may_run(share, self._called_count):  # whoever was called and has not looked yet calls the next
                try:
                    self._call_one()
                except RuntimeError as error:
                    self._withdraw(share)
                    raise CallEnded(GrpcCode.UNAVAILABLE, f"no thread for this call: {error}") from error
            share.calls_count += 1
            self._calls_left -= 1

    def stop(self) -> None:
        """Take no more calls; those under way, and those that wait, go on."""
        self.relief.stop()
        with self._changed:
            self._is_stopping = True
            self._called_count, self._idle_count = self._called_count + self._idle_count, 0
            self._changed.notify_all()

    # With the lock -----------------------------------------------------------------------------------------------------

    def _may_run(self, share: Share, beside_count: int = 0) -> bool:
        """One more of this connection's calls, as if so many more of them were running already."""
        return share.running_count + beside_count < max(self._threads_left - beside_count, THREADS_LEAST)

    def _call_one(self) -> None:
        """One more thread looks for something to do. Raises RuntimeError: the system has none."""
        if self._idle_count:
            self._idle_count -= 1
            self._changed.notify()
        else:
            threading.Thread(target=self._work, name=f"{self._name}-calls", daemon=True).start()
        self._called_count += 1

    def _withdraw(self, share: Share) -> None:
        """What came last; nobody has begun it."""
        share.waiting.pop()
        if not share.waiting:
            self._turns.remove(share)

    def _next(self) -> tuple[Share, Work] | None:
        """The next call of the connection whose turn it is, of those that may have a thread."""
        for _ in range(len(self._turns)):
            share = self._turns.popleft()
            if not self._may_run(share):
                self._turns.append(share)
                continue
            work = share.waiting.popleft()
            if share.waiting:
                self._turns.append(share)
            share.running_count += 1
            self._threads_left -= 1
            return share, work
        return None

    def _leave(self, share: Share) -> None:
        share.running_count -= 1
        share.calls_count -= 1
        self._threads_left += 1
        self._calls_left += 1

    # A thread ----------------------------------------------------------------------------------------------------------

    def _work(self) -> None:
        run_anywhere()
        found = self._take(None)
        while found is not None:
            share, work = found
            try:
                work()
            except OSError as error:
                log.debug("a gRPC client went away: %s", error)
            except Exception:  # a defect of ours must not cost the thread
                log.exception("a gRPC call ended in an unforeseen error")
            del work, found  # or what was answered is kept until there is something else
            found = self._take(share)

    def _take(self, done: Share | None) -> tuple[Share, Work] | None:
        """What to do next, when what was done for ``done`` is over, or the thread was called; ``None``: end."""
        with self._changed:
            if done is not None:
                self._leave(done)
            else:
                self._called_count -= 1
            while (found := self._next()) is None:
                if self._is_stopping or self._idle_count >= self.threads_max:
                    return None
                self._idle_count += 1
                self._changed.wait()
                self._called_count -= 1
            if not self._called_count and any(map(self._may_run, self._turns)):
                with suppress(RuntimeError):  # whoever is done next looks for itself
                    self._call_one()
            return found
