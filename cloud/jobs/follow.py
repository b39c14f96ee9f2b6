"""Follow a job to its end.

The failure this exists for: "Failed", and nothing more. A job's end is an answer or an error that carries SageMaker's
reason and the script's last lines. Following is reading alone: interrupted, it leaves the job as it is, and can be
begun again.
"""

import time
from collections.abc import Callable
from dataclasses import dataclass

from cloud.errors import DeniedError, NotFoundError, UnavailableError
from cloud.jobs.job import JobFailedError, JobKind, Jobs, JobState, JobUnfinishedError

OnChange = Callable[[JobState], None]

STAGES = {
    "MaxRuntimeExceeded": "it ran for longer than max_runtime_s of model.toml allows",
    "MaxWaitTimeExceeded": "it waited for a machine for longer than it may",
    "Interrupted": "its spot machine was taken away",
    "Stopped": "somebody stopped it",
}
"""Why a job was stopped, which SageMaker says in its secondary status alone."""


@dataclass(frozen=True, slots=True)
class FollowLimits:
    """How a job is followed.

    Attributes:
        poll_s, poll_s_max: between two looks, at first and at most; each is half as long again as the one before.
        patience_s: after so long it is given up, and the job goes on.
        silence_s: how long AWS may not answer before it is given up.
        unknown_s: how long a job that was just started may be unknown.
        log_lines: of a failed job's log, in the error.
    """

    poll_s: float = 0.2
    poll_s_max: float = 3.0
    patience_s: float = 86_400.0
    silence_s: float = 300.0
    unknown_s: float = 10.0
    log_lines: int = 20


def follow(
    jobs: Jobs,
    kind: JobKind,
    name: str,
    on_change: OnChange = lambda _: None,
    limits: FollowLimits = FollowLimits(),
    sleep: Callable[[float], None] = time.sleep,
) -> JobState:
    """Wait until a job has completed; ``on_change`` is told of each new stage.

    Raises:
        JobFailedError: it failed or was stopped.
        DeniedError: these credentials may not ask any more; the job goes on.
        JobUnfinishedError: it has not ended within ``limits.patience_s``, or nothing was heard for ``limits.silence_s``.
        NotFoundError: as the port's.
    """
    waited_s, heard_at_s, pause_s, stage = 0.0, 0.0, limits.poll_s, ""
    while True:
        state = _look(jobs, kind, name, waited_s, waited_s - heard_at_s, limits)
        if state is not None:
            heard_at_s = waited_s
            if state.stage != stage:
                stage = state.stage
                on_change(state)
            if state.has_ended:
                return _completed(jobs, kind, state, limits)
        if waited_s >= limits.patience_s:
            sentence = f"{kind} job {name} has not ended within {waited_s:.0f} s ({stage})"
            raise JobUnfinishedError(sentence, _goes_on(name))
        sleep(pause_s)
        waited_s += pause_s
        pause_s = min(pause_s * 1.5, limits.poll_s_max)


def _look(
    jobs: Jobs, kind: JobKind, name: str, waited_s: float, silent_s: float, limits: FollowLimits
) -> JobState | None:
    """The job's state; ``None`` where AWS does not say, and may be asked again."""
    try:
        return jobs.state(kind, name)
    except UnavailableError as error:
        if silent_s >= limits.silence_s:
            raise JobUnfinishedError(str(error), _goes_on(name)) from error
    except NotFoundError:
        if waited_s >= limits.unknown_s:
            raise
    except DeniedError as error:  # credentials have ended; the job has its own
        raise DeniedError(str(error), f"{error.remedy} {_goes_on(name)}") from error
    return None


def first_look(
    jobs: Jobs,
    kind: JobKind,
    name: str,
    limits: FollowLimits = FollowLimits(),
    sleep: Callable[[float], None] = time.sleep,
) -> JobState:
    """The state of a job that was just started, and that AWS may not know everywhere yet.

    Raises:
        NotFoundError: it is not known within ``limits.unknown_s``.
    """
    waited_s = 0.0
    while True:
        try:
            return jobs.state(kind, name)
        except NotFoundError:
            if waited_s >= limits.unknown_s:
                raise
        sleep(limits.poll_s)
        waited_s += limits.poll_s


def _goes_on(name: str) -> str:
    """Never "run it again": the same command without the name would start a second job."""
    return f"The job goes on; --name {name} follows it again."


def _completed(jobs: Jobs, kind: JobKind, state: JobState, limits: FollowLimits) -> JobState:
    if state.status == "Completed":
        return state
    reason = state.reason or state.message or STAGES.get(state.stage) or "no reason given"
    lines = [line for line in jobs.last_lines(kind, state.name, limits.log_lines) if line.strip()]
    log = "" if not lines or lines[-1] in reason else "\n" + "\n".join(f"  | {line}" for line in lines)
    raise JobFailedError(f"{kind} job {state.name} {state.status.lower()}: {reason}{log}", state)
