"""Recipes filled from the templates in ``recipes/``. Pure: text and values in, a validated recipe's bytes out.

A template is YAML with ``@names@`` inside its strings. It is parsed first and filled afterwards, so that no value can
change its structure; its one manifest is repeated for each platform. What comes out is JSON, because Greengrass Lite
turns every scalar of a YAML recipe into a string, and canonical, because a re-run must find the recipe it made before.
"""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import yaml

from cloud.publishing.errors import RecipeInvalidError
from cloud.publishing.recipe_rules import problems
from edge_component.contracts.codec import to_bytes

PLACEHOLDER = re.compile(r"@([a-z_]+)@")
ARCHITECTURES = {"linux/x86_64": "amd64", "linux/aarch64": "aarch64"}
"""Our platforms to Greengrass's names for processors."""

RUNTIME_REQUIREMENT = ">=0.1.0 <2.0.0"
"""Runtime versions that speak the hand-over of today's ``activate.py``."""

MODEL_TEMPLATE = "com.edgewright.model.yaml"
RETIRED_TEMPLATE = "com.edgewright.model.retired.yaml"
RUNTIME_TEMPLATE = "com.edgewright.Runtime.yaml"


@dataclass(frozen=True, slots=True)
class ModelArtifacts:
    """Where one platform's bundle and hand-over script lie in S3."""

    platform: str
    archive_uri: str
    handover_uri: str


@dataclass(frozen=True, slots=True)
class ModelRecipe:
    """What a model component's recipe says."""

    component_name: str
    version: str
    description: str
    artifacts: tuple[ModelArtifacts, ...]
    runtime_requirement: str = RUNTIME_REQUIREMENT


@dataclass(frozen=True, slots=True)
class RetiredRecipe:
    """What the recipe of a model's retirement says."""

    component_name: str
    model_name: str
    version: str
    handover_uri: str
    runtime_requirement: str = RUNTIME_REQUIREMENT


@dataclass(frozen=True, slots=True)
class RuntimeRecipe:
    """What the runtime component's recipe says; ``archive_uris`` is platform to S3 URI."""

    version: str
    archive_uris: Mapping[str, str]
    ingest_rule: str


def model_recipe(template: str, wanted: ModelRecipe) -> bytes:
    """A model component's recipe, as JSON.

    Raises:
        RecipeInvalidError: with every problem found.
    """
    values = {
        "component_name": wanted.component_name,
        "version": wanted.version,
        "description": wanted.description,
        "runtime_requirement": wanted.runtime_requirement,
    }
    manifests = [
        {
            "architecture": ARCHITECTURES[artifacts.platform],
            "archive_uri": artifacts.archive_uri,
            "archive_name": artifacts.archive_uri.rpartition("/")[2],
            "handover_uri": artifacts.handover_uri,
        }
        for artifacts in wanted.artifacts
    ]
    return encoded(fill(template, values, manifests))


def retired_recipe(template: str, wanted: RetiredRecipe) -> bytes:
    """The recipe of a model's retirement, as JSON.

    Raises:
        RecipeInvalidError: with every problem found.
    """
    return encoded(fill(template, {name: getattr(wanted, name) for name in RetiredRecipe.__slots__}, [{}]))


def runtime_recipe(template: str, wanted: RuntimeRecipe) -> bytes:
    """The runtime component's recipe, as JSON.

    Raises:
        RecipeInvalidError: with every problem found.
    """
    manifests = [
        {
            "architecture": ARCHITECTURES[platform],
            "archive_uri": uri,
            "archive_stem": uri.rpartition("/")[2].removesuffix(".zip"),
        }
        for platform, uri in sorted(wanted.archive_uris.items())
    ]
    return encoded(fill(template, {"version": wanted.version, "ingest_rule": wanted.ingest_rule}, manifests))


def fill(template: str, values: Mapping[str, str], manifests: Sequence[Mapping[str, str]]) -> dict[str, Any]:
    """Parse a template and put values in; its single manifest once for each of ``manifests``, in their order.

    Raises:
        RecipeInvalidError: not YAML, not one manifest, or a name without a value.
    """
    try:
        document = yaml.safe_load(template)
    except yaml.YAMLError as error:
        raise RecipeInvalidError(f"the recipe template is not YAML: {error}", "Correct the template.") from error
    found = document.get("Manifests") if isinstance(document, dict) else None
    if not isinstance(found, list) or len(found) != 1:
        raise RecipeInvalidError("a recipe template holds exactly one manifest", "Correct the template.")
    head = {key: entry for key, entry in document.items() if key != "Manifests"}
    filled: dict[str, Any] = _filled(head, values)
    filled["Manifests"] = [_filled(found[0], {**values, **own}) for own in manifests]
    return filled


def encoded(recipe: Mapping[str, Any]) -> bytes:
    """Validate and encode.

    Raises:
        RecipeInvalidError: with every problem found.
    """
    found = problems(recipe)
    if found:
        name = recipe.get("ComponentName", "the recipe")
        raise RecipeInvalidError(
            f"{name}: {len(found)} problem(s): " + "; ".join(found), "Correct the template in recipes/."
        )
    return to_bytes(recipe)


def _filled(value: Any, values: Mapping[str, str]) -> Any:  # noqa: ANN401 - any YAML in, the same shape out
    if isinstance(value, dict):
        return {_filled(key, values): _filled(entry, values) for key, entry in value.items()}
    if isinstance(value, list):
        return [_filled(entry, values) for entry in value]
    if isinstance(value, str):
        return PLACEHOLDER.sub(lambda match: _value(match.group(1), values), value)
    return value


def _value(name: str, values: Mapping[str, str]) -> str:
    if name not in values:
        raise RecipeInvalidError(f"the recipe template asks for @{name}@, which nobody gives", "Correct the template.")
    return values[name]
