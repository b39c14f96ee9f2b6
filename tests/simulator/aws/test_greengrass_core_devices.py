"""What core devices report, and what the control plane makes of it."""

from typing import Any

import pytest

from simulator.aws.greengrass_devices import MalformedReportError, parse_report
from tests.simulator.aws.greengrass_fleet import ACCOUNT, Core, Fleet, error_of


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
