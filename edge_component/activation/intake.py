"""From a handed-over zip to a verified bundle in the store; nothing that serves is touched on the way.

The phases are the activation event's: ``receive`` (unpack under caps), ``verify`` (signature, then every rule of
bundles/verification.py), ``store``. Whatever raises leaves no trace.
"""

import zipfile
import zlib
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path

from edge_component.activation.attempt import Attempt
from edge_component.activation.table import Installed
from edge_component.bundles.signature import SIGNATURE_FILE_BYTES_MAX, TrustedKey, verify_signature
from edge_component.bundles.store import Store
from edge_component.bundles.unpack import UnpackLimits, open_archive, store_error
from edge_component.bundles.verification import Asked, Circumstances, FoundFile, Verified, verify
from edge_component.contracts.heartbeat import ModelRef
from edge_component.contracts.limits import LIMITS
from edge_component.contracts.manifest import MANIFEST_FILE, SIGNATURE_FILE, Manifest, bundle_digest
from edge_component.errors import ArchiveError, ManifestError, SignatureError, UnsignedError


@dataclass(frozen=True, slots=True)
class Intake:
    """What taking a bundle in needs besides the bundle."""

    store: Store
    trust: tuple[TrustedKey, ...]
    limits: UnpackLimits = field(default_factory=UnpackLimits)


@dataclass(frozen=True, slots=True)
class Taken:
    """A verified bundle, in the store."""

    installed: Installed
    manifest: Manifest
    folder: Path
    created_at: datetime


def take_in(
    intake: Intake,
    archive: Path,
    asked: Asked,
    circumstances: Circumstances,
    attempt: Attempt,
) -> Taken:
    """Unpack, verify and keep a bundle; ``attempt`` is told the phase, and asked whether there is time left.

    Raises:
        BundleError, StoreError, ActivationDeadlineError: the staged copy is gone.
    """
    attempt.at_phase("receive")
    folder, found = intake.store.stage(archive, intake.limits, lambda: attempt.left_s() > 0)
    try:
        attempt.at_phase("verify")
        verified = _verified(intake, folder, found, asked, circumstances)
    except OSError as error:
        intake.store.discard(folder)
        raise store_error(error, f"reading what {archive.name} holds") from error
    except BaseException:
        intake.store.discard(folder)
        raise
    attempt.at_phase("store")
    kept = intake.store.keep(folder, verified.digest)
    manifest = verified.manifest
    ref = ModelRef(manifest.model_name, manifest.version, verified.digest)
    return Taken(Installed(ref, manifest.component_name, manifest.release), manifest, kept, manifest.created_at)


def digest_in(archive: Path) -> str | None:
    """The digest that an archive claims, so that a bundle which serves already need not be taken in again.

    Only good for comparing with the digest of something verified: equal digests are the same manifest.
    """
    try:
        with open_archive(archive) as opened, opened.open(MANIFEST_FILE) as file:
            return bundle_digest(file.read(LIMITS.manifest_bytes_max + 1))
    except (
        OSError, KeyError, RuntimeError, EOFError, ArchiveError, UnicodeDecodeError, zipfile.BadZipFile, zlib.error,
    ):  # fmt: skip
        return None  # taking it in will say what is wrong


def _verified(
    intake: Intake, folder: Path, found: dict[str, FoundFile], asked: Asked, circumstances: Circumstances
) -> Verified:
    if SIGNATURE_FILE not in found:
        raise UnsignedError(f"there is no {SIGNATURE_FILE}")
    if found[SIGNATURE_FILE].size_bytes > SIGNATURE_FILE_BYTES_MAX:
        raise SignatureError(f"{SIGNATURE_FILE} has more than {SIGNATURE_FILE_BYTES_MAX} bytes")
    signed = verify_signature((folder / SIGNATURE_FILE).read_bytes(), intake.trust)
    if MANIFEST_FILE in found and found[MANIFEST_FILE].size_bytes > LIMITS.manifest_bytes_max:
        raise ManifestError(f"{MANIFEST_FILE} has more than {LIMITS.manifest_bytes_max} bytes")
    manifest_bytes = (folder / MANIFEST_FILE).read_bytes() if MANIFEST_FILE in found else b""
    return verify(found, manifest_bytes, signed, asked, circumstances)
