"""Retiring a model: what is published for it, once, and what becomes of the deployment."""

import json
from dataclasses import replace
from pathlib import Path

import pytest

from cloud.errors import InvalidInputError, NotFoundError
from cloud.publishing.deploy import DeployPorts, deploy, find_target
from cloud.publishing.deployment import Wish
from cloud.publishing.memory import MemoryComponents
from cloud.publishing.memory_fleet import MemoryDeployments, MemoryThings
from cloud.publishing.publication import PublishingPorts, PublishRequest
from cloud.publishing.publish import publish_model
from cloud.publishing.retirement import Retirement, check_deployed, publish_retirement
from tests.cloud.publishing.conftest import KEY, MakeFolder

LINEAR, OTHER, RUNTIME = "com.edgewright.model.Linear", "com.edgewright.model.Other", "com.edgewright.Runtime"


@pytest.fixture
def published(ports: PublishingPorts, make_folder: MakeFolder) -> PublishingPorts:
    publish_model(PublishRequest(make_folder(), "1.0.0", "bucket"), KEY, ports)
    return ports


@pytest.fixture
def fleet(published: PublishingPorts) -> DeployPorts:
    assert isinstance(published.catalog, MemoryComponents)
    for name in (RUNTIME, OTHER):
        recipe = json.dumps({"ComponentName": name, "ComponentVersion": "1.0.0"}).encode()
        published.catalog.create(recipe, "0")
    return DeployPorts(MemoryThings({"stations": ("ewr",)}), MemoryDeployments(), published.catalog)


def recipe_of(ports: PublishingPorts, version: str) -> dict:
    assert isinstance(ports.catalog, MemoryComponents)
    return json.loads(ports.catalog.created[LINEAR, version])


def test_a_retirement_is_a_version_without_a_bundle_that_has_the_runtime_let_go(published: PublishingPorts) -> None:
    assert publish_retirement(LINEAR, "bucket", published) == Retirement(LINEAR, "linear", "0.0.1")
    (manifest,) = recipe_of(published, "0.0.1")["Manifests"]
    assert manifest["Platform"] == {"os": "linux", "runtime": "*"}, "the same on every processor"
    assert [artifact["Uri"].rpartition("/")[2] for artifact in manifest["Artifacts"]] == ["activate.py"]
    assert manifest["Lifecycle"]["startup"] == {
        "Script": "exec python3 -I {artifacts:path}/activate.py "
        "--socket {kernel:rootPath}/work/com.edgewright.Runtime/admin.sock --deactivate linear "
        "--component com.edgewright.model.Linear --version 0.0.1 --timeout-s 55 --notify\n"
        "# {configuration:/nonce}",
        "Timeout": 60,
    }


def test_it_is_published_once_and_anew_only_where_its_recipe_has_changed(
    published: PublishingPorts, tmp_path: Path
) -> None:
    assert [publish_retirement(LINEAR, "bucket", published).version for _ in range(2)] == ["0.0.1", "0.0.1"]
    later = tmp_path / "handover.py"
    later.write_bytes(published.handover.read_bytes() + b"\n# a later one\n")
    changed = replace(published, handover=later)
    assert [publish_retirement(LINEAR, "bucket", changed).version for _ in range(2)] == ["0.0.2", "0.0.2"]


def test_only_what_was_published_can_be_retired(ports: PublishingPorts) -> None:
    with pytest.raises(NotFoundError, match=r"no version of com\.edgewright\.model\.Linear is published"):
        publish_retirement(LINEAR, "bucket", ports)


def test_no_model_is_published_under_a_version_that_stands_for_its_removal(
    published: PublishingPorts, make_folder: MakeFolder
) -> None:
    request = PublishRequest(make_folder("other", slope=2.0), "0.0.1", "bucket")
    with pytest.raises(InvalidInputError, match="stands for a model's retirement"):
        publish_model(request, KEY, published)
    publish_retirement(LINEAR, "bucket", published)
    assert publish_model(replace(request, version="auto"), KEY, published).version == "1.1.0"


def test_the_deployment_keeps_everything_else_and_again_is_the_same(
    published: PublishingPorts, fleet: DeployPorts
) -> None:
    target = find_target("stations", fleet)
    with pytest.raises(NotFoundError, match=r"stations is not asked to run com\.edgewright\.model\.Linear"):
        check_deployed(target, LINEAR, fleet)
    deploy(target, Wish(OTHER, "1.0.0"), fleet)
    with pytest.raises(NotFoundError) as caught:
        check_deployed(target, LINEAR, fleet)
    assert caught.value.exit_code == 4
    assert "Its deployment holds com.edgewright.Runtime, com.edgewright.model.Other." in caught.value.remedy
    deploy(target, Wish(LINEAR, "1.0.0"), fleet)
    check_deployed(target, LINEAR, fleet)
    wish = Wish(LINEAR, publish_retirement(LINEAR, "bucket", published).version)
    retired = deploy(target, wish, fleet)
    assert retired.plan.components == {
        RUNTIME: {"componentVersion": "1.0.0"},
        OTHER: {"componentVersion": "1.0.0"},
        LINEAR: {"componentVersion": "0.0.1"},
    }
    check_deployed(target, LINEAR, fleet)
    again = deploy(target, wish, fleet)
    assert (again.is_new, again.deployment_id) == (False, retired.deployment_id)
    assert isinstance(fleet.deployments, MemoryDeployments)
    assert [request["deploymentName"] for request in fleet.deployments.created][-1] == f"retire {LINEAR}"
    assert deploy(target, Wish(LINEAR, "1.0.0"), fleet).is_new, "what was retired may come back"
