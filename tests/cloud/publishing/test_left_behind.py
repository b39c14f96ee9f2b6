"""What a deployment leaves behind: model versions that every device of the target refused."""

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import pytest

from cloud.publishing.deploy import DeployPorts, deploy, find_target, plan
from cloud.publishing.deployment import Wish
from cloud.publishing.memory_fleet import MemoryServing
from cloud.publishing.refused import refused_in
from tests.cloud.publishing.stations import OTHER, RUNTIME, WEATHER, requests, say, stations


@pytest.fixture
def ports() -> DeployPorts:
    return stations()


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


def test_going_back_to_a_version_that_devices_will_refuse_is_said_before_they_do(ports: DeployPorts) -> None:
    target = find_target("stations", ports)
    say(ports, "ewr", deploy(target, Wish(WEATHER, "1.1.0"), ports).deployment_id, "SUCCEEDED")
    assert "a release number never goes back" in plan(target, Wish(WEATHER, "1.0.0"), ports).doubt
    assert plan(target, Wish(WEATHER, "1.1.0"), ports).doubt == ""


def versions_of(request: Mapping[str, Any]) -> dict[str, str]:
    return {name: entry["componentVersion"] for name, entry in request["components"].items()}
