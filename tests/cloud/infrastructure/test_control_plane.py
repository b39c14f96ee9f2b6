"""Greengrass as the reconciler sees it, on the local cloud; and what publishing left in S3."""

import json
from typing import Any

import pytest

from cloud.aws.control_plane import GreengrassControlPlane, redeployment
from cloud.aws.publications import BaselineDamagedError, S3Baselines, S3Publications
from cloud.aws.s3 import ObjectStore
from cloud.aws.session import AwsSession
from cloud.drift.ports import BaselineUnknownError
from cloud.errors import EdgewrightError, InvalidInputError
from cloud.fleet.desired import Publication
from cloud.publishing.record import Layout, PublicationRecord, Stamp
from edge_component.contracts.baseline import baseline_id
from tests.cloud.drift.samples import simple_baseline
from tests.cloud.fleet.samples import DIGEST, T0

np = pytest.importorskip("numpy")
COMPONENT = "com.edgewright.model.Weather"
BUCKET = "control-plane-test"


def recipe(version: str) -> bytes:
    return json.dumps(
        {
            "RecipeFormatVersion": "2020-01-25",
            "ComponentName": COMPONENT,
            "ComponentVersion": version,
            "ComponentPublisher": "test",
            "Manifests": [{"Platform": {"os": "linux", "runtime": "*"}, "Lifecycle": {"startup": "true"}}],
        }
    ).encode()


@pytest.fixture(scope="module")
def target_arn(local_cloud: Any) -> str:
    session = AwsSession("us-east-1")
    iot = session.client("iot")
    arn = str(iot.create_thing_group(thingGroupName="stations")["thingGroupArn"])
    for name in ("EWR", "JFK"):
        iot.create_thing(thingName=name)
        iot.add_thing_to_thing_group(thingGroupName="stations", thingName=name)
    session.client("greengrassv2").create_component_version(inlineRecipe=recipe("1.0.0"))
    return arn


def test_deployments_members_and_a_repair(session: AwsSession, target_arn: str) -> None:
    greengrass = session.client("greengrassv2")
    created = greengrass.create_deployment(
        targetArn=target_arn,
        deploymentName="weather",
        components={COMPONENT: {"componentVersion": "1.0.0", "configurationUpdate": {"merge": '{"old": 1}'}}},
        tags={
            "edgewright:configured:/heartbeat_s": "0f39bb26",
            f"edgewright:refused:{COMPONENT}": "1.1.0",
            "owner": "somebody",
        },
    )
    plane = GreengrassControlPlane(session)
    (record,) = plane.latest_deployments()
    assert (record.deployment_id, record.name, record.components) == (
        created["deploymentId"], "weather", {COMPONENT: "1.0.0"},
    )  # fmt: skip
    assert record.configured == {"/heartbeat_s": "0f39bb26"}
    assert record.refused == {COMPONENT: "1.1.0"}
    assert sorted(plane.members(target_arn)) == ["EWR", "JFK"]
    assert tuple(plane.members("arn:aws:iot:us-east-1:123456789012:thing/EWR")) == ("EWR",)
    assert tuple(plane.members("arn:aws:iot:us-east-1:123456789012:thinggroup/nowhere")) == ()
    assert plane.installed("EWR") == {}
    new_id = plane.redeploy(record.deployment_id, COMPONENT, "n1")
    assert new_id is not None
    details = greengrass.get_deployment(deploymentId=new_id)
    assert json.loads(details["components"][COMPONENT]["configurationUpdate"]["merge"]) == {"nonce": "n1"}
    assert (details["targetArn"], details["deploymentName"]) == (target_arn, "weather")
    ((latest_id, configured),) = [(one.deployment_id, one.configured) for one in plane.latest_deployments()]
    assert (latest_id, configured) == (new_id, record.configured), "a repair forgets nothing"
    assert plane.redeploy(record.deployment_id, COMPONENT, "n3") is None, "its target has a later deployment"
    assert [one.deployment_id for one in plane.latest_deployments()] == [new_id]
    with pytest.raises(InvalidInputError, match="does not hold"):
        plane.redeploy(new_id, "com.edgewright.model.Other", "n2")


def test_a_repair_carries_no_other_configuration_over() -> None:
    details = {
        "targetArn": "arn", "deploymentId": "d1", "isLatestForTarget": True,
        "components": {
            COMPONENT: {"componentVersion": "1.0.0"},
            "com.edgewright.Runtime": {"componentVersion": "0.1.0", "configurationUpdate": {"merge": "{}"}},
        },
    }  # fmt: skip
    request = redeployment(details, COMPONENT, "n1")
    assert request["components"]["com.edgewright.Runtime"] == {"componentVersion": "0.1.0"}
    assert set(request) == {"targetArn", "components"}


def test_publications_and_baselines_are_read_from_where_publishing_puts_them(session: AwsSession) -> None:
    store, layout = ObjectStore(session), Layout(BUCKET)
    store.ensure_bucket(BUCKET, "us-east-1")
    record = PublicationRecord(COMPONENT, "1.0.0", Stamp(1, T0, T0), {"linux/x86_64": DIGEST}, model_name="weather")
    store.put_bytes(layout.record(COMPONENT, "1.0.0"), record.to_bytes())
    publications = S3Publications(store, BUCKET)
    assert publications.find(COMPONENT, "1.0.0") == Publication(COMPONENT, "weather", "1.0.0", {"linux/x86_64": DIGEST})
    assert publications.find(COMPONENT, "9.9.9") is None
    store.put_bytes(layout.record(COMPONENT, "1.0.1"), b"{}")
    with pytest.raises(EdgewrightError, match="schema"):
        publications.find(COMPONENT, "1.0.1")
    baseline = simple_baseline(np.random.default_rng(1))
    data = baseline.to_bytes()
    known = baseline_id(data)
    store.put_bytes(layout.baseline(known), data)
    store.put_bytes(layout.baseline("c" * 64), data)
    baselines = S3Baselines(store, BUCKET)
    assert baselines.baseline(known) == baseline
    with pytest.raises(BaselineDamagedError, match="other bytes"):
        baselines.baseline("c" * 64)
    with pytest.raises(BaselineUnknownError, match="dddddddddddd"):
        baselines.baseline("d" * 64)
