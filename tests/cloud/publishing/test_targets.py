"""The names that people deploy by: of things, of groups, of models."""

from dataclasses import replace

import pytest

from cloud.errors import InvalidInputError, NotFoundError
from cloud.publishing.component_names import match_component
from cloud.publishing.deploy import DeployPorts, find_target
from cloud.publishing.errors import TargetNotFoundError, TargetUnsupportedError
from cloud.publishing.memory_fleet import MemoryDeployments, MemoryThings
from tests.cloud.publishing.stations import WEATHER, stations


@pytest.fixture
def ports() -> DeployPorts:
    return stations()


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
