"""The AWS operations of IoT Jobs: service ``iot`` for operators, ``iot-jobs-data`` for devices over HTTP.

Parameters come validated by the service's model; parts of a request that nothing here performs (rollout rates,
schedules, retries, presigned URLs, templates) answer 501 instead of being stored and forgotten.
"""

from collections.abc import Iterable, Mapping
from datetime import datetime, timedelta
from typing import Any

from simulator.aws.cloud import Cloud
from simulator.aws.errors import AwsError, NotRealError
from simulator.aws.iot_jobs import IotJobs, seconds_before_timeout, summary
from simulator.aws.iot_jobs_state import AbortRule, Execution, Job, JobRequest, JobsState, Status, Update, not_found
from simulator.aws.iot_things import arn_prefix
from simulator.aws.operations import Call
from simulator.aws.paging import page
from simulator.aws.s3_objects import S3Objects

UNREAL_MEMBERS = (
    "presignedUrlConfig", "jobExecutionsRolloutConfig", "jobTemplateArn", "jobExecutionsRetryConfig",
    "documentParameters", "schedulingConfig", "destinationPackageVersions",
)  # fmt: skip

MEMBERSHIP_CHANGES = (
    "AddThingToThingGroup", "RemoveThingFromThingGroup", "UpdateThingGroupsForThing", "DeleteThing", "DeleteThingGroup",
)  # fmt: skip

NEXT = "$next"


class JobsApi:
    """The handlers."""

    def __init__(self, cloud: Cloud, jobs: IotJobs, objects: S3Objects) -> None:
        """Registers every operation and the reactions to changes of groups."""
        self._cloud, self._jobs, self._objects = cloud, jobs, objects
        cloud.operations.serve(
            "iot",
            {
                "CreateJob": self.create_job,
                "DescribeJob": self.describe_job,
                "GetJobDocument": self.get_job_document,
                "ListJobs": self.list_jobs,
                "CancelJob": self.cancel_job,
                "DeleteJob": self.delete_job,
                "ListJobExecutionsForJob": self.list_job_executions_for_job,
                "ListJobExecutionsForThing": self.list_job_executions_for_thing,
                "DescribeJobExecution": self.describe_job_execution,
                "CancelJobExecution": self.cancel_job_execution,
            },
        )
        cloud.operations.serve(
            "iot-jobs-data",
            {
                "GetPendingJobExecutions": self.get_pending_job_executions,
                "StartNextPendingJobExecution": self.start_next_pending_job_execution,
                "DescribeJobExecution": self.describe_own_job_execution,
                "UpdateJobExecution": self.update_job_execution,
            },
        )
        for operation in MEMBERSHIP_CHANGES:
            cloud.operations.after("iot", operation, lambda _call, _response: jobs.reconcile())

    def create_job(self, call: Call) -> Mapping[str, Any]:
        """CreateJob."""
        given = call.parameters
        unreal = [name for name in UNREAL_MEMBERS if given.get(name)]
        if unreal:
            raise NotRealError(f"iot:CreateJob with {', '.join(unreal)}")
        request = JobRequest(
            given["jobId"],
            tuple(given["targets"]),
            self._document(given),
            given.get("namespaceId"),
            given.get("targetSelection") == "CONTINUOUS",
            given.get("description", ""),
            timeout(given.get("timeoutConfig", {})),
            abort_rules(given.get("abortConfig", {})),
        )
        return self._identity(self._jobs.create(request))

    def _document(self, given: Mapping[str, Any]) -> str:
        if given.get("document"):
            return str(given["document"])
        source = given.get("documentSource", "")
        if not source:
            raise AwsError("InvalidRequestException", "one of document and documentSource is required")
        return self._objects.read_url(source).decode()

    def describe_job(self, call: Call) -> Mapping[str, Any]:
        """DescribeJob."""
        with self._jobs.changing() as (state, _):
            return {"job": self._description(state.job(call.parameters["jobId"]))}

    def get_job_document(self, call: Call) -> Mapping[str, Any]:
        """GetJobDocument."""
        with self._jobs.changing() as (state, _):
            return {"document": state.job(call.parameters["jobId"]).request.document}

    def list_jobs(self, call: Call) -> Mapping[str, Any]:
        """ListJobs, newest first."""
        given = call.parameters
        group = self._jobs.things.group(given["thingGroupName"]) if given.get("thingGroupName") else None
        if given.get("thingGroupName") and group is None:
            raise not_found(f"thing group {given['thingGroupName']}")
        with self._jobs.changing() as (state, _):
            found = [
                self._summary(job)
                for job in reversed(state.jobs.values())
                if given.get("status") in {None, job.status}
                and given.get("namespaceId") in {None, job.request.namespace}
                and given.get("targetSelection") in {None, _selection(job)}
                and (group is None or group.arn in job.request.targets)
            ]
        return page("jobs", found, given)

    def cancel_job(self, call: Call) -> Mapping[str, Any]:
        """CancelJob."""
        given = call.parameters
        with self._jobs.changing() as (state, now):
            job = state.cancel(given["jobId"], now, force=bool(given.get("force")))
            job.reason_code, job.comment = given.get("reasonCode"), given.get("comment")
            return self._identity(job)

    def delete_job(self, call: Call) -> None:
        """DeleteJob."""
        with self._jobs.changing() as (state, _):
            state.delete(call.parameters["jobId"], force=bool(call.parameters.get("force")))

    def list_job_executions_for_job(self, call: Call) -> Mapping[str, Any]:
        """ListJobExecutionsForJob."""
        with self._jobs.changing() as (state, _):
            state.job(call.parameters["jobId"])
            found = [
                {"thingArn": self._thing_arn(execution), "jobExecutionSummary": _operator_summary(execution)}
                for execution in _with_status(state.executions_of(call.parameters["jobId"]), call)
            ]
        return page("executionSummaries", found, call.parameters)

    def list_job_executions_for_thing(self, call: Call) -> Mapping[str, Any]:
        """ListJobExecutionsForThing, newest first."""
        given = call.parameters
        self._require_thing(given["thingName"])
        with self._jobs.changing() as (state, _):
            found = [
                {"jobId": execution.job_id, "jobExecutionSummary": _operator_summary(execution)}
                for execution in reversed(_with_status(state.executions_on(given["thingName"]), call))
                if given.get("namespaceId") in {None, state.job(execution.job_id).request.namespace}
                and given.get("jobId") in {None, execution.job_id}
            ]
        return page("executionSummaries", found, given)

    def describe_job_execution(self, call: Call) -> Mapping[str, Any]:
        """DescribeJobExecution of service ``iot``."""
        given = call.parameters
        with self._jobs.changing() as (state, now):
            execution = state.execution(given["jobId"], given["thingName"], given.get("executionNumber"))
            return {
                "execution": {
                    **_operator_summary(execution),
                    "jobId": execution.job_id,
                    "thingArn": self._thing_arn(execution),
                    "statusDetails": {"detailsMap": execution.status_details},
                    "versionNumber": execution.version_number,
                    "forceCanceled": execution.force_canceled,
                    "approximateSecondsBeforeTimedOut": seconds_before_timeout(execution, now),
                }
            }

    def cancel_job_execution(self, call: Call) -> None:
        """CancelJobExecution."""
        given = call.parameters
        with self._jobs.changing() as (state, now):
            execution = state.execution(given["jobId"], given["thingName"])
            if given.get("expectedVersion") not in {None, execution.version_number}:
                raise AwsError("VersionConflictException", f"the version is {execution.version_number}", status=409)
            state.cancel_execution(given["jobId"], given["thingName"], now, force=bool(given.get("force")))

    def get_pending_job_executions(self, call: Call) -> Mapping[str, Any]:
        """GetPendingJobExecutions over HTTP: the queue without a namespace."""
        self._require_thing(call.parameters["thingName"])
        with self._jobs.changing() as (state, _):
            queue = state.pending(call.parameters["thingName"], None)
            return {
                "inProgressJobs": [summary(each) for each in queue if each.status is Status.IN_PROGRESS],
                "queuedJobs": [summary(each) for each in queue if each.status is Status.QUEUED],
            }

    def start_next_pending_job_execution(self, call: Call) -> Mapping[str, Any]:
        """StartNextPendingJobExecution over HTTP."""
        given = call.parameters
        self._require_thing(given["thingName"])
        with self._jobs.changing() as (state, now):
            execution = state.start_next(given["thingName"], None, now, given.get("statusDetails"))
            return {} if execution is None else {"execution": _own(state, execution, now)}

    def describe_own_job_execution(self, call: Call) -> Mapping[str, Any]:
        """DescribeJobExecution of service ``iot-jobs-data``; ``$next`` means the first of the queue."""
        given = call.parameters
        self._require_thing(given["thingName"])
        with self._jobs.changing() as (state, now):
            if given["jobId"] == NEXT:
                queue = state.pending(given["thingName"], None)
                if not queue:
                    return {}
                execution = queue[0]
            else:
                execution = state.execution(given["jobId"], given["thingName"], given.get("executionNumber"))
            return {"execution": _own(state, execution, now, with_document=given.get("includeJobDocument", True))}

    def update_job_execution(self, call: Call) -> Mapping[str, Any]:
        """UpdateJobExecution over HTTP."""
        given = call.parameters
        minutes = given.get("stepTimeoutInMinutes")
        change = Update(
            Status(given["status"]),
            given.get("statusDetails"),
            given.get("expectedVersion"),
            given.get("executionNumber"),
            None if minutes is None else timedelta(minutes=max(0, minutes)),
        )
        with self._jobs.changing() as (state, now):
            execution = state.update(given["jobId"], given["thingName"], change, now)
            answer: dict[str, Any] = {}
            if given.get("includeJobExecutionState"):
                answer["executionState"] = {
                    "status": execution.status.value,
                    "statusDetails": execution.status_details,
                    "versionNumber": execution.version_number,
                }
            if given.get("includeJobDocument"):
                answer["jobDocument"] = state.job(given["jobId"]).request.document
            return answer

    def _require_thing(self, thing_name: str) -> None:
        if not self._jobs.things.has(thing_name):
            raise not_found(f"thing {thing_name}")

    def _identity(self, job: Job) -> dict[str, Any]:
        found = {"jobArn": self._arn(job), "jobId": job.request.job_id}
        return {**found, "description": job.request.description} if job.request.description else found

    def _arn(self, job: Job) -> str:
        return f"{arn_prefix(self._cloud)}:job/{job.request.job_id}"

    def _thing_arn(self, execution: Execution) -> str:
        return f"{arn_prefix(self._cloud)}:thing/{execution.thing_name}"

    def _summary(self, job: Job) -> dict[str, Any]:
        return {
            "jobArn": self._arn(job),
            "jobId": job.request.job_id,
            "targetSelection": _selection(job),
            "status": job.status,
            "createdAt": job.created_at,
            "lastUpdatedAt": job.last_updated_at,
            "completedAt": job.completed_at,
        }

    def _description(self, job: Job) -> dict[str, Any]:
        limit = job.request.in_progress_timeout
        return {
            **self._summary(job),
            **self._identity(job),
            "targets": list(job.request.targets),
            "forceCanceled": job.force_canceled,
            "reasonCode": job.reason_code,
            "comment": job.comment,
            "namespaceId": job.request.namespace,
            "jobProcessDetails": _process_details(job),
            "timeoutConfig": None if limit is None else {"inProgressTimeoutInMinutes": int(limit.total_seconds() / 60)},
        }


def abort_rules(config: Mapping[str, Any]) -> tuple[AbortRule, ...]:
    """The rules of an ``abortConfig``."""
    return tuple(
        AbortRule(rule["failureType"], rule["thresholdPercentage"], rule["minNumberOfExecutedThings"])
        for rule in config.get("criteriaList", ())
    )


def timeout(config: Mapping[str, Any]) -> timedelta | None:
    """The limit of a ``timeoutConfig``."""
    minutes = config.get("inProgressTimeoutInMinutes")
    return None if minutes is None else timedelta(minutes=minutes)


def _selection(job: Job) -> str:
    return "CONTINUOUS" if job.request.continuous else "SNAPSHOT"


def _process_details(job: Job) -> dict[str, Any]:
    names = {
        Status.CANCELED: "Canceled", Status.SUCCEEDED: "Succeeded", Status.FAILED: "Failed",
        Status.REJECTED: "Rejected", Status.QUEUED: "Queued", Status.IN_PROGRESS: "InProgress",
        Status.REMOVED: "Removed", Status.TIMED_OUT: "TimedOut",
    }  # fmt: skip
    return {f"numberOf{name}Things": job.counts[status] for status, name in names.items()}


def _with_status(executions: Iterable[Execution], call: Call) -> list[Execution]:
    return [each for each in executions if call.parameters.get("status") in {None, each.status.value}]


def _operator_summary(execution: Execution) -> dict[str, Any]:
    return {
        "status": execution.status.value,
        "queuedAt": execution.queued_at,
        "startedAt": execution.started_at,
        "lastUpdatedAt": execution.last_updated_at,
        "executionNumber": execution.execution_number,
    }


def _own(state: JobsState, execution: Execution, now: datetime, *, with_document: bool = True) -> dict[str, Any]:
    found = {
        **summary(execution),
        "thingName": execution.thing_name,
        "status": execution.status.value,
        "statusDetails": execution.status_details,
        "approximateSecondsBeforeTimedOut": seconds_before_timeout(execution, now),
    }
    if with_document:
        found["jobDocument"] = state.job(execution.job_id).request.document
    return found
