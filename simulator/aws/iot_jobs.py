"""IoT Jobs, made real: fan-out to the members of thing groups, queues, notifications to devices.

The shell around :mod:`simulator.aws.iot_jobs_state`: it knows the registry, the clock, the bus and the lock. The AWS
operations are in :mod:`simulator.aws.iot_jobs_api`, the devices' MQTT topics in :mod:`simulator.aws.iot_jobs_mqtt`.

Concurrency: one lock around every change. What must be sent or told is queued under that lock and sent in that order
after it is released, so a listener may call back in, and a device never sees an older state after a newer one. Timers
are looked at whenever anything is asked, not by a thread.
"""

import json
import logging
import threading
from collections import deque
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from datetime import datetime
from functools import partial
from typing import Any

from simulator.aws.bus import MessageBus
from simulator.aws.errors import AwsError
from simulator.aws.iot_jobs_state import PENDING, Execution, Job, JobRequest, JobsState, Namespace, Status, not_found
from simulator.aws.iot_things import Things, kind_and_name
from simulator.mqtt import MqttError

log = logging.getLogger(__name__)

LIST_NOTIFICATION_MAX = 15
"""Executions in a ``notify`` message (AWS IoT developer guide, job execution limits: 10 to 15)."""

ExecutionListener = Callable[[Execution], None]
"""Told of every execution that changed, after the change."""


@dataclass(frozen=True, slots=True)
class _Seen:
    """What a thing was last told about one of its queues."""

    pending: frozenset[tuple[str, int, Status]] = frozenset()
    first: tuple[str, int] | None = None


class IotJobs:
    """The service. Methods raise :class:`AwsError` as the state does."""

    def __init__(self, things: Things, bus: MessageBus, clock: Callable[[], datetime]) -> None:
        """No job; nothing is subscribed."""
        self.things = things
        self._bus, self._clock = bus, clock
        self._state = JobsState()
        self._lock = threading.RLock()
        self._seen: dict[tuple[str, Namespace], _Seen] = {}
        self._listeners: list[ExecutionListener] = []
        self._outbox: deque[Callable[[], None]] = deque()
        self._sending = threading.RLock()

    def on_execution(self, listener: ExecutionListener) -> None:
        """Tell ``listener`` of every execution on a thing whose jobs changed."""
        self._listeners.append(listener)

    def create(self, request: JobRequest) -> Job:
        """Make a job and queue it for every member of its targets.

        Raises:
            AwsError: ``ResourceNotFoundException`` for a target, ``ResourceAlreadyExistsException``.
        """
        members = self.members(request.targets)
        with self.changing() as (state, now):
            return state.create(request, members, now)

    def members(self, targets: tuple[str, ...]) -> frozenset[str]:
        """The things that a job's targets mean now.

        Raises:
            AwsError: ``ResourceNotFoundException`` for a thing or group that is not registered.
        """
        names: set[str] = set()
        for target in targets:
            kind, name = kind_and_name(target)
            if kind == "thing" and self.things.has(name):
                names.add(name)
            elif kind == "thinggroup" and self.things.group(name) is not None:
                names.update(self.things.members(name))
            else:
                raise not_found(f"target {target}")
        return frozenset(names)

    def reconcile(self) -> None:
        """Fit every running job to the registry of now: later joiners of continuous jobs, removed things."""
        with self.changing() as (state, now):
            for job_id, job in list(state.jobs.items()):
                if job.status == "IN_PROGRESS":
                    named = frozenset(execution.thing_name for execution in state.executions_of(job_id))
                    registered = frozenset(name for name in named if self.things.has(name))
                    state.reconcile(job_id, self._members_left(job.request.targets), registered, now)

    def _members_left(self, targets: tuple[str, ...]) -> frozenset[str]:
        names: frozenset[str] = frozenset()
        for target in targets:
            try:
                names |= self.members((target,))
            except AwsError:
                continue  # a target that was deleted since has no members
        return names

    @contextmanager
    def changing(self) -> Iterator[tuple[JobsState, datetime]]:
        """The state, locked, with expired timers applied; on leaving, devices and listeners are told what changed."""
        try:
            with self._lock:
                now = self._clock()
                self._state.expire(now)
                try:
                    yield self._state, now
                finally:
                    for name in sorted(self._state.touched):
                        self._enqueue(name, now)
                    self._state.touched = set()
        finally:
            self._send_queued()

    def _enqueue(self, thing_name: str, now: datetime) -> None:
        for execution in map(replace, self._state.executions_on(thing_name)):  # copies: it may change before it is told
            self._outbox.extend(partial(listener, execution) for listener in self._listeners)
        self._outbox.extend(partial(self.send, topic, body) for topic, body in self._notifications(thing_name, now))

    def _send_queued(self) -> None:
        with self._sending:
            while self._outbox:
                self._outbox.popleft()()

    def send(self, topic: str, body: Mapping[str, Any]) -> None:
        """Publish JSON; a broker that is away costs the message only, since devices ask again when they are back."""
        try:
            self._bus.publish(topic, json.dumps(body).encode())
        except MqttError as error:
            log.warning("not sent to %s: %s", topic, error)

    def _notifications(self, thing_name: str, now: datetime) -> Iterator[tuple[str, dict[str, Any]]]:
        for namespace, queue in self._state.queues(thing_name):
            before = self._seen.get((thing_name, namespace), _Seen())
            pending = frozenset((each.job_id, each.execution_number, each.status) for each in queue)
            after = _Seen(pending, (queue[0].job_id, queue[0].execution_number) if queue else None)
            self._seen[thing_name, namespace] = after
            suffix = "" if namespace is None else f"-namespace-{namespace}"
            base = f"$aws/things/{thing_name}/jobs/notify"
            if after.pending != before.pending:
                yield f"{base}{suffix}", {"timestamp": seconds(now), "jobs": _by_status(queue)}
            if after.first != before.first:
                first = describe(queue[0], self._state.jobs[queue[0].job_id].request.document) if queue else {}
                yield f"{base}-next{suffix}", {"timestamp": seconds(now), "execution": first}


def _by_status(queue: list[Execution]) -> dict[str, list[dict[str, Any]]]:
    listed: dict[str, list[dict[str, Any]]] = {}
    for execution in queue[:LIST_NOTIFICATION_MAX]:
        listed.setdefault(execution.status.value, []).append(summary(execution))
    return listed


def seconds(moment: datetime) -> int:
    """Whole seconds since 1970, as Jobs messages carry times."""
    return int(moment.timestamp())


def summary(execution: Execution) -> dict[str, Any]:
    """A ``JobExecutionSummary`` of the device-side API."""
    started = {} if execution.started_at is None else {"startedAt": seconds(execution.started_at)}
    return {
        "jobId": execution.job_id,
        "queuedAt": seconds(execution.queued_at),
        **started,
        "lastUpdatedAt": seconds(execution.last_updated_at),
        "versionNumber": execution.version_number,
        "executionNumber": execution.execution_number,
    }


def describe(execution: Execution, document: str | None = None) -> dict[str, Any]:
    """A ``JobExecution`` of the MQTT API, whose document is an object (over HTTP it is text)."""
    described = {**summary(execution), "thingName": execution.thing_name, "status": execution.status.value}
    if execution.status_details:
        described["statusDetails"] = execution.status_details
    if document is not None:
        described["jobDocument"] = json.loads(document)
    return described


def seconds_before_timeout(execution: Execution, now: datetime) -> int | None:
    """How long an execution may go on, if it has a timer."""
    if execution.status not in PENDING or execution.due_at is None or execution.status is not Status.IN_PROGRESS:
        return None
    return max(0, int((execution.due_at - now).total_seconds()))
