"""What a processing job is: its refusals, its plan and its description.

Image, instance type, role, VPC and encryption keys are labels on this machine; what would have no effect is refused.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from simulator.aws import job_folder
from simulator.aws.errors import NotRealError
from simulator.aws.job_folder import Platform, Request
from simulator.aws.job_runs import Job, Local
from simulator.aws.job_storage import JobStorage, Place
from simulator.aws.training_jobs import without_nothing

PROCESSING_ROOT = "/opt/ml/processing"
DEFAULT_MAX_RUNTIME_S = 86_400
ECHOED = (
    "ProcessingInputs", "ProcessingOutputConfig", "ProcessingResources", "StoppingCondition", "AppSpecification",
    "Environment", "NetworkConfig", "RoleArn", "ExperimentConfig",
)  # fmt: skip
"""Members of the request that DescribeProcessingJob gives back as they came."""


def refuse(request: Request) -> None:
    """Before CreateProcessingJob.

    Raises:
        NotRealError: a piece of the request would have no effect here.
    """
    for piece in _unreal_pieces(request):
        raise NotRealError(f"CreateProcessingJob with {piece}")


def _unreal_pieces(request: Request) -> Iterator[str]:
    if not request["AppSpecification"].get("ContainerEntrypoint"):
        yield "no AppSpecification.ContainerEntrypoint (the image is a label here: say what to run)"
    if request["ProcessingResources"]["ClusterConfig"]["InstanceCount"] != 1:
        yield "more than one instance"
    if (request.get("NetworkConfig") or {}).get("EnableNetworkIsolation"):
        yield "EnableNetworkIsolation"
    for source in inputs(request):
        yield from (f"input {source['InputName']}: {problem}" for problem in _input_problems(source))
    for target in outputs(request):
        yield from (f"output {target['OutputName']}: {problem}" for problem in _output_problems(target))


def _input_problems(source: Mapping[str, Any]) -> Iterator[str]:
    s3 = source.get("S3Input")
    if s3 is None or source.get("AppManaged"):
        yield "something else than S3Input"
        return
    if s3["S3DataType"] != "S3Prefix":
        yield f"S3DataType {s3['S3DataType']} (there is S3Prefix)"
    if (s3.get("S3InputMode") or "File") != "File":
        yield f"S3InputMode {s3['S3InputMode']} (there is File)"
    if (s3.get("S3CompressionType") or "None") != "None":
        yield "S3CompressionType"
    yield from _path_problems(s3.get("LocalPath"))


def _output_problems(target: Mapping[str, Any]) -> Iterator[str]:
    s3 = target.get("S3Output")
    if s3 is None or target.get("AppManaged"):
        yield "something else than S3Output"
        return
    if s3["S3UploadMode"] != "EndOfJob":
        yield f"S3UploadMode {s3['S3UploadMode']} (there is EndOfJob)"
    yield from _path_problems(s3.get("LocalPath"))


def _path_problems(path: str | None) -> Iterator[str]:
    if not f"{path}/".startswith(f"{PROCESSING_ROOT}/") or ".." in str(path).split("/"):
        yield f"LocalPath {path!r} (SageMaker wants it below {PROCESSING_ROOT})"


@dataclass(frozen=True, slots=True)
class ProcessingPlan:
    """A :class:`~simulator.aws.job_runs.JobPlan` made from CreateProcessingJob."""

    request: Request
    arn: str
    platform: Platform
    stage: str = "Training"  # never shown: processing jobs have no secondary status
    log_group: str = "/aws/sagemaker/ProcessingJobs"
    metric_definitions: Sequence[Mapping[str, str]] = ()

    @property
    def folders(self) -> Sequence[str]:
        """The contract's folders, and one for each output."""
        return (*job_folder.PROCESSING_DIRS, *(target["S3Output"]["LocalPath"] for target in outputs(self.request)))

    @property
    def files(self) -> Mapping[str, str]:
        """The contract's configuration files."""
        return job_folder.processing_files(self.request, self.arn)

    @property
    def command(self) -> tuple[str, ...]:
        """Entry point and arguments."""
        app = self.request["AppSpecification"]
        return (*app["ContainerEntrypoint"], *(app.get("ContainerArguments") or ()))

    @property
    def environment(self) -> Mapping[str, str]:
        """All variables."""
        return job_folder.processing_environment(self.request, self.arn, self.platform)

    @property
    def max_runtime_s(self) -> float:
        """``StoppingCondition.MaxRuntimeInSeconds``."""
        return float((self.request.get("StoppingCondition") or {}).get("MaxRuntimeInSeconds") or DEFAULT_MAX_RUNTIME_S)

    def download(self, storage: JobStorage, local: Local) -> None:
        """Each input to its ``LocalPath``."""
        for source in inputs(self.request):
            s3 = source["S3Input"]
            storage.download(Place.parse(s3["S3Uri"]), local(s3["LocalPath"]))

    def sync(self, storage: JobStorage, local: Local) -> None:
        """Nothing: outputs are uploaded at the end of the job."""

    def upload(self, storage: JobStorage, local: Local, *, succeeded: bool) -> None:
        """Each output, also of a job that failed: SageMaker uploads what there is."""
        del succeeded
        for target in outputs(self.request):
            s3 = target["S3Output"]
            storage.upload_folder(local(s3["LocalPath"]), Place.parse(s3["S3Uri"]))


def inputs(request: Request) -> Sequence[Mapping[str, Any]]:
    """A processing job's inputs."""
    return request.get("ProcessingInputs") or ()


def outputs(request: Request) -> Sequence[Mapping[str, Any]]:
    """A processing job's outputs."""
    return (request.get("ProcessingOutputConfig") or {}).get("Outputs") or ()


def describe(job: Job) -> dict[str, Any]:
    """DescribeProcessingJob's answer."""
    state = job.state
    return without_nothing(
        {
            "ProcessingJobName": job.name,
            "ProcessingJobArn": job.arn,
            "ProcessingJobStatus": state.status,
            "FailureReason": state.reason,
            "ExitMessage": state.exit_message,
            "CreationTime": state.created_at,
            "ProcessingStartTime": state.started_at,
            "ProcessingEndTime": state.ended_at,
            "LastModifiedTime": state.modified_at,
            **{name: job.request.get(name) for name in ECHOED},
        }
    )


def summary(job: Job) -> dict[str, Any]:
    """One entry of ListProcessingJobs."""
    dropped = {*ECHOED, "ProcessingStartTime"}
    return {name: value for name, value in describe(job).items() if name not in dropped}
