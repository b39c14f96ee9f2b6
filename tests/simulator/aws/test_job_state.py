from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given, strategies as st

from simulator.aws import job_state
from simulator.aws.job_state import ENDED, REASON_CHARS_MAX, failure_reason

START = datetime(2026, 1, 1, tzinfo=UTC)
STEPS = {
    "download": lambda state, at: job_state.advanced(state, "Downloading", at),
    "train": lambda state, at: job_state.advanced(state, "Training", at, is_running=True),
    "upload": lambda state, at: job_state.advanced(state, "Uploading", at),
    "stop": job_state.stopping,
    "complete": lambda state, at: job_state.ended(state, "Completed", at),
    "fail": lambda state, at: job_state.ended(state, "Failed", at, reason="x"),
    "time out": lambda state, at: job_state.ended(state, "Stopped", at, secondary="MaxRuntimeExceeded"),
}


@given(st.lists(st.sampled_from(sorted(STEPS)), max_size=12))
def test_whatever_happens_the_history_is_whole_and_an_end_is_an_end(steps):
    state = job_state.created(START)
    for number, step in enumerate(steps, start=1):
        before = state
        state = STEPS[step](state, START + timedelta(seconds=number))
        assert not before.has_ended or state == before
        assert before.status != "Stopping" or state.status in {"Stopping", *ENDED}
    assert state.transitions[-1].status == state.secondary
    for earlier, later in zip(state.transitions, state.transitions[1:], strict=False):
        assert earlier.ended_at == later.started_at
    assert (state.ended_at is not None) is state.has_ended
    assert (state.transitions[-1].ended_at is not None) is state.has_ended


def test_the_ordinary_life_of_a_job():
    state = job_state.created(START)
    for number, step in enumerate(["download", "train", "upload", "complete"], start=1):
        state = STEPS[step](state, START + timedelta(seconds=number))
    assert [step.status for step in state.transitions] == [
        "Starting", "Downloading", "Training", "Uploading", "Completed",
    ]  # fmt: skip
    assert (state.started_at, state.ended_at) == (START + timedelta(seconds=2), START + timedelta(seconds=4))


@given(st.none() | st.text(min_size=1, max_size=3_000), st.lists(st.text(max_size=300), max_size=20))
def test_a_reason_never_exceeds_the_limit_and_ends_with_the_exit_code(written, log):
    reason = failure_reason(written, log, 7)
    assert len(reason) <= REASON_CHARS_MAX
    assert reason.startswith("AlgorithmError: ")
    assert reason.endswith(", exit code: 7")


@pytest.mark.parametrize(
    ("written", "log", "expected"),
    [
        (None, ["a", "b"], "AlgorithmError: a\nb, exit code: 1"),
        ("no rows\n", ["Traceback", "ValueError"], "AlgorithmError: no rows\nTraceback\nValueError, exit code: 1"),
        (None, [], "AlgorithmError: , exit code: 1"),
    ],
)
def test_reasons(written, log, expected):
    assert failure_reason(written, log, 1) == expected


def test_of_a_long_log_the_end_is_kept():
    assert "the last line" in failure_reason(None, ["x" * 2_000, "the last line"], 1)
