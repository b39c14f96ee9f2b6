"""Recipes: ours pass, and every trap on one of the two nuclei has its rule."""

import copy
import json
from collections.abc import Callable
from typing import Any

import pytest
import yaml

from cloud.publishing.errors import RecipeInvalidError
from cloud.publishing.recipe import (
    MODEL_TEMPLATE,
    RUNTIME_TEMPLATE,
    ModelArtifacts,
    ModelRecipe,
    RuntimeRecipe,
    encoded,
    fill,
    model_recipe,
    runtime_recipe,
)
from cloud.publishing.recipe_rules import problems
from cloud.settings import checkout_root

RECIPES = checkout_root() / "recipes"
MODEL = ModelRecipe(
    component_name="com.edgewright.model.Weather",
    version="1.2.3",
    description="weather",
    artifacts=(
        ModelArtifacts("linux/aarch64", "s3://b/x/Weather-1.2.3-linux-aarch64.zip", "s3://b/h/activate.py"),
        ModelArtifacts("linux/x86_64", "s3://b/y/Weather-1.2.3-linux-x86_64.zip", "s3://b/h/activate.py"),
    ),
)


def our_model_recipe() -> dict[str, Any]:
    recipe: dict[str, Any] = json.loads(model_recipe((RECIPES / MODEL_TEMPLATE).read_text(), MODEL))
    return recipe


def our_runtime_recipe() -> dict[str, Any]:
    uris = {"linux/x86_64": "s3://b/z/edgewright-runtime-0.1.0-linux-x86_64.zip"}
    wanted = RuntimeRecipe("0.1.0", uris, "edgewright_ingest")
    recipe: dict[str, Any] = json.loads(runtime_recipe((RECIPES / RUNTIME_TEMPLATE).read_text(), wanted))
    return recipe


def test_the_model_recipe_hands_over_as_measured_on_the_real_nucleus() -> None:
    recipe = our_model_recipe()
    assert recipe["ComponentDependencies"] == {
        "com.edgewright.Runtime": {"VersionRequirement": ">=0.1.0 <2.0.0", "DependencyType": "SOFT"}
    }
    arm, intel = recipe["Manifests"]
    assert arm["Platform"] == {"os": "linux", "architecture": "aarch64", "runtime": "*"}
    assert intel["Platform"] == {"os": "linux", "architecture": "amd64", "runtime": "*"}
    assert intel["Lifecycle"] == {
        "startup": {
            "Script": "exec python3 -I {artifacts:path}/activate.py "
            "--socket {kernel:rootPath}/work/com.edgewright.Runtime/admin.sock "
            "--bundle {artifacts:path}/Weather-1.2.3-linux-x86_64.zip "
            "--component com.edgewright.model.Weather --version 1.2.3 --timeout-s 55 --notify\n"
            "# {configuration:/nonce}",
            "Timeout": 60,
        }
    }
    assert [artifact["Unarchive"] for artifact in intel["Artifacts"]] == ["NONE", "NONE"]
    assert recipe["ComponentConfiguration"] == {"DefaultConfiguration": {"nonce": "0"}}


def test_the_runtime_recipe_installs_into_a_folder_of_its_version_and_may_only_publish_its_own_kinds() -> None:
    recipe = our_runtime_recipe()
    (manifest,) = recipe["Manifests"]
    lifecycle = manifest["Lifecycle"]
    assert "{work:path}/venv-0.1.0" in lifecycle["install"]["Script"]
    assert "--no-index" in lifecycle["install"]["Script"]
    assert (
        lifecycle["run"]["Script"]
        .splitlines()[-1]
        .startswith("exec {work:path}/venv-0.1.0/bin/python -m edge_component")
    )
    configuration = recipe["ComponentConfiguration"]["DefaultConfiguration"]
    assert set(configuration) == {"ingest_rule", "accessControl"}
    (policy,) = configuration["accessControl"]["aws.greengrass.ipc.mqttproxy"].values()
    assert policy["operations"] == ["aws.greengrass#PublishToIoTCore"]
    assert all(text.startswith("$aws/rules/edgewright_ingest/edgewright/v1/+/") for text in policy["resources"])


def set_in(*path: str | int, to: object) -> Callable[[dict[str, Any]], None]:
    """A change: replace what lies at a path."""

    def change(recipe: dict[str, Any]) -> None:
        place: Any = recipe
        for step in path[:-1]:
            place = place[step]
        if to is None:
            del place[path[-1]]
        else:
            place[path[-1]] = to

    return change


def rename(*path: str | int, to: str) -> Callable[[dict[str, Any]], None]:
    """A change: give a key another spelling."""

    def change(recipe: dict[str, Any]) -> None:
        place: Any = recipe
        for step in path[:-1]:
            place = place[step]
        place[to] = place.pop(path[-1])

    return change


STARTUP = ("Manifests", 0, "Lifecycle", "startup")
TRAPS = [
    ("an unknown key", set_in("Componentname2", to="x"), "componentname2"),
    ("no manifests", set_in("Manifests", to=[]), "manifests"),
    ("another format", set_in("RecipeFormatVersion", to="2021-01-01"), "recipeformatversion"),
    ("a version that is none", set_in("ComponentVersion", to="1.0"), "componentversion"),
    ("an artifact that is not in S3", set_in("Manifests", 0, "Artifacts", 0, "Uri", to="http://x/y"), "uri"),
    ("a timeout in words", set_in(*STARTUP, "Timeout", to="60"), "timeout"),
    ("URI instead of Uri", rename("Manifests", 0, "Artifacts", 0, "Uri", to="URI"), "must be written 'Uri'"),
    ("SetEnv instead of Setenv", set_in("Manifests", 0, "Lifecycle", "SetEnv", to={}), "must be written 'Setenv'"),
    ("componentDependencies", rename("ComponentDependencies", to="componentDependencies"), "ComponentDependencies"),
    ("no runtime in the platform", set_in("Manifests", 0, "Platform", to={"os": "linux"}), "runtime"),
    ("one nucleus only", set_in("Manifests", 0, "Platform", "runtime", to="aws_nucleus_lite"), 'must be "*"'),
    (
        "a hard dependency",
        set_in("ComponentDependencies", "com.edgewright.Runtime", "DependencyType", to="HARD"),
        "must be SOFT",
    ),
    ("install only", rename(*STARTUP, to="install"), "needs either startup or run"),
    ("startup and run", set_in("Manifests", 0, "Lifecycle", "run", to={"Script": "x"}), "needs either startup or run"),
    ("no timeout", set_in(*STARTUP, "Timeout", to=None), "explicit Timeout"),
    ("attempts that outlast Lite's wait", set_in(*STARTUP, "Timeout", to=100), "must end within 300 s"),
    ("a startup without exec", set_in(*STARTUP, "Script", to="python3 x.py"), "must start with exec"),
    ("a shell variable in braces", set_in(*STARTUP, "Script", to="exec x ${HOME}"), "{HOME} is not a variable"),
    ("a stray brace", set_in(*STARTUP, "Script", to="exec x {"), "stray {"),
    (
        "another component's variable",
        set_in(*STARTUP, "Script", to="exec x {com.edgewright.Runtime:artifacts:path}"),
        "not a variable that every nucleus fills in",
    ),
    ("a script beyond Lite's buffer", set_in(*STARTUP, "Script", to="exec " + "x" * 10_000), "10000 bytes"),
    ("a description of two lines", set_in("ComponentDescription", to="a\nUser=root"), "must be one line"),
    ("too large a recipe", set_in("ComponentPublisher", to="x" * 16_000), "at most 16000"),
]


@pytest.mark.parametrize(("change", "problem"), [case[1:] for case in TRAPS], ids=[case[0] for case in TRAPS])
def test_each_trap_is_refused_with_its_place(change: Callable[[dict[str, Any]], None], problem: str) -> None:
    recipe = copy.deepcopy(our_model_recipe())
    change(recipe)
    with pytest.raises(RecipeInvalidError) as caught:
        encoded(recipe)
    assert problem in str(caught.value)


def test_all_problems_are_told_at_once() -> None:
    recipe = our_model_recipe()
    recipe["ComponentDescription"] = "a\nb"
    recipe["Manifests"][1]["Platform"]["runtime"] = "aws_nucleus_lite"
    assert len(problems(recipe)) == 2


@pytest.mark.parametrize(
    ("template", "problem"),
    [
        ("a: [", "not YAML"),
        ("a: 1", "exactly one manifest"),
        ("Manifests: [{}, {}]", "exactly one manifest"),
        ('Manifests: [{a: "@who@"}]', "asks for @who@"),
    ],
)
def test_a_broken_template_is_named(template: str, problem: str) -> None:
    with pytest.raises(RecipeInvalidError, match=problem):
        fill(template, {}, [{}])


def test_a_value_cannot_change_the_structure_of_a_recipe() -> None:
    evil = '"\nManifests: []\n#'
    filled = fill('A: "@a@"\nManifests: [{}]', {"a": evil}, [{}])
    assert filled == {"A": evil, "Manifests": [{}]}


def test_the_templates_hold_no_digest_that_greengrass_adds_itself() -> None:
    for name in (MODEL_TEMPLATE, RUNTIME_TEMPLATE):
        (manifest,) = yaml.safe_load((RECIPES / name).read_text())["Manifests"]
        assert all({"Digest", "Algorithm"}.isdisjoint(artifact) for artifact in manifest["Artifacts"])
