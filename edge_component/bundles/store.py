"""The runtime's own copy of every model it may have to serve: one folder per bundle digest.

The failures this exists for: Greengrass deletes an old version's files after a successful deployment, and a later
download of the same path rewrites them in place, so that a hard link would change under our feet (both measured). So the
store copies, and what is in it under its digest is whole: a bundle is staged, each file fsynced and held against what was
signed, and only then renamed to its digest.

::

    store/<digest>/     a verified bundle; never changed after its rename
    staging/<name>/     being unpacked, or being thrown away; emptied when the runtime starts

Only names that the store itself gives are ever removed from either, and a link in the place of ``staging`` is removed, not
followed: emptying it emptied the place that it led to (found by doing it).

What is referenced is the journal's knowledge: :meth:`Store.collect` keeps what it is told to keep. A full disk leaves the
old bundles as they were. One writer at a time (the activator holds its lock); reading needs none.
"""

import hashlib
import logging
import re
import shutil
from collections.abc import Callable, Collection, Mapping
from pathlib import Path

from edge_component.bundles.unpack import UnpackLimits, store_error, unpack
from edge_component.bundles.verification import FoundFile, read_manifest
from edge_component.contracts.codec import DIGEST_PATTERN
from edge_component.contracts.limits import LIMITS
from edge_component.contracts.manifest import BASELINE_FILE, MANIFEST_FILE, Manifest, bundle_digest
from edge_component.durable import publish_directory, remove_directory, sync_directory
from edge_component.errors import ManifestError, StoreDamagedError, StoreFullError

log = logging.getLogger(__name__)

CHUNK_BYTES = 1_048_576
CANDIDATE = "candidate"
"""The one being unpacked; changes are made one at a time."""
GONE, DAMAGED = "gone-", "damaged-"
"""What a bundle's name begins with on its way out."""
STAGED_PATTERN = re.compile(rf"{CANDIDATE}|({GONE}|{DAMAGED}){DIGEST_PATTERN.pattern}")


class Store:
    """Bundles by digest beneath one folder."""

    def __init__(self, work_path: Path) -> None:
        """Address the folders; nothing is made before :meth:`prepare`."""
        self._bundles = work_path / "store"
        self._staging = work_path / "staging"

    def prepare(self) -> None:
        """Make the folders and throw away what an earlier process left half-done; takes no room on a full disk.

        Raises:
            StoreError: the disk refused.
        """
        try:
            self._bundles.mkdir(parents=True, exist_ok=True)
            if self._staging.is_symlink():
                log.error("%s is a link; it is removed, and a folder takes its place", self._staging)
                self._staging.unlink()
            self._staging.mkdir(exist_ok=True)
            for left in self._staging.iterdir():
                if STAGED_PATTERN.fullmatch(left.name):
                    shutil.rmtree(left, ignore_errors=True)
            sync_directory(self._bundles.parent)
        except OSError as error:
            raise store_error(error, f"preparing {error.filename or self._bundles.parent}") from error

    def path(self, digest: str) -> Path:
        """Where a bundle lies, if it is there."""
        return self._bundles / digest

    def stage(
        self, archive: Path, listed: Mapping[str, FoundFile], limits: UnpackLimits, in_time: Callable[[], bool]
    ) -> Path:
        """Unpack what is listed of an archive; :meth:`discard` it, or :meth:`keep` it, before the next one.

        Raises:
            BundleError, StoreError, ActivationDeadlineError: nothing of it was left behind.
        """
        folder = self._staging / CANDIDATE
        self.discard(folder)
        try:
            self._check_room(sum(file.size_bytes for file in listed.values()))
            folder.mkdir()
        except OSError as error:
            raise store_error(error, f"staging {archive.name}") from error
        try:
            unpack(archive, folder, listed, limits, in_time)
        except BaseException:
            self.discard(folder)
            raise
        return folder

    def _check_room(self, needed_bytes: int) -> None:
        """A disk that would be filled to its last byte, and refuse all the same, is left to others."""
        usage = shutil.disk_usage(self._staging)
        if usage.total and usage.free < needed_bytes:
            raise StoreFullError(f"the bundle takes {needed_bytes} bytes on the disk; {usage.free} are free")

    def discard(self, staged: Path) -> None:
        """Throw a staged bundle away."""
        shutil.rmtree(staged, ignore_errors=True)

    def keep(self, staged: Path, digest: str) -> Path:
        """Give a staged bundle its final name; returns it. A damaged one that is there is replaced.

        Raises:
            StoreError: the disk refused; the staged copy went.
        """
        final = self.path(digest)
        try:
            if final.is_dir():
                remove_directory(final, staged.with_name(f"{DAMAGED}{digest}"))
            publish_directory(staged, final)
        except OSError as error:
            self.discard(staged)
            raise store_error(error, f"keeping bundle {digest[:12]}") from error
        return final

    def read(self, digest: str) -> Manifest:
        """The manifest of a stored bundle, after checking every byte of it against the digest.

        Raises:
            StoreDamagedError: it is gone, or not what was verified.
        """
        folder = self.path(digest)
        try:
            manifest_bytes = (folder / MANIFEST_FILE).read_bytes()
            if bundle_digest(manifest_bytes) != digest:
                raise StoreDamagedError(f"{MANIFEST_FILE} of bundle {digest[:12]} has changed on the disk")
            manifest = read_manifest(manifest_bytes)
            for path, listed in manifest.files.items():
                if _file_digest(folder / path) != listed.sha256:
                    raise StoreDamagedError(f"{path} of bundle {digest[:12]} has changed on the disk")
        except (OSError, ManifestError) as error:
            raise StoreDamagedError(f"bundle {digest[:12]} cannot be read: {error}") from error
        return manifest

    def holds(self, digest: str) -> bool:
        """Whether a bundle is there, every byte of it as it was verified."""
        try:
            self.read(digest)
        except StoreDamagedError:
            return False
        return True

    def baseline(self, digest: str, manifest: Manifest) -> bytes | None:
        """``baseline.json`` of a stored bundle, if it has one; of one that is too large no more than shows that."""
        if BASELINE_FILE not in manifest.files:
            return None
        with (self.path(digest) / BASELINE_FILE).open("rb") as file:
            return file.read(LIMITS.baseline_bytes_max + 1)

    def collect(self, kept: Collection[str]) -> None:
        """Remove every bundle but those, and nothing else; one is renamed out of the store before its files go.

        Raises:
            OSError: the disk refused to let go of one; the others went.
        """
        refusal: OSError | None = None
        for folder in sorted(self._bundles.iterdir()):
            if folder.name not in kept and DIGEST_PATTERN.fullmatch(folder.name):
                try:
                    remove_directory(folder, self._staging / f"{GONE}{folder.name}")
                except OSError as error:
                    refusal = error
        if refusal is not None:
            raise refusal


def _file_digest(path: Path) -> str:
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while chunk := file.read(CHUNK_BYTES):
            digest.update(chunk)
    return digest.hexdigest()
