"""Deployments through boto3, with devices that speak over the bus as nuclei do."""

import json
import uuid
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from simulator.aws.event import Event
from tests.simulator.aws.greengrass_fleet import ACCOUNT, Fleet, error_of


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
