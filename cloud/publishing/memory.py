"""The publishing ports in memory, as plain objects: for tests, and for trying a publication without AWS.

Not thread-safe. A test that wants a service to fail in mid-publish sets ``outage``: it is called with the name of each
operation before the operation does anything, and may raise.
"""

import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

from cloud.errors import ConflictError, NotFoundError
from cloud.publishing.ports import ComponentVersion
from cloud.s3_uri import S3Uri


def _no_outage(operation: str) -> None:
    del operation


@dataclass(slots=True)
class MemoryArtifacts:
    """An :class:`~cloud.publishing.ports.ArtifactStore`; ``objects`` is URI to bytes."""

    objects: dict[str, bytes] = field(default_factory=dict)
    outage: Callable[[str], None] = _no_outage

    def put_immutable(self, uri: S3Uri, path: Path) -> bool:
        """See the port."""
        self.outage("put_immutable")
        data = path.read_bytes()
        if self.objects.get(str(uri), data) != data:
            raise ConflictError(f"{uri} exists with other bytes")
        is_new = str(uri) not in self.objects
        self.objects[str(uri)] = data
        return is_new

    def put_new(self, uri: S3Uri, data: bytes) -> bool:
        """See the port."""
        self.outage("put_new")
        if str(uri) in self.objects:
            return False
        self.objects[str(uri)] = data
        return True

    def get_bytes(self, uri: S3Uri) -> bytes:
        """See the port."""
        self.outage("get_bytes")
        if str(uri) not in self.objects:
            raise NotFoundError(f"reading {uri}: there is no such object")
        return self.objects[str(uri)]

    def list(self, prefix: S3Uri) -> Iterator[S3Uri]:
        """See the port."""
        self.outage("list")
        for text in sorted(self.objects):
            if text.startswith(str(prefix)):
                yield S3Uri.parse(text)


@dataclass(slots=True)
class MemoryComponents:
    """A :class:`~cloud.publishing.ports.ComponentCatalog`; ``created`` is (name, version) to the recipe's bytes."""

    created: dict[tuple[str, str], bytes] = field(default_factory=dict)
    digests: dict[tuple[str, str], str] = field(default_factory=dict)
    state: str = "DEPLOYABLE"
    message: str = ""
    outage: Callable[[str], None] = _no_outage

    def find(self, component_name: str, version: str) -> ComponentVersion | None:
        """See the port."""
        self.outage("find")
        key = (component_name, version)
        if key not in self.created:
            return None
        arn = f"arn:aws:greengrass:us-east-1:123456789012:components:{component_name}:versions:{version}"
        return ComponentVersion(arn, self.state, self.message, self.digests[key])

    def create(self, recipe: bytes, recipe_sha256: str) -> None:
        """See the port."""
        self.outage("create")
        document = json.loads(recipe)
        key = (document["ComponentName"], document["ComponentVersion"])
        if key in self.created:
            raise ConflictError(f"{key[0]} {key[1]} exists")
        self.created[key], self.digests[key] = recipe, recipe_sha256

    def versions(self, component_name: str) -> tuple[str, ...]:
        """See the port."""
        self.outage("versions")
        return tuple(version for name, version in self.created if name == component_name)
