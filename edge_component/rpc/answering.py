"""From a whole request to its answer on the wire, in whichever thread; every way a call can end is here.

The failure this exists for: a call that ends in no way at all, and a client that waits for it. Whatever is raised becomes a
status, once, and the call is closed behind it.

Thread-safe: calls share nothing but the connection that they are sent over.
"""

import logging
import time
from collections.abc import Callable
from contextlib import closing

from edge_component.rpc.answers import Answers
from edge_component.rpc.calls import Call, Reply, Service
from edge_component.rpc.errors import CallEnded, GrpcCode, NoRoomError
from edge_component.rpc.flow import Wait
from edge_component.rpc.frames import Code, reset

log = logging.getLogger(__name__)

UNFORESEEN = CallEnded(GrpcCode.INTERNAL, "an unforeseen error; see the runtime's log")
CANCELLED = CallEnded(GrpcCode.CANCELLED, "the client has gone")

Outcome = Reply | CallEnded


class Answering:
    """One connection's; ``close`` is called for each call when nothing more of it is sent."""

    def __init__(self, service: Service, answers: Answers, close: Callable[[Call], None]) -> None:
        """Of parts that the connection shares."""
        self._service = service
        self._answers = answers
        self._close = close

    def outcome(self, call: Call) -> Outcome:
        """What the service says to a call with one message; never raises."""
        if call.is_over:
            return CANCELLED
        try:
            return self._service.unary[call.head.path](call.only_request(), call)
        except CallEnded as ended:
            return ended
        except Exception:  # whoever waits must be told, whatever is wrong
            log.exception("a call of %s ended in an unforeseen error", call.head.path)
            return UNFORESEEN

    def finish(self, call: Call, outcome: Outcome, wait: Wait) -> None:
        """Send it; ``wait`` as in :meth:`~edge_component.rpc.flow.Outgoing.take`.

        Raises:
            OSError: the connection is over.
        """
        ready_ns = time.perf_counter_ns()
        try:
            if call.is_over:
                return
            if isinstance(outcome, Reply):
                self._answers.answer(call.number, outcome.parts, wait)
            else:
                self._answers.end(call.number, outcome, is_begun=False)
        except NoRoomError as error:
            self._give_up(call, error)
        finally:
            self._close(call)
            if isinstance(outcome, Reply) and outcome.after_sending is not None:
                outcome.after_sending(ready_ns)
            call.incoming.release_all()

    def stream(self, call: Call, on_taken: Callable[[Call, int], None]) -> None:
        """Answer message by message until the client, or the service, is done.

        Raises:
            OSError: the connection is over.
        """
        is_begun, ended = False, None
        try:
            with closing(self._service.streaming[call.head.path](call.requests(on_taken), call)) as replies:
                for reply in replies:
                    self._send_one(call, reply, is_first=not is_begun)
                    is_begun = True
        except CallEnded as error:
            ended = error
        except NoRoomError as error:
            self._give_up(call, error)
        except Exception as error:  # as above
            if isinstance(error, OSError) and call.is_over:
                raise  # the connection's, and no service's
            log.exception("a call of %s ended in an unforeseen error", call.head.path)
            ended = UNFORESEEN
        finally:
            try:
                if not call.is_over:
                    self._answers.end(call.number, ended, is_begun=is_begun, has_all=call.has_all)
            finally:
                self._close(call)

    def _send_one(self, call: Call, reply: Reply, *, is_first: bool) -> None:
        """One of a stream's answers."""
        ready_ns = time.perf_counter_ns()
        try:
            if is_first:
                self._answers.begin(call.number)
            self._answers.message(call.number, reply.parts, None)
        except OSError:
            call.is_over = True
            raise
        finally:  # also when the client gave up waiting
            if reply.after_sending is not None:
                reply.after_sending(ready_ns)

    def end_early(self, call: Call, ended: CallEnded, *, has_all: bool) -> None:
        """End a call that nobody answers yet, before the client has said everything or for want of room.

        Raises:
            OSError: the connection is over.
        """
        call.is_over = True
        try:
            self._answers.end(call.number, ended, is_begun=False, has_all=has_all)
        finally:
            self._close(call)

    def _give_up(self, call: Call, error: NoRoomError) -> None:
        """The answer cannot be sent to its end."""
        log.debug("an answer was not sent: %s", error)
        if not call.is_over:
            call.is_over = True
            self._answers.send_soon(reset(call.number, Code.CANCEL))
