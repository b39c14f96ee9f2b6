"""A server's threads for calls that are not answered where they were read, and how many calls it answers at once.

Thread-safe.
"""

import logging
from collections import deque
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

from edge_component.cores import run_anywhere
from edge_component.rpc.errors import CallEnded, GrpcCode
from edge_component.rpc.relief import Relief

log = logging.getLogger(__name__)


class Workers:
    """One server's; ``relief`` watches the calls that are answered where they were read, ``threads_max`` are for the rest."""

    def __init__(self, name: str, threads_max: int, calls_max: int) -> None:
        """Threads begin when they are first needed."""
        self.relief = Relief()
        self._calls_max = calls_max
        self.threads_max = threads_max
        places_count = calls_max + threads_max  # a client hears an answer before its thread has given the place back
        self._places = deque([None] * places_count)
        self._threads = ThreadPoolExecutor(threads_max, thread_name_prefix=name, initializer=run_anywhere)

    def enter(self) -> None:
        """Take a call's place; give it back by :meth:`leave`.

        Raises:
            CallEnded: all are taken.
        """
        try:
            self._places.pop()
        except IndexError:
            raise CallEnded(
                GrpcCode.RESOURCE_EXHAUSTED, f"{self._calls_max} calls are being answered already; try again"
            ) from None

    def leave(self) -> None:
        """The call is answered."""
        self._places.append(None)

    def submit(self, work: Callable[[], None]) -> None:
        """Have a call answered that has its place; the place is given back when it is.

        Raises:
            CallEnded: the server is closing, or the system has no thread for it.
        """
        once = [work]
        try:
            self._threads.submit(self._run, once)
        except RuntimeError as error:
            if not _withdrawn(once):
                return  # another thread has taken it all the same
            self.leave()
            raise CallEnded(GrpcCode.UNAVAILABLE, f"no thread for this call: {error}") from error

    def stop(self) -> None:
        """Take no more calls; those under way go on."""
        self.relief.stop()
        self._threads.shutdown(wait=False, cancel_futures=False)

    def _run(self, once: list[Callable[[], None]]) -> None:
        try:
            work = once.pop()
        except IndexError:  # withdrawn: the executor keeps what it says it has no thread for
            return
        try:
            work()
        except OSError as error:
            log.debug("a gRPC client went away: %s", error)
        except Exception:  # a defect of ours must not cost the thread
            log.exception("a gRPC call ended in an unforeseen error")
        finally:
            self.leave()


def _withdrawn(once: list[Callable[[], None]]) -> bool:
    """Whether nobody has begun it, and nobody will."""
    try:
        once.pop()
    except IndexError:
        return False
    return True
