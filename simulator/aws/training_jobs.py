"""What a training job is: its refusals, its plan and its description.

Image, instance type, role, VPC and encryption keys are labels on this machine; whatever else changes what a job does and
is not made real is refused when the job is made, never ignored.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from simulator.aws import job_folder
from simulator.aws.container import ML_ROOT
from simulator.aws.errors import AwsError, NotRealError
from simulator.aws.job_folder import Platform, Request
from simulator.aws.job_log import MetricScan
from simulator.aws.job_runs import Job, Local
from simulator.aws.job_storage import Checkpoints, JobStorage, Place, files_below

DEFAULT_MAX_RUNTIME_S = 86_400
"""StoppingCondition's default (API reference: 1 day)."""

ECHOED = (
    "HyperParameters", "AlgorithmSpecification", "RoleArn", "InputDataConfig", "OutputDataConfig", "ResourceConfig",
    "VpcConfig", "StoppingCondition", "EnableManagedSpotTraining", "CheckpointConfig", "Environment", "RetryStrategy",
    "ExperimentConfig", "EnableInterContainerTrafficEncryption", "TensorBoardOutputConfig",
)  # fmt: skip
"""Members of the request that DescribeTrainingJob gives back as they came."""

UNREAL = ("DebugRuleConfigurations", "ProfilerRuleConfigurations", "ServerlessJobConfig", "MlflowConfig")


def refuse(request: Request) -> None:
    """Before CreateTrainingJob.

    Raises:
        NotRealError: a piece of the request would have no effect here.
        AwsError: a metric definition that cannot be used, or a place that is none of S3's.
    """
    for piece in _unreal_pieces(request):
        raise NotRealError(f"CreateTrainingJob with {piece}")
    try:
        MetricScan(request["AlgorithmSpecification"].get("MetricDefinitions") or ())
    except ValueError as error:
        raise AwsError("ValidationException", str(error)) from error


def _unreal_pieces(request: Request) -> Iterator[str]:
    algorithm, resources = request["AlgorithmSpecification"], request.get("ResourceConfig") or {}
    if not algorithm.get("ContainerEntrypoint"):
        yield "no AlgorithmSpecification.ContainerEntrypoint (the image is a label here: say what to run)"
    if algorithm.get("TrainingInputMode") != "File":
        yield f"TrainingInputMode {algorithm.get('TrainingInputMode')} (there is File)"
    if (resources.get("InstanceCount") or 1) != 1 or resources.get("InstanceGroups"):
        yield "more than one instance"
    if request.get("EnableNetworkIsolation"):
        yield "EnableNetworkIsolation"
    yield from (name for name in UNREAL if request.get(name))
    checkpoint_path = (request.get("CheckpointConfig") or {}).get("LocalPath") or job_folder.CHECKPOINTS_DIR
    if not f"{checkpoint_path}/".startswith(f"{ML_ROOT}/"):
        yield f"CheckpointConfig.LocalPath outside of {ML_ROOT}"
    for channel in job_folder.channels(request):
        yield from (f"channel {channel['ChannelName']}: {problem}" for problem in _channel_problems(channel))


def _channel_problems(channel: Mapping[str, Any]) -> Iterator[str]:
    source = channel["DataSource"].get("S3DataSource")
    if source is None:
        yield "a file system (there is S3DataSource)"
    elif source["S3DataType"] != "S3Prefix":
        yield f"S3DataType {source['S3DataType']} (there is S3Prefix)"
    if (channel.get("InputMode") or "File") != "File":
        yield f"InputMode {channel['InputMode']} (there is File)"
    if (channel.get("RecordWrapperType") or "None") != "None":
        yield "RecordWrapperType"


@dataclass(slots=True)
class TrainingPlan:
    """A :class:`~simulator.aws.job_runs.JobPlan` made from CreateTrainingJob."""

    request: Request
    arn: str
    platform: Platform
    stage: str = "Training"
    log_group: str = "/aws/sagemaker/TrainingJobs"
    folders: Sequence[str] = job_folder.TRAINING_DIRS
    _checkpoints: Checkpoints | None = field(default=None)

    @property
    def files(self) -> Mapping[str, str]:
        """The contract's configuration files."""
        return job_folder.training_files(self.request)

    @property
    def command(self) -> tuple[str, ...]:
        """Entry point and arguments."""
        algorithm = self.request["AlgorithmSpecification"]
        return (*algorithm["ContainerEntrypoint"], *(algorithm.get("ContainerArguments") or ()))

    @property
    def environment(self) -> Mapping[str, str]:
        """All variables."""
        return job_folder.training_environment(self.request, self.arn, self.platform)

    @property
    def max_runtime_s(self) -> float:
        """``StoppingCondition.MaxRuntimeInSeconds``."""
        return float((self.request.get("StoppingCondition") or {}).get("MaxRuntimeInSeconds") or DEFAULT_MAX_RUNTIME_S)

    @property
    def metric_definitions(self) -> Sequence[Mapping[str, str]]:
        """``AlgorithmSpecification.MetricDefinitions``."""
        return self.request["AlgorithmSpecification"].get("MetricDefinitions") or ()

    def download(self, storage: JobStorage, local: Local) -> None:
        """Each channel, and the checkpoints of an earlier job."""
        for channel in job_folder.channels(self.request):
            place = Place.parse(channel["DataSource"]["S3DataSource"]["S3Uri"])
            storage.download(place, local(job_folder.channel_dir(channel["ChannelName"])))
        config = self.request.get("CheckpointConfig")
        if config:
            folder = local(config.get("LocalPath") or job_folder.CHECKPOINTS_DIR)
            self._checkpoints = Checkpoints(storage, folder, Place.parse(config["S3Uri"]))
            self._checkpoints.restore()

    def sync(self, storage: JobStorage, local: Local) -> None:
        """The checkpoints."""
        del storage, local
        if self._checkpoints is not None:
            self._checkpoints.sync()

    def upload(self, storage: JobStorage, local: Local, *, succeeded: bool) -> None:
        """``model.tar.gz`` of a job that did not fail (a stopped one included), and ``output.tar.gz`` where there is any."""
        output = Place.parse(output_uri(self.request))
        compressed = (self.request["OutputDataConfig"].get("CompressionType") or "GZIP") == "GZIP"
        data, model = local(job_folder.OUTPUT_DATA_DIR), local(job_folder.MODEL_DIR)
        if any(files_below(data)):
            storage.upload_archive(data, local(f"{job_folder.HOME_DIR}/output.tar.gz"), output / "output.tar.gz")
        if succeeded and compressed:
            storage.upload_archive(model, local(f"{job_folder.HOME_DIR}/model.tar.gz"), output / "model.tar.gz")
        elif succeeded:
            storage.upload_folder(model, output / "model")


def output_uri(request: Request) -> str:
    """Where a job's outputs go: ``<S3OutputPath>/<job>/output``."""
    return f"{request['OutputDataConfig']['S3OutputPath'].rstrip('/')}/{request['TrainingJobName']}/output"


def describe(job: Job) -> dict[str, Any]:
    """DescribeTrainingJob's answer."""
    state, request = job.state, job.request
    compressed = (request["OutputDataConfig"].get("CompressionType") or "GZIP") == "GZIP"
    answer = {
        "TrainingJobName": job.name,
        "TrainingJobArn": job.arn,
        "TrainingJobStatus": state.status,
        "SecondaryStatus": state.secondary,
        "FailureReason": state.reason,
        "ModelArtifacts": {"S3ModelArtifacts": f"{output_uri(request)}/{'model.tar.gz' if compressed else 'model/'}"},
        "CreationTime": state.created_at,
        "TrainingStartTime": state.started_at,
        "TrainingEndTime": state.ended_at,
        "LastModifiedTime": state.modified_at,
        "SecondaryStatusTransitions": [
            {"Status": step.status, "StartTime": step.started_at, "EndTime": step.ended_at}
            for step in state.transitions
        ],
        "FinalMetricDataList": [
            {"MetricName": metric.name, "Value": metric.value, "Timestamp": metric.at} for metric in job.metrics
        ],
        **{name: request.get(name) for name in ECHOED},
    }
    if state.started_at and state.ended_at:
        seconds = max(1, round((state.ended_at - state.started_at).total_seconds()))
        answer |= {"TrainingTimeInSeconds": seconds, "BillableTimeInSeconds": seconds}
    return without_nothing(answer)


def summary(job: Job) -> dict[str, Any]:
    """One entry of ListTrainingJobs."""
    described = describe(job)
    names = ("TrainingJobName", "TrainingJobArn", "CreationTime", "TrainingEndTime", "LastModifiedTime")
    return {name: described[name] for name in (*names, "TrainingJobStatus", "SecondaryStatus") if name in described}


def without_nothing(answer: Mapping[str, Any]) -> dict[str, Any]:
    """Members that are set; AWS leaves out the others."""
    return {
        name: [without_nothing(item) if isinstance(item, Mapping) else item for item in value]
        if isinstance(value, list)
        else value
        for name, value in answer.items()
        if value is not None
    }
