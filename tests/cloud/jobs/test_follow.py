import pytest

from cloud.errors import ConflictError, NotFoundError
from cloud.jobs.follow import FollowLimits, follow
from cloud.jobs.job import NAME_CHARS_MAX, JobFailedError, JobKind, JobState, JobUnfinishedError, job_name
from cloud.jobs.memory import MemoryJobs

NAME = "job-1"


def state(status: str, stage: str = "", **fields: str) -> JobState:
    return JobState(NAME, "arn:job-1", status, stage or status, **fields)


def test_each_stage_is_told_once() -> None:
    looks = [
        ("InProgress", "Starting"),
        ("InProgress", "Training"),
        ("InProgress", "Training"),
        ("Completed", "Completed"),
    ]
    jobs = MemoryJobs(states={NAME: [state(*look) for look in looks]})
    told: list[str] = []
    end = follow(jobs, JobKind.TRAINING, NAME, lambda seen: told.append(seen.stage), sleep=lambda _: None)
    assert end.status == "Completed"
    assert told == ["Starting", "Training", "Completed"]


def test_a_failure_carries_the_reason_and_the_last_lines() -> None:
    failed = state("Failed", reason="AlgorithmError: exit code 1")
    jobs = MemoryJobs(states={NAME: [failed]}, logs={NAME: tuple(f"line {number}" for number in range(50))})
    with pytest.raises(JobFailedError) as caught:
        follow(jobs, JobKind.TRAINING, NAME, limits=FollowLimits(log_lines=3), sleep=lambda _: None)
    assert str(caught.value).splitlines() == [
        "training job job-1 failed: AlgorithmError: exit code 1",
        "  | line 47",
        "  | line 48",
        "  | line 49",
    ]
    assert caught.value.state is failed


def test_lines_that_the_reason_holds_already_are_not_said_twice() -> None:
    jobs = MemoryJobs(
        states={NAME: [state("Failed", reason="too few samples, exit code: 1")]}, logs={NAME: ("too few samples",)}
    )
    with pytest.raises(JobFailedError) as caught:
        follow(jobs, JobKind.TRAINING, NAME, sleep=lambda _: None)
    assert "|" not in str(caught.value)


def test_a_stopped_job_is_no_success() -> None:
    jobs = MemoryJobs(states={NAME: [state("Stopped")]})
    with pytest.raises(JobFailedError, match="stopped: no reason given"):
        follow(jobs, JobKind.PROCESSING, NAME, sleep=lambda _: None)


def test_patience_ends_and_the_job_goes_on() -> None:
    jobs = MemoryJobs(states={NAME: [state("InProgress", "Training")]})
    pauses: list[float] = []
    with pytest.raises(JobUnfinishedError, match=r"has not ended within .* \(Training\)"):
        follow(jobs, JobKind.TRAINING, NAME, limits=FollowLimits(patience_s=10), sleep=pauses.append)
    assert sum(pauses) >= 10
    assert pauses == sorted(pauses)
    assert max(pauses) <= FollowLimits().poll_s_max


def test_a_job_that_is_not_there_is_said() -> None:
    with pytest.raises(NotFoundError):
        follow(MemoryJobs(), JobKind.TRAINING, "none", sleep=lambda _: None)


def test_the_fake_keeps_names_apart_as_sagemaker_does() -> None:
    jobs = MemoryJobs()
    jobs.start(JobKind.TRAINING, {"TrainingJobName": NAME})
    with pytest.raises(ConflictError):
        jobs.start(JobKind.TRAINING, {"TrainingJobName": NAME})


def test_job_names_fit_sagemakers_limit() -> None:
    from datetime import UTC, datetime

    name = job_name("a" * 100, datetime(2026, 11, 21, 22, 5, 1, tzinfo=UTC), "c0ffee")
    assert len(name) == NAME_CHARS_MAX
    assert name.endswith("a-20261121-220501-c0ffee")
