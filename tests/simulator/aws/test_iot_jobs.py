"""IoT Jobs through boto3 and over the bus: fan-out, queues, notifications, life cycle."""

import json
import uuid
from collections.abc import Callable
from typing import Any

import pytest
from botocore.exceptions import ClientError

from simulator.aws.bus import InMemoryBus
from simulator.aws.server import LocalCloud

Client = Callable[[str], Any]
NAMESPACE = "aws-gg-deployment"


class Device:
    """Speaks MQTT as a device does, and remembers what it heard."""

    def __init__(self, bus: InMemoryBus, name: str) -> None:
        self.name, self.bus, self.heard = name, bus, list[tuple[str, dict[str, Any]]]()
        bus.subscribe(f"$aws/things/{name}/jobs/#", self._hear)

    def _hear(self, topic: str, payload: bytes) -> None:
        if "notify" in topic or topic.endswith(("/accepted", "/rejected")):  # not the requests of its own
            self.heard.append((topic.removeprefix(f"$aws/things/{self.name}/jobs/"), json.loads(payload)))

    def ask(self, topic: str, **body: Any) -> tuple[str, dict[str, Any]]:
        """Publish a request; the answer has been delivered when publish returns."""
        start = len(self.heard)
        self.bus.publish(f"$aws/things/{self.name}/jobs/{topic}", json.dumps(body).encode())
        answers = {suffix: self.told(f"{topic}/{suffix}", start) for suffix in ("accepted", "rejected")}
        [(verdict, [answer])] = [(suffix, found) for suffix, found in answers.items() if found]
        return verdict, answer

    def told(self, topic: str, start: int = 0) -> list[dict[str, Any]]:
        return [body for heard, body in self.heard[start:] if heard == topic]


@pytest.fixture
def names() -> Callable[[str], str]:
    """Names of this test's own, so that tests share one cloud."""
    prefix = uuid.uuid4().hex[:8]
    return lambda name: f"{prefix}-{name}"


@pytest.fixture
def fleet(client: Client, names: Callable[[str], str]) -> dict[str, str]:
    """Two things in group ``ring``, one beside it."""
    iot = client("iot")
    iot.create_thing_group(thingGroupName=names("ring"))
    for thing in ("one", "two", "three"):
        iot.create_thing(thingName=names(thing))
    for thing in ("one", "two"):
        iot.add_thing_to_thing_group(thingName=names(thing), thingGroupName=names("ring"))
    return {thing: names(thing) for thing in ("one", "two", "three")}


@pytest.fixture
def create(client: Client, names: Callable[[str], str]) -> Callable[..., dict[str, Any]]:
    def make(job: str, target: str = "ring", kind: str = "thinggroup", **more: Any) -> dict[str, Any]:
        arn = f"arn:aws:iot:us-east-1:123456789012:{kind}/{names(target)}"
        defaults = {"document": json.dumps({"job": job})}
        return client("iot").create_job(jobId=names(job), targets=[arn], **{**defaults, **more})

    return make


def code_of(action: Callable[[], object]) -> str:
    with pytest.raises(ClientError) as caught:
        action()
    return caught.value.response["Error"]["Code"]


def statuses(client: Client, job_id: str) -> dict[str, str]:
    found = client("iot").list_job_executions_for_job(jobId=job_id)["executionSummaries"]
    return {entry["thingArn"].rpartition("/")[2]: entry["jobExecutionSummary"]["status"] for entry in found}


def test_a_group_target_reaches_each_member_and_completes_with_the_last(
    client: Client, names: Any, fleet: Any, create: Any, bus: InMemoryBus
) -> None:
    one, two = Device(bus, fleet["one"]), Device(bus, fleet["two"])
    create("job")
    assert statuses(client, names("job")) == {fleet["one"]: "QUEUED", fleet["two"]: "QUEUED"}
    [notice] = one.told("notify-next")
    assert notice["execution"]["jobDocument"] == {"job": "job"}
    assert list(one.told("notify")[0]["jobs"]) == ["QUEUED"]

    assert one.ask(f"{names('job')}/update", status="IN_PROGRESS", expectedVersion="1")[0] == "accepted"
    assert list(one.told("notify")[-1]["jobs"]) == ["IN_PROGRESS"]
    assert len(one.told("notify-next")) == 1, "the same job is still the next"
    assert one.ask(f"{names('job')}/update", status="SUCCEEDED", statusDetails={"a": "b"})[0] == "accepted"
    assert client("iot").describe_job(jobId=names("job"))["job"]["status"] == "IN_PROGRESS"
    two.ask(f"{names('job')}/update", status="FAILED")
    job = client("iot").describe_job(jobId=names("job"))["job"]
    assert job["status"] == "COMPLETED"
    assert job["jobProcessDetails"]["numberOfSucceededThings"] == job["jobProcessDetails"]["numberOfFailedThings"] == 1
    assert one.told("notify-next")[-1]["execution"] == {}
    execution = client("iot").describe_job_execution(jobId=names("job"), thingName=fleet["one"])["execution"]
    assert execution["statusDetails"]["detailsMap"] == {"a": "b"}
    assert execution["versionNumber"] == 3


def test_members_of_a_child_group_get_the_job(client: Client, names: Any, fleet: Any, create: Any) -> None:
    iot = client("iot")
    iot.create_thing_group(thingGroupName=names("child"), parentGroupName=names("ring"))
    iot.add_thing_to_thing_group(thingName=fleet["three"], thingGroupName=names("child"))
    create("job")
    assert set(statuses(client, names("job"))) == set(fleet.values())


def test_the_queue_is_ordered_and_a_started_job_stays_first(
    names: Any, fleet: Any, create: Any, bus: InMemoryBus
) -> None:
    device = Device(bus, fleet["one"])
    create("first")
    create("second")
    assert device.ask("$next/get")[1]["execution"]["jobId"] == names("first")
    device.ask(f"{names('second')}/update", status="IN_PROGRESS")
    assert device.told("notify-next")[-1]["execution"]["jobId"] == names("second")
    pending = device.ask("get")[1]
    assert [entry["jobId"] for entry in pending["inProgressJobs"]] == [names("second")]
    assert [entry["jobId"] for entry in pending["queuedJobs"]] == [names("first")]
    assert device.ask("start-next")[1]["execution"]["jobId"] == names("second")
    device.ask(f"{names('second')}/update", status="SUCCEEDED")
    assert device.ask("start-next", clientToken="t")[1]["clientToken"] == "t"
    assert device.ask("$next/get")[1]["execution"]["status"] == "IN_PROGRESS"


def test_namespaces_are_separate_queues_on_topics_of_their_own(
    names: Any, fleet: Any, create: Any, bus: InMemoryBus
) -> None:
    device = Device(bus, fleet["one"])
    create("job", namespaceId=NAMESPACE)
    assert device.ask("$next/get")[1]["execution"] == {}
    assert device.told("notify-next") == []
    assert device.told(f"notify-next-namespace-{NAMESPACE}")[0]["execution"]["jobId"] == names("job")
    assert list(device.told(f"notify-namespace-{NAMESPACE}")[0]["jobs"]) == ["QUEUED"]
    verdict, answer = device.ask(
        f"$next/namespace-{NAMESPACE}/get", jobId="$next", includeJobDocument=True, clientToken="jobs-nucleus-lite"
    )
    assert (verdict, answer["clientToken"]) == ("accepted", "jobs-nucleus-lite")
    assert answer["execution"]["jobDocument"] == {"job": "job"}
    update = f"{names('job')}/namespace-{NAMESPACE}/update"
    assert device.ask(update, status="SUCCEEDED", clientToken="jobs-nucleus-lite")[0] == "accepted"


@pytest.mark.parametrize(
    ("body", "code"),
    [
        ({"status": "IN_PROGRESS", "expectedVersion": 7}, "VersionMismatch"),
        ({"status": "QUEUED"}, "InvalidStateTransition"),
        ({"status": "TIMED_OUT"}, "InvalidStateTransition"),
        ({"status": "DONE"}, "InvalidRequest"),
        ({"status": "FAILED", "statusDetails": {"a": 1}}, "InvalidRequest"),
        ({"status": "FAILED", "expectedVersion": 1.5}, "InvalidRequest"),
    ],
)
def test_a_wrong_update_is_rejected_and_changes_nothing(
    client: Client, names: Any, fleet: Any, create: Any, bus: InMemoryBus, body: dict[str, Any], code: str
) -> None:
    device = Device(bus, fleet["one"])
    create("job")
    verdict, answer = device.ask(f"{names('job')}/update", **body)
    assert (verdict, answer["code"]) == ("rejected", code)
    assert statuses(client, names("job"))[fleet["one"]] == "QUEUED"


def test_an_ended_execution_never_changes_again_and_an_unknown_one_is_rejected(
    names: Any, fleet: Any, create: Any, bus: InMemoryBus
) -> None:
    device = Device(bus, fleet["one"])
    create("job")
    device.ask(f"{names('job')}/update", status="SUCCEEDED")
    assert device.ask(f"{names('job')}/update", status="FAILED")[1]["code"] == "InvalidStateTransition"
    assert device.ask("nothing/update", status="FAILED")[1]["code"] == "ResourceNotFound"


def test_a_payload_that_is_no_json_is_rejected(fleet: Any, bus: InMemoryBus) -> None:
    device = Device(bus, fleet["one"])
    bus.publish(f"$aws/things/{fleet['one']}/jobs/get", b"{")
    assert device.told("get/rejected")[0]["code"] == "InvalidJson"


def test_continuous_jobs_reach_later_joiners_and_leave_the_queue_of_leavers(
    client: Client, names: Any, fleet: Any, create: Any
) -> None:
    create("job", targetSelection="CONTINUOUS")
    iot = client("iot")
    iot.add_thing_to_thing_group(thingName=fleet["three"], thingGroupName=names("ring"))
    assert statuses(client, names("job"))[fleet["three"]] == "QUEUED"
    iot.remove_thing_from_thing_group(thingName=fleet["one"], thingGroupName=names("ring"))
    assert statuses(client, names("job"))[fleet["one"]] == "REMOVED"
    iot.add_thing_to_thing_group(thingName=fleet["one"], thingGroupName=names("ring"))
    again = iot.describe_job_execution(jobId=names("job"), thingName=fleet["one"])["execution"]
    assert (again["status"], again["executionNumber"]) == ("QUEUED", 2)


def test_snapshot_jobs_do_not_reach_later_joiners(client: Client, names: Any, fleet: Any, create: Any) -> None:
    create("job")
    client("iot").add_thing_to_thing_group(thingName=fleet["three"], thingGroupName=names("ring"))
    assert fleet["three"] not in statuses(client, names("job"))


def test_cancel_ends_what_is_queued_and_by_force_what_is_started(
    client: Client, names: Any, fleet: Any, create: Any, bus: InMemoryBus
) -> None:
    device = Device(bus, fleet["one"])
    create("job")
    device.ask(f"{names('job')}/update", status="IN_PROGRESS")
    client("iot").cancel_job(jobId=names("job"), reasonCode="SUPERSEDED")
    assert statuses(client, names("job")) == {fleet["one"]: "IN_PROGRESS", fleet["two"]: "CANCELED"}
    assert client("iot").describe_job(jobId=names("job"))["job"]["reasonCode"] == "SUPERSEDED"
    assert code_of(lambda: client("iot").cancel_job(jobId=names("job"))) == "InvalidRequestException"
    client("iot").cancel_job(jobId=names("job"), force=True)
    assert statuses(client, names("job"))[fleet["one"]] == "CANCELED"
    assert device.told("notify-next")[-1]["execution"] == {}


def test_creating_twice_is_idempotent_and_with_other_parameters_a_conflict(
    client: Client, names: Any, fleet: Any, create: Any
) -> None:
    assert create("job")["jobArn"] == create("job")["jobArn"]
    assert code_of(lambda: create("job", document="{}")) == "ResourceAlreadyExistsException"


@pytest.mark.parametrize(("kind", "target"), [("thing", "nobody"), ("thinggroup", "nobody"), ("policy", "one")])
def test_an_unknown_target_is_refused(create: Any, fleet: Any, kind: str, target: str) -> None:
    assert code_of(lambda: create("job", target, kind)) == "ResourceNotFoundException"


def test_abort_rules_cancel_the_rest(client: Client, names: Any, fleet: Any, create: Any, bus: InMemoryBus) -> None:
    rule = {"failureType": "FAILED", "action": "CANCEL", "thresholdPercentage": 50.0, "minNumberOfExecutedThings": 1}
    create("job", abortConfig={"criteriaList": [rule]})
    Device(bus, fleet["one"]).ask(f"{names('job')}/update", status="FAILED")
    assert client("iot").describe_job(jobId=names("job"))["job"]["status"] == "CANCELED"
    assert statuses(client, names("job"))[fleet["two"]] == "CANCELED"


def test_what_is_not_performed_answers_501(create: Any, fleet: Any) -> None:
    assert code_of(lambda: create("job", jobExecutionsRolloutConfig={"maximumPerMinute": 1})) == "NotImplemented"


def test_devices_work_over_http_too(client: Client, names: Any, fleet: Any, create: Any) -> None:
    data = client("iot-jobs-data")
    create("job")
    assert data.get_pending_job_executions(thingName=fleet["one"])["queuedJobs"][0]["jobId"] == names("job")
    started = data.start_next_pending_job_execution(thingName=fleet["one"])["execution"]
    assert (started["status"], json.loads(started["jobDocument"])) == ("IN_PROGRESS", {"job": "job"})
    answer = data.update_job_execution(
        jobId=names("job"), thingName=fleet["one"], status="SUCCEEDED", includeJobExecutionState=True
    )
    assert answer["executionState"]["status"] == "SUCCEEDED"
    assert "execution" not in data.describe_job_execution(jobId="$next", thingName=fleet["one"])
    assert code_of(lambda: data.get_pending_job_executions(thingName="nobody")) == "ResourceNotFoundException"


def test_lists_are_paged_and_filtered(client: Client, names: Any, fleet: Any, create: Any) -> None:
    for number in range(3):
        create(f"job-{number}", namespaceId=names("n"))
    iot = client("iot")
    first = iot.list_jobs(maxResults=2, namespaceId=names("n"))
    rest = iot.list_jobs(maxResults=2, namespaceId=names("n"), nextToken=first["nextToken"])
    assert [job["jobId"] for job in first["jobs"] + rest["jobs"]] == [names(f"job-{n}") for n in (2, 1, 0)]
    assert code_of(lambda: iot.list_jobs(nextToken="999")) == "InvalidRequestException"
    assert iot.list_jobs(namespaceId=names("n"), status="COMPLETED")["jobs"] == []
    things = iot.list_job_executions_for_thing(thingName=fleet["one"], namespaceId=names("n"))["executionSummaries"]
    assert len(things) == 3


def test_delete_needs_force_while_it_runs(client: Client, names: Any, fleet: Any, create: Any) -> None:
    create("job")
    assert code_of(lambda: client("iot").delete_job(jobId=names("job"))) == "InvalidStateTransitionException"
    client("iot").delete_job(jobId=names("job"), force=True)
    assert code_of(lambda: client("iot").describe_job(jobId=names("job"))) == "ResourceNotFoundException"


def test_a_job_document_can_come_from_s3(client: Client, names: Any, fleet: Any, create: Any) -> None:
    client("s3").create_bucket(Bucket="documents")
    client("s3").put_object(Bucket="documents", Key="job.json", Body=b'{"from": "s3"}')
    create("job", document="", documentSource="s3://documents/job.json")
    assert json.loads(client("iot").get_job_document(jobId=names("job"))["document"]) == {"from": "s3"}
    assert (
        code_of(lambda: create("other", document="", documentSource="s3://documents/no")) == "InvalidRequestException"
    )


def test_endpoints_and_publishing_over_http(client: Client, local_cloud: LocalCloud, bus: InMemoryBus) -> None:
    address = client("iot").describe_endpoint(endpointType="iot:CredentialProvider")["endpointAddress"]
    assert local_cloud.url.endswith(address)
    client("iot-data").publish(topic="edgewright/v1/t/heartbeat", payload=b"{}")
    assert ("edgewright/v1/t/heartbeat", b"{}") in bus.published
