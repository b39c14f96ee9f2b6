"""The jobs' state machine by itself: its invariants under any order of events, its timers on a clock of our own."""

import threading
from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import settings, strategies as st
from hypothesis.stateful import Bundle, RuleBasedStateMachine, initialize, invariant, rule

from simulator.aws.bus import InMemoryBus
from simulator.aws.errors import AwsError
from simulator.aws.iot_jobs import IotJobs
from simulator.aws.iot_jobs_mqtt import JobsTopic, parse_topic
from simulator.aws.iot_jobs_state import PENDING, REPORTABLE, Execution, JobRequest, JobsState, Status, Update
from simulator.aws.iot_things import InMemoryThings
from simulator.mqtt import BrokerUnavailableError

START = datetime(2026, 1, 1, tzinfo=UTC)
GROUP = "arn:aws:iot:us-east-1:123456789012:thinggroup/ring"
THINGS = ("a", "b", "c")


class Clock:
    def __init__(self) -> None:
        self.now = START

    def __call__(self) -> datetime:
        return self.now


class JobsMachine(RuleBasedStateMachine):
    """Any order of creating, joining, leaving, reporting, cancelling: what must hold always."""

    jobs = Bundle("jobs")

    @initialize()
    def begin(self) -> None:
        self.state, self.members, self.now = JobsState(), frozenset(THINGS[:2]), START
        self.ended: dict[tuple[str, str, int], Status] = {}

    def _tick(self) -> datetime:
        self.now += timedelta(seconds=1)
        return self.now

    @rule(target=jobs, continuous=st.booleans(), namespace=st.sampled_from((None, "n")))
    def create(self, continuous: bool, namespace: str | None) -> str:
        job_id = f"job-{len(self.state.jobs)}"
        self.state.create(JobRequest(job_id, (GROUP,), "{}", namespace, continuous), self.members, self._tick())
        return job_id

    @rule(thing=st.sampled_from(THINGS), joins=st.booleans())
    def move(self, thing: str, joins: bool) -> None:
        self.members = self.members | {thing} if joins else self.members - {thing}
        for job_id in self.state.jobs:
            self.state.reconcile(job_id, self.members, frozenset(THINGS), self._tick())

    @rule(job=jobs, thing=st.sampled_from(THINGS), status=st.sampled_from(list(Status)))
    def report(self, job: str, thing: str, status: Status) -> None:
        known = next((each for each in self.state.executions_of(job) if each.thing_name == thing), None)
        if known is not None and known.status in PENDING and status in REPORTABLE:
            self.state.update(job, thing, Update(status), self._tick())
            return
        with pytest.raises(AwsError, match=r"ResourceNotFoundException|InvalidStateTransitionException"):
            self.state.update(job, thing, Update(status), self._tick())

    @rule(thing=st.sampled_from(THINGS), namespace=st.sampled_from((None, "n")))
    def start(self, thing: str, namespace: str | None) -> None:
        queue = self.state.pending(thing, namespace)
        started = self.state.start_next(thing, namespace, self._tick())
        assert started is (queue[0] if queue else None)
        assert started is None or started.status is Status.IN_PROGRESS

    @rule(job=jobs, force=st.booleans())
    def cancel(self, job: str, force: bool) -> None:
        status = self.state.job(job).status
        if status == "IN_PROGRESS" or (status == "CANCELED" and force):
            self.state.cancel(job, self._tick(), force=force)
            return
        with pytest.raises(AwsError, match="InvalidRequestException"):
            self.state.cancel(job, self._tick(), force=force)

    def _executions(self) -> list[Execution]:
        return [each for job_id in self.state.jobs for each in self.state.executions_of(job_id)]

    @invariant()
    def what_has_ended_stays_ended(self) -> None:
        for each in self._executions():
            key = (each.job_id, each.thing_name, each.execution_number)
            if key in self.ended:
                assert each.status is self.ended[key]
            elif each.status not in PENDING:
                self.ended[key] = each.status

    @invariant()
    def counts_are_the_executions(self) -> None:
        for job_id, job in self.state.jobs.items():
            found = [each.status for each in self.state.executions_of(job_id)]
            assert {status: count for status, count in job.counts.items() if count} == {
                status: found.count(status) for status in set(found)
            }

    @invariant()
    def queues_are_ordered_and_complete(self) -> None:
        for thing in THINGS:
            queued = [each for _, queue in self.state.queues(thing) for each in queue]
            assert {id(each) for each in queued} == {
                id(each) for each in self._executions() if each.thing_name == thing and each.status in PENDING
            }
            for _, queue in self.state.queues(thing):
                keys = [(each.status is Status.QUEUED, each.queued_at) for each in queue]
                assert keys == sorted(keys)

    @invariant()
    def a_snapshot_job_ends_with_its_last_execution(self) -> None:
        for job_id, job in self.state.jobs.items():
            pending = [each for each in self.state.executions_of(job_id) if each.status in PENDING]
            if not job.request.continuous and job.status == "IN_PROGRESS":
                assert pending
            if job.status == "COMPLETED":
                assert not pending


TestJobsMachine = JobsMachine.TestCase
TestJobsMachine.settings = settings(max_examples=60, stateful_step_count=25, deadline=None)


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def things() -> InMemoryThings:
    registry = InMemoryThings()
    registry.things, registry.groups = set(THINGS), {"ring": {"a", "b"}}
    return registry


@pytest.fixture
def bus() -> InMemoryBus:
    return InMemoryBus()


@pytest.fixture
def service(things: InMemoryThings, bus: InMemoryBus, clock: Clock) -> IotJobs:
    return IotJobs(things, bus, clock)


def status(service: IotJobs, thing: str) -> Status:
    with service.changing() as (state, _):
        return state.execution("job", thing).status


def test_an_execution_times_out_by_the_jobs_limit_or_its_own_steps(service: IotJobs, clock: Clock) -> None:
    service.create(JobRequest("job", (GROUP,), "{}", in_progress_timeout=timedelta(minutes=10)))
    with service.changing() as (state, now):
        state.update("job", "a", Update(Status.IN_PROGRESS, step_timeout=timedelta(minutes=2)), now)
        state.update("job", "b", Update(Status.IN_PROGRESS), now)
    clock.now += timedelta(minutes=2)
    assert (status(service, "a"), status(service, "b")) == (Status.TIMED_OUT, Status.IN_PROGRESS)
    clock.now += timedelta(minutes=8)
    assert status(service, "b") is Status.TIMED_OUT
    with service.changing() as (state, _):
        assert state.job("job").status == "COMPLETED"


def test_a_deleted_thing_leaves_the_job(service: IotJobs, things: InMemoryThings) -> None:
    service.create(JobRequest("job", (GROUP,), "{}"))
    things.things.discard("a")
    service.reconcile()
    assert (status(service, "a"), status(service, "b")) == (Status.REMOVED, Status.QUEUED)


def test_a_deleted_group_has_no_members(service: IotJobs, things: InMemoryThings) -> None:
    service.create(JobRequest("job", (GROUP,), "{}", continuous=True))
    del things.groups["ring"]
    service.reconcile()
    assert status(service, "a") is Status.REMOVED


def test_listeners_may_call_back_and_every_thread_is_told_in_order(service: IotJobs, bus: InMemoryBus) -> None:
    """Two threads work off jobs for one thing; the last notification is the truth."""
    for number in range(20):
        service.create(JobRequest(f"job-{number}", (GROUP,), "{}"))
    service.on_execution(lambda _: service.members((GROUP,)) and None)

    def work() -> None:
        while True:
            with service.changing() as (state, now):
                execution = state.start_next("a", None, now)
                if execution is None:
                    return
                state.update(execution.job_id, "a", Update(Status.SUCCEEDED), now)

    threads = [threading.Thread(target=work) for _ in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(timeout=30)
    last = [payload for topic, payload in bus.published if topic == "$aws/things/a/jobs/notify-next"][-1]
    assert b'"execution": {}' in last


class AbsentBroker(InMemoryBus):
    def publish(self, topic: str, payload: bytes) -> None:
        raise BrokerUnavailableError("no broker", "Start it.")


def test_a_broker_that_is_away_costs_the_notification_only(things: InMemoryThings, clock: Clock) -> None:
    service = IotJobs(things, AbsentBroker(), clock)
    service.create(JobRequest("job", (GROUP,), "{}"))
    assert status(service, "a") is Status.QUEUED  # the device finds it when it asks again


@pytest.mark.parametrize(
    ("topic", "parsed"),
    [
        ("$aws/things/t/jobs/get", JobsTopic("t", "get")),
        ("$aws/things/t/jobs/start-next", JobsTopic("t", "start-next")),
        ("$aws/things/t/jobs/$next/get", JobsTopic("t", "get", "$next")),
        ("$aws/things/t/jobs/j-1/update", JobsTopic("t", "update", "j-1")),
        ("$aws/things/t/jobs/$next/namespace-n/get", JobsTopic("t", "get", "$next", "n")),
        ("$aws/things/t/jobs/j/namespace-n/update", JobsTopic("t", "update", "j", "n")),
        ("$aws/things/t/jobs/get/accepted", None),
        ("$aws/things/t/jobs/update", None),
        ("$aws/things/t/jobs/j/delete", None),
        ("things/t/jobs/get", None),
    ],
)
def test_topics(topic: str, parsed: JobsTopic | None) -> None:
    assert parse_topic(topic) == parsed
