"""SageMaker's training and processing jobs, and their logs in CloudWatch: a :class:`~cloud.jobs.job.Jobs`.

The failure this exists for: SageMaker answers a question about an unknown job with ValidationException, so that a
misspelt name looks like a malformed one. It renders no request (training/request.py, jobs/processing.py) and waits for
nothing (jobs/follow.py). Thread-safe, as boto3's clients are.
"""

from collections.abc import Mapping
from typing import Any

from botocore.exceptions import ClientError

from cloud.aws.session import AwsSession, error_code, translated
from cloud.errors import NotFoundError
from cloud.jobs.job import JobKind, JobState

LOG_GROUPS = {
    JobKind.TRAINING: "/aws/sagemaker/TrainingJobs",
    JobKind.PROCESSING: "/aws/sagemaker/ProcessingJobs",
}
NO_SUCH_JOB = "RequestedResourceNotFound", "Requested resource not found", "Could not find"
"""SageMaker says so in a ValidationException's text."""


class SageMakerJobs:
    """A :class:`~cloud.jobs.job.Jobs`."""

    def __init__(self, session: AwsSession) -> None:
        """Nothing is contacted until a method is called."""
        self._client = session.client("sagemaker")
        self._logs = session.client("logs")

    def start(self, kind: JobKind, request: Mapping[str, Any]) -> str:
        """See the port."""
        with translated(f"starting the {kind} job"):
            if kind is JobKind.TRAINING:
                return str(self._client.create_training_job(**request)["TrainingJobArn"])
            return str(self._client.create_processing_job(**request)["ProcessingJobArn"])

    def state(self, kind: JobKind, name: str) -> JobState:
        """See the port."""
        with translated(f"reading {kind} job {name}"):
            try:
                if kind is JobKind.TRAINING:
                    return _training_state(self._client.describe_training_job(TrainingJobName=name))
                return _processing_state(self._client.describe_processing_job(ProcessingJobName=name))
            except ClientError as error:
                if error_code(error) == "ResourceNotFound" or any(text in str(error) for text in NO_SUCH_JOB):
                    raise NotFoundError(f"there is no {kind} job {name}", "Check the name and the region.") from error
                raise

    def last_lines(self, kind: JobKind, name: str, count: int) -> tuple[str, ...]:
        """See the port."""
        group = LOG_GROUPS[kind]
        try:
            with translated(f"reading the log of {name}"):
                streams = self._logs.describe_log_streams(logGroupName=group, logStreamNamePrefix=f"{name}/")
                found = sorted(stream["logStreamName"] for stream in streams["logStreams"])
                if not found:
                    return ()
                events = self._logs.get_log_events(
                    logGroupName=group, logStreamName=found[0], limit=count, startFromHead=False
                )["events"]
        except NotFoundError:
            return ()
        return tuple(event["message"].rstrip("\n") for event in events)


def _training_state(found: Mapping[str, Any]) -> JobState:
    return JobState(
        name=found["TrainingJobName"],
        arn=found["TrainingJobArn"],
        status=found["TrainingJobStatus"],
        stage=found.get("SecondaryStatus") or found["TrainingJobStatus"],
        reason=found.get("FailureReason") or "",
        output_uri=(found.get("ModelArtifacts") or {}).get("S3ModelArtifacts") or "",
        code_uri=_code_uri(found),
        metrics={metric["MetricName"]: float(metric["Value"]) for metric in found.get("FinalMetricDataList") or ()},
        duration_s=_between(found.get("TrainingStartTime"), found.get("TrainingEndTime")),
    )


def _code_uri(found: Mapping[str, Any]) -> str:
    for channel in found.get("InputDataConfig") or ():
        if channel["ChannelName"] == "code":
            return str(channel["DataSource"].get("S3DataSource", {}).get("S3Uri") or "")
    return ""


def _processing_state(found: Mapping[str, Any]) -> JobState:
    outputs = (found.get("ProcessingOutputConfig") or {}).get("Outputs") or ()
    return JobState(
        name=found["ProcessingJobName"],
        arn=found["ProcessingJobArn"],
        status=found["ProcessingJobStatus"],
        stage=found["ProcessingJobStatus"],
        reason=found.get("FailureReason") or "",
        message=found.get("ExitMessage") or "",
        output_uri=next((output["S3Output"]["S3Uri"] for output in outputs if "S3Output" in output), ""),
        duration_s=_between(found.get("ProcessingStartTime"), found.get("ProcessingEndTime")),
    )


def _between(started: Any, ended: Any) -> float:  # noqa: ANN401 - datetimes, or None, by botocore
    return float((ended - started).total_seconds()) if started and ended else 0.0
