"""A component recipe as the Greengrass cloud reads it: JSON or YAML in, a checked recipe in AWS's own casing out.

The failure this exists for: a recipe that a lenient stand-in takes and AWS refuses. Keys may be in any case, as the
cloud allows; unknown keys, wrong types and impossible values are refused with their place. Digests are the cloud's to
add (:func:`with_digests`), never the author's. What a *device* can do with the recipe is the device's business.

Pure. Rules: AWS's recipe reference and its published JSON schema (as described there, written anew), format 2020-01-25.
"""

import json
import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import yaml

from edge_component.contracts.limits import LIMITS
from simulator.aws.errors import AwsError
from simulator.aws.json_types import Json
from simulator.nucleus.errors import VersionRangeError
from simulator.nucleus.versions import Version, VersionRange

FORMAT = "2020-01-25"
DIGEST_ALGORITHM = "SHA-256"

_NAME = re.compile(r"[a-zA-Z0-9-_.]{1,128}")
_SCHEMES = ("s3://", "greengrass:", "docker:", "https://", "http://")

_TOP = (
    "RecipeFormatVersion", "ComponentName", "ComponentVersion", "ComponentType", "ComponentDescription",
    "ComponentPublisher", "ComponentSource", "ComponentConfiguration", "ComponentDependencies", "Manifests",
    "Lifecycle",
)  # fmt: skip
_STEPS = ("install", "run", "startup", "shutdown", "recover", "bootstrap", "uninstall")
_STEP = ("Script", "RequiresPrivilege", "Timeout", "Setenv", "Skipif", "BootstrapOnRollback")
_TYPES = ("aws.greengrass.generic", "aws.greengrass.lambda", "aws.greengrass.nucleus", "aws.greengrass.plugin")


@dataclass(frozen=True, slots=True)
class Recipe:
    """A checked recipe.

    Attributes:
        name: the component's name.
        version: its semantic version.
        document: the whole recipe with AWS's casing and the defaults that the cloud fills in.
    """

    name: str
    version: str
    document: Mapping[str, Any]

    @property
    def artifact_uris(self) -> tuple[str, ...]:
        """URIs of every artifact of every manifest, each once."""
        found = (artifact["Uri"] for manifest in self.document["Manifests"] for artifact in manifest["Artifacts"])
        return tuple(dict.fromkeys(found))

    @property
    def platforms(self) -> tuple[Mapping[str, str], ...]:
        """The platform of each manifest; an empty one runs everywhere."""
        return tuple(manifest.get("Platform", {}) for manifest in self.document["Manifests"])


class _Refused(Exception):  # noqa: N818 - never leaves this module
    def __init__(self, place: str, problem: str) -> None:
        super().__init__(f"{place}: {problem}")


def parse_recipe(content: bytes) -> Recipe:
    """Read and check an inline recipe.

    Raises:
        AwsError: ``ValidationException`` naming the place in the recipe.
    """
    if len(content) > LIMITS.recipe_bytes_max:
        raise _invalid(f"the recipe takes {len(content)} bytes; at most {LIMITS.recipe_bytes_max} are allowed")
    try:
        text = content.decode()
        loaded = json.loads(text) if text.lstrip().startswith("{") else yaml.safe_load(text)
    except (ValueError, yaml.YAMLError) as error:
        raise _invalid(f"the recipe is neither JSON nor YAML: {error}") from error
    try:
        document = _recipe(loaded)
    except _Refused as refused:
        raise _invalid(str(refused)) from refused
    return Recipe(document["ComponentName"], document["ComponentVersion"], document)


def with_digests(recipe: Recipe, digests: Mapping[str, str]) -> Recipe:
    """The recipe with ``Digest`` and ``Algorithm`` on every artifact that has one (base64 of the SHA-256)."""

    def signed(artifact: Mapping[str, Any]) -> Mapping[str, Any]:
        digest = digests.get(artifact["Uri"])
        return artifact if digest is None else {**artifact, "Digest": digest, "Algorithm": DIGEST_ALGORITHM}

    manifests = [
        {**manifest, "Artifacts": [signed(artifact) for artifact in manifest["Artifacts"]]}
        for manifest in recipe.document["Manifests"]
    ]
    return Recipe(recipe.name, recipe.version, {**recipe.document, "Manifests": manifests})


def runs_on(platform: Mapping[str, str], attributes: Mapping[str, str]) -> bool:
    """Whether a manifest's platform covers a device's attributes: equal, ``*``, ``all`` or ``/regular expression/``.

    A device that does not say an attribute is not excluded by it.
    """
    return all(
        wanted in {"*", "all"} or name not in attributes or _covers(wanted, attributes[name])
        for name, wanted in platform.items()
    )


def _covers(wanted: str, value: str) -> bool:
    if len(wanted) > 1 and wanted.startswith("/") and wanted.endswith("/"):
        return re.fullmatch(wanted[1:-1], value) is not None
    return wanted == value


def _invalid(problem: str) -> AwsError:
    return AwsError("ValidationException", f"Invalid Input: {problem}")


def _recipe(value: Any) -> dict[str, Any]:  # noqa: ANN401 - whatever the author wrote
    given = _fields(value, "recipe", _TOP)
    if given.get("RecipeFormatVersion") != FORMAT:
        raise _Refused("RecipeFormatVersion", f"must be {FORMAT!r}")
    _matching(given, "ComponentName", _NAME)
    _version(given)
    if given.setdefault("ComponentType", _TYPES[0]) not in _TYPES:
        raise _Refused("ComponentType", f"must be one of {', '.join(_TYPES)}")
    for name in ("ComponentDescription", "ComponentPublisher", "ComponentSource"):
        _text(given, name)
    given["ComponentConfiguration"] = _configuration(given.get("ComponentConfiguration") or {})
    given["ComponentDependencies"] = _dependencies(given.get("ComponentDependencies") or {})
    manifests = given.get("Manifests") or []
    if not isinstance(manifests, list):
        raise _Refused("Manifests", "must be a list")
    given["Manifests"] = [_manifest(each, f"Manifests[{index}]") for index, each in enumerate(manifests)]
    given["Lifecycle"] = _lifecycle(given.get("Lifecycle") or {}, "Lifecycle")
    if not given["Manifests"] and not given["Lifecycle"]:
        raise _Refused("Manifests", "must hold at least one manifest")
    return {name: given[name] for name in _TOP if name in given}


def _version(given: Mapping[str, Any]) -> None:
    version = given.get("ComponentVersion")
    try:
        Version.parse(version if isinstance(version, str) else "")
    except VersionRangeError as error:
        raise _Refused("ComponentVersion", f"{version!r} is not a semantic version") from error
    if len(str(version)) > 64:
        raise _Refused("ComponentVersion", "must have at most 64 characters")


def _configuration(value: Json) -> dict[str, Any]:
    given = _fields(value, "ComponentConfiguration", ("DefaultConfiguration", "SchemaConfiguration"))
    if not isinstance(given.get("DefaultConfiguration", {}), dict):
        raise _Refused("ComponentConfiguration.DefaultConfiguration", "must be an object")
    return given


def _dependencies(value: Json) -> dict[str, Any]:
    if not isinstance(value, dict):
        raise _Refused("ComponentDependencies", "must be an object")
    return {str(name): _dependency(each, f"ComponentDependencies.{name}") for name, each in value.items()}


def _dependency(value: Json, place: str) -> dict[str, Any]:
    given = _fields(value, place, ("VersionRequirement", "DependencyType"))
    requirement = given.get("VersionRequirement", "")
    try:
        VersionRange.parse(requirement if isinstance(requirement, str) else "?")
    except VersionRangeError as error:
        raise _Refused(f"{place}.VersionRequirement", f"{requirement!r} is not a version requirement") from error
    given["DependencyType"] = str(given.get("DependencyType", "HARD")).upper()
    if given["DependencyType"] not in {"HARD", "SOFT"}:
        raise _Refused(f"{place}.DependencyType", "must be HARD or SOFT")
    return given


def _manifest(value: Json, place: str) -> dict[str, Any]:
    given = _fields(value, place, ("Name", "Platform", "Lifecycle", "Selections", "Artifacts"))
    platform = given.get("Platform") or {}
    if not isinstance(platform, dict) or not all(isinstance(entry, str) for entry in platform.values()):
        raise _Refused(f"{place}.Platform", "must be an object of strings")
    given["Platform"] = platform
    given["Lifecycle"] = _lifecycle(given.get("Lifecycle") or {}, f"{place}.Lifecycle")
    artifacts = given.get("Artifacts") or []
    if not isinstance(artifacts, list):
        raise _Refused(f"{place}.Artifacts", "must be a list")
    given["Artifacts"] = [_artifact(each, f"{place}.Artifacts[{index}]") for index, each in enumerate(artifacts)]
    return given


def _artifact(value: Json, place: str) -> dict[str, Any]:
    given = _fields(value, place, ("Uri", "Unarchive", "Permission", "Digest", "Algorithm"))
    if not isinstance(given.get("Uri"), str) or not given["Uri"].startswith(_SCHEMES):
        raise _Refused(f"{place}.Uri", f"must begin with one of {', '.join(_SCHEMES)}")
    if "Digest" in given or "Algorithm" in given:
        raise _Refused(place, "Digest and Algorithm are added by the cloud; leave them out")
    given["Unarchive"] = str(given.get("Unarchive", "NONE")).upper()
    if given["Unarchive"] not in {"NONE", "ZIP"}:
        raise _Refused(f"{place}.Unarchive", "must be NONE or ZIP")
    permission = _fields(given.get("Permission") or {}, f"{place}.Permission", ("Read", "Execute"))
    given["Permission"] = {"Read": "OWNER", "Execute": "NONE"} | {
        name: str(entry).upper() for name, entry in permission.items()
    }
    if not set(given["Permission"].values()) <= {"NONE", "OWNER", "ALL"}:
        raise _Refused(f"{place}.Permission", "must be NONE, OWNER or ALL")
    return given


def _lifecycle(value: Json, place: str) -> dict[str, Any]:
    if not isinstance(value, dict):
        raise _Refused(place, "must be an object")
    exact = {step: step for step in _STEPS} | {"setenv": "Setenv"}
    lifecycle = {exact.get(str(name).lower(), str(name)): entry for name, entry in value.items()}
    for step, entry in lifecycle.items():
        if step in _STEPS and isinstance(entry, dict):
            lifecycle[step] = _step(entry, f"{place}.{step}")
        elif step == "Setenv" and not isinstance(entry, dict):
            raise _Refused(f"{place}.Setenv", "must be an object")
        elif step in _STEPS and not isinstance(entry, str):
            raise _Refused(f"{place}.{step}", "must be a script or an object")
    if "run" in lifecycle and "startup" in lifecycle:
        raise _Refused(place, "run and startup exclude each other")
    return lifecycle


def _step(value: Json, place: str) -> dict[str, Any]:
    given = _fields(value, place, _STEP)
    checks: dict[str, Callable[[Any], bool]] = {
        "Script": lambda entry: isinstance(entry, str),
        "Timeout": lambda entry: isinstance(entry, int) and not isinstance(entry, bool) and entry > 0,
        "RequiresPrivilege": lambda entry: isinstance(entry, bool),
        "Setenv": lambda entry: isinstance(entry, dict),
    }
    for name, holds in checks.items():
        if name in given and not holds(given[name]):
            raise _Refused(f"{place}.{name}", f"{given[name]!r} is not allowed")
    return given


def _fields(value: Json, place: str, names: tuple[str, ...]) -> dict[str, Any]:
    if not isinstance(value, dict):
        raise _Refused(place, "must be an object")
    exact = {name.lower(): name for name in names}
    return dict(_exact_fields(value, place, exact))


def _exact_fields(value: Mapping[Any, Any], place: str, exact: Mapping[str, str]) -> Iterator[tuple[str, Any]]:
    for key, entry in value.items():
        if str(key).lower() not in exact:
            raise _Refused(place, f"{key!r} is not known here; expected one of {', '.join(exact.values())}")
        yield exact[str(key).lower()], entry


def _matching(given: Mapping[str, Any], name: str, pattern: re.Pattern[str]) -> None:
    if not isinstance(given.get(name), str) or not pattern.fullmatch(given[name]):
        raise _Refused(name, f"{given.get(name)!r} does not match {pattern.pattern}")


def _text(given: Mapping[str, Any], name: str) -> None:
    if not isinstance(given.get(name, ""), str):
        raise _Refused(name, "must be text")
