"""One request computed, whatever door it came through that has no shared memory: a place, a deadline, a detour or the session.

The failure this exists for: doors that each do it a little differently, so that one of them forgets the limits. (The fast
path has its own way, because its tensors are bound to a client's memory: serving/fastpath_connection.py.)

A caller's thread does all of it; nothing here is shared but the model.
"""

import threading

from edge_component.inference.deadline import DeadlineWatch, Leash
from edge_component.inference.errors import RunCancelledError, RunDeadlineError, RunFailedError
from edge_component.inference.session import Session, Tensors
from edge_component.inference.versions import NO_TURN, ActiveModel, Turn


def compute(active: ActiveModel, inputs: Tensors, leash: Leash, allowed_s: float, turn: Turn = NO_TURN) -> Tensors:
    """Wait for a place, then compute; outputs by name.

    Args:
        active: who answers, from :meth:`Route.resolve`.
        inputs: as ``active.inputs`` says.
        leash: the calling thread's own; afterwards it says how long the request waited, and how often the model ran.
        allowed_s: for waiting and computing together.
        turn: whose state is carried, for models that have any.

    Raises:
        OverloadedError: no place, and no room to wait for one; not begun.
        RunDeadlineError: not done in ``allowed_s``.
        RequestError: as :meth:`Session.run`.
    """
    left_s = active.gate.enter(allowed_s)
    leash.waited_s = allowed_s - left_s
    try:
        if active.detour is not None:
            return active.detour.run(inputs, leash, left_s, turn)
        return run_session(active.session, inputs, leash, left_s)
    finally:
        active.gate.leave()


def run_session(session: Session, inputs: Tensors, leash: Leash, allowed_s: float) -> Tensors:
    """One run that is stopped when its time is up.

    Raises:
        RunDeadlineError: it was stopped.
        RequestError: as :meth:`Session.run`.
    """
    leash.start(allowed_s)
    try:
        outputs = session.run(inputs, leash.options)
    except RunFailedError as error:
        if leash.end():
            raise RunDeadlineError(f"stopped after {allowed_s:g} s") from error
        raise
    except BaseException:
        leash.end()
        raise
    leash.end()
    leash.runs_count += 1
    return outputs


class Cancellation:
    """Ends one request from another thread: give :attr:`leash` to that request alone, and :meth:`cancel` when need be.

    ONNX Runtime ends a run within about a millisecond (measured); the session stays usable.
    """

    def __init__(self, watch: DeadlineWatch) -> None:
        """Not cancelled."""
        self.leash = watch.leash()
        self._cancelled = threading.Event()

    def cancel(self) -> None:
        """Nobody wants the answer any more; may be called at any time, more than once."""
        self._cancelled.set()
        self.leash.options.terminate = True

    def compute(self, active: ActiveModel, inputs: Tensors, allowed_s: float, turn: Turn = NO_TURN) -> Tensors:
        """See :func:`compute`.

        Raises:
            RunCancelledError: :meth:`cancel` was called before it was done.
        """
        try:
            return compute(active, inputs, self.leash, allowed_s, turn)
        except (RunFailedError, RunDeadlineError) as error:
            if self._cancelled.is_set():
                raise RunCancelledError("the request was cancelled") from error
            raise
