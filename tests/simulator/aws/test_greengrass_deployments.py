"""Deployments through boto3, with devices that speak over the bus as nuclei do."""

import json
import uuid
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
from botocore.exceptions import ClientError

from simulator.aws.bus import InMemoryBus
from simulator.aws.event import Event, InMemoryEvents
from simulator.aws.greengrass_devices import MalformedReportError, parse_report
from simulator.aws.server import LocalCloud

Client = Callable[[str], Any]
ACCOUNT = "us-east-1:123456789012"
NAMESPACE = "namespace-aws-gg-deployment"


class Core:
    """A core device's messages: fleet status, jobs in Greengrass's namespace, the deployment shadow."""

    def __init__(self, bus: InMemoryBus, name: str) -> None:
        self.name, self.bus = name, bus
        self.heard: list[tuple[str, dict[str, Any]]] = []
        self._clock_ms = 1_700_000_000_000
        bus.subscribe(f"$aws/things/{name}/#", self._hear)

    def _hear(self, topic: str, payload: bytes) -> None:
        if not topic.endswith(("/get", "/update", "/json")):  # not what it says itself
            self.heard.append((topic.removeprefix(f"$aws/things/{self.name}/"), json.loads(payload)))

    def report(self, *components: dict[str, Any], **more: Any) -> None:
        self._clock_ms += 1000
        body = {
            "ggcVersion": "2.6.0", "platform": "linux", "architecture": "x86_64", "runtime": "aws_nucleus_lite",
            "thing": self.name, "sequenceNumber": 1, "timestamp": self._clock_ms, "messageType": "COMPLETE",
            "trigger": "CADENCE", "overallDeviceStatus": "HEALTHY", "components": list(components), **more,
        }  # fmt: skip
        self.bus.publish(f"$aws/things/{self.name}/greengrassv2/health/json", json.dumps(body).encode())

    def next_job(self) -> dict[str, Any]:
        self.bus.publish(f"$aws/things/{self.name}/jobs/$next/{NAMESPACE}/get", b"{}")
        found: dict[str, Any] = self.heard[-1][1]["execution"]
        return found

    def finish(self, status: str, *before: str) -> dict[str, Any]:
        """Work off the next job; returns its document."""
        job = self.next_job()
        for each in (*before, status):
            self.bus.publish(
                f"$aws/things/{self.name}/jobs/{job['jobId']}/{NAMESPACE}/update",
                json.dumps({"status": each, "clientToken": "jobs-nucleus-lite"}).encode(),
            )
        document: dict[str, Any] = job["jobDocument"]
        return document


class Fleet:
    """Two core devices in group ``ring``, one of them in ``all`` too, and a component to deploy."""

    def __init__(self, client: Client, bus: InMemoryBus) -> None:
        self.client, self.prefix = client, uuid.uuid4().hex[:8]
        self.component = f"com.example.{self.prefix}"
        for version in ("1.0.0", "2.0.0"):
            recipe = {
                "RecipeFormatVersion": "2020-01-25", "ComponentName": self.component, "ComponentVersion": version,
                "Manifests": [{"Lifecycle": {"run": "sleep 1"}}],
            }  # fmt: skip
            client("greengrassv2").create_component_version(inlineRecipe=json.dumps(recipe).encode())
        for group in ("ring", "all"):
            client("iot").create_thing_group(thingGroupName=f"{self.prefix}-{group}")
        self.one, self.two = (self._thing(bus, name) for name in ("one", "two"))
        self.join("all", self.one)

    def _thing(self, bus: InMemoryBus, name: str) -> Core:
        core = Core(bus, f"{self.prefix}-{name}")
        self.client("iot").create_thing(thingName=core.name)
        self.join("ring", core)
        return core

    def join(self, group: str, core: Core) -> None:
        self.client("iot").add_thing_to_thing_group(thingName=core.name, thingGroupName=f"{self.prefix}-{group}")

    def arn(self, target: str, kind: str = "thinggroup") -> str:
        return f"arn:aws:iot:{ACCOUNT}:{kind}/{self.prefix}-{target}"

    def deploy(self, target: str = "ring", kind: str = "thinggroup", version: str = "1.0.0", **more: Any) -> str:
        answer = self.client("greengrassv2").create_deployment(
            targetArn=self.arn(target, kind), components={self.component: {"componentVersion": version}}, **more
        )
        return str(answer["deploymentId"])

    def get(self, deployment_id: str) -> dict[str, Any]:
        answer: dict[str, Any] = self.client("greengrassv2").get_deployment(deploymentId=deployment_id)
        return answer

    def effective(self, core: Core) -> dict[str, str]:
        found = self.client("greengrassv2").list_effective_deployments(coreDeviceThingName=core.name)
        return {entry["deploymentId"]: entry["coreDeviceExecutionStatus"] for entry in found["effectiveDeployments"]}


@pytest.fixture
def bus(local_cloud: LocalCloud) -> InMemoryBus:
    found = local_cloud.cloud.bus
    assert isinstance(found, InMemoryBus)
    return found


@pytest.fixture
def fleet(client: Client, bus: InMemoryBus) -> Fleet:
    return Fleet(client, bus)


@pytest.fixture
def events(local_cloud: LocalCloud, monkeypatch: pytest.MonkeyPatch) -> list[Event]:
    sink = InMemoryEvents()
    monkeypatch.setattr(local_cloud.cloud, "events", sink)
    return sink.emitted


def error_of(action: Callable[[], object]) -> dict[str, Any]:
    with pytest.raises(ClientError) as caught:
        action()
    return {**caught.value.response["Error"], "status": caught.value.response["ResponseMetadata"]["HTTPStatusCode"]}


def test_a_group_deployment_reaches_each_member_as_the_document_that_nuclei_read(fleet: Fleet) -> None:
    merge = json.dumps({"heartbeat_s": 5, "nested": {"a": [1]}})
    deployment_id = fleet.client("greengrassv2").create_deployment(
        targetArn=fleet.arn("ring"),
        deploymentName="first",
        components={
            fleet.component: {
                "componentVersion": "1.0.0",
                "configurationUpdate": {"merge": merge, "reset": ["/old"]},
                "runWith": {"posixUser": "ggc_user"},
            }
        },
        deploymentPolicies={"failureHandlingPolicy": "DO_NOTHING"},
    )["deploymentId"]
    document = fleet.one.finish("SUCCEEDED", "IN_PROGRESS")
    created = document.pop("creationTimestamp")
    assert isinstance(created, int)
    assert document == {
        "deploymentId": deployment_id,
        "deploymentName": "first",
        "configurationArn": f"arn:aws:greengrass:{ACCOUNT}:configuration:thinggroup/{fleet.prefix}-ring:1",
        "components": {
            fleet.component: {
                "version": "1.0.0",
                "configurationUpdate": {"merge": {"heartbeat_s": 5, "nested": {"a": [1]}}, "reset": ["/old"]},
                "runWith": {"posixUser": "ggc_user"},
            }
        },
        "failureHandlingPolicy": "DO_NOTHING",
        "componentUpdatePolicy": {"timeout": 60, "action": "NOTIFY_COMPONENTS"},
        "configurationValidationPolicy": {"timeout": 30},
    }
    assert fleet.two.next_job()["jobDocument"]["deploymentId"] == deployment_id
    assert len(json.dumps(document)) < 4_000
    assert fleet.get(deployment_id)["deploymentStatus"] == "ACTIVE"


def test_a_device_is_a_core_device_from_its_first_report(fleet: Fleet) -> None:
    greengrass = fleet.client("greengrassv2")
    deployment_id = fleet.deploy()
    missing = error_of(lambda: greengrass.get_core_device(coreDeviceThingName=fleet.one.name))
    assert (missing["Code"], missing["status"]) == ("ResourceNotFoundException", 404)
    error_of(lambda: greengrass.list_effective_deployments(coreDeviceThingName=fleet.one.name))
    fleet.one.report()
    device = greengrass.get_core_device(coreDeviceThingName=fleet.one.name)
    assert (device["status"], device["runtime"], device["coreVersion"]) == ("HEALTHY", "aws_nucleus_lite", "2.6.0")
    assert fleet.effective(fleet.one) == {deployment_id: "QUEUED"}
    listed = greengrass.list_core_devices(thingGroupArn=fleet.arn("ring"))["coreDevices"]
    assert [entry["coreDeviceThingName"] for entry in listed] == [fleet.one.name]
    assert greengrass.list_core_devices(thingGroupArn=fleet.arn("ring"), status="UNHEALTHY")["coreDevices"] == []


def test_a_new_revision_takes_the_old_ones_place(fleet: Fleet) -> None:
    first = fleet.deploy()
    fleet.one.report()
    fleet.two.report()
    fleet.one.finish("IN_PROGRESS")
    second = fleet.deploy(version="2.0.0")
    old, new = fleet.get(first), fleet.get(second)
    assert (old["deploymentStatus"], old["isLatestForTarget"], old["revisionId"]) == ("INACTIVE", False, "1")
    assert (new["deploymentStatus"], new["isLatestForTarget"], new["revisionId"]) == ("ACTIVE", True, "2")
    assert fleet.client("iot").describe_job(jobId=old["iotJobId"])["job"]["status"] == "CANCELED"
    # the one that had begun ends its job first, the other goes straight to the new one
    assert fleet.effective(fleet.one) == {first: "IN_PROGRESS", second: "QUEUED"}
    assert fleet.effective(fleet.two) == {first: "CANCELED", second: "QUEUED"}
    assert fleet.one.next_job()["jobDocument"]["deploymentId"] == first
    assert fleet.two.next_job()["jobDocument"]["deploymentId"] == second
    fleet.one.finish("SUCCEEDED")
    assert fleet.one.finish("SUCCEEDED")["configurationArn"].endswith(":2")
    assert fleet.effective(fleet.one) == {first: "SUCCEEDED", second: "SUCCEEDED"}
    latest = fleet.client("greengrassv2").list_deployments(targetArn=fleet.arn("ring"))["deployments"]
    assert [entry["deploymentId"] for entry in latest] == [second]
    every = fleet.client("greengrassv2").list_deployments(targetArn=fleet.arn("ring"), historyFilter="ALL")
    assert [entry["deploymentId"] for entry in every["deployments"]] == [second, first]


def test_a_device_in_two_groups_gets_both_in_order(fleet: Fleet) -> None:
    ring, everyone = fleet.deploy("ring"), fleet.deploy("all")
    fleet.one.report()
    assert fleet.one.finish("SUCCEEDED")["deploymentId"] == ring
    assert fleet.one.finish("SUCCEEDED")["deploymentId"] == everyone
    assert fleet.effective(fleet.one) == {ring: "SUCCEEDED", everyone: "SUCCEEDED"}
    assert all(fleet.get(each)["isLatestForTarget"] for each in (ring, everyone))


def test_a_device_that_joins_later_gets_the_active_deployment_only(fleet: Fleet) -> None:
    fleet.deploy("all", version="1.0.0")
    second = fleet.deploy("all", version="2.0.0")
    fleet.join("all", fleet.two)
    assert fleet.two.finish("SUCCEEDED")["deploymentId"] == second
    assert fleet.two.next_job() == {}


def test_cancelling_spares_who_has_begun(fleet: Fleet) -> None:
    deployment_id = fleet.deploy()
    fleet.one.report()
    fleet.two.report()
    fleet.one.finish("IN_PROGRESS")
    fleet.client("greengrassv2").cancel_deployment(deploymentId=deployment_id)
    assert fleet.get(deployment_id)["deploymentStatus"] == "CANCELED"
    assert fleet.effective(fleet.one) == {deployment_id: "IN_PROGRESS"}
    assert fleet.effective(fleet.two) == {deployment_id: "CANCELED"}
    again = error_of(lambda: fleet.client("greengrassv2").cancel_deployment(deploymentId=deployment_id))
    assert again["Code"] == "ConflictException"
    fleet.client("greengrassv2").delete_deployment(deploymentId=deployment_id)
    assert error_of(lambda: fleet.get(deployment_id))["Code"] == "ResourceNotFoundException"


def test_an_active_deployment_cannot_be_deleted(fleet: Fleet) -> None:
    deployment_id = fleet.deploy()
    error = error_of(lambda: fleet.client("greengrassv2").delete_deployment(deploymentId=deployment_id))
    assert error["Code"] == "ConflictException"


def test_events_tell_ends_with_the_devices_words(fleet: Fleet, events: list[Event]) -> None:
    deployment_id = fleet.deploy()
    fleet.two.finish("SUCCEEDED", "IN_PROGRESS")
    document = fleet.one.finish("FAILED", "IN_PROGRESS")
    fleet.one.report(
        deploymentInformation={
            "status": "FAILED",
            "deploymentId": deployment_id,
            "fleetConfigurationArnForStatus": document["configurationArn"],
            "statusDetails": {
                "detailedStatus": "FAILED_ROLLBACK_NOT_REQUESTED",
                "errorStack": ["DEPLOYMENT_FAILURE", "COMPONENT_BROKEN"],
                "errorTypes": ["USER_COMPONENT_ERROR"],
            },
        }
    )
    told = [(event.resources[0].rpartition(":")[2], event.detail) for event in events]
    assert [(name, detail["coreDeviceExecutionStatus"]) for name, detail in told] == [
        (fleet.two.name, "SUCCEEDED"), (fleet.one.name, "FAILED"), (fleet.one.name, "FAILED")
    ]  # fmt: skip
    assert {event.detail_type for event in events} == {"Greengrass V2 Effective Deployment Status Change"}
    assert told[-1][1]["reason"] == "FAILED_ROLLBACK_NOT_REQUESTED"
    assert told[-1][1]["statusDetails"]["errorStack"] == ["DEPLOYMENT_FAILURE", "COMPONENT_BROKEN"]
    found = fleet.client("greengrassv2").list_effective_deployments(coreDeviceThingName=fleet.one.name)
    [effective] = found["effectiveDeployments"]
    assert effective["statusDetails"]["errorTypes"] == ["USER_COMPONENT_ERROR"]


def test_abort_rules_cancel_a_failing_deployment(fleet: Fleet) -> None:
    rule = {"failureType": "FAILED", "action": "CANCEL", "thresholdPercentage": 10.0, "minNumberOfExecutedThings": 1}
    deployment_id = fleet.deploy(iotJobConfiguration={"abortConfig": {"criteriaList": [rule]}})
    fleet.one.finish("FAILED", "IN_PROGRESS")
    assert fleet.get(deployment_id)["deploymentStatus"] == "CANCELED"
    assert fleet.two.next_job() == {}


def test_deployments_made_at_once_leave_one_latest(fleet: Fleet) -> None:
    with ThreadPoolExecutor(8) as pool:
        made = list(pool.map(lambda _: fleet.deploy(), range(16)))
    found = [fleet.get(each) for each in made]
    assert sorted(int(each["revisionId"]) for each in found) == list(range(1, 17))
    [latest] = [each for each in found if each["isLatestForTarget"]]
    assert (latest["revisionId"], latest["deploymentStatus"]) == ("16", "ACTIVE")
    assert fleet.one.finish("SUCCEEDED")["deploymentId"] == latest["deploymentId"]
    assert fleet.one.next_job() == {}


def test_a_client_token_makes_a_deployment_idempotent(fleet: Fleet) -> None:
    token = uuid.uuid4().hex
    assert fleet.deploy(clientToken=token) == fleet.deploy(clientToken=token)
    error = error_of(lambda: fleet.deploy(clientToken=token, version="2.0.0"))
    assert (error["Code"], error["status"]) == ("ConflictException", 409)
    assert len(fleet.client("greengrassv2").list_deployments(targetArn=fleet.arn("ring"), historyFilter="ALL")) == 2


@pytest.mark.parametrize(
    ("changes", "code", "text"),
    [
        ({"version": "9.9.9"}, "ResourceNotFoundException", "9.9.9"),
        ({"target": "nobody"}, "ResourceNotFoundException", "nobody"),
        ({"target": "nobody", "kind": "thing"}, "ResourceNotFoundException", "nobody"),
        ({"kind": "policy"}, "ValidationException", "'targetArn' failed"),
        ({"deploymentPolicies": {"failureHandlingPolicy": "RETRY"}}, "ValidationException", "ROLLBACK, DO_NOTHING"),
        ({"deploymentName": "x" * 257}, "ValidationException", "less than or equal to 256"),
        ({"clientToken": "no spaces please"}, "ValidationException", "pattern"),
        ({"parentTargetArn": f"arn:aws:iot:{ACCOUNT}:thinggroup/parent"}, "NotImplemented", "parentTargetArn"),
        ({"iotJobConfiguration": {"jobExecutionsRolloutConfig": {"maximumPerMinute": 5}}}, "NotImplemented",
         "jobExecutionsRolloutConfig"),
    ],
)  # fmt: skip
def test_a_wrong_deployment_is_refused_and_changes_nothing(
    fleet: Fleet, changes: dict[str, Any], code: str, text: str
) -> None:
    error = error_of(lambda: fleet.deploy(**changes))
    assert error["Code"] == code
    assert text in error["Message"]
    assert fleet.client("greengrassv2").list_deployments(targetArn=fleet.arn("ring"))["deployments"] == []
    assert fleet.one.next_job() == {}


@pytest.mark.parametrize("merge", ["[1]", "{", '"text"'])
def test_a_merge_must_be_a_json_object(fleet: Fleet, merge: str) -> None:
    component = {"componentVersion": "1.0.0", "configurationUpdate": {"merge": merge}}
    error = error_of(
        lambda: fleet.client("greengrassv2").create_deployment(
            targetArn=fleet.arn("ring"), components={fleet.component: component}
        )
    )
    assert error["Code"] == "ValidationException"
    assert "merge" in error["Message"]


def test_what_a_job_cannot_carry_is_refused_before_anything_is_changed(fleet: Fleet) -> None:
    first = fleet.deploy()
    component = {
        "componentVersion": "1.0.0",
        "configurationUpdate": {"merge": json.dumps({"big": "x" * 33_000})},
    }
    error = error_of(
        lambda: fleet.client("greengrassv2").create_deployment(
            targetArn=fleet.arn("ring"), components={fleet.component: component}
        )
    )
    assert error["status"] == 501
    assert fleet.get(first)["deploymentStatus"] == "ACTIVE"


def test_a_single_things_deployment_goes_by_its_shadow_and_never_by_a_job(fleet: Fleet) -> None:
    deployment_id = fleet.deploy("one", "thing")
    assert "iotJobId" not in fleet.get(deployment_id)
    assert fleet.one.next_job() == {}
    base = "shadow/name/AWSManagedGreengrassV2Deployment"
    [delta] = [body for topic, body in fleet.one.heard if topic == f"{base}/update/delta"]
    configuration = json.loads(delta["state"]["fleetConfig"])
    assert configuration["deploymentId"] == deployment_id
    for status in ("IN_PROGRESS", "SUCCEEDED"):
        reported = {"fleetConfigurationArnForStatus": configuration["configurationArn"], "status": status}
        fleet.one.bus.publish(
            f"$aws/things/{fleet.one.name}/{base}/update", json.dumps({"state": {"reported": reported}}).encode()
        )
    fleet.one.report()
    assert fleet.effective(fleet.one) == {deployment_id: "COMPLETED"}
    assert fleet.get(deployment_id)["deploymentStatus"] == "COMPLETED"
    fleet.one.bus.publish(f"$aws/things/{fleet.one.name}/{base}/get", b"")
    topic, shadow = fleet.one.heard[-1]
    assert topic == f"{base}/get/accepted"
    assert shadow["state"]["reported"]["status"] == "SUCCEEDED"


def test_a_single_things_next_deployment_takes_the_place_of_one_it_never_began(fleet: Fleet) -> None:
    first, second = fleet.deploy("one", "thing"), fleet.deploy("one", "thing", "2.0.0")
    fleet.one.report()
    assert fleet.effective(fleet.one) == {first: "CANCELED", second: "QUEUED"}
    fleet.client("greengrassv2").cancel_deployment(deploymentId=second)
    assert fleet.effective(fleet.one) == {first: "CANCELED", second: "CANCELED"}
    shadow = fleet.client("iot-data").get_thing_shadow(
        thingName=fleet.one.name, shadowName="AWSManagedGreengrassV2Deployment"
    )
    assert json.load(shadow["payload"])["state"]["desired"]["desiredStatus"] == "CANCELED"
    assert fleet.get(first)["deploymentStatus"] == "INACTIVE"


@pytest.mark.parametrize("payload", [b"{", b"[]", b"{}", b'{"state": 5}'])
def test_a_malformed_shadow_update_is_rejected(fleet: Fleet, payload: bytes) -> None:
    base = "shadow/name/AWSManagedGreengrassV2Deployment"
    fleet.one.bus.publish(f"$aws/things/{fleet.one.name}/{base}/update", payload)
    assert [topic for topic, _ in fleet.one.heard if topic.startswith(base)] == [f"{base}/update/rejected"]
    fleet.one.bus.publish(f"$aws/things/{fleet.one.name}/{base}/get", b"")
    assert fleet.one.heard[-1][0] == f"{base}/get/rejected"


def component(name: str, status: str, version: str = "1.0.0", **more: Any) -> dict[str, Any]:
    return {"componentName": name, "version": version, "status": status, "isRoot": True, **more}


def installed(fleet: Fleet, core: Core, **more: Any) -> dict[str, str]:
    found = fleet.client("greengrassv2").list_installed_components(coreDeviceThingName=core.name, **more)
    return {entry["componentName"]: entry["lifecycleState"] for entry in found["installedComponents"]}


def test_installed_components_follow_the_reports(fleet: Fleet) -> None:
    one = fleet.one
    one.report(component("a", "RUNNING"), component("b", "NEW", isRoot=False))
    assert installed(fleet, one) == {"a": "RUNNING"}
    assert installed(fleet, one, topologyFilter="ALL") == {"a": "RUNNING", "b": "NEW"}
    one.report(component("b", "FINISHED"), messageType="PARTIAL")
    assert installed(fleet, one) == {"a": "RUNNING", "b": "FINISHED"}
    one.report(component("a", "BROKEN"), overallDeviceStatus="UNHEALTHY")
    assert installed(fleet, one) == {"a": "BROKEN"}
    assert fleet.client("greengrassv2").get_core_device(coreDeviceThingName=one.name)["status"] == "UNHEALTHY"
    one.report(component("a", "RUNNING"), timestamp=1)
    assert installed(fleet, one) == {"a": "BROKEN"}, "an older report overwrote a newer one"


@pytest.mark.parametrize(
    ("payload", "text"),
    [
        (b"{", "not JSON"),
        (b"[]", "not an object"),
        (b'{"thing": "other"}', "thing: 'other'"),
        (b'{"thing": "t", "timestamp": "now"}', "timestamp"),
        (b'{"thing": "t", "timestamp": 1, "components": [{}]}', "components"),
        (b'{"thing": "t", "timestamp": 1, "components": {}}', "components"),
    ],
)
def test_a_malformed_report_is_refused_by_field(payload: bytes, text: str) -> None:
    with pytest.raises(MalformedReportError, match=text):
        parse_report("t", payload)


def test_a_malformed_report_changes_nothing(fleet: Fleet) -> None:
    fleet.one.report(component("a", "RUNNING"))
    fleet.one.report(thing="somebody-else")
    assert installed(fleet, fleet.one) == {"a": "RUNNING"}


def test_core_devices_can_be_tagged_and_deleted(fleet: Fleet) -> None:
    greengrass = fleet.client("greengrassv2")
    fleet.one.report()
    arn = f"arn:aws:greengrass:{ACCOUNT}:coreDevices:{fleet.one.name}"
    greengrass.tag_resource(resourceArn=arn, tags={"site": "EWR"})
    assert greengrass.get_core_device(coreDeviceThingName=fleet.one.name)["tags"] == {"site": "EWR"}
    greengrass.delete_core_device(coreDeviceThingName=fleet.one.name)
    error_of(lambda: greengrass.get_core_device(coreDeviceThingName=fleet.one.name))
    error_of(lambda: greengrass.list_tags_for_resource(resourceArn=arn))
