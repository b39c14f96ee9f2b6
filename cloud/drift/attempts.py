"""When a model version is retrained once more, and how an attempt ended. Pure; ``incidents`` stores, ``watch`` drives.

The failures this exists for: one failed job after which nothing ever retrains the model again, and nobody is told; and
its opposite, a model that is trained every few minutes on the data that just failed.

Rules:

1. The first window that says retrain opens attempt 1 of its model version.
2. While an attempt is open or running, or once one has succeeded, nothing more is opened: what follows is a deployment.
3. After a failed attempt, a window that still says retrain opens the next one, once ``pause_s`` has passed since that
   failure; the pause grows by ``pause_factor`` each time, and ``attempts_max`` ends it.
4. Whoever aborts an execution by hand has decided: no further attempt.

What became of an attempt is what Step Functions says of the executions that its event started. There may be several,
since EventBridge delivers at least once: jobs are named after the attempt, so that all but one of them end at once for
want of a name, and the earliest speaks for all unless another succeeded or runs. None at all within ``start_within_s``
is a failure as well: a rule is missing, or an event was lost.
"""

import json
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime, timedelta

ATTEMPT_STATES = ("open", "running", "succeeded", "failed", "stopped")
PENDING_STATES = ("open", "running")
EXECUTION_RUNS = frozenset({"RUNNING", "PENDING_REDRIVE"})
REASON_CHARS_MAX = 600


@dataclass(frozen=True, slots=True)
class AttemptLimits:
    """How often a model version is retrained, and how soon again.

    Attributes:
        attempts_max: for one model version.
        pause_s: from the first failure to the next attempt at the earliest.
        pause_factor: by how much the pause grows with each further failure.
        start_within_s: how long after its announcement an attempt's execution must be seen.
    """

    attempts_max: int = 5
    pause_s: float = 3_600.0
    pause_factor: float = 4.0
    start_within_s: float = 3_600.0

    def pause_after(self, number: int) -> timedelta:
        """From the failure of attempt ``number`` to the next."""
        return timedelta(seconds=self.pause_s * self.pause_factor ** (number - 1))


@dataclass(frozen=True, slots=True)
class Attempt:
    """One try to replace a model version.

    Attributes:
        incident_id: its own, and the prefix of its jobs' names.
        number: from 1, for its model version.
        announced_at: when EventBridge took its event; ``None`` until then.
        state: one of ``ATTEMPT_STATES``.
        ended_at: ``None`` while it is pending.
    """

    incident_id: str
    model_name: str
    version: str
    number: int
    announced_at: datetime | None
    state: str
    ended_at: datetime | None = None


@dataclass(frozen=True, slots=True)
class Execution:
    """One run of a retraining state machine.

    Attributes:
        incident_id: of the event that started it; empty where its input is not one of our events.
        status: Step Functions' own word, such as ``FAILED``.
        error, cause: as DescribeExecution answers them; a failed job's cause is its description as JSON.
    """

    arn: str
    incident_id: str
    status: str
    started_at: datetime
    error: str = ""
    cause: str = ""


@dataclass(frozen=True, slots=True)
class Outcome:
    """What an attempt has come to: a state, a sentence for the history (empty while it runs), and the execution."""

    state: str
    sentence: str = ""
    execution_arn: str = ""


def next_attempt(last: Attempt | None, now: datetime, limits: AttemptLimits) -> int | None:
    """The number of the attempt that a window which says retrain opens now; ``None`` if it opens none (rules 1 to 4)."""
    if last is None:
        return 1
    if last.state != "failed" or last.ended_at is None or last.number >= limits.attempts_max:
        return None
    return last.number + 1 if now >= last.ended_at + limits.pause_after(last.number) else None


def outcome(attempt: Attempt, executions: Iterable[Execution], now: datetime, limits: AttemptLimits) -> Outcome | None:
    """What a pending attempt has come to, if that is news."""
    own = sorted((one for one in executions if one.incident_id == attempt.incident_id), key=lambda one: one.started_at)
    for execution in own:
        if execution.status == "SUCCEEDED":
            return Outcome("succeeded", _succeeded(attempt), execution.arn)
    for execution in own:
        if execution.status in EXECUTION_RUNS:
            return Outcome("running", "", execution.arn) if attempt.state != "running" else None
    if own:
        return _ended(attempt, own[0], now, limits)
    since = attempt.announced_at or now
    if now - since <= timedelta(seconds=limits.start_within_s):
        return None
    reason = "no execution of its state machine was seen; `edgewright setup --model` makes machine and rule"
    return Outcome("failed", _failed(attempt, reason, now, limits))


def reason_of(execution: Execution) -> str:
    """Why an execution ended badly, in one line: the failed job's own words where there is a job."""
    if execution.status == "TIMED_OUT":
        return _line("the state machine ran out of time", execution.cause)
    try:
        described = json.loads(execution.cause)
    except ValueError:
        described = None
    if not isinstance(described, dict):
        return _line(execution.error or execution.status, execution.cause)
    job = described.get("TrainingJobName") or described.get("ProcessingJobName") or execution.error
    words = described.get("ExitMessage") or described.get("FailureReason") or execution.error
    return _line(str(job or "a job"), str(words))


def _line(head: str, text: str) -> str:
    line = " ".join(f"{head}: {text}".split()).rstrip(": .")
    return line if len(line) <= REASON_CHARS_MAX else f"{line[: REASON_CHARS_MAX - 1]}…"


def _ended(attempt: Attempt, execution: Execution, now: datetime, limits: AttemptLimits) -> Outcome:
    if execution.status == "ABORTED":
        sentence = (
            f"Retraining of {attempt.model_name} {attempt.version} was stopped by hand (attempt {attempt.number}); "
            "nothing retrains this version again by itself."
        )
        return Outcome("stopped", sentence, execution.arn)
    return Outcome("failed", _failed(attempt, reason_of(execution), now, limits), execution.arn)


def _succeeded(attempt: Attempt) -> str:
    return (
        f"Retraining of {attempt.model_name} {attempt.version} published a new version (attempt {attempt.number}); "
        "deploying it is for you."
    )


def _failed(attempt: Attempt, reason: str, now: datetime, limits: AttemptLimits) -> str:
    what = f"Retraining of {attempt.model_name} {attempt.version} failed"
    if attempt.number >= limits.attempts_max:
        then = "That was the last one: correct the cause, then run edgewright train."
    else:
        at = now + limits.pause_after(attempt.number)
        then = f"Drift that lasts until {at:%Y-%m-%d %H:%M} UTC starts the next."
    return f"{what} (attempt {attempt.number} of {limits.attempts_max}): {reason}. {then}"
