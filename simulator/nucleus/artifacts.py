"""A version's artifacts on disk: downloaded in place, checked, unpacked, removed. Blocks; called from worker threads.

As Lite does: a download truncates the file where it stands, and one whose digest is wrong stays there. (So nothing may
be hard-linked out of the artifact folder.) A file whose digest is right already is not downloaded again.
"""

import base64
import hashlib
import shutil
import zipfile
from pathlib import Path

from simulator.nucleus.errors import ArchiveError, DigestMismatchError, VersionRangeError
from simulator.nucleus.interpolation import Places
from simulator.nucleus.ports import ComponentSource
from simulator.nucleus.recipe import Artifact, Recipe
from simulator.nucleus.versions import Version


def fetch_artifacts(recipe: Recipe, arn: str, source: ComponentSource, places: Places) -> None:
    """Download, check and unpack everything a version consists of.

    Raises:
        SourceUnavailableError: no answer; calling again goes on.
        SourceRefusedError, DigestMismatchError, ArchiveError: for good.
    """
    folder = places.artifacts(recipe.name, recipe.version)
    folder.mkdir(parents=True, exist_ok=True)
    for artifact in recipe.artifacts:
        path = folder / artifact.file_name
        if not (artifact.digest and path.exists() and _digest(path) == artifact.digest):
            source.fetch(arn, artifact.uri, path)
            _check(artifact, path, recipe)
        path.chmod(0o755 if artifact.executable else 0o644)
        if artifact.unzip:
            _unpack(path, places.unarchived(recipe.name, recipe.version) / path.stem)


def delete_version(component: str, version: str, places: Places) -> None:
    """Remove a version's artifacts and recipe."""
    shutil.rmtree(places.artifacts(component, version), ignore_errors=True)
    shutil.rmtree(places.unarchived(component, version), ignore_errors=True)
    places.recipe(component, version).unlink(missing_ok=True)


def versions_on_disk(component: str, places: Places) -> set[str]:
    """Versions of which artifacts or a recipe are there, current or left over."""
    folders = (places.artifacts(component, "x").parent, places.unarchived(component, "x").parent)
    found = {path.name for folder in folders if folder.exists() for path in folder.iterdir()}
    recipes = places.recipe(component, "x").parent
    found |= {path.stem.removeprefix(f"{component}-") for path in recipes.glob(f"{component}-*.json")}
    return {version for version in found if _is_version(version)}


def _is_version(text: str) -> bool:
    """Tells ``A-1.0.0`` from the recipe of another component whose name merely begins with ``A-``."""
    try:
        Version.parse(text)
    except VersionRangeError:
        return False
    return True


def _check(artifact: Artifact, path: Path, recipe: Recipe) -> None:
    actual = _digest(path)
    if artifact.digest is not None and actual != artifact.digest:
        raise DigestMismatchError(
            f"{artifact.uri} of {recipe.name} {recipe.version} has digest {actual}, the recipe says {artifact.digest}",
            "Publish under a new version; an artifact's object must never be overwritten.",
        )


def _digest(path: Path) -> str:
    with path.open("rb") as stream:
        return base64.b64encode(hashlib.file_digest(stream, "sha256").digest()).decode()


def _unpack(path: Path, folder: Path) -> None:
    try:
        with zipfile.ZipFile(path) as archive:
            archive.extractall(folder)  # zipfile drops absolute and parent parts from names
    except (zipfile.BadZipFile, OSError, RuntimeError, NotImplementedError) as error:
        raise ArchiveError(f"{path.name} cannot be unpacked: {error}", "Make it an ordinary zip archive.") from error
