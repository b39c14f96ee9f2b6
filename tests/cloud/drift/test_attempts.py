"""When a model version is retrained once more, and how an attempt ended: every branch of the rules, over values."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from itertools import pairwise

import pytest
from hypothesis import given, strategies as st

from cloud.drift.attempts import (
    REASON_CHARS_MAX,
    Attempt,
    AttemptLimits,
    Execution,
    next_attempt,
    outcome,
    reason_of,
)

T0 = datetime(2026, 1, 1, tzinfo=UTC)
LIMITS = AttemptLimits(attempts_max=3, pause_s=60, pause_factor=10, start_within_s=30)
OPEN = Attempt("drift-1", "weather", "1.0.0", 1, T0, "open")


def ran(status: str, seconds: float = 1, error: str = "", cause: str = "", incident_id: str = "drift-1") -> Execution:
    return Execution(f"arn:{status}", incident_id, status, T0 + timedelta(seconds=seconds), error, cause)


def failed(number: int) -> Attempt:
    return replace(OPEN, number=number, state="failed", ended_at=T0)


def test_the_first_window_that_says_retrain_opens_the_first_attempt() -> None:
    assert next_attempt(None, T0, LIMITS) == 1


@pytest.mark.parametrize("state", ["open", "running", "succeeded", "stopped"])
def test_nothing_follows_but_a_failure(state: str) -> None:
    last = replace(OPEN, state=state, ended_at=T0)
    assert next_attempt(last, T0 + timedelta(days=400), LIMITS) is None


@pytest.mark.parametrize(("number", "pause_s"), [(1, 60), (2, 600)])
def test_the_pause_grows_with_each_failure(number: int, pause_s: float) -> None:
    due = T0 + timedelta(seconds=pause_s)
    assert next_attempt(failed(number), due - timedelta(milliseconds=1), LIMITS) is None
    assert next_attempt(failed(number), due, LIMITS) == number + 1


def test_the_last_attempt_is_the_last() -> None:
    assert next_attempt(failed(3), T0 + timedelta(days=400), LIMITS) is None
    said = outcome(replace(OPEN, number=3), [ran("FAILED", error="E", cause="why")], T0, LIMITS)
    assert said is not None
    assert said.sentence == (
        "Retraining of weather 1.0.0 failed (attempt 3 of 3): E: why. That was the last one: correct the cause, then run "
        "edgewright train."
    )


def test_the_sentence_says_when_the_next_may_come() -> None:
    said = outcome(OPEN, [ran("TIMED_OUT")], T0, LIMITS)
    assert said is not None
    assert said.state == "failed"
    assert said.sentence.endswith(
        "the state machine ran out of time. Drift that lasts until 2026-01-01 00:01 UTC starts the next."
    )


def test_what_runs_is_news_once() -> None:
    running = outcome(OPEN, [ran("RUNNING")], T0, LIMITS)
    assert running is not None
    assert (running.state, running.sentence) == ("running", "")
    assert outcome(replace(OPEN, state="running"), [ran("RUNNING")], T0, LIMITS) is None


@pytest.mark.parametrize(
    ("own", "state"),
    [
        ([ran("FAILED", 2), ran("RUNNING", 1)], "running"),
        ([ran("FAILED", 2), ran("SUCCEEDED", 1)], "succeeded"),
        ([ran("SUCCEEDED", 2), ran("FAILED", 1)], "succeeded"),
        ([ran("FAILED", 2), ran("ABORTED", 1)], "stopped"),
        ([ran("RUNNING", 2), ran("SUCCEEDED", 1)], "succeeded"),
        ([ran("PENDING_REDRIVE", 1)], "running"),
    ],
)
def test_an_event_delivered_twice_is_judged_by_the_one_that_works(own: list[Execution], state: str) -> None:
    said = outcome(OPEN, own, T0, LIMITS)
    assert said is not None
    assert said.state == state


def test_of_two_that_failed_the_earlier_one_says_why() -> None:
    twice = [ran("FAILED", 2, "SageMaker.ResourceInUse", "the name exists"), ran("FAILED", 1, "E", "the cause")]
    said = outcome(OPEN, twice, T0, LIMITS)
    assert said is not None
    assert "E: the cause" in said.sentence


def test_others_executions_are_none_of_ours_and_none_in_time_is_a_failure() -> None:
    others = [ran("SUCCEEDED", incident_id="drift-2"), ran("FAILED", incident_id="")]
    assert outcome(OPEN, others, T0 + timedelta(seconds=30), LIMITS) is None
    said = outcome(OPEN, others, T0 + timedelta(seconds=31), LIMITS)
    assert said is not None
    assert (said.state, said.execution_arn) == ("failed", "")
    assert "no execution of its state machine was seen" in said.sentence


@pytest.mark.parametrize(
    ("error", "cause", "line"),
    [
        ("States.TaskFailed", '{"TrainingJobName": "t", "FailureReason": "a\\n b"}', "t: a b"),
        ("States.TaskFailed", '{"ProcessingJobName": "p", "ExitMessage": "refused", "FailureReason": "x"}',
         "p: refused"),
        ("E", "plain words.", "E: plain words"),
        ("E", "[1]", "E: [1]"),
        ("E", "", "E"),
        ("", "", "FAILED"),
        ("E", "x" * 5_000, "E: xxx"),
    ],
)  # fmt: skip
def test_the_reason_is_one_line_in_the_jobs_own_words(error: str, cause: str, line: str) -> None:
    reason = reason_of(ran("FAILED", error=error, cause=cause))
    assert reason.startswith(line)
    assert len(reason) <= REASON_CHARS_MAX


@given(st.integers(1, 6), st.floats(0, 1e5), st.floats(1, 8), st.lists(st.integers(0, 10**7), max_size=40))
def test_any_row_of_failures_is_bounded_and_its_pauses_never_shrink(
    attempts_max: int, pause_s: float, factor: float, waits_s: list[int]
) -> None:
    limits, now = AttemptLimits(attempts_max, pause_s, factor), T0
    last: Attempt | None = None
    opened: list[datetime] = []
    for wait_s in waits_s:
        now += timedelta(seconds=wait_s)
        number = next_attempt(last, now, limits)
        if number is not None:
            last = replace(failed(number), ended_at=now)
            opened.append(now)
    gaps = [(after - before).total_seconds() for before, after in pairwise(opened)]
    assert len(opened) <= attempts_max
    assert all(gap >= pause_s * factor**index - 1e-3 for index, gap in enumerate(gaps))
