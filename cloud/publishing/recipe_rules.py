"""Whether a filled recipe works on every nucleus that Edgewright supports. Pure: a recipe in, problems out.

The failure this exists for: a recipe that Greengrass accepts and a device then cannot run. The Java nucleus ignores the
case of keys where Greengrass Lite does not, knows variables that Lite leaves as they are, and waits for nothing that
Lite waits 300 s for. So beside the schema (for keys in lower case, as AWS's own validators read recipes) there is one
rule for each such trap; the sources are named beside them.

It fills nothing in; see recipe.py.
"""

import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

from jsonschema import Draft7Validator

from edge_component.contracts.limits import LIMITS

SCHEMA_FILE = Path(__file__).with_name("recipe_schema.json")

STRUCTURAL_KEYS = frozenset(
    {
        "RecipeFormatVersion", "ComponentName", "ComponentVersion", "ComponentType", "ComponentDescription",
        "ComponentPublisher", "ComponentConfiguration", "DefaultConfiguration", "ComponentDependencies",
        "VersionRequirement", "DependencyType", "Manifests", "Name", "Platform", "Lifecycle", "Artifacts",
        "Uri", "Unarchive", "Permission", "Read", "Execute", "Script", "Timeout", "RequiresPrivilege", "Setenv",
        "Skipif", "os", "architecture", "runtime",
        "bootstrap", "install", "run", "startup", "shutdown", "recover", "uninstall",
    }
)  # fmt: skip
"""Exactly as AWS documents them; Lite reads keys case-sensitively."""

FREE_KEYS = frozenset({"DefaultConfiguration", "Setenv"})
"""Below these the keys are the component's own."""

VARIABLE = re.compile(r"\{([^{}]*)\}")
PORTABLE_VARIABLE = re.compile(
    r"artifacts:path|artifacts:decompressedPath|kernel:rootPath|iot:thingName|work:path|configuration:/[^\s]*"
)
"""What Lite fills in; the Java nucleus knows more."""

TIMED_STEPS = ("bootstrap", "install", "startup", "shutdown", "recover")


@dataclass(frozen=True, slots=True)
class RecipeLimits:
    """What a nucleus can hold.

    Attributes:
        recipe_bytes_max: Greengrass's limit, just below Lite's 16 KiB.
        script_bytes_max: Lite's buffer for one script and for one systemd unit.
        startup_attempts: how often a nucleus tries a step before the component is BROKEN.
        deployment_wait_s: how long Lite waits for a component before it fails the deployment.
    """

    recipe_bytes_max: int = LIMITS.recipe_bytes_max
    script_bytes_max: int = 10_000
    startup_attempts: int = 3
    deployment_wait_s: int = 300


def problems(recipe: Mapping[str, Any], limits: RecipeLimits | None = None) -> list[str]:
    """Everything that is wrong, each with the place it is at; empty if the recipe can be published.

    The rules read fields that the schema promises, so they are asked only of a recipe that fits the schema.
    """
    bounds = limits or RecipeLimits()
    shape = [*_schema_problems(recipe), *_casing_problems(recipe)]
    return shape or [*_rule_problems(recipe, bounds)]


def _schema_problems(recipe: Mapping[str, Any]) -> Iterator[str]:
    for error in sorted(_validator().iter_errors(_lower_keys(recipe)), key=lambda error: error.json_path):
        yield f"{error.json_path.removeprefix('$.')}: {error.message}"


@cache
def _validator() -> Draft7Validator:
    return Draft7Validator(json.loads(SCHEMA_FILE.read_bytes()))


def _lower_keys(value: Any) -> Any:  # noqa: ANN401 - any JSON in, any JSON out
    if isinstance(value, Mapping):
        return {str(key).lower(): _lower_keys(entry) for key, entry in value.items()}
    if isinstance(value, list):
        return [_lower_keys(entry) for entry in value]
    return value


def _casing_problems(recipe: Mapping[str, Any]) -> Iterator[str]:
    exact = {key.lower(): key for key in STRUCTURAL_KEYS}
    for where, key in _keys(recipe, ""):
        expected = exact.get(key.lower())
        if expected not in (None, key):
            yield f"{where}: {key!r} must be written {expected!r}; Greengrass Lite reads keys case-sensitively"


def _keys(value: object, where: str) -> Iterator[tuple[str, str]]:
    if isinstance(value, list):
        for index, entry in enumerate(value):
            yield from _keys(entry, f"{where}[{index}]")
    if not isinstance(value, Mapping):
        return
    for key, entry in value.items():
        path = f"{where}.{key}" if where else str(key)
        yield path, str(key)
        if key not in FREE_KEYS:
            yield from _keys(entry, path)


def _rule_problems(recipe: Mapping[str, Any], limits: RecipeLimits) -> Iterator[str]:
    size_bytes = len(json.dumps(recipe, separators=(",", ":")).encode())
    if size_bytes > limits.recipe_bytes_max:
        yield f"the recipe takes {size_bytes} bytes; Greengrass takes at most {limits.recipe_bytes_max}"
    if "\n" in recipe.get("ComponentDescription", ""):
        yield "ComponentDescription: must be one line, since Lite copies it into a systemd unit"
    for name, dependency in recipe.get("ComponentDependencies", {}).items():
        if dependency["DependencyType"] == "HARD":
            yield f"ComponentDependencies.{name}: must be SOFT; HARD restarts one side with every change of the other"
    for index, manifest in enumerate(recipe["Manifests"]):
        yield from _manifest_problems(manifest, f"Manifests[{index}]", limits)


def _manifest_problems(manifest: Mapping[str, Any], where: str, limits: RecipeLimits) -> Iterator[str]:
    if manifest["Platform"].get("runtime") != "*":
        yield f'{where}.Platform.runtime: must be "*", or Lite finds no manifest'
    lifecycle = manifest["Lifecycle"]
    if ("startup" in lifecycle) == ("run" in lifecycle):
        yield f"{where}.Lifecycle: needs either startup or run; a component without one hangs a Lite deployment"
    for text_where, text in _texts(lifecycle, f"{where}.Lifecycle"):
        yield from _variable_problems(text, text_where)
    for name, step in lifecycle.items():
        if name != "Setenv":
            yield from _step_problems(name, step, f"{where}.Lifecycle.{name}", limits)


def _step_problems(name: str, step: Mapping[str, Any], where: str, limits: RecipeLimits) -> Iterator[str]:
    if len(step["Script"].encode()) > limits.script_bytes_max:
        yield f"{where}.Script: takes more than {limits.script_bytes_max} bytes"
    if name in TIMED_STEPS and "Timeout" not in step:
        yield f"{where}: needs an explicit Timeout; the defaults differ between nuclei and are short"
    if name != "startup":
        return
    if not step["Script"].startswith("exec "):
        yield f"{where}.Script: must start with exec, or Lite reports a failed start as SUCCEEDED"
    if step.get("Timeout", 0) * limits.startup_attempts >= limits.deployment_wait_s:
        yield f"{where}.Timeout: {limits.startup_attempts} attempts must end within {limits.deployment_wait_s} s"


def _variable_problems(text: str, where: str) -> Iterator[str]:
    for name in VARIABLE.findall(text):
        if not PORTABLE_VARIABLE.fullmatch(name):
            yield f"{where}: {{{name}}} is not a variable that every nucleus fills in"
    if "{" in VARIABLE.sub("", text):
        yield f"{where}: a stray {{ is read as the start of a recipe variable"


def _texts(value: object, where: str) -> Iterator[tuple[str, str]]:
    if isinstance(value, str):
        yield where, value
    elif isinstance(value, Mapping):
        for key, entry in value.items():
            yield from _texts(entry, f"{where}.{key}")
