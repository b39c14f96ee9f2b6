"""What a SageMaker job is at, as a value and the changes it may take. Pure; time is a parameter.

Statuses as in DescribeTrainingJob: ``InProgress`` (``Starting``, ``Downloading``, ``Training``, ``Uploading``), then
``Completed``, ``Failed`` or ``Stopped`` (``Stopped`` or ``MaxRuntimeExceeded``), by way of ``Stopping`` where somebody asked.
A job that has ended never changes again.
"""

from collections.abc import Iterable
from dataclasses import dataclass, replace
from datetime import datetime

REASON_CHARS_MAX = 1_024
ENDED = frozenset({"Completed", "Failed", "Stopped"})


@dataclass(frozen=True, slots=True)
class Transition:
    """One secondary status, from when to when."""

    status: str
    started_at: datetime
    ended_at: datetime | None = None


@dataclass(frozen=True, slots=True)
class JobState:
    """Where a job stands.

    Attributes:
        status: the job's status.
        secondary: the finer one.
        created_at, modified_at: of the request, of the last change.
        started_at: when its command began to run.
        ended_at: when the job ended.
        transitions: every secondary status so far.
        reason: why it failed.
        exit_message: what a processing job left in ``/opt/ml/output/message``.
    """

    status: str
    secondary: str
    created_at: datetime
    modified_at: datetime
    started_at: datetime | None = None
    ended_at: datetime | None = None
    transitions: tuple[Transition, ...] = ()
    reason: str | None = None
    exit_message: str | None = None

    @property
    def has_ended(self) -> bool:
        """Whether it is in a final status."""
        return self.status in ENDED


def created(at: datetime) -> JobState:
    """A job that was just asked for."""
    return JobState("InProgress", "Starting", at, at, transitions=(Transition("Starting", at),))


def advanced(state: JobState, secondary: str, at: datetime, *, is_running: bool = False) -> JobState:
    """The next stage; a job that is being stopped keeps its status, and one that has ended stays as it is."""
    if state.has_ended:
        return state
    started_at = at if is_running else state.started_at
    if state.status == "Stopping":
        return replace(state, modified_at=at, started_at=started_at)
    return replace(_moved(state, secondary, at), started_at=started_at)


def stopping(state: JobState, at: datetime) -> JobState:
    """Somebody asked to stop it."""
    return state if state.has_ended else replace(_moved(state, "Stopping", at), status="Stopping")


def ended(
    state: JobState,
    status: str,
    at: datetime,
    *,
    secondary: str | None = None,
    reason: str | None = None,
    exit_message: str | None = None,
) -> JobState:
    """The end; ``secondary`` where it is not the status itself."""
    if state.has_ended:
        return state
    moved = _moved(state, secondary or status, at)
    return replace(
        moved,
        status=status,
        ended_at=at,
        transitions=(*moved.transitions[:-1], replace(moved.transitions[-1], ended_at=at)),
        reason=None if reason is None else reason[:REASON_CHARS_MAX],
        exit_message=None if exit_message is None else exit_message[:REASON_CHARS_MAX],
    )


def failure_reason(written: str | None, log_tail: Iterable[str], exit_code: int) -> str:
    """The reason of a command that failed: what it wrote to ``/opt/ml/output/failure``, then its last lines.

    At most :data:`REASON_CHARS_MAX` characters; what is cut is the beginning of the log.
    """
    head = f"AlgorithmError: {written.strip()[: REASON_CHARS_MAX // 2]}\n" if written else "AlgorithmError: "
    tail = f", exit code: {exit_code}"
    room = REASON_CHARS_MAX - len(head) - len(tail)
    log = "\n".join(log_tail).strip()
    return f"{head}{log[-room:]}{tail}"


def _moved(state: JobState, secondary: str, at: datetime) -> JobState:
    *before, last = state.transitions
    return replace(
        state,
        secondary=secondary,
        modified_at=at,
        transitions=(*before, replace(last, ended_at=at), Transition(secondary, at)),
    )
