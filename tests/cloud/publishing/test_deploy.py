"""Deployments: what results from a wish, what a Lite device could not receive, and what devices say."""

import json
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given, strategies as st

from cloud.errors import ConflictError, DeniedError, InvalidInputError, NotFoundError, UnavailableError
from cloud.publishing.component_names import match_component
from cloud.publishing.configured import configured_tags, digests_in
from cloud.publishing.deploy import DeployPorts, deploy, find_target, plan
from cloud.publishing.deployment import Wish, plan_deployment
from cloud.publishing.errors import (
    DeploymentFailedError,
    DeploymentPendingError,
    DeploymentReplacedError,
    DeploymentTooLargeError,
    TargetNotFoundError,
    TargetUnsupportedError,
)
from cloud.publishing.memory import MemoryComponents
from cloud.publishing.memory_fleet import MemoryDeployments, MemoryServing, MemoryThings
from cloud.publishing.refused import Refused, refused_in
from cloud.publishing.waiting import DeviceStatus, check_outcome, wait_for_devices
from edge_component.contracts.configuration import value_digest

RUNTIME = "com.edgewright.Runtime"
WEATHER = "com.edgewright.model.Weather"
OTHER = "com.edgewright.model.Other"
GROUP_ARN = "arn:aws:iot:us-east-1:123456789012:thinggroup/stations"


OTHERS = st.dictionaries(
    st.sampled_from(["aws.greengrass.Cli", "com.acme.Camera", "com.acme.Door"]),
    st.fixed_dictionaries(
        {"componentVersion": st.just("2.0.0")},
        optional={"configurationUpdate": st.just({"merge": '{"a":1}'}), "runWith": st.just({"posixUser": "u"})},
    ),
)


def published(*versions: tuple[str, str]) -> MemoryComponents:
    catalog = MemoryComponents()
    for name, version in versions:
        catalog.create(json.dumps({"ComponentName": name, "ComponentVersion": version}).encode(), "0")
    return catalog


@pytest.fixture
def ports() -> DeployPorts:
    things = MemoryThings({"stations": ("ewr", "jfk"), "canary": ("lga",)})
    models = [(name, version) for name in (WEATHER, OTHER) for version in ("1.0.0", "1.1.0")]
    catalog = published((RUNTIME, "0.1.0"), (RUNTIME, "0.2.0"), *models)
    return DeployPorts(things, MemoryDeployments(), catalog, monotonic=FakeClock(), sleep=lambda seconds: None)


class FakeClock:
    """Each reading is a second later."""

    def __init__(self) -> None:
        self.now_s = 0.0

    def __call__(self) -> float:
        self.now_s += 1
        return self.now_s


def requests(ports: DeployPorts) -> list[Mapping[str, Any]]:
    assert isinstance(ports.deployments, MemoryDeployments)
    return ports.deployments.created


def say(ports: DeployPorts, thing: str, deployment_id: str, status: str, reason: str = "") -> None:
    assert isinstance(ports.deployments, MemoryDeployments)
    ports.deployments.said.setdefault(thing, {})[deployment_id] = (status, reason)


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


def test_a_version_that_every_device_refused_is_not_carried_beside_the_next_model(ports: DeployPorts) -> None:
    target = find_target("stations", ports)
    for wish in (Wish(WEATHER, "1.0.0"), Wish(OTHER, "1.0.0"), Wish(WEATHER, "1.1.0")):
        good = deploy(target, wish, ports)
        say(ports, "ewr", good.deployment_id, "SUCCEEDED" if wish.version == "1.0.0" else "FAILED")
    deployed = deploy(target, Wish(OTHER, "1.1.0"), ports)
    assert versions_of(requests(ports)[-1]) == {RUNTIME: "0.2.0", WEATHER: "1.0.0", OTHER: "1.1.0"}
    (left,) = deployed.plan.refused
    assert (left.component_name, left.version, left.carried_version) == (WEATHER, "1.1.0", "1.0.0")
    assert deployed.to_document()["refused"] == [
        {"component_name": WEATHER, "refused_version": "1.1.0", "carried_version": "1.0.0"}
    ]
    assert refused_in(requests(ports)[-1]["tags"]) == {WEATHER: "1.1.0"}
    again = deploy(target, Wish(OTHER, "1.1.0"), ports)
    assert (again.is_new, again.plan.refused) == (False, ())
    deploy(target, Wish(runtime_version="0.1.0"), ports)
    assert refused_in(requests(ports)[-1]["tags"]) == {WEATHER: "1.1.0"}, "still known"
    deploy(target, Wish(WEATHER, "1.1.0"), ports)
    assert versions_of(requests(ports)[-1])[WEATHER] == "1.1.0", "what is asked for is tried"
    assert refused_in(requests(ports)[-1].get("tags", {})) == {}


@given(others=OTHERS)
def test_only_what_the_target_has_is_left_behind(others: dict[str, Any]) -> None:
    """AWS lists a deployment that was just made a moment later than it answers for it."""
    current = {**others, RUNTIME: {"componentVersion": "0.1.0"}, WEATHER: {"componentVersion": "1.2.0"}}
    stale = (Refused(WEATHER, "1.1.0", "1.0.0"), Refused(OTHER, "1.0.0", ""))
    planned = plan_deployment(GROUP_ARN, current, Wish(runtime_version="0.1.0"), refused=stale)
    assert planned.components == current
    assert (planned.refused, planned.tags) == ((), {})


def test_a_model_that_was_refused_as_the_first_of_its_kind_is_left_out(ports: DeployPorts) -> None:
    target = find_target("stations", ports)
    say(ports, "ewr", deploy(target, Wish(OTHER, "1.0.0"), ports).deployment_id, "SUCCEEDED")
    say(ports, "ewr", deploy(target, Wish(WEATHER, "1.0.0"), ports).deployment_id, "FAILED")
    planned = plan(target, Wish(runtime_version="0.1.0"), ports)
    assert set(planned.components) == {RUNTIME, OTHER}


def test_what_serves_although_its_deployment_failed_is_carried_on_and_said(ports: DeployPorts) -> None:
    ports = replace(ports, serving=MemoryServing({("stations", WEATHER, "1.1.0")}))
    target = find_target("stations", ports)
    say(ports, "ewr", deploy(target, Wish(WEATHER, "1.0.0"), ports).deployment_id, "SUCCEEDED")
    say(ports, "ewr", deploy(target, Wish(WEATHER, "1.1.0"), ports).deployment_id, "FAILED")
    planned = plan(target, Wish(OTHER, "1.0.0"), ports)
    assert planned.components[WEATHER] == {"componentVersion": "1.1.0"}
    assert planned.refused == ()
    assert "1.1.0 serves here" in planned.doubt


def test_the_same_wish_again_heals_what_another_model_broke(ports: DeployPorts) -> None:
    target = find_target("stations", ports)
    for wish, status in ((Wish(OTHER, "1.0.0"), "SUCCEEDED"), (Wish(WEATHER, "1.0.0"), "FAILED")):
        say(ports, "ewr", deploy(target, wish, ports).deployment_id, status)
    assert deploy(target, Wish(OTHER, "1.0.0"), ports).is_new


def test_what_only_some_refused_is_carried_on_and_said(ports: DeployPorts) -> None:
    target = find_target("stations", ports)
    say(ports, "ewr", deploy(target, Wish(WEATHER, "1.0.0"), ports).deployment_id, "SUCCEEDED")
    second = deploy(target, Wish(WEATHER, "1.1.0"), ports).deployment_id
    say(ports, "ewr", second, "SUCCEEDED")
    say(ports, "jfk", second, "FAILED")
    planned = plan(target, Wish(OTHER, "1.0.0"), ports)
    assert planned.components[WEATHER] == {"componentVersion": "1.1.0"}
    assert "1 of 2 devices" in planned.doubt


def versions_of(request: Mapping[str, Any]) -> dict[str, str]:
    return {name: entry["componentVersion"] for name, entry in request["components"].items()}


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


def test_an_unknown_target_is_refused_with_names_that_are_alike(ports: DeployPorts) -> None:
    with pytest.raises(TargetNotFoundError, match="'statoins'") as caught:
        find_target("statoins", ports)
    assert caught.value.remedy == "Did you mean stations?"
    with pytest.raises(TargetNotFoundError):
        find_target("thing:stations", ports)
    with pytest.raises(TargetNotFoundError):
        find_target("group:ewr", ports)


def test_a_single_lite_device_is_refused_since_it_would_never_hear_of_it(ports: DeployPorts) -> None:
    assert isinstance(ports.deployments, MemoryDeployments)
    assert find_target("ewr", ports).thing_names == ("ewr",)
    ports.deployments.nuclei["ewr"] = "aws_nucleus_lite"
    with pytest.raises(TargetUnsupportedError, match="Greengrass Lite"):
        find_target("ewr", ports)


def test_waiting_ends_when_every_device_has_finished(ports: DeployPorts) -> None:
    deployed = [deploy(find_target(name, ports), Wish(WEATHER, "1.0.0"), ports) for name in ("stations", "canary")]
    say(ports, "ewr", "0", "SUCCEEDED")
    say(ports, "jfk", "0", "FAILED", "startup exited 1")
    say(ports, "lga", "1", "SUCCEEDED")
    statuses = wait_for_devices(deployed, ports, deadline_s=1e9)
    assert [(each.thing_name, each.status) for each in statuses] == [
        ("ewr", "SUCCEEDED"), ("jfk", "FAILED"), ("lga", "SUCCEEDED"),
    ]  # fmt: skip
    with pytest.raises(DeploymentFailedError, match="1 of 3 devices failed: jfk: FAILED startup exited 1"):
        check_outcome(statuses)


def test_who_is_done_is_not_asked_again(ports: DeployPorts, monkeypatch: pytest.MonkeyPatch) -> None:
    deployed = deploy(find_target("stations", ports), Wish(WEATHER, "1.0.0"), ports)
    say(ports, "ewr", deployed.deployment_id, "SUCCEEDED")
    asked, truly = list[str](), MemoryDeployments.effective

    def effective(self: MemoryDeployments, thing_name: str) -> Any:
        asked.append(thing_name)
        if asked.count("jfk") == 3:
            say(ports, "jfk", deployed.deployment_id, "FAILED")
        return truly(self, thing_name)

    monkeypatch.setattr(MemoryDeployments, "effective", effective)
    statuses = wait_for_devices([deployed], ports, deadline_s=1e9)
    assert [each.status for each in statuses] == ["SUCCEEDED", "FAILED"]
    assert asked == ["ewr", "jfk", "jfk", "jfk"]


def test_a_call_that_is_throttled_ends_no_waiting(ports: DeployPorts, monkeypatch: pytest.MonkeyPatch) -> None:
    deployed = deploy(find_target("canary", ports), Wish(WEATHER, "1.0.0"), ports)
    say(ports, "lga", deployed.deployment_id, "SUCCEEDED")
    throttled, truly = [UnavailableError("ThrottlingException")] * 3, MemoryDeployments.effective

    def effective(self: MemoryDeployments, thing_name: str) -> Any:
        if throttled:
            raise throttled.pop()
        return truly(self, thing_name)

    monkeypatch.setattr(MemoryDeployments, "effective", effective)
    assert [each.reason for each in wait_for_devices([deployed], ports, deadline_s=1)] == ["ThrottlingException"]
    assert [each.status for each in wait_for_devices([deployed], ports, deadline_s=1e9)] == ["SUCCEEDED"]


def test_waiting_ends_at_the_deadline_and_says_who_is_missing(ports: DeployPorts) -> None:
    deployed = deploy(find_target("stations", ports), Wish(WEATHER, "1.0.0"), ports)
    say(ports, "ewr", deployed.deployment_id, "SUCCEEDED")
    say(ports, "jfk", "an older one", "SUCCEEDED")
    statuses = wait_for_devices([deployed], ports, deadline_s=3)
    assert DeviceStatus("jfk", "WAITING", "") in statuses
    with pytest.raises(DeploymentPendingError, match=r"jfk \(WAITING\)") as caught:
        check_outcome(statuses)
    assert caught.value.exit_code == 5


def test_all_succeeded_is_no_error() -> None:
    check_outcome([DeviceStatus("ewr", "SUCCEEDED", ""), DeviceStatus("jfk", "COMPLETED", "")])


def test_a_model_is_found_by_the_name_that_people_use() -> None:
    names = [WEATHER, "com.edgewright.model.SileroVad"]
    assert match_component("weather", names) == WEATHER
    assert match_component("silero-vad", names) == "com.edgewright.model.SileroVad"
    with pytest.raises(NotFoundError, match="no model 'climate'"):
        match_component("climate", names)
    with pytest.raises(InvalidInputError, match="may be"):
        match_component("a-b", ["com.edgewright.model.AB", "com.edgewright.model.a_b"])


@pytest.mark.parametrize("name", ["plant:line-1", "thing:plant:line-1"])
def test_a_thing_whose_name_has_colons_is_found(ports: DeployPorts, name: str) -> None:
    """AWS IoT allows them: only ``thing:`` and ``group:`` say of which kind a name is."""
    groups = {"line-1": ("other",), "plant": ("plant:line-1",)}
    target = find_target(name, replace(ports, things=MemoryThings(groups)))
    assert (target.name, target.thing_names) == ("plant:line-1", ("plant:line-1",))


def test_a_group_whose_name_has_colons_is_found(ports: DeployPorts) -> None:
    things = MemoryThings({"eu:ring:1": ("ewr",), "1": ("jfk",)})
    for name in ("eu:ring:1", "group:eu:ring:1"):
        assert find_target(name, replace(ports, things=things)).thing_names == ("ewr",)


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


def test_waiting_ends_when_a_later_deployment_takes_this_one_s_place(ports: DeployPorts) -> None:
    """Devices never answer for a deployment that another has replaced: waiting longer is in vain."""
    deployed = deploy(find_target("stations", ports), Wish(WEATHER, "1.0.0"), ports)
    say(ports, "ewr", deployed.deployment_id, "SUCCEEDED")
    deploy(find_target("stations", ports), Wish(WEATHER, "1.1.0"), ports)
    statuses = wait_for_devices([deployed], ports, deadline_s=1e9)
    assert [(one.thing_name, one.status) for one in statuses] == [("ewr", "SUCCEEDED"), ("jfk", "REPLACED")]
    with pytest.raises(DeploymentReplacedError, match="1 of 2 devices: jfk") as caught:
        check_outcome(statuses)
    assert "edgewright get deployments" in caught.value.remedy


def test_a_thousand_devices_that_are_missing_make_no_wall_of_names() -> None:
    missing = [DeviceStatus(f"device-{index:04}", "WAITING", "") for index in range(1_000)]
    with pytest.raises(DeploymentPendingError, match=r"1000 of 1000 .* and 990 more") as pending:
        check_outcome(missing)
    with pytest.raises(DeploymentFailedError, match=r"and 990 more") as failed:
        check_outcome([replace(one, status="FAILED", reason="disk full") for one in missing])
    assert max(len(str(pending.value)), len(str(failed.value))) < 1_000


def test_credentials_that_end_while_waiting_end_the_waiting_alone(
    ports: DeployPorts, monkeypatch: pytest.MonkeyPatch
) -> None:
    deployed = deploy(find_target("stations", ports), Wish(WEATHER, "1.0.0"), ports)

    def effective(self: MemoryDeployments, thing_name: str) -> Any:
        raise DeniedError("the token has expired (ExpiredTokenException)", "Check the credentials.")

    monkeypatch.setattr(MemoryDeployments, "effective", effective)
    with pytest.raises(DeniedError, match=r"the deployment goes on, but .*ExpiredToken") as caught:
        wait_for_devices([deployed], ports, deadline_s=1e9)
    assert "Run the same command again" in caught.value.remedy


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
