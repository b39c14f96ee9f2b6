"""Deployments: what results from a wish, what a Lite device could not receive, and what is carried on."""

import json
from typing import Any

import pytest
from hypothesis import given, strategies as st

from cloud.errors import ConflictError, InvalidInputError, NotFoundError
from cloud.publishing.configured import configured_tags, digests_in
from cloud.publishing.deploy import DeployPorts, deploy, find_target, plan
from cloud.publishing.deployment import Wish, plan_deployment
from cloud.publishing.errors import DeploymentTooLargeError
from cloud.publishing.memory_fleet import MemoryDeployments
from cloud.publishing.refused import Refused
from edge_component.contracts.configuration import value_digest
from tests.cloud.publishing.stations import OTHER, RUNTIME, WEATHER, requests, stations

GROUP_ARN = "arn:aws:iot:us-east-1:123456789012:thinggroup/stations"

OTHERS = st.dictionaries(
    st.sampled_from(["aws.greengrass.Cli", "com.acme.Camera", "com.acme.Door"]),
    st.fixed_dictionaries(
        {"componentVersion": st.just("2.0.0")},
        optional={"configurationUpdate": st.just({"merge": '{"a":1}'}), "runWith": st.just({"posixUser": "u"})},
    ),
)


@pytest.fixture
def ports() -> DeployPorts:
    return stations()


def test_a_first_deployment_pins_the_highest_runtime_beside_the_model(ports: DeployPorts) -> None:
    deployed = deploy(find_target("stations", ports), Wish(WEATHER, "1.0.0"), ports)
    assert deployed.is_new
    assert requests(ports)[0]["components"] == {
        RUNTIME: {"componentVersion": "0.2.0"},
        WEATHER: {"componentVersion": "1.0.0"},
    }


def test_a_model_rollout_keeps_the_runtime_that_the_target_has(ports: DeployPorts) -> None:
    target = find_target("stations", ports)
    deploy(target, Wish(WEATHER, "1.0.0", runtime_version="0.1.0"), ports)
    deploy(target, Wish(WEATHER, "1.1.0"), ports)
    assert requests(ports)[1]["components"][RUNTIME] == {"componentVersion": "0.1.0"}


def test_runtime_configuration_is_sent_once_and_never_carried_over(ports: DeployPorts) -> None:
    target = find_target("stations", ports)
    deploy(target, Wish(WEATHER, "1.0.0", runtime_configuration={"heartbeat_s": 5}), ports)
    deploy(target, Wish(WEATHER, "1.1.0"), ports)
    first, second = (request["components"][RUNTIME] for request in requests(ports))
    assert json.loads(first["configurationUpdate"]["merge"]) == {"heartbeat_s": 5}
    assert "configurationUpdate" not in second


def test_what_was_configured_is_kept_in_tags_for_those_who_join_later(ports: DeployPorts) -> None:
    target = find_target("stations", ports)
    deploy(target, Wish(WEATHER, "1.0.0"), ports)
    assert "tags" not in requests(ports)[0], "nothing was ever configured"
    deploy(target, Wish(WEATHER, "1.0.0", runtime_configuration={"heartbeat_s": 5, "streams": {"a": {"n": 1}}}), ports)
    deploy(target, Wish(WEATHER, "1.1.0"), ports)
    deploy(target, Wish(WEATHER, "1.0.0", runtime_configuration={"streams": {"a": 2}}), ports)
    reset = Wish(runtime_version="0.1.0", runtime_configuration={"window_s": 60}, runtime_reset=("/heartbeat_s",))
    deploy(target, reset, ports)
    configured = [set(digests_in(request.get("tags", {}))) for request in requests(ports)[1:]]
    assert configured == [
        {"/heartbeat_s", "/streams/a/n"},
        {"/heartbeat_s", "/streams/a/n"},
        {"/heartbeat_s", "/streams/a"},
        {"/streams/a", "/window_s"},
    ]
    assert digests_in(requests(ports)[-1]["tags"])["/window_s"] == value_digest("60")


def test_tags_stay_within_what_aws_takes() -> None:
    many = {f"f{n:03}": n for n in range(200)} | {"ümlaut": 1, "x" * 200: 1, "a#b": 1}
    tags = configured_tags({}, many)
    assert len(tags) == 40
    assert set(digests_in(tags)) == {f"/f{n:03}" for n in range(40)}
    assert configured_tags({"edgewright:configured:/a": "0", "owner": "me"}, None) == {"edgewright:configured:/a": "0"}


def test_a_runtime_upgrade_leaves_the_models_and_may_take_back_what_devices_keep(ports: DeployPorts) -> None:
    target = find_target("stations", ports)
    deploy(target, Wish(WEATHER, "1.0.0", runtime_version="0.1.0"), ports)
    deploy(target, Wish(runtime_version="0.2.0", runtime_reset=("/accessControl",)), ports)
    components = requests(ports)[1]["components"]
    assert components == {
        RUNTIME: {"componentVersion": "0.2.0", "configurationUpdate": {"reset": ["/accessControl"]}},
        WEATHER: {"componentVersion": "1.0.0"},
    }
    assert not plan(target, Wish(runtime_version="0.2.0"), ports).is_change


@given(others=OTHERS)
def test_other_components_stay_exactly_as_they_are(others: dict[str, Any]) -> None:
    current = {**others, RUNTIME: {"componentVersion": "0.1.0"}}
    planned = plan_deployment(GROUP_ARN, current, Wish(WEATHER, "1.0.0"))
    assert {name: planned.components[name] for name in others} == others
    assert planned.is_change


@given(others=OTHERS)
def test_planning_what_is_there_is_no_change(others: dict[str, Any]) -> None:
    first = plan_deployment(GROUP_ARN, others or None, Wish(WEATHER, "1.0.0", runtime_version="0.1.0"))
    again = plan_deployment(GROUP_ARN, first.components, Wish(WEATHER, "1.0.0"))
    assert again.components == first.components
    assert not again.is_change


def test_the_same_wish_again_is_the_same_deployment_unless_asked_for_anew(ports: DeployPorts) -> None:
    target, wish = find_target("stations", ports), Wish(WEATHER, "1.0.0")
    first, second = deploy(target, wish, ports), deploy(target, wish, ports)
    assert (second.deployment_id, second.is_new) == (first.deployment_id, False)
    assert deploy(target, wish, ports, again=True).is_new
    assert len(requests(ports)) == 2


@given(others=OTHERS)
def test_only_what_the_target_has_is_left_behind(others: dict[str, Any]) -> None:
    """AWS lists a deployment that was just made a moment later than it answers for it."""
    current = {**others, RUNTIME: {"componentVersion": "0.1.0"}, WEATHER: {"componentVersion": "1.2.0"}}
    stale = (Refused(WEATHER, "1.1.0", "1.0.0"), Refused(OTHER, "1.0.0", ""))
    planned = plan_deployment(GROUP_ARN, current, Wish(runtime_version="0.1.0"), refused=stale)
    assert planned.components == current
    assert (planned.refused, planned.tags) == ((), {})


@pytest.mark.parametrize("nonce", ["two\nlines", 'a "quote"', "$(id)", "x" * 65])
def test_a_nonce_that_would_be_a_program_is_refused(ports: DeployPorts, nonce: str) -> None:
    """It stands in a script, as it is on the Java nucleus."""
    with pytest.raises(InvalidInputError, match="nonce"):
        deploy(find_target("stations", ports), Wish(WEATHER, "1.0.0", nonce=nonce), ports)


def test_a_nonce_is_a_change_on_the_model_component_alone(ports: DeployPorts) -> None:
    target = find_target("stations", ports)
    deploy(target, Wish(WEATHER, "1.0.0"), ports)
    assert deploy(target, Wish(WEATHER, "1.0.0", nonce="repair-1"), ports).is_new
    components = requests(ports)[1]["components"]
    assert json.loads(components[WEATHER]["configurationUpdate"]["merge"]) == {"nonce": "repair-1"}
    assert "configurationUpdate" not in components[RUNTIME]


def test_a_document_that_lite_cannot_receive_is_refused_and_nothing_is_deployed(ports: DeployPorts) -> None:
    wish = Wish(WEATHER, "1.0.0", runtime_configuration={"labels": "x" * 4000})
    with pytest.raises(DeploymentTooLargeError, match=r"would take \d+ bytes"):
        deploy(find_target("stations", ports), wish, ports)
    assert requests(ports) == []


def test_a_dry_run_plans_and_changes_nothing(ports: DeployPorts) -> None:
    planned = plan(find_target("stations", ports), Wish(WEATHER, "1.0.0"), ports)
    assert planned.components[WEATHER] == {"componentVersion": "1.0.0"}
    assert requests(ports) == []


def test_a_version_that_is_not_published_is_refused_with_those_that_are(ports: DeployPorts) -> None:
    with pytest.raises(NotFoundError, match=r"Weather 9\.9\.9 is not published") as caught:
        deploy(find_target("stations", ports), Wish(WEATHER, "9.9.9"), ports)
    assert caught.value.remedy == "Published versions: 1.0.0, 1.1.0."
    assert requests(ports) == []


def test_no_runtime_anywhere_is_refused_with_the_command_that_makes_one() -> None:
    with pytest.raises(InvalidInputError, match=r"has no com\.edgewright\.Runtime yet") as caught:
        plan_deployment(GROUP_ARN, None, Wish(WEATHER, "1.0.0"))
    assert "publish-runtime" in caught.value.remedy
    with pytest.raises(InvalidInputError, match="go together"):
        plan_deployment(GROUP_ARN, None, Wish(WEATHER, "", "0.1.0"))


def test_what_somebody_deploys_in_between_is_not_undone(ports: DeployPorts, monkeypatch: pytest.MonkeyPatch) -> None:
    """A deployment is the whole list: one that was planned on what is past by now would take the other model away."""
    deploy(find_target("stations", ports), Wish(WEATHER, "1.0.0"), ports)
    truly, others = MemoryDeployments.history, [Wish(OTHER, "1.0.0")]

    def history(self: MemoryDeployments, target_arn: str) -> Any:
        while others:
            deploy(find_target("stations", ports), others.pop(), ports)  # another operator, while this one plans
        return truly(self, target_arn)

    monkeypatch.setattr(MemoryDeployments, "history", history)
    deploy(find_target("stations", ports), Wish(WEATHER, "1.1.0"), ports)
    versions = {name: entry["componentVersion"] for name, entry in requests(ports)[-1]["components"].items()}
    assert versions == {RUNTIME: "0.2.0", WEATHER: "1.1.0", OTHER: "1.0.0"}


def test_who_is_never_first_gives_up(ports: DeployPorts, monkeypatch: pytest.MonkeyPatch) -> None:
    target = find_target("stations", ports)
    deploy(target, Wish(WEATHER, "1.0.0"), ports)
    truly, nonce = MemoryDeployments.history, iter(range(1_000))

    def history(self: MemoryDeployments, target_arn: str) -> Any:
        self.create({**self.created[-1], "deploymentName": str(next(nonce))})
        return truly(self, target_arn)

    monkeypatch.setattr(MemoryDeployments, "history", history)
    before = len(requests(ports))
    with pytest.raises(ConflictError, match="stations") as caught:
        deploy(target, Wish(WEATHER, "1.1.0"), ports)
    assert "again" in caught.value.remedy
    assert all(request["components"][WEATHER]["componentVersion"] == "1.0.0" for request in requests(ports)[before:])


def test_a_target_whose_latest_deployment_holds_nothing_is_deployed_to(
    ports: DeployPorts, monkeypatch: pytest.MonkeyPatch
) -> None:
    """GetDeployment leaves out what is empty: somebody took the last component away."""
    target = find_target("stations", ports)
    deploy(target, Wish(WEATHER, "1.0.0"), ports)
    emptied = {"deploymentId": "0", "targetArn": target.arn}
    monkeypatch.setattr(MemoryDeployments, "latest", lambda *_: emptied)
    assert deploy(target, Wish(WEATHER, "1.1.0"), ports).is_new
    assert set(requests(ports)[-1]["components"]) == {RUNTIME, WEATHER}
