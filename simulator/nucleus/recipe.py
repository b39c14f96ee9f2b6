"""Recipes: bytes to a typed value, with this nucleus's own rules and its own silence about mistakes. Pure.

The failure it exists for: a recipe that the documentation allows and the device does not. Lite reads keys with their
exact case (and overlooks the others), takes no manifest without the platform attribute ``runtime``, and turns every
scalar of a local YAML recipe into a string.

It is not the interpolation of scripts (``interpolation.py``). A recipe-wide Lifecycle (with Selections) is not built and
is refused.
"""

import json
import math
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import yaml

from simulator.nucleus.errors import NoManifestError, NotSimulatedError, RecipeError
from simulator.nucleus.ports import Platform
from simulator.nucleus.profile import Profile

FORMAT_VERSION = "2020-01-25"
BUILT_IN = frozenset(
    {
        "aws.greengrass.Nucleus",
        "aws.greengrass.NucleusLite",
        "aws.greengrass.TokenExchangeService",
        "aws.greengrass.Cli",
    }
)
"""Dependencies that a nucleus is or brings itself; never resolved."""

ATTRIBUTES = frozenset({"os", "architecture", "architecture.detail", "runtime"})
"""Of a platform, all that a device here has."""

STEPS = ("bootstrap", "install", "run", "startup", "shutdown", "recover", "uninstall")


@dataclass(frozen=True, slots=True)
class Step:
    """One lifecycle step; ``timeout_s`` is ``None`` where the recipe gives none.

    ``skip_if`` is ``exists <path>`` or ``onpath <program>``, where this nucleus reads it; otherwise empty.
    """

    script: str
    timeout_s: float | None = None
    environment: Mapping[str, str] = field(default_factory=dict)
    skip_if: str = ""


@dataclass(frozen=True, slots=True)
class Artifact:
    """One artifact.

    Attributes:
        digest: base64 of the SHA-256; ``None`` in a local recipe, which is then not checked.
        unzip: whether it is unpacked below ``artifacts:decompressedPath``.
        executable: whether its owner may run it.
    """

    uri: str
    digest: str | None
    unzip: bool
    executable: bool

    @property
    def file_name(self) -> str:
        """Last part of the URI: its name in the artifact folder."""
        return self.uri.rsplit("/", 1)[-1]


@dataclass(frozen=True, slots=True)
class Dependency:
    """Another component; ``hard`` binds the dependent's life to it."""

    name: str
    requirement: str
    hard: bool


@dataclass(frozen=True, slots=True)
class Recipe:
    """What this platform's manifest of a recipe says.

    Attributes:
        steps: by name, of those in ``STEPS`` that the manifest has.
        environment: Setenv of the whole lifecycle.
        defaults: DefaultConfiguration.
    """

    name: str
    version: str
    dependencies: tuple[Dependency, ...]
    defaults: Mapping[str, Any]
    steps: Mapping[str, Step]
    environment: Mapping[str, str]
    artifacts: tuple[Artifact, ...]

    @property
    def main_step(self) -> str | None:
        """``startup``, ``run``, or neither; startup wins, as on Lite."""
        return next((name for name in ("startup", "run") if name in self.steps), None)


def parse_recipe(data: bytes, profile: Profile, platform: Platform) -> Recipe:
    """Decode and choose the first manifest that fits; RequiresPrivilege is checked, and changes nothing here.

    Raises:
        NoManifestError: none fits.
        RecipeError: too large, not a recipe, or a field missing or of the wrong type; named by its path.
    """
    if len(data) > profile.recipe_bytes_max:
        raise RecipeError(f"the recipe has {len(data)} bytes; {profile.recipe_bytes_max} fit")
    top = _Fields(_load(data, profile), "recipe", profile.recipe_case_matters)
    if str(top.required("RecipeFormatVersion")) != FORMAT_VERSION:
        raise RecipeError(f"RecipeFormatVersion must be {FORMAT_VERSION}")
    manifest = _choose(top, profile, platform)
    if top.optional("Lifecycle", None):  # the cloud writes an empty one into every recipe
        raise NotSimulatedError(
            "a recipe-wide Lifecycle (with Selections) is not simulated", "Put it into each manifest."
        )
    lifecycle = manifest.fields("Lifecycle")
    steps = {name: step for name in STEPS if (step := _step(lifecycle, name, profile)) is not None}
    if {"run", "startup"} <= steps.keys():
        raise RecipeError("Lifecycle has both run and startup", "Keep one of them.")
    return Recipe(
        name=top.text("ComponentName"),
        version=top.text("ComponentVersion"),
        dependencies=tuple(_dependencies(top)),
        defaults=top.fields("ComponentConfiguration").mapping("DefaultConfiguration"),
        steps=steps,
        environment=_environment(lifecycle),
        artifacts=tuple(_artifact(entry) for entry in manifest.each("Artifacts")),
    )


class _Fields:
    """An object of the recipe with the case rule of this nucleus."""

    def __init__(self, value: object, where: str, case_matters: bool) -> None:  # noqa: FBT001 - private
        if not isinstance(value, Mapping):
            raise RecipeError(f"{where} must be an object")
        self.where = where
        self._case_matters = case_matters
        self._values = {str(key): child for key, child in value.items()}

    def optional(self, name: str, default: object) -> Any:  # noqa: ANN401 - a recipe's value
        if name in self._values or self._case_matters:
            return self._values.get(name, default)
        return next((child for key, child in self._values.items() if key.lower() == name.lower()), default)

    def required(self, name: str) -> Any:  # noqa: ANN401 - a recipe's value
        value = self.optional(name, None)
        if value is None:
            near = [key for key in self._values if key.lower() == name.lower()]
            raise RecipeError(f"{self.where} lacks {name}", f"Write {name}, not {near[0]}." if near else "")
        return value

    def names(self) -> frozenset[str]:
        """What stands in it, as written; in lower case where case does not matter."""
        return frozenset(name if self._case_matters else name.lower() for name in self._values)

    def text(self, name: str) -> str:
        value = self.required(name)
        if not isinstance(value, str) or not value:
            raise RecipeError(f"{self.where}.{name} must be a non-empty string")
        return value

    def mapping(self, name: str) -> Mapping[str, Any]:
        value = self.optional(name, None) or {}
        if not isinstance(value, Mapping):
            raise RecipeError(f"{self.where}.{name} must be an object")
        return value

    def fields(self, name: str) -> "_Fields":
        return _Fields(self.mapping(name), f"{self.where}.{name}", self._case_matters)

    def each(self, name: str) -> list["_Fields"]:
        entries = self.optional(name, None) or []
        if not isinstance(entries, list):
            raise RecipeError(f"{self.where}.{name} must be a list")
        return [_Fields(entry, f"{self.where}.{name}[{at}]", self._case_matters) for at, entry in enumerate(entries)]


class _JsonTypesLoader(yaml.SafeLoader):
    """YAML without dates, which are text to a nucleus: a recipe has JSON's types."""


_JsonTypesLoader.yaml_implicit_resolvers = {
    first: [(tag, pattern) for tag, pattern in resolvers if tag != "tag:yaml.org,2002:timestamp"]
    for first, resolvers in yaml.SafeLoader.yaml_implicit_resolvers.items()
}


def _load(data: bytes, profile: Profile) -> object:
    try:
        if data.lstrip()[:1] == b"{":
            return json.loads(data)
        loader = yaml.BaseLoader if profile.yaml_scalars_are_strings else _JsonTypesLoader
        return yaml.load(data, Loader=loader)  # noqa: S506 - both loaders build plain values only
    except (ValueError, yaml.YAMLError) as error:
        raise RecipeError(f"the recipe is neither JSON nor YAML: {error}") from error


def _choose(top: _Fields, profile: Profile, platform: Platform) -> _Fields:
    for manifest in top.each("Manifests"):
        if _fits(manifest.fields("Platform"), profile, platform):
            return manifest
    hint = 'This nucleus needs Platform.runtime "*" or its own name.' if profile.requires_platform_runtime else ""
    raise NoManifestError(f"no manifest is for {platform.os}/{platform.architecture}, {platform.runtime}", hint)


def _fits(wanted: _Fields, profile: Profile, platform: Platform) -> bool:
    runtime = wanted.optional("runtime", None)
    if runtime is None and profile.requires_platform_runtime:
        return False
    pairs = (
        (wanted.optional("os", "*"), platform.os),
        (wanted.optional("architecture", "*"), platform.architecture),
        (runtime or "*", platform.runtime),
        (wanted.optional("architecture.detail", "*"), platform.detail),
    )
    if wanted.names() - ATTRIBUTES and not profile.overlooks_unknown_attributes:
        return False
    return all(asked in {"*", "all", actual} for asked, actual in pairs)


def _dependencies(top: _Fields) -> list[Dependency]:
    entries = top.fields("ComponentDependencies")
    found = []
    for name in top.mapping("ComponentDependencies"):
        if name in BUILT_IN:
            continue
        entry = entries.fields(name)
        kind = entry.optional("DependencyType", "HARD")
        if kind not in {"HARD", "SOFT"}:
            raise RecipeError(f"{entry.where}.DependencyType must be HARD or SOFT, not {kind}")
        found.append(Dependency(name, str(entry.optional("VersionRequirement", "*")), kind == "HARD"))
    return found


def _step(lifecycle: _Fields, name: str, profile: Profile) -> Step | None:
    value = lifecycle.optional(name, None)
    if value is None:
        return None
    if name in profile.unsimulated_steps:
        raise NotSimulatedError(
            f"{lifecycle.where}.{name}: the real {profile.name} nucleus runs this step, the simulated one does not",
            "Leave it out here, and try it on a real device.",
        )
    if isinstance(value, str):
        return Step(value)
    step = lifecycle.fields(name)
    if str(step.optional("RequiresPrivilege", False)).lower() not in {"true", "false"}:
        raise RecipeError(f"{step.where}.RequiresPrivilege must be true or false")
    skip_if = _skip_if(step) if profile.reads_skip_if else ""
    return Step(step.text("Script"), _seconds(step), _environment(step), skip_if)


def _skip_if(step: _Fields) -> str:
    value = step.optional("Skipif", "")
    if value and (not isinstance(value, str) or not re.fullmatch(r"(?i)\s*(exists|onpath)\s+\S.*", value)):
        raise RecipeError(f"{step.where}.Skipif must be 'exists <path>' or 'onpath <program>', not {value!r}")
    return str(value)


def _seconds(step: _Fields) -> float | None:
    value = step.optional("Timeout", None)
    if value is None:
        return None
    try:
        seconds = math.nan if isinstance(value, bool) else float(value)
    except (TypeError, ValueError) as error:
        raise RecipeError(f"{step.where}.Timeout must be a number of seconds, not {value!r}") from error
    if not 0 < seconds < math.inf:
        raise RecipeError(f"{step.where}.Timeout must be a number of seconds above 0, not {value!r}")
    return seconds


def _environment(owner: _Fields) -> Mapping[str, str]:
    environment = owner.mapping("Setenv")
    for name, value in environment.items():
        if not isinstance(value, str):
            raise RecipeError(f"{owner.where}.Setenv.{name} must be a string")
    return dict(environment)


def _artifact(entry: _Fields) -> Artifact:
    uri = entry.text("Uri")
    unarchive = entry.optional("Unarchive", "NONE")
    if unarchive not in {"NONE", "ZIP"}:
        raise RecipeError(f"{entry.where}.Unarchive must be NONE or ZIP, not {unarchive}")
    digest, algorithm = entry.optional("Digest", None), entry.optional("Algorithm", "SHA-256")
    if algorithm != "SHA-256":
        raise RecipeError(f"{entry.where}.Algorithm must be SHA-256, not {algorithm}")
    execute = entry.fields("Permission").optional("Execute", "NONE")
    return Artifact(uri, digest, unzip=unarchive == "ZIP", executable=execute != "NONE")
