import pytest

from cloud.errors import ConflictError, DeniedError, NotFoundError, UnavailableError
from cloud.jobs.follow import FollowLimits, first_look, follow
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


@pytest.mark.parametrize(
    ("stage", "why"), [("Stopped", "somebody stopped it"), ("MaxRuntimeExceeded", "max_runtime_s of model.toml")]
)
def test_a_stopped_job_is_no_success_and_says_why(stage: str, why: str) -> None:
    """SageMaker gives no FailureReason for it, and nothing but the secondary status tells a limit from a person."""
    jobs = MemoryJobs(states={NAME: [state("Stopped", stage)]})
    with pytest.raises(JobFailedError, match=f"stopped: .*{why}") as caught:
        follow(jobs, JobKind.TRAINING, NAME, sleep=lambda _: None)
    assert "without --name" in caught.value.remedy, "the same name would follow the job that failed"


def test_credentials_that_end_do_not_end_the_job() -> None:
    class Jobs(MemoryJobs):
        def state(self, kind: JobKind, name: str) -> JobState:
            raise DeniedError("ExpiredTokenException", "Check the credentials.")

    with pytest.raises(DeniedError) as caught:
        follow(Jobs(), JobKind.TRAINING, NAME, sleep=lambda _: None)
    assert f"--name {NAME} follows it again" in caught.value.remedy


def test_patience_ends_and_the_job_goes_on() -> None:
    jobs = MemoryJobs(states={NAME: [state("InProgress", "Training")]})
    pauses: list[float] = []
    with pytest.raises(JobUnfinishedError, match=r"has not ended within .* \(Training\)"):
        follow(jobs, JobKind.TRAINING, NAME, limits=FollowLimits(patience_s=10), sleep=pauses.append)
    assert sum(pauses) >= 10
    assert pauses == sorted(pauses)
    assert max(pauses) <= FollowLimits().poll_s_max


class Interrupted(MemoryJobs):
    """Does not answer as often as ``outages`` says, before each look that it does answer."""

    outages: list[int]

    def state(self, kind: JobKind, name: str) -> JobState:
        if self.outages and self.outages[0]:
            self.outages[0] -= 1
            raise UnavailableError("no answer from AWS (EndpointConnectionError)")
        del self.outages[:1]
        return super().state(kind, name)


def interrupted(*outages: int) -> Interrupted:
    jobs = Interrupted(states={NAME: [state("InProgress"), state("InProgress"), state("Completed")]})
    jobs.outages = list(outages)
    return jobs


def test_a_network_that_is_gone_for_a_while_ends_no_following() -> None:
    assert follow(interrupted(2, 30, 30), JobKind.TRAINING, NAME, sleep=lambda _: None).status == "Completed"


def test_one_that_is_gone_for_long_does_and_the_job_is_named() -> None:
    pauses: list[float] = []
    with pytest.raises(JobUnfinishedError, match="EndpointConnectionError") as caught:
        follow(interrupted(0, 100_000), JobKind.TRAINING, NAME, limits=FollowLimits(silence_s=60), sleep=pauses.append)
    assert f"--name {NAME}" in caught.value.remedy
    assert 60 <= sum(pauses) < 70


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


def test_a_job_that_was_just_started_may_not_be_known_yet() -> None:
    class Late(MemoryJobs):
        def state(self, kind: JobKind, name: str) -> JobState:
            if unknown:
                unknown.pop()
                raise NotFoundError(f"there is no training job {name}")
            return MemoryJobs.state(self, kind, name)

    unknown, pauses = [1, 2, 3], list[float]()
    jobs = Late(states={NAME: [state("Completed")]})
    assert follow(jobs, JobKind.TRAINING, NAME, sleep=pauses.append).status == "Completed"
    assert len(pauses) == 3
    unknown += range(2)
    assert first_look(jobs, JobKind.TRAINING, NAME, sleep=pauses.append).status == "Completed"
    unknown += range(1_000)
    with pytest.raises(NotFoundError):
        follow(jobs, JobKind.TRAINING, NAME, sleep=pauses.append)
    with pytest.raises(NotFoundError):
        first_look(jobs, JobKind.TRAINING, NAME, sleep=pauses.append)
