"""The pure decisions of a deployment: documents, the table, resolution, order."""

import asyncio
from collections.abc import Mapping
from typing import Any

import pytest

from simulator.nucleus.document import parse_deployment
from simulator.nucleus.errors import DocumentError, ResolutionError
from simulator.nucleus.plan import Treatment, make_plan, treatment
from simulator.nucleus.profile import JAVA, LITE
from simulator.nucleus.recipe import Dependency, Recipe
from simulator.nucleus.resolution import Resolved, resolve
from simulator.nucleus.supervisor import start_order
from simulator.nucleus.versions import Version, VersionRange

ARN = "arn:aws:greengrass:us-east-1:123456789012:configuration:thinggroup/ring-0:7"
LEAVE, FETCH, AGAIN = Treatment.LEAVE, Treatment.FETCH_AND_RUN, Treatment.RUN_AGAIN


@pytest.mark.parametrize(
    ("version", "installed", "state", "changes", "on_lite", "on_java"),
    [
        ("1.0.0", None, "", False, FETCH, FETCH),
        ("1.1.0", "1.0.0", "RUNNING", False, FETCH, FETCH),
        ("1.0.0", "1.1.0", "RUNNING", True, FETCH, FETCH),
        ("1.0.0", "1.0.0", "RUNNING", False, LEAVE, LEAVE),
        ("1.0.0", "1.0.0", "FINISHED", False, LEAVE, LEAVE),
        ("1.0.0", "1.0.0", "RUNNING", True, AGAIN, LEAVE),
        ("1.0.0", "1.0.0", "BROKEN", False, AGAIN, AGAIN),
        ("1.0.0", "1.0.0", "STARTING", False, AGAIN, AGAIN),
        ("1.0.0", "1.0.0", "", False, AGAIN, AGAIN),  # recorded by a daemon that was killed before it made a unit
    ],
)
def test_what_becomes_of_a_component(
    version: str, installed: str | None, state: str, changes: bool, on_lite: Treatment, on_java: Treatment
) -> None:
    assert treatment(version, installed, state, changes_configuration=changes, profile=LITE) is on_lite
    assert treatment(version, installed, state, changes_configuration=changes, profile=JAVA) is on_java


@pytest.mark.parametrize(
    ("changed", "state", "on_java"),
    [
        ({"startup"}, "RUNNING", Treatment.RESTART),
        ({"run", "install"}, "RUNNING", AGAIN),
        ({"startup"}, "BROKEN", AGAIN),
        (set(), "RUNNING", LEAVE),
    ],
)
def test_steps_that_read_otherwise_count_on_java(changed: set[str], state: str, on_java: Treatment) -> None:
    steps = frozenset(changed)
    found = treatment("1.0.0", "1.0.0", state, changes_configuration=True, profile=JAVA, changed_steps=steps)
    assert found is on_java
    assert treatment("1.0.0", "1.0.0", state, changes_configuration=True, profile=LITE, changed_steps=steps) is AGAIN


def document(components: object) -> dict[str, Any]:
    return {"deploymentId": "d", "configurationArn": ARN, "components": components, "creationTimestamp": 5}


def test_a_plan_keeps_the_order_and_names_what_goes() -> None:
    deployment = parse_deployment(document({"b": {"version": "2.0.0"}, "a": {"version": "1.0.0"}}), 0)
    plan = make_plan(
        deployment, {"b": "2.0.0", "a": "1.0.0"}, {"a": "1.0.0", "old": "1.0.0"}, lambda _: "RUNNING", LITE
    )
    assert (plan.to_run, plan.removed) == (("b",), ("old",))


def test_a_document_s_merge_may_be_json_in_a_string() -> None:
    update = {"merge": '{"a": 1}', "reset": ["/b"]}
    deployment = parse_deployment(document({"x": {"version": "1.0.0", "configurationUpdate": update}}), 0)
    assert (deployment.components["x"].merge, deployment.components["x"].reset) == ({"a": 1}, ("/b",))
    assert (deployment.target, deployment.at_ms, deployment.trigger) == (
        "thinggroup/ring-0",
        5,
        "THING_GROUP_DEPLOYMENT",
    )


@pytest.mark.parametrize(
    ("broken", "words"),
    [
        ([], "the job document"),
        ({}, "configurationArn"),
        (document([]), "components"),
        (document({"x": {}}), r"components\.x\.version"),
        (document({"x": {"version": "1.0.0", "configurationUpdate": []}}), "configurationUpdate"),
        (document({"x": {"version": "1.0.0", "configurationUpdate": {"merge": "{"}}}), "merge is not JSON"),
        (document({"x": {"version": "1.0.0", "configurationUpdate": {"reset": "/a"}}}), "reset"),
        (document({"x": {"version": "1.0.0", "configurationUpdate": {"reset": ["a/b"]}}}), "'a/b' is no JSON pointer"),
        ({**document({}), "deploymentId": 3}, "deploymentId"),
    ],
)
def test_a_broken_document_names_its_field(broken: object, words: str) -> None:
    with pytest.raises(DocumentError, match=words):
        parse_deployment(broken, 0)


def recipe(name: str, version: str, **dependencies: str) -> Recipe:
    wanted = tuple(Dependency(other, requirement, hard=False) for other, requirement in dependencies.items())
    return Recipe(name, version, wanted, {}, {}, {}, ())


class Shelf:
    """A component source that remembers what was asked."""

    def __init__(self, *recipes: Recipe) -> None:
        self.recipes = recipes
        self.asked: list[str] = []

    async def ask(self, name: str, requirement: str) -> Resolved:
        self.asked.append(f"{name} {requirement}")
        fitting = [r for r in self.recipes if r.name == name and r.version in VersionRange.parse(requirement)]
        if not fitting:
            raise ResolutionError(f"{name} {requirement}")
        return Resolved(max(fitting, key=lambda r: Version.parse(r.version)), "arn")

    def resolve(self, roots: Mapping[str, str], *installed: Recipe) -> dict[str, str]:
        present = {r.name: Resolved(r, "") for r in installed}
        chosen = asyncio.run(resolve(roots, present.get, self.ask))
        return {name: entry.recipe.version for name, entry in chosen.items()}


def test_a_fresh_device_gets_the_highest_and_an_installed_one_is_kept() -> None:
    shelf = Shelf(
        recipe("m", "1.0.0", r=">=1.0.0 <2.0.0"), recipe("r", "1.0.0"), recipe("r", "1.5.0"), recipe("r", "2.0.0")
    )
    assert shelf.resolve({"m": "1.0.0"}) == {"m": "1.0.0", "r": "1.5.0"}
    shelf.asked.clear()
    assert shelf.resolve({"m": "1.0.0"}, recipe("r", "1.0.0")) == {"m": "1.0.0", "r": "1.0.0"}
    assert shelf.asked == ["m 1.0.0"]


def test_requirements_on_one_component_are_joined_whichever_comes_first() -> None:
    shelf = Shelf(recipe("m", "1.0.0", r=">=1.0.0"), recipe("r", "1.0.0"), recipe("r", "1.5.0"))
    assert shelf.resolve({"m": "1.0.0", "r": "1.0.0"})["r"] == "1.0.0"
    assert shelf.resolve({"r": "1.0.0", "m": "1.0.0"})["r"] == "1.0.0"
    assert "r 1.0.0 >=1.0.0" in shelf.asked


def test_a_choice_that_a_later_requirement_refuses_fails() -> None:
    shelf = Shelf(recipe("m", "1.0.0", r=">=2.0.0"), recipe("r", "1.0.0"), recipe("r", "2.0.0"))
    with pytest.raises(ResolutionError, match="needs r"):
        shelf.resolve({"r": "1.0.0", "m": "1.0.0"})


def test_what_the_nucleus_brings_itself_is_not_resolved() -> None:
    assert Shelf(recipe("m", "1.0.0")).resolve({"m": "1.0.0", "aws.greengrass.NucleusLite": "2.6.0"}) == {"m": "1.0.0"}


def test_dependencies_start_first_and_a_circle_is_cut() -> None:
    assert start_order([recipe("a", "1.0.0", b="*"), recipe("b", "1.0.0", c="*"), recipe("c", "1.0.0")]) == (
        "c",
        "b",
        "a",
    )
    assert set(start_order([recipe("a", "1.0.0", b="*"), recipe("b", "1.0.0", a="*")])) == {"a", "b"}
