"""SageMaker training and processing jobs that really run: the operations, and the jobs' events.

The failure this exists for: moto's jobs are ``Completed`` at once, with invented metrics and no artifact. What a job is
and does stands in :mod:`simulator.aws.training_jobs`, :mod:`simulator.aws.processing_jobs` and
:mod:`simulator.aws.job_runs`; the registry in :mod:`simulator.aws.model_registry`. Everything else of SageMaker is 501.

Requests come on many threads; the books of jobs are read and changed under one lock.
"""

import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from simulator.aws import model_registry, processing_jobs, training_jobs
from simulator.aws.clients import LocalClients
from simulator.aws.cloud import Cloud
from simulator.aws.errors import AwsError
from simulator.aws.event import Event
from simulator.aws.job_folder import Platform, Request
from simulator.aws.job_runs import Job, JobLimits, JobPlan, JobWorld
from simulator.aws.listing import page
from simulator.aws.operations import Call, Handler


@dataclass(frozen=True, slots=True)
class JobKind:
    """What differs between training and processing.

    Attributes:
        title: as in member names, such as ``Training``.
        refuse: raises for what is not real.
        plan: from request, ARN and platform.
        describe, summary: a job as Describe and List give it.
    """

    title: str
    refuse: Callable[[Request], None]
    plan: Callable[[Request, str, Platform], JobPlan]
    describe: Callable[[Job], dict[str, Any]]
    summary: Callable[[Job], dict[str, Any]]


TRAINING = JobKind(
    "Training",
    training_jobs.refuse,
    training_jobs.TrainingPlan,
    training_jobs.describe,
    training_jobs.summary,
)
PROCESSING = JobKind(
    "Processing",
    processing_jobs.refuse,
    processing_jobs.ProcessingPlan,
    processing_jobs.describe,
    processing_jobs.summary,
)


class JobBook:
    """All jobs of one kind, by name."""

    def __init__(self, kind: JobKind, cloud: Cloud, clients: Callable[[str], Any], limits: JobLimits) -> None:
        """No job yet."""
        self._kind = kind
        self._cloud = cloud
        self._limits = limits
        self._jobs: dict[str, Job] = {}
        self._lock = threading.Lock()
        self._world = JobWorld(cloud.state_dir / "jobs", clients, cloud.clock, limits, self._announce)

    def handlers(self) -> Mapping[str, Handler]:
        """The operations of this kind."""
        name = f"{self._kind.title}Job"
        return {
            f"Create{name}": self.create,
            f"Describe{name}": self.describe,
            f"List{name}s": self.list,
            f"Stop{name}": self.stop,
        }

    def create(self, call: Call) -> Mapping[str, Any]:
        """Create…Job: start it."""
        request = dict(call.parameters)
        self._kind.refuse(request)
        name = request[f"{self._kind.title}JobName"]
        arn = f"arn:aws:sagemaker:{call.region}:{call.account_id}:{self._kind.title.lower()}-job/{name}"
        plan = self._kind.plan(request, arn, Platform.of_this_process(self._cloud.url, call.region))
        with self._lock:
            if name in self._jobs:
                raise AwsError("ResourceInUse", f"Job name must be unique within an AWS account and region: {arn}")
            job = self._jobs[name] = Job(name, arn, request, plan, self._world)
        job.start()
        return {f"{self._kind.title}JobArn": arn}

    def describe(self, call: Call) -> Mapping[str, Any]:
        """Describe…Job."""
        return self._kind.describe(self._find(call))

    def list(self, call: Call) -> Mapping[str, Any]:
        """List…Jobs."""
        with self._lock:
            jobs = list(self._jobs.values())
        title = self._kind.title
        return page(
            [self._kind.summary(job) for job in jobs],
            call.parameters,
            name=f"{title}JobName",
            status=f"{title}JobStatus",
            answer=f"{title}JobSummaries",
        )

    def stop(self, call: Call) -> None:
        """Stop…Job: SIGTERM now, SIGKILL after the grace."""
        job = self._find(call)
        if not job.stop():
            raise AwsError(
                "ValidationException",
                f"The request was rejected because the {self._kind.title.lower()} job is in status {job.state.status}.",
            )

    def shutdown(self) -> None:
        """Stop every job that runs, and wait for its end."""
        with self._lock:
            running = [job for job in self._jobs.values() if not job.state.has_ended]
        for job in running:
            job.stop(self._limits.shutdown_grace_s)
        for job in running:
            job.join()

    def _find(self, call: Call) -> Job:
        name = call.parameters[f"{self._kind.title}JobName"]
        with self._lock:
            job = self._jobs.get(name)
        if job is None:
            # AWS answers so, although its model lists ResourceNotFound for it.
            raise AwsError("ValidationException", "Requested resource not found.")
        return job

    def _announce(self, job: Job) -> None:
        title = self._kind.title
        detail = _in_event_form(self._kind.describe(job))
        self._cloud.events.emit(Event("aws.sagemaker", f"SageMaker {title} Job State Change", detail, (job.arn,)))


def _in_event_form(value: Any) -> Any:  # noqa: ANN401 - whatever a description holds
    """Times as milliseconds since the epoch, as SageMaker's events have them."""
    if isinstance(value, datetime):
        return int(value.timestamp() * 1000)
    if isinstance(value, Mapping):
        return {name: _in_event_form(member) for name, member in value.items()}
    return [_in_event_form(member) for member in value] if isinstance(value, list | tuple) else value


def install(cloud: Cloud, limits: JobLimits | None = None) -> None:
    """Run jobs and keep the registry; nothing of moto's SageMaker is used."""
    (cloud.state_dir / "jobs").mkdir(parents=True, exist_ok=True)
    for kind in (TRAINING, PROCESSING):
        book = JobBook(kind, cloud, LocalClients(cloud), limits or JobLimits())
        cloud.operations.serve("sagemaker", book.handlers())
        cloud.on_stop(book.shutdown)
    model_registry.install(cloud)
