"""Put artifacts and a component version in place, so that doing it again completes what was begun and changes nothing.

The failure this exists for: AWS's own tool overwrites the object in S3 and is then told that the version exists, after
which every device that resolves it fails its checksum. Here artifacts live under their digest and are never
overwritten, and a version is the same only if the recipe (which names those digests) is.

It does not decide what a version's content is; see publish.py and publish_runtime.py.
"""

import hashlib
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from cloud.errors import ConflictError
from cloud.publishing.errors import ComponentFailedError, ComponentPendingError, VersionConflictError
from cloud.publishing.ports import ArtifactStore, ComponentCatalog, ComponentVersion, Report
from cloud.s3_uri import S3Uri

CONFLICT_REMEDY = "Published versions never change: publish this under a new version."


@dataclass(frozen=True, slots=True)
class Upload:
    """A file and where it goes."""

    uri: S3Uri
    path: Path


@dataclass(frozen=True, slots=True)
class ComponentRelease:
    """Everything that makes a version available."""

    component_name: str
    version: str
    uploads: tuple[Upload, ...]
    recipe: bytes

    @property
    def recipe_sha256(self) -> str:
        """What the version's bytes are compared by."""
        return hashlib.sha256(self.recipe).hexdigest()


@dataclass(frozen=True, slots=True)
class Patience:
    """How long Greengrass may take to make a version deployable.

    Attributes:
        deadline_s: from the first question.
        pause_s: between two questions.
    """

    deadline_s: float = 60.0
    pause_s: float = 0.5
    monotonic: Callable[[], float] = time.monotonic
    sleep: Callable[[float], None] = time.sleep


def release_component(
    release: ComponentRelease,
    artifacts: ArtifactStore,
    catalog: ComponentCatalog,
    report: Report,
    patience: Patience | None = None,
) -> ComponentVersion:
    """Upload what is not there yet, make the version unless it exists, and wait until it can be deployed.

    Raises:
        VersionConflictError: the version exists with another recipe; nothing was uploaded.
        ComponentFailedError: Greengrass will not deploy it.
        ComponentPendingError: it has not said so within the deadline.
    """
    step_count = len(release.uploads) + 1
    existing = catalog.find(release.component_name, release.version)
    if existing is not None:
        _check_same(existing, release)
    for done_count, upload in enumerate(release.uploads):
        report(f"uploading {upload.path.name}", done_count, step_count)
        artifacts.put_immutable(upload.uri, upload.path)
    report(f"creating {release.component_name} {release.version}", step_count - 1, step_count)
    if existing is None:
        _create(release, catalog)
    component = _wait_until_deployable(release, catalog, patience or Patience())
    report(f"{release.component_name} {release.version} can be deployed", step_count, step_count)
    return component


def _create(release: ComponentRelease, catalog: ComponentCatalog) -> None:
    try:
        catalog.create(release.recipe, release.recipe_sha256)
    except ConflictError:
        # Somebody else was faster since we looked: fine, if it is the same.
        existing = catalog.find(release.component_name, release.version)
        if existing is None:
            raise
        _check_same(existing, release)


def _check_same(existing: ComponentVersion, release: ComponentRelease) -> None:
    if existing.recipe_sha256 != release.recipe_sha256:
        raise VersionConflictError(
            f"{release.component_name} {release.version} exists with another recipe", CONFLICT_REMEDY
        )


def _wait_until_deployable(
    release: ComponentRelease, catalog: ComponentCatalog, patience: Patience
) -> ComponentVersion:
    deadline = patience.monotonic() + patience.deadline_s
    while True:
        component = catalog.find(release.component_name, release.version)
        if component is not None and component.state == "DEPLOYABLE":
            return component
        if component is not None and component.state == "FAILED":
            raise ComponentFailedError(
                f"Greengrass will not deploy {release.component_name} {release.version}: {component.message}",
                "Correct what it names and publish a new version.",
            )
        if patience.monotonic() >= deadline:
            state = component.state if component else "not listed"
            raise ComponentPendingError(
                f"{release.component_name} {release.version} is {state} after {patience.deadline_s:g} s",
                "Run the same command again; it goes on waiting.",
            )
        patience.sleep(patience.pause_s)
