"""Greengrass deployments and core devices at work: jobs and shadows out, reports in, events to EventBridge.

The shell around :mod:`simulator.aws.greengrass_deployments` and :mod:`simulator.aws.greengrass_devices`.

Concurrency: one lock around the two books. It is never held while jobs are changed or messages sent, since both call
back into here. Events are emitted after the lock is released. A second lock lets one deployment at a time be made or
cancelled, so that none withdraws another's job before it exists.
"""

import json
import logging
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from datetime import datetime
from typing import Any

from edge_component.contracts.topics import DEPLOYMENT_NAMESPACE
from simulator.aws.bus import MessageBus
from simulator.aws.errors import AwsError
from simulator.aws.event import Event, EventSink
from simulator.aws.greengrass_deployments import (
    NOTIFIED_STATUSES,
    Deployment,
    DeploymentBook,
    Effective,
    job_document,
)
from simulator.aws.greengrass_devices import TOPIC_FILTER, DeviceBook, MalformedReportError, Outcome, parse_report
from simulator.aws.greengrass_shadow import DeploymentShadow
from simulator.aws.iot_jobs import IotJobs
from simulator.aws.iot_jobs_api import abort_rules, timeout
from simulator.aws.iot_jobs_state import Execution, JobRequest

log = logging.getLogger(__name__)

EVENT_SOURCE = "aws.greengrass"
EVENT_TYPE = "Greengrass V2 Effective Deployment Status Change"


class GreengrassFleet:
    """Carries deployments to devices and keeps what devices say."""

    def __init__(
        self,
        arn_prefix: str,
        jobs: IotJobs,
        shadow: DeploymentShadow,
        events: Callable[[], EventSink],
        clock: Callable[[], datetime],
    ) -> None:
        """Nothing is sent until a deployment is made. ``events`` is asked each time, since EventBridge comes later."""
        self._prefix, self._jobs, self._shadow, self._events, self._clock = arn_prefix, jobs, shadow, events, clock
        self.deployments, self.devices = DeploymentBook(), DeviceBook()
        self._lock = threading.RLock()
        self._deploying = threading.Lock()
        jobs.on_execution(self.note_execution)
        shadow.on_reported(self.note_shadow)

    def listen(self, bus: MessageBus) -> None:
        """Take fleet-status reports from the bus."""
        bus.subscribe(TOPIC_FILTER, self.receive_report)

    @contextmanager
    def locked(self) -> Iterator[None]:
        """The books, unchanged by others meanwhile."""
        with self._lock:
            yield

    def deploy(self, request: Mapping[str, Any]) -> Deployment:
        """Make a deployment, take its predecessor's place and send it.

        Raises:
            AwsError: ``ConflictException`` for a client token, 501 for what a job cannot carry; nothing was changed.
        """
        with self._deploying:
            with self._lock:
                repeated = self.deployments.repeated(request)
                if repeated is not None:
                    return repeated
                deployment = self.deployments.plan(request, self._clock())
                document = job_document(deployment)
                superseded = self.deployments.add(deployment)
            if superseded is not None:
                self._withdraw(superseded)
            self._send(deployment, document)
        return deployment

    def _send(self, deployment: Deployment, document: str) -> None:
        if deployment.thing_name:
            self.note(deployment, deployment.thing_name, "QUEUED")
            self._shadow.desire(deployment.thing_name, document)
        else:
            self._jobs.create(_job_request(deployment, document))

    def cancel(self, deployment_id: str) -> None:
        """Withdraw a deployment from devices that have not started it.

        Raises:
            AwsError: ``ResourceNotFoundException``, ``ConflictException`` if it is not active.
        """
        with self._deploying:
            with self._lock:
                deployment = self.deployments.get(deployment_id)
                deployment.cancel()
            self._withdraw(deployment)

    def _withdraw(self, deployment: Deployment) -> None:
        if deployment.thing_name:
            self._withdraw_from_thing(deployment)
            return
        with self._jobs.changing() as (state, now):
            if state.job(deployment.job_id).status == "IN_PROGRESS":
                state.cancel(deployment.job_id, now)

    def _withdraw_from_thing(self, deployment: Deployment) -> None:
        if self.deployments.status_on(deployment, deployment.thing_name) == "QUEUED":
            self.note(deployment, deployment.thing_name, "CANCELED")
        if deployment.canceled:
            self._shadow.cancel(deployment.thing_name)

    def job_status(self, deployment: Deployment) -> str | None:
        """How the deployment's IoT Job stands."""
        if not deployment.job_id:
            return None
        with self._jobs.changing() as (state, _):
            job = state.jobs.get(deployment.job_id)
            return None if job is None else job.status

    def note_execution(self, execution: Execution) -> None:
        """An execution of an IoT Job changed; if it is ours, so did the deployment on that device."""
        deployment = self.deployments.of_job(execution.job_id)
        if deployment is not None and execution.status != "REMOVED":
            self.note(deployment, execution.thing_name, execution.status.value)

    def note_shadow(self, thing_name: str, configuration_arn: str, status: str) -> None:
        """A thing reported through its deployment shadow; a thing's success is called COMPLETED."""
        deployment = self.deployments.of_configuration(configuration_arn)
        if deployment is not None and deployment.thing_name == thing_name:
            self.note(deployment, thing_name, {"SUCCEEDED": "COMPLETED"}.get(status, status))

    def note(self, deployment: Deployment, thing_name: str, status: str) -> None:
        """Record a device's status and tell EventBridge if it is an end."""
        with self._lock:
            news = self.deployments.note(deployment, thing_name, status, self._clock())
            event = self._event(news) if news is not None else None
        if event is not None:
            self._events().emit(event)

    def receive_report(self, topic: str, payload: bytes) -> None:
        """Take a fleet-status message; a malformed one is logged and changes nothing."""
        thing_name = topic.split("/")[2]
        try:
            report = parse_report(thing_name, payload)
        except MalformedReportError as error:
            log.warning("refused: %s", error)
            return
        with self._lock:
            self.devices.take(report)
            news = None if report.outcome is None else self._explained(thing_name, report.outcome)
            event = None if news is None else self._event(news)
        if event is not None:
            self._events().emit(event)

    def _explained(self, thing_name: str, outcome: Outcome) -> Effective | None:
        deployment = self.deployments.of_configuration(outcome.configuration_arn)
        if deployment is None:
            return None
        return self.deployments.explain(deployment, thing_name, outcome.reason, outcome.details)

    def _event(self, effective: Effective) -> Event | None:
        if effective.status not in NOTIFIED_STATUSES:
            return None
        detail = {
            "deploymentId": effective.deployment.deployment_id,
            "coreDeviceExecutionStatus": effective.status,
            "reason": effective.reason,
            "statusDetails": {
                "errorStack": list(effective.details.get("errorStack", ())),
                "errorTypes": list(effective.details.get("errorTypes", ())),
            },
        }
        return Event(EVENT_SOURCE, EVENT_TYPE, detail, (f"{self._prefix}:coreDevices:{effective.thing_name}",))


def _job_request(deployment: Deployment, document: str) -> JobRequest:
    configuration = deployment.request.get("iotJobConfiguration", {})
    return JobRequest(
        deployment.job_id,
        (deployment.target_arn,),
        document,
        DEPLOYMENT_NAMESPACE,
        continuous=True,
        description=deployment.request.get("deploymentName", ""),
        in_progress_timeout=timeout(configuration.get("timeoutConfig", {})),
        abort_rules=abort_rules(configuration.get("abortConfig", {})),
    )


def check_merges(components: Mapping[str, Any]) -> None:
    """Refuse a configuration merge that is no JSON object.

    Raises:
        AwsError: ``ValidationException`` naming the component.
    """
    for name, component in components.items():
        merge = component.get("configurationUpdate", {}).get("merge", "{}")
        try:
            is_object = isinstance(json.loads(merge), dict)
        except ValueError:
            is_object = False
        if not is_object:
            raise AwsError("ValidationException", f"components.{name}.configurationUpdate.merge: not a JSON object")
