"""What publishing needs of the world: a store that never overwrites, and Greengrass's catalogue of components.

Implemented by ``cloud.aws`` and, in memory, by memory.py; one conformance suite runs against both.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from cloud.s3_uri import S3Uri

Report = Callable[[str, int, int], None]
"""Progress: what is being done, how many steps are done, and of how many."""


def silent(what: str, done_count: int, step_count: int) -> None:
    """A :data:`Report` that says nothing."""
    del what, done_count, step_count


class ArtifactStore(Protocol):
    """Objects under keys. ``cloud.aws.s3.ObjectStore`` is one."""

    def put_immutable(self, uri: S3Uri, path: Path) -> bool:
        """Write a file under a key that names its digest; ``False`` if it was there. Other bytes: ``ConflictError``."""

    def put_new(self, uri: S3Uri, data: bytes) -> bool:
        """Write an object only if the key is free, atomically; ``False`` if it is taken."""

    def get_bytes(self, uri: S3Uri) -> bytes:
        """Read an object; ``NotFoundError`` if there is none."""

    def list(self, prefix: S3Uri) -> Iterator[S3Uri]:
        """Every object below a prefix, in key order."""


@dataclass(frozen=True, slots=True)
class ComponentVersion:
    """A version that Greengrass holds.

    Attributes:
        state: ``REQUESTED``, ``INITIATED``, ``DEPLOYABLE``, ``FAILED`` or ``DEPRECATED``.
        message: Greengrass's own words about the state; may be empty.
        recipe_sha256: digest of the recipe it was made from; empty if Edgewright did not make it.
    """

    arn: str
    state: str
    message: str
    recipe_sha256: str


class ComponentCatalog(Protocol):
    """Component versions. ``cloud.aws.greengrass.Components`` is one."""

    def find(self, component_name: str, version: str) -> ComponentVersion | None:
        """The version, or ``None``."""

    def create(self, recipe: bytes, recipe_sha256: str) -> None:
        """Make a version from a JSON recipe. The version exists: ``ConflictError``."""

    def versions(self, component_name: str) -> tuple[str, ...]:
        """Every version of a component, in no order; empty for an unknown component."""
