"""IoT Jobs as a state machine in memory: jobs, their executions on things, each thing's queue.

The failure this exists for: moto stores a job for a group and never fans it out, so no device ever sees one. Here a job
becomes one execution for each member, a thing's pending executions form a queue, and a job's status follows from its
executions. It knows no HTTP, no MQTT and no registry: members and the time are given.

Semantics: AWS IoT Core developer guide, "Jobs" (job execution states, notifications, timeouts, abort criteria).

Not thread-safe: :class:`simulator.aws.iot_jobs.IotJobs` locks.
"""

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from enum import StrEnum

from simulator.aws.errors import AwsError


class Status(StrEnum):
    """Of one execution."""

    QUEUED = "QUEUED"
    IN_PROGRESS = "IN_PROGRESS"
    SUCCEEDED = "SUCCEEDED"
    FAILED = "FAILED"
    TIMED_OUT = "TIMED_OUT"
    REJECTED = "REJECTED"
    REMOVED = "REMOVED"
    CANCELED = "CANCELED"


PENDING = frozenset({Status.QUEUED, Status.IN_PROGRESS})
REPORTABLE = frozenset({Status.IN_PROGRESS, Status.SUCCEEDED, Status.FAILED, Status.REJECTED})
"""What a device may set."""

Namespace = str | None


@dataclass(frozen=True, slots=True)
class AbortRule:
    """Cancel the job when too many of at least ``executed_min`` ended executions failed in one way (or ``ALL``)."""

    failure: str
    threshold_percent: float
    executed_min: int


@dataclass(frozen=True, slots=True)
class JobRequest:
    """What CreateJob asks for, members aside.

    Attributes:
        job_id: the job's name.
        targets: ARNs of things and thing groups.
        document: what devices receive, JSON text.
        namespace: separates queues; Greengrass uses ``aws-gg-deployment``.
        continuous: things that join a target group later get the job too, and it never completes by itself.
        description: free text.
        in_progress_timeout: how long an execution may be IN_PROGRESS.
        abort_rules: when to cancel the rest.
    """

    job_id: str
    targets: tuple[str, ...]
    document: str
    namespace: Namespace = None
    continuous: bool = False
    description: str = ""
    in_progress_timeout: timedelta | None = None
    abort_rules: tuple[AbortRule, ...] = ()


@dataclass(slots=True)
class Job:
    """A job and how it stands: ``IN_PROGRESS``, ``COMPLETED`` or ``CANCELED``. ``counts`` is kept as executions change."""

    request: JobRequest
    created_at: datetime
    last_updated_at: datetime
    status: str = "IN_PROGRESS"
    completed_at: datetime | None = None
    force_canceled: bool = False
    reason_code: str | None = None
    comment: str | None = None
    counts: Counter[Status] = field(default_factory=Counter)


@dataclass(slots=True)
class Execution:
    """A job on one thing. ``sequence`` orders the queue where times are equal."""

    job_id: str
    thing_name: str
    queued_at: datetime
    last_updated_at: datetime
    sequence: int
    execution_number: int = 1
    status: Status = Status.QUEUED
    version_number: int = 1
    started_at: datetime | None = None
    status_details: dict[str, str] = field(default_factory=dict)
    deadline_at: datetime | None = None
    step_deadline_at: datetime | None = None
    force_canceled: bool = False

    @property
    def due_at(self) -> datetime | None:
        """When it times out, by the earlier of the job's and the step's timer."""
        return min((at for at in (self.deadline_at, self.step_deadline_at) if at is not None), default=None)


@dataclass(frozen=True, slots=True)
class Update:
    """What a device reports about an execution."""

    status: Status
    status_details: Mapping[str, str] | None = None
    expected_version: int | None = None
    execution_number: int | None = None
    step_timeout: timedelta | None = None


def not_found(what: str) -> AwsError:
    """``ResourceNotFoundException``."""
    return AwsError("ResourceNotFoundException", f"{what} does not exist", status=404)


class JobsState:
    """All jobs. Every method that changes something leaves the names of the things it touched in :attr:`touched`."""

    def __init__(self) -> None:
        """No job."""
        self.jobs: dict[str, Job] = {}
        self.touched: set[str] = set()
        self._by_job: dict[str, dict[str, Execution]] = {}
        self._by_thing: dict[str, dict[str, Execution]] = {}
        self._timed: set[tuple[str, str]] = set()
        self._sequence = 0

    def create(self, request: JobRequest, members: Iterable[str], now: datetime) -> Job:
        """Make the job and queue it for each member.

        Raises:
            AwsError: ``ResourceAlreadyExistsException``; nothing was changed.
        """
        existing = self.jobs.get(request.job_id)
        if existing is not None:
            if existing.request == request:
                return existing  # AWS: the same request again is not an error
            raise AwsError(
                "ResourceAlreadyExistsException",
                f"job {request.job_id} exists with other parameters",
                {"resourceId": request.job_id},
                409,
            )
        job = Job(request, now, now)
        self.jobs[request.job_id], self._by_job[request.job_id] = job, {}
        for thing_name in sorted(members):
            self._queue(job, thing_name, now)
        self._roll_up(job, now)
        return job

    def job(self, job_id: str) -> Job:
        """The job.

        Raises:
            AwsError: ``ResourceNotFoundException``.
        """
        if job_id not in self.jobs:
            raise not_found(f"job {job_id}")
        return self.jobs[job_id]

    def execution(self, job_id: str, thing_name: str, number: int | None = None) -> Execution:
        """The newest execution of a job on a thing.

        Raises:
            AwsError: ``ResourceNotFoundException``.
        """
        found = self._by_job.get(job_id, {}).get(thing_name)
        if found is None or number not in {None, found.execution_number}:
            raise not_found(f"an execution of job {job_id} on thing {thing_name}")
        return found

    def executions_of(self, job_id: str) -> list[Execution]:
        """Every execution of a job, by thing name."""
        return [execution for _, execution in sorted(self._by_job.get(job_id, {}).items())]

    def executions_on(self, thing_name: str) -> list[Execution]:
        """Every execution on a thing, oldest first."""
        return sorted(self._by_thing.get(thing_name, {}).values(), key=lambda execution: execution.sequence)

    def pending(self, thing_name: str, namespace: Namespace) -> list[Execution]:
        """A thing's queue in one namespace: IN_PROGRESS before QUEUED, each in the order of queueing."""
        found = (
            execution
            for execution in self.executions_on(thing_name)
            if execution.status in PENDING and self.jobs[execution.job_id].request.namespace == namespace
        )
        return sorted(
            found, key=lambda execution: (execution.status is Status.QUEUED, execution.queued_at, execution.sequence)
        )

    def update(self, job_id: str, thing_name: str, change: Update, now: datetime) -> Execution:
        """Take a device's report.

        Raises:
            AwsError: ``ResourceNotFoundException``, ``InvalidStateTransitionException`` (it has ended, or a device may
                not set that), ``VersionConflictException``; nothing was changed.
        """
        execution = self.execution(job_id, thing_name, change.execution_number)
        if change.expected_version not in {None, execution.version_number}:
            raise AwsError(
                "VersionConflictException",
                f"expected version {change.expected_version}, but it is {execution.version_number}",
                status=409,
            )
        if execution.status not in PENDING or change.status not in REPORTABLE:
            raise AwsError(
                "InvalidStateTransitionException",
                f"job {job_id} on {thing_name} cannot go from {execution.status} to {change.status}",
                status=409,
            )
        if change.status_details is not None:
            execution.status_details = dict(change.status_details)
        if change.step_timeout is not None:
            execution.step_deadline_at = now + change.step_timeout if change.step_timeout else None
        self._set(execution, change.status, now)
        self._roll_up(self.jobs[job_id], now)
        return execution

    def start_next(
        self, thing_name: str, namespace: Namespace, now: datetime, details: Mapping[str, str] | None = None
    ) -> Execution | None:
        """Start the first of a thing's queue, unless it is started already; ``None`` for an empty queue."""
        queue = self.pending(thing_name, namespace)
        if not queue or queue[0].status is Status.IN_PROGRESS:
            return queue[0] if queue else None
        return self.update(queue[0].job_id, thing_name, Update(Status.IN_PROGRESS, details), now)

    def cancel(self, job_id: str, now: datetime, *, force: bool = False) -> Job:
        """End a job: queued executions are cancelled, started ones only by force (else they may end by themselves).

        Raises:
            AwsError: ``ResourceNotFoundException``, or ``InvalidRequestException`` if it has ended.
        """
        job = self.job(job_id)
        if job.status == "COMPLETED" or (job.status == "CANCELED" and not force):
            raise AwsError("InvalidRequestException", f"job {job_id} is {job.status} already")
        job.status, job.completed_at, job.last_updated_at = "CANCELED", now, now
        job.force_canceled = job.force_canceled or force
        for execution in self.executions_of(job_id):
            if execution.status is Status.QUEUED or (force and execution.status is Status.IN_PROGRESS):
                execution.force_canceled = force
                self._set(execution, Status.CANCELED, now)
        return job

    def cancel_execution(self, job_id: str, thing_name: str, now: datetime, *, force: bool = False) -> None:
        """End one execution.

        Raises:
            AwsError: ``ResourceNotFoundException``, ``InvalidStateTransitionException``.
        """
        execution = self.execution(job_id, thing_name)
        if execution.status is not Status.QUEUED and not (force and execution.status is Status.IN_PROGRESS):
            raise AwsError("InvalidStateTransitionException", f"the execution is {execution.status}", status=409)
        execution.force_canceled = force
        self._set(execution, Status.CANCELED, now)
        self._roll_up(self.jobs[job_id], now)

    def delete(self, job_id: str, *, force: bool = False) -> None:
        """Forget a job and its executions.

        Raises:
            AwsError: ``ResourceNotFoundException``; ``InvalidStateTransitionException`` while it runs, unless forced.
        """
        job = self.job(job_id)
        if job.status == "IN_PROGRESS" and not force:
            raise AwsError("InvalidStateTransitionException", f"job {job_id} is IN_PROGRESS", status=409)
        for execution in self.executions_of(job_id):
            self.touched.add(execution.thing_name)
            self._timed.discard((job_id, execution.thing_name))
            del self._by_thing[execution.thing_name][job_id]
        del self.jobs[job_id], self._by_job[job_id]

    def reconcile(self, job_id: str, members: frozenset[str], registered: frozenset[str], now: datetime) -> None:
        """Fit a running job to its targets' members of now.

        A continuous job is queued for who joined, and removed from the queue of who left; any job is removed for
        things that are not registered any more.
        """
        job = self.jobs[job_id]
        if job.status != "IN_PROGRESS":
            return
        for execution in self.executions_of(job_id):
            gone = execution.thing_name not in registered
            left = job.request.continuous and execution.thing_name not in members
            if (gone and execution.status in PENDING) or (left and execution.status is Status.QUEUED):
                self._set(execution, Status.REMOVED, now)
        if job.request.continuous:
            for thing_name in sorted(members):
                earlier = self._by_job[job_id].get(thing_name)
                if earlier is None or earlier.status is Status.REMOVED:
                    self._queue(job, thing_name, now)
        self._roll_up(job, now)

    def expire(self, now: datetime) -> None:
        """Time out every started execution whose timer has run down."""
        for job_id, thing_name in sorted(self._timed):
            execution = self._by_job[job_id][thing_name]
            if execution.due_at is not None and now >= execution.due_at:
                self._set(execution, Status.TIMED_OUT, now)
                self._roll_up(self.jobs[job_id], now)

    def queues(self, thing_name: str) -> Iterator[tuple[Namespace, list[Execution]]]:
        """A thing's queue in each namespace it has met, empty ones included."""
        met = {self.jobs[job_id].request.namespace for job_id in self._by_thing.get(thing_name, {})}
        for namespace in sorted(met, key=str):
            yield namespace, self.pending(thing_name, namespace)

    def _queue(self, job: Job, thing_name: str, now: datetime) -> None:
        job_id = job.request.job_id
        earlier = self._by_job[job_id].get(thing_name)
        if earlier is not None:
            job.counts[earlier.status] -= 1
        self._sequence += 1
        number = 1 if earlier is None else earlier.execution_number + 1
        execution = Execution(job_id, thing_name, now, now, self._sequence, number)
        self._by_job[job_id][thing_name] = self._by_thing.setdefault(thing_name, {})[job_id] = execution
        job.counts[Status.QUEUED] += 1
        self.touched.add(thing_name)

    def _set(self, execution: Execution, status: Status, now: datetime) -> None:
        job = self.jobs[execution.job_id]
        if status is Status.IN_PROGRESS and execution.started_at is None:
            execution.started_at = now
            timeout = job.request.in_progress_timeout
            execution.deadline_at = None if timeout is None else now + timeout
        job.counts[execution.status] -= 1
        job.counts[status] += 1
        execution.status = status
        execution.version_number += 1
        execution.last_updated_at = now
        running = status is Status.IN_PROGRESS and execution.due_at is not None
        (self._timed.add if running else self._timed.discard)((execution.job_id, execution.thing_name))
        self.touched.add(execution.thing_name)

    def _roll_up(self, job: Job, now: datetime) -> None:
        if job.status != "IN_PROGRESS":
            return
        if any(_must_abort(rule, job.counts) for rule in job.request.abort_rules):
            self.cancel(job.request.job_id, now)
        elif not job.request.continuous and not any(job.counts[status] for status in PENDING):
            job.status, job.completed_at, job.last_updated_at = "COMPLETED", now, now


def _must_abort(rule: AbortRule, counts: Counter[Status]) -> bool:
    failures = ("FAILED", "REJECTED", "TIMED_OUT") if rule.failure == "ALL" else (rule.failure,)
    ended = sum(count for status, count in counts.items() if status not in PENDING)
    failed = sum(counts[Status(name)] for name in failures)
    return failed > 0 and ended >= rule.executed_min and 100 * failed >= rule.threshold_percent * ended
