"""The devices' side of IoT Jobs over MQTT: the reserved topics, with and without a namespace.

``$aws/things/<thing>/jobs/get``, ``…/jobs/start-next``, ``…/jobs/<job or $next>/get`` and ``…/jobs/<job>/update``, the
last two also below ``namespace-<namespace>`` as Greengrass uses them; answered on ``<topic>/accepted`` or ``/rejected``
(AWS IoT developer guide, "Jobs device MQTT API"). Notifications are sent by :mod:`simulator.aws.iot_jobs`.

Topics are parsed purely; requests are answered on the bus's thread.
"""

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from simulator.aws.bus import MessageBus
from simulator.aws.errors import AwsError
from simulator.aws.iot_jobs import IotJobs, describe, seconds, summary
from simulator.aws.iot_jobs_state import Execution, JobsState, Namespace, Status, Update

NEXT = "$next"
FILTERS = (
    "$aws/things/+/jobs/get",
    "$aws/things/+/jobs/start-next",
    "$aws/things/+/jobs/+/get",
    "$aws/things/+/jobs/+/update",
    "$aws/things/+/jobs/+/+/get",
    "$aws/things/+/jobs/+/+/update",
)

_TOPIC = re.compile(
    r"\$aws/things/(?P<thing>[^/]+)/jobs/"
    r"(?:(?P<job>\$next|[A-Za-z0-9_-]+)/)?(?:namespace-(?P<namespace>[A-Za-z0-9_-]+)/)?(?P<verb>get|start-next|update)"
)

_REJECTIONS = {
    "ResourceNotFoundException": "ResourceNotFound",
    "InvalidStateTransitionException": "InvalidStateTransition",
    "VersionConflictException": "VersionMismatch",
    "InvalidRequestException": "InvalidRequest",
}


@dataclass(frozen=True, slots=True)
class JobsTopic:
    """A request's address. ``job_id`` is empty where the topic names none."""

    thing_name: str
    verb: str
    job_id: str = ""
    namespace: Namespace = None


def parse_topic(topic: str) -> JobsTopic | None:
    """Read a request topic; ``None`` for any other, such as an answer's."""
    match = _TOPIC.fullmatch(topic)
    if match is None or (match["verb"] == "update" and not match["job"]):
        return None
    return JobsTopic(match["thing"], match["verb"], match["job"] or "", match["namespace"])


class JobsOverMqtt:
    """Answers devices' requests."""

    def __init__(self, jobs: IotJobs, bus: MessageBus) -> None:
        """Subscribes at once."""
        self._jobs = jobs
        for topic_filter in FILTERS:
            bus.subscribe(topic_filter, self.receive)

    def receive(self, topic: str, payload: bytes) -> None:
        """Answer one request; anything that is not one is left alone."""
        address = parse_topic(topic)
        if address is None:
            return
        token: dict[str, Any] = {}
        try:
            body = _body(payload)
            token = {"clientToken": body["clientToken"]} if "clientToken" in body else {}
            with self._jobs.changing() as (state, now):
                answer = {**_answer(state, address, body, now), "timestamp": seconds(now), **token}
        except AwsError as error:
            self._jobs.send(f"{topic}/rejected", {**_rejection(error), **token})
            return
        self._jobs.send(f"{topic}/accepted", answer)


def _body(payload: bytes) -> Mapping[str, Any]:
    try:
        body = json.loads(payload or b"{}")
    except ValueError as error:
        raise AwsError("InvalidJson", f"the payload is not JSON: {error}") from error
    if not isinstance(body, dict):
        raise AwsError("InvalidRequestException", "the payload is not a JSON object")
    return body


def _rejection(error: AwsError) -> dict[str, Any]:
    return {"code": _REJECTIONS.get(error.code, error.code), "message": error.message}


def _answer(state: JobsState, address: JobsTopic, body: Mapping[str, Any], now: datetime) -> dict[str, Any]:
    if address.verb == "update":
        return _update(state, address, body, now)
    if address.verb == "start-next":
        details = _details(body)
        return {"execution": _described(state, state.start_next(address.thing_name, address.namespace, now, details))}
    if address.job_id:
        return {"execution": _get(state, address, body)}
    queue = state.pending(address.thing_name, address.namespace)
    started = [summary(execution) for execution in queue if execution.status is Status.IN_PROGRESS]
    queued = [summary(execution) for execution in queue if execution.status is Status.QUEUED]
    return {"inProgressJobs": started, "queuedJobs": queued}


def _get(state: JobsState, address: JobsTopic, body: Mapping[str, Any]) -> dict[str, Any]:
    with_document = body.get("includeJobDocument", True) is not False
    if address.job_id == NEXT:
        queue = state.pending(address.thing_name, address.namespace)
        return _described(state, queue[0] if queue else None, with_document=with_document)
    execution = state.execution(address.job_id, address.thing_name, body.get("executionNumber"))
    return _described(state, execution, with_document=with_document)


def _update(state: JobsState, address: JobsTopic, body: Mapping[str, Any], now: datetime) -> dict[str, Any]:
    try:
        status = Status(body.get("status", ""))
    except ValueError as error:
        raise AwsError("InvalidRequestException", f"status: {body.get('status')!r} is none") from error
    minutes = body.get("stepTimeoutInMinutes")
    change = Update(
        status,
        _details(body),
        _integer(body, "expectedVersion"),
        _integer(body, "executionNumber"),
        timedelta(minutes=max(0, minutes)) if isinstance(minutes, int) else None,
    )
    execution = state.update(address.job_id, address.thing_name, change, now)
    answer: dict[str, Any] = {}
    if body.get("includeJobExecutionState"):
        described = describe(execution)
        answer["executionState"] = {
            name: described[name] for name in ("status", "statusDetails", "versionNumber") if name in described
        }
    if body.get("includeJobDocument"):
        answer["jobDocument"] = json.loads(state.job(address.job_id).request.document)
    return answer


def _described(state: JobsState, execution: Execution | None, *, with_document: bool = True) -> dict[str, Any]:
    if execution is None:
        return {}
    return describe(execution, state.job(execution.job_id).request.document if with_document else None)


def _details(body: Mapping[str, Any]) -> Mapping[str, str] | None:
    details = body.get("statusDetails")
    if details is None:
        return None
    if not isinstance(details, dict) or not all(isinstance(value, str) for value in details.values()):
        raise AwsError("InvalidRequestException", "statusDetails: must be an object of strings")
    return details


def _integer(body: Mapping[str, Any], name: str) -> int | None:
    value = body.get(name)
    if isinstance(value, str) and value.lstrip("-").isdigit():  # the AWS examples send numbers as text here
        value = int(value)
    if value is not None and (isinstance(value, bool) or not isinstance(value, int)):
        raise AwsError("InvalidRequestException", f"{name}: must be an integer")
    return value
