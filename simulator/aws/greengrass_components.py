"""Greengrass component versions: what the cloud keeps of each, and which one a device gets.

Immutable once made, as at AWS: the same name and version again is a conflict, whatever its bytes. Artifacts stay in S3;
their digests are taken when the version is made, so an object that is overwritten later fails on the device, as it
does in reality.

Concurrency: one lock; values handed out are never changed.
"""

import json
import threading
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from simulator.aws.errors import AwsError, NotRealError
from simulator.aws.greengrass_recipe import Recipe, parse_recipe, runs_on, with_digests
from simulator.nucleus.errors import VersionRangeError
from simulator.nucleus.versions import Version, VersionRange

DigestOf = Callable[[str], str | None]
"""Base64 of the SHA-256 of an artifact by its URI; ``None`` if it cannot be read."""


@dataclass(frozen=True, slots=True)
class ComponentVersion:
    """One component version.

    Attributes:
        arn: its ARN.
        recipe: as devices receive it, digests included.
        created_at: when it was made.
        tags: shared with the tag operations, which change them.
    """

    arn: str
    recipe: Recipe
    created_at: datetime
    tags: dict[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Candidate:
    """What a device asks to have resolved.

    Attributes:
        name: the component.
        requirements: version requirements by who demands them; all must hold.
        version: the version it has already, which is kept if it satisfies them.
    """

    name: str
    requirements: Mapping[str, str]
    version: str | None = None


def not_found(kind: str, identifier: str) -> AwsError:
    """``ResourceNotFoundException`` as Greengrass words it."""
    return AwsError(
        "ResourceNotFoundException",
        f"{kind} {identifier} can't be found.",
        {"resourceId": identifier, "resourceType": kind},
        404,
    )


class ComponentCatalog:
    """The private components of the account."""

    def __init__(self, arn_prefix: str, digest_of: DigestOf) -> None:
        """Empty. ``arn_prefix`` is ``arn:aws:greengrass:<region>:<account>``."""
        self._prefix, self._digest_of = arn_prefix, digest_of
        self._versions: dict[str, dict[str, ComponentVersion]] = {}
        self._tokens: dict[str, tuple[bytes, ComponentVersion]] = {}
        self._lock = threading.Lock()

    def create(self, content: bytes, tags: Mapping[str, str], token: str | None, now: datetime) -> ComponentVersion:
        """Make a component version from an inline recipe; the same request with the same token answers the same.

        Raises:
            AwsError: ``ValidationException`` (recipe or artifacts), ``ConflictException``; nothing was made.
        """
        with self._lock:
            if token in self._tokens:
                return self._repeated(content, token)
            recipe = parse_recipe(content)
            versions = self._versions.get(recipe.name, {})
            if recipe.version in versions:
                raise AwsError(
                    "ConflictException",
                    f"Component [{recipe.name} : {recipe.version}] already exists with state: [DEPLOYABLE]",
                    {"resourceId": versions[recipe.version].arn, "resourceType": "COMPONENT_VERSION"},
                    409,
                )
            signed = with_digests(recipe, self._digests(recipe))
            arn = f"{self._prefix}:components:{recipe.name}:versions:{recipe.version}"
            made = ComponentVersion(arn, signed, now, dict(tags))
            self._versions.setdefault(recipe.name, {})[recipe.version] = made
            if token:
                self._tokens[token] = (content, made)
            return made

    def _repeated(self, content: bytes, token: str) -> ComponentVersion:
        earlier, made = self._tokens[token]
        if earlier != content:
            raise AwsError(
                "ConflictException",
                f"clientToken {token} was used with another recipe",
                {"resourceId": made.arn, "resourceType": "COMPONENT_VERSION"},
                409,
            )
        return made

    def _digests(self, recipe: Recipe) -> dict[str, str]:
        unreal = [uri for uri in recipe.artifact_uris if not uri.startswith("s3://")]
        if unreal:
            raise NotRealError(f"greengrassv2 artifacts other than s3:// ({unreal[0]})")
        found = {uri: self._digest_of(uri) for uri in recipe.artifact_uris}
        missing = [uri for uri, digest in found.items() if digest is None]
        if missing:
            errors = ", ".join(f"{uri} = Specified artifact resource cannot be accessed" for uri in missing)
            raise AwsError(
                "ValidationException", f"Invalid Input: Encountered following errors in Artifacts: {{{errors}}}"
            )
        return {uri: digest for uri, digest in found.items() if digest is not None}

    def by_arn(self, arn: str) -> ComponentVersion:
        """A component version by its ARN.

        Raises:
            AwsError: ``ResourceNotFoundException``.
        """
        name, _, version = arn.partition(":components:")[2].partition(":versions:")
        found = self.find(name, version)
        if found is None or found.arn != arn:
            raise not_found("COMPONENT_VERSION", arn)
        return found

    def find(self, name: str, version: str) -> ComponentVersion | None:
        """A component version by name and version."""
        with self._lock:
            return self._versions.get(name, {}).get(version)

    def versions(self, name: str) -> Sequence[ComponentVersion]:
        """Every version of a component, highest first."""
        with self._lock:
            found = list(self._versions.get(name, {}).values())
        return sorted(found, key=lambda each: Version.parse(each.recipe.version), reverse=True)

    def names(self) -> Sequence[str]:
        """Every component, by name."""
        with self._lock:
            return sorted(name for name, versions in self._versions.items() if versions)

    def component_arn(self, name: str) -> str:
        """The ARN of a component as a whole."""
        return f"{self._prefix}:components:{name}"

    def delete(self, arn: str) -> None:
        """Forget a component version.

        Raises:
            AwsError: ``ResourceNotFoundException``.
        """
        found = self.by_arn(arn)
        with self._lock:
            self._versions[found.recipe.name].pop(found.recipe.version, None)
            self._tokens = {token: entry for token, entry in self._tokens.items() if entry[1] is not found}

    def resolve(self, candidate: Candidate, attributes: Mapping[str, str]) -> ComponentVersion:
        """The version that a device gets: what it has, if that satisfies every requirement, else the highest that does.

        Raises:
            AwsError: ``ResourceNotFoundException`` if none does, ``ValidationException`` for a malformed requirement.
        """
        suited = satisfying(self.versions(candidate.name), candidate.requirements.values())
        runnable = [
            each for each in suited if any(runs_on(platform, attributes) for platform in each.recipe.platforms or ({},))
        ]
        kept = [each for each in runnable if each.recipe.version == candidate.version]
        if not runnable:
            wanted = ", ".join(f"{who} {what}" for who, what in sorted(candidate.requirements.items()))
            raise not_found("COMPONENT_VERSION", f"{candidate.name} satisfying {wanted or 'anything'} on {attributes}")
        return (kept or runnable)[0]


def satisfying(versions: Iterable[ComponentVersion], requirements: Iterable[str]) -> list[ComponentVersion]:
    """Those versions that satisfy all requirements, in their order.

    Raises:
        AwsError: ``ValidationException`` for a malformed requirement.
    """
    try:
        ranges = [VersionRange.parse(text) for text in requirements]
    except VersionRangeError as error:
        raise AwsError("ValidationException", f"Invalid Input: {error}") from error
    return [each for each in versions if all(each.recipe.version in wanted for wanted in ranges)]


def recipe_json(version: ComponentVersion) -> bytes:
    """The recipe as the cloud delivers it."""
    return json.dumps(version.recipe.document).encode()


def platforms_of(version: ComponentVersion) -> list[dict[str, Any]]:
    """``platforms`` of the component operations."""
    manifests = version.recipe.document["Manifests"]
    return [
        {"name": manifest["Name"], "attributes": manifest["Platform"]}
        if "Name" in manifest
        else {"attributes": manifest["Platform"]}
        for manifest in manifests
    ]
