"""One suite for the ports of deploying: the shipped in-memory ones and AWS's own interfaces on the local cloud."""

import json
from collections.abc import Iterator

import pytest

from cloud.aws.greengrass import Deployments
from cloud.aws.iot import ThingRegistry
from cloud.aws.session import AwsSession
from cloud.publishing.deploy import DeploymentService, ThingDirectory
from cloud.publishing.deployment import Wish, plan_deployment
from cloud.publishing.memory_fleet import MemoryDeployments, MemoryThings
from simulator.aws.server import CloudOptions, LocalCloud

GROUPS = {"stations": ("ewr", "jfk"), "pair": ("lga", "swf"), "empty": (), "eu:ring:1": ("plant:line-1",)}
RUNTIME, WEATHER = "com.edgewright.Runtime", "com.edgewright.model.Weather"


@pytest.fixture(scope="module")
def aws(tmp_path_factory: pytest.TempPathFactory) -> Iterator[AwsSession]:
    """A local cloud with the groups above, and with the components that the suite deploys."""
    with LocalCloud(CloudOptions(tmp_path_factory.mktemp("cloud"))) as local, pytest.MonkeyPatch.context() as patch:
        patch.setenv("AWS_ENDPOINT_URL", local.url)
        patch.setenv("AWS_ACCESS_KEY_ID", "local")
        patch.setenv("AWS_SECRET_ACCESS_KEY", "local")
        patch.setenv("AWS_EC2_METADATA_DISABLED", "true")
        session = AwsSession("us-east-1")
        for group, things in GROUPS.items():
            session.client("iot").create_thing_group(thingGroupName=group)
            for thing in things:
                session.client("iot").create_thing(thingName=thing)
                session.client("iot").add_thing_to_thing_group(thingGroupName=group, thingName=thing)
        for name, version in ((RUNTIME, "0.1.0"), (WEATHER, "1.0.0"), (WEATHER, "1.1.0")):
            manifest = {"Platform": {"os": "linux", "runtime": "*"}, "Lifecycle": {"run": {"Script": "exec true"}}}
            recipe = {
                "RecipeFormatVersion": "2020-01-25",
                "ComponentName": name,
                "ComponentVersion": version,
                "Manifests": [manifest],
            }
            session.client("greengrassv2").create_component_version(inlineRecipe=json.dumps(recipe).encode())
        yield session


@pytest.fixture(params=["memory", "local cloud"])
def fleet(request: pytest.FixtureRequest) -> tuple[ThingDirectory, DeploymentService]:
    if request.param == "memory":
        return MemoryThings(dict(GROUPS)), MemoryDeployments()
    session = request.getfixturevalue("aws")
    return ThingRegistry(session), Deployments(session)


Fleet = tuple[ThingDirectory, DeploymentService]


def test_groups_and_things_are_found_by_name(fleet: Fleet) -> None:
    things, _ = fleet
    assert (things.group_arn("stations") or "").endswith(":thinggroup/stations")
    assert (things.thing_arn("ewr") or "").endswith(":thing/ewr")
    assert things.group_arn("ewr") is None
    assert things.thing_arn("stations") is None
    assert set(things.group_names()) == set(GROUPS)
    assert things.members("stations") == ("ewr", "jfk")
    assert things.members("empty") == ()


def test_the_latest_deployment_is_what_was_made_last(fleet: Fleet) -> None:
    things, deployments = fleet
    arn = things.group_arn("stations") or ""
    assert deployments.latest(arn) is None
    made: list[str] = []
    for version in ("1.0.0", "1.1.0"):
        wish = Wish(WEATHER, version, "0.1.0", {"heartbeat_s": 5}, ("/accessControl",), "again")
        plan = plan_deployment(arn, None, wish)
        deployment_id = deployments.create(plan.request(version))
        latest = deployments.latest(arn)
        assert latest is not None
        assert latest["deploymentId"] == deployment_id
        assert dict(latest["components"]) == plan.components
        assert deployments.is_latest(deployment_id)
        made.append(deployment_id)
    assert not deployments.is_latest(made[0])


def test_the_history_is_newest_first_with_what_devices_said(fleet: Fleet, request: pytest.FixtureRequest) -> None:
    things, deployments = fleet
    arn = things.group_arn("pair") or ""
    assert list(deployments.history(arn)) == []
    said = [("1.0.0", {"lga": "SUCCEEDED", "swf": "SUCCEEDED"}), ("1.1.0", {"lga": "FAILED"})]
    for version, statuses in said:
        deployment_id = deployments.create(plan_deployment(arn, None, Wish(WEATHER, version, "0.1.0")).request(version))
        for thing, status in statuses.items():
            if isinstance(deployments, MemoryDeployments):
                deployments.said.setdefault(thing, {})[deployment_id] = (status, "")
            else:
                finish(request.getfixturevalue("aws"), deployment_id, thing, status)
    newest, oldest = deployments.history(arn)
    assert (newest.components, oldest.components) == (
        {RUNTIME: "0.1.0", WEATHER: "1.1.0"}, {RUNTIME: "0.1.0", WEATHER: "1.0.0"}
    )  # fmt: skip
    assert [(one.succeeded_count, one.failed_count, one.active_count) for one in (newest, oldest)] == [
        (0, 1, 0), (2, 0, 0)
    ]  # fmt: skip


def finish(session: AwsSession, deployment_id: str, thing: str, status: str) -> None:
    """Take the thing's deployment job to its end, as its nucleus would."""
    job_id = session.client("greengrassv2").get_deployment(deploymentId=deployment_id)["iotJobId"]
    session.client("iot-jobs-data").update_job_execution(jobId=job_id, thingName=thing, status=status)


def test_a_thing_that_never_reported_says_nothing(fleet: Fleet) -> None:
    _, deployments = fleet
    assert list(deployments.effective("ewr")) == []
    assert deployments.nucleus("ewr") is None


def test_names_with_colons_are_deployed_to(fleet: Fleet) -> None:
    """AWS IoT allows them in things and groups, and an ARN's own colons are five."""
    things, deployments = fleet
    assert things.members("eu:ring:1") == ("plant:line-1",)
    for arn in (things.group_arn("eu:ring:1") or "", things.thing_arn("plant:line-1") or ""):
        deployment_id = deployments.create(plan_deployment(arn, None, Wish(WEATHER, "1.0.0", "0.1.0")).request("n"))
        latest = deployments.latest(arn)
        assert latest is not None
        assert latest["deploymentId"] == deployment_id
