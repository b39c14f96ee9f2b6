"""Recipes as this nucleus reads them, and variables as it replaces them."""

import json
from pathlib import Path
from typing import Any

import pytest

from simulator.nucleus.configuration import Configuration
from simulator.nucleus.errors import NoManifestError, RecipeError, UnknownVariableError
from simulator.nucleus.interpolation import Places, Variables, interpolate
from simulator.nucleus.ports import Platform
from simulator.nucleus.profile import JAVA, LITE
from simulator.nucleus.recipe import parse_recipe

HERE = Platform("linux", "amd64", "aws_nucleus_lite")

YAML = b"""
RecipeFormatVersion: "2020-01-25"
ComponentName: com.example.A
ComponentVersion: "1.0.0"
ComponentConfiguration:
  DefaultConfiguration: {batch: 8, enabled: true, ratio: 0.5, nested: {n: 1}}
ComponentDependencies:
  com.example.B: {VersionRequirement: ">=1.0.0", DependencyType: SOFT}
  com.example.C: {VersionRequirement: "^2.0.0"}
  aws.greengrass.TokenExchangeService: {VersionRequirement: "^2.0.0"}
Manifests:
  - Platform: {os: windows, runtime: "*"}
    Lifecycle: {run: "no"}
  - Platform: {os: linux, architecture: amd64, runtime: "*"}
    Lifecycle:
      Setenv: {A: x}
      install: {Script: make, Timeout: 280}
      run: serve
    Artifacts:
      - {Uri: "s3://bucket/a.zip", Unarchive: ZIP, Digest: "abc=", Algorithm: SHA-256}
"""


def as_json(change: Any = None) -> bytes:
    import yaml

    document = yaml.safe_load(YAML)
    if change is not None:
        change(document)
    return json.dumps(document).encode()


def test_a_manifest_becomes_a_value() -> None:
    recipe = parse_recipe(as_json(), LITE, HERE)
    assert (recipe.name, recipe.version, recipe.main_step) == ("com.example.A", "1.0.0", "run")
    assert recipe.steps["install"].timeout_s == 280.0
    assert [(d.name, d.requirement, d.hard) for d in recipe.dependencies] == [
        ("com.example.B", ">=1.0.0", False),
        ("com.example.C", "^2.0.0", True),
    ]
    (artifact,) = recipe.artifacts
    assert (artifact.file_name, artifact.unzip, artifact.digest) == ("a.zip", True, "abc=")


def test_only_yaml_scalars_become_strings_and_only_where_the_nucleus_does_it() -> None:
    types = {"batch": 8, "enabled": True, "ratio": 0.5, "nested": {"n": 1}}
    assert parse_recipe(as_json(), LITE, HERE).defaults == types
    assert parse_recipe(YAML, JAVA, HERE).defaults == types
    strings = {"batch": "8", "enabled": "true", "ratio": "0.5", "nested": {"n": "1"}}
    assert parse_recipe(YAML, LITE, HERE).defaults == strings


def test_a_date_in_yaml_is_text_to_every_nucleus() -> None:
    data = YAML.replace(b"batch: 8", b"since: 2020-01-25, at: 2020-01-25T10:00:00Z")
    for profile in (LITE, JAVA):
        defaults = parse_recipe(data, profile, HERE).defaults
        assert (defaults["since"], defaults["at"]) == ("2020-01-25", "2020-01-25T10:00:00Z")
    unquoted = YAML.replace(b'RecipeFormatVersion: "2020-01-25"', b"RecipeFormatVersion: 2020-01-25")
    assert parse_recipe(unquoted, JAVA, HERE).name == "com.example.A"


def test_lite_needs_the_platform_attribute_runtime() -> None:
    def forget(document: Any) -> None:
        for manifest in document["Manifests"]:
            del manifest["Platform"]["runtime"]

    with pytest.raises(NoManifestError) as caught:
        parse_recipe(as_json(forget), LITE, HERE)
    assert "runtime" in caught.value.remedy
    assert parse_recipe(as_json(forget), JAVA, HERE).name == "com.example.A"


def test_the_empty_lifecycle_that_the_cloud_adds_means_nothing() -> None:
    assert parse_recipe(as_json(lambda document: document.update(Lifecycle={})), LITE, HERE).main_step == "run"


def rename(path: list[Any], old: str, new: str) -> Any:
    def change(document: Any) -> None:
        for key in path:
            document = document[key]
        document[new] = document.pop(old)

    return change


def test_case_matters_to_lite() -> None:
    change = rename(["Manifests", 1, "Artifacts", 0], "Uri", "URI")
    with pytest.raises(RecipeError, match=r"Artifacts\[0\] lacks Uri") as caught:
        parse_recipe(as_json(change), LITE, HERE)
    assert "not URI" in caught.value.remedy
    assert parse_recipe(as_json(change), JAVA, HERE).artifacts[0].uri == "s3://bucket/a.zip"
    overlooked = parse_recipe(as_json(rename([], "ComponentDependencies", "componentDependencies")), LITE, HERE)
    assert overlooked.dependencies == ()


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda d: d.pop("ComponentName"), "ComponentName"),
        (lambda d: d.update(RecipeFormatVersion="2021-01-01"), "RecipeFormatVersion"),
        (lambda d: d.update(Manifests={"a": 1}), "Manifests must be a list"),
        (lambda d: d.update(Lifecycle={"run": "x"}), "recipe-wide Lifecycle .* is not simulated"),
        (lambda d: d["Manifests"][1]["Lifecycle"].update(startup="x"), "both run and startup"),
        (lambda d: d["Manifests"][1]["Lifecycle"]["install"].update(Timeout="soon"), "Timeout"),
        (lambda d: d["Manifests"][1]["Lifecycle"]["install"].update(Timeout=0), "Timeout"),
        (lambda d: d["Manifests"][1]["Lifecycle"]["install"].update(Timeout=True), "Timeout"),
        (lambda d: d["Manifests"][1]["Lifecycle"]["install"].update(Timeout="1e999"), "Timeout"),
        (lambda d: d["Manifests"][1]["Lifecycle"]["install"].update(RequiresPrivilege="maybe"), "RequiresPrivilege"),
        (lambda d: d["Manifests"][1]["Lifecycle"]["install"].pop("Script"), "Script"),
        (lambda d: d["Manifests"][1]["Lifecycle"].update(Setenv={"A": 1}), "Setenv.A"),
        (lambda d: d["Manifests"][1]["Artifacts"][0].update(Unarchive="TAR"), "Unarchive"),
        (lambda d: d["Manifests"][1]["Artifacts"][0].update(Algorithm="MD5"), "Algorithm"),
        (lambda d: d["ComponentDependencies"]["com.example.B"].update(DependencyType="WEAK"), "DependencyType"),
        (lambda d: d.update(ComponentDescription="x" * 17_000), "bytes"),
    ],
)
def test_what_is_wrong_is_named(change: Any, words: str) -> None:
    with pytest.raises(RecipeError, match=words):
        parse_recipe(as_json(change), LITE, HERE)


@pytest.mark.parametrize("condition", ["sometimes", "onpath", "exists ", {"onpath": "sh"}, 1])
def test_a_skipif_that_is_none_is_named_where_it_is_read(condition: object) -> None:
    data = as_json(lambda d: d["Manifests"][1]["Lifecycle"]["install"].update(Skipif=condition))
    with pytest.raises(RecipeError, match=r"install\.Skipif"):
        parse_recipe(data, JAVA, HERE)
    assert parse_recipe(data, LITE, HERE).steps["install"].skip_if == ""


def test_an_attribute_that_the_device_lacks_fits_only_where_it_is_overlooked() -> None:
    data = as_json(lambda d: d["Manifests"][1]["Platform"].update(gpu="yes"))
    assert parse_recipe(data, LITE, HERE).main_step == "run"
    with pytest.raises(NoManifestError):
        parse_recipe(data, JAVA, HERE)


@pytest.mark.parametrize(("detail", "fits"), [("armv7l", False), ("x86_64", True), ("*", True)])
def test_the_architecture_s_detail_is_compared(detail: str, fits: bool) -> None:
    data = as_json(lambda d: d["Manifests"][1]["Platform"].update({"architecture.detail": detail}))
    for profile in (LITE, JAVA):
        here = Platform("linux", "amd64", profile.runtime, "x86_64")
        if fits:
            assert parse_recipe(data, profile, here).main_step == "run"
        else:
            with pytest.raises(NoManifestError):
                parse_recipe(data, profile, here)


@pytest.mark.parametrize("data", [b"{", b"[1]", b"a: [", b"\xff\xfe"])
def test_what_is_no_recipe_is_refused(data: bytes) -> None:
    with pytest.raises(RecipeError):
        parse_recipe(data, LITE, HERE)


VARIABLES = Variables(
    Places(Path("/gg")), "station-1", "com.example.A", "1.0.0",
    Configuration().merge((), {"a": {"b": "text", "n": 5}}, 1)[0],
)  # fmt: skip


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("{artifacts:path}/a.py", "/gg/packages/artifacts/com.example.A/1.0.0//a.py"),
        ("{artifacts:decompressedPath}/a", "/gg/packages/artifacts-unarchived/com.example.A/1.0.0//a"),
        ("{work:path}/venv", "/gg/work/com.example.A//venv"),
        ("{kernel:rootPath}/work {iot:thingName}", "/gg/work station-1"),
        ("{configuration:/a/b} {configuration:/a/n}", "text 5"),
        ("echo $HOME", "echo $HOME"),
    ],
)
def test_variables_are_replaced(text: str, expected: str) -> None:
    assert interpolate(text, VARIABLES, LITE) == expected


@pytest.mark.parametrize(
    "text", ["${HOME}", "{com.example.B:artifacts:path}", "{configuration:/none}", "{", "{kernel:rootpath}", "{}"]
)
def test_any_other_brace_fails_on_lite_and_stays_on_java(text: str) -> None:
    with pytest.raises(UnknownVariableError):
        interpolate(text, VARIABLES, LITE)
    assert interpolate(text, VARIABLES, JAVA) == text
