from dataclasses import dataclass, field, replace
from pathlib import Path

import pytest

from cloud.compilation import job as compilation_job
from cloud.compilation.errors import CompilationRefusedError
from cloud.compilation.request import CompilationRun
from cloud.errors import InvalidInputError, UnavailableError
from cloud.jobs.follow import FollowLimits
from cloud.jobs.job import JobFailedError, JobState
from cloud.jobs.memory import MemoryJobs
from cloud.s3_uri import S3Uri
from cloud.training.job import TrainingOrder, await_result, submit
from cloud.training.specification import Specification

WEATHER = Specification.load(Path(__file__).resolve().parents[3] / "models" / "weather")
ORDER = TrainingOrder("weather-1", "b", "arn:aws:iam::123456789012:role/r", "jobs:1", "s3://b/data/")
AT_ONCE = FollowLimits(poll_s=0.001, poll_s_max=0.001)


@dataclass
class Bucket:
    """An upload port that keeps bytes; ``fails_at`` is the upload that S3 does not answer."""

    objects: dict[str, bytes] = field(default_factory=dict)
    fails_at: int = -1

    def put_file(self, uri: S3Uri, path: Path) -> None:
        if len(self.objects) == self.fails_at:
            self.fails_at = -1
            raise UnavailableError("S3 is down")
        self.objects[str(uri)] = path.read_bytes()


def test_sources_and_a_folder_of_data_are_copied_below_the_job(tmp_path: Path) -> None:
    (tmp_path / "2013").mkdir()
    (tmp_path / "2013" / "EWR.csv").write_text("rows")
    (tmp_path / ".git").mkdir()
    (tmp_path / ".git" / "config").write_text("no")
    (tmp_path / ".hidden").write_text("no")
    bucket, jobs = Bucket(), MemoryJobs()
    submit(WEATHER, replace(ORDER, data=str(tmp_path)), bucket, jobs)
    prefix = "s3://b/training/weather-1"
    assert set(bucket.objects) == {f"{prefix}/code/{name}" for name in WEATHER.job_files} | {
        f"{prefix}/data/2013/EWR.csv"
    }
    channels = jobs.requests["weather-1"]["InputDataConfig"]
    assert [channel["DataSource"]["S3DataSource"]["S3Uri"] for channel in channels] == [
        f"{prefix}/code/",
        f"{prefix}/data/",
    ]


def test_an_incumbent_file_becomes_a_channel(tmp_path: Path) -> None:
    (tmp_path / "old.onnx").write_bytes(b"onnx")
    bucket, jobs = Bucket(), MemoryJobs()
    submit(WEATHER, replace(ORDER, incumbent=str(tmp_path / "old.onnx")), bucket, jobs)
    assert bucket.objects["s3://b/training/weather-1/incumbent/model.onnx"] == b"onnx"
    assert jobs.requests["weather-1"]["InputDataConfig"][-1]["ChannelName"] == "incumbent"


def test_an_interrupted_submit_is_completed_by_the_same_call() -> None:
    bucket, jobs = Bucket(fails_at=2), MemoryJobs()
    with pytest.raises(UnavailableError):
        submit(WEATHER, ORDER, bucket, jobs)
    assert jobs.requests == {}
    assert submit(WEATHER, ORDER, bucket, jobs)
    assert not submit(WEATHER, ORDER, bucket, jobs), "it follows the job that is there"
    assert list(jobs.requests) == ["weather-1"]


def test_what_a_job_has_read_is_not_overwritten_by_submitting_again(tmp_path: Path) -> None:
    (tmp_path / "data.csv").write_text("what it was trained on")
    bucket, jobs = Bucket(), MemoryJobs()
    submit(WEATHER, replace(ORDER, data=str(tmp_path)), bucket, jobs)
    kept = dict(bucket.objects)
    (tmp_path / "data.csv").write_text("what came later")
    submit(WEATHER, replace(ORDER, data=str(tmp_path)), bucket, jobs)
    assert bucket.objects == kept


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        ({"hyperparameters": {"depth": "3"}}, "'depth' is no hyperparameter of weather"),
        ({"data": "/nowhere/at/all"}, "holds no data"),
        ({"data": "ftp://x/y"}, "is not an S3 URI"),
        ({"incumbent": "/nowhere.onnx"}, "is not a file"),
    ],
)
def test_bad_input_starts_nothing(changes: dict, sentence: str) -> None:
    jobs = MemoryJobs()
    with pytest.raises(InvalidInputError, match=sentence):
        submit(WEATHER, replace(ORDER, **changes), Bucket(), jobs)
    assert jobs.requests == {}


def test_a_completed_job_is_its_artifact_and_metrics() -> None:
    done = JobState("weather-1", "arn:1", "Completed", "Completed", output_uri="s3://b/m.tar.gz", metrics={"auc": 0.9})
    result = await_result(MemoryJobs(states={"weather-1": [done]}), "weather-1", limits=AT_ONCE)
    assert (result.artifact_uri, result.metrics) == ("s3://b/m.tar.gz", {"auc": 0.9})


def test_a_refused_model_is_told_from_a_job_that_broke() -> None:
    refused = JobState(
        "c", "arn:c", "Failed", "Failed", reason="exit code: 3", message="test is refused", output_uri="s3://b/c"
    )
    with pytest.raises(CompilationRefusedError, match="test is refused") as caught:
        compilation_job.await_result(MemoryJobs(states={"c": [refused]}), "c", limits=AT_ONCE)
    assert "s3://b/c/report.txt" in caught.value.remedy
    broken = replace(refused, message="", reason="ClientError: no such image")
    with pytest.raises(JobFailedError, match="no such image"):
        compilation_job.await_result(MemoryJobs(states={"c": [broken]}), "c", limits=AT_ONCE)


def test_compiling_is_submitted_once() -> None:
    jobs = MemoryJobs()
    run = CompilationRun("c", "arn:role", "jobs:1", "s3://b/m.tar.gz", "s3://b/c")
    assert compilation_job.submit(run, jobs)
    assert not compilation_job.submit(run, jobs)
    result = compilation_job.await_result(jobs, "c", limits=AT_ONCE)
    assert result.job_name == "c"
