"""From a handed-over zip to a verified bundle in the store; nothing that serves is touched on the way.

The phases are the activation event's: ``receive`` (the archive's directory and its two small files, under caps),
``verify`` (signature, then every rule of bundles/verification.py), ``store`` (the files; one that is not what was signed is
told of as verified). Whatever raises leaves no trace; what a stranger has signed, or nobody, is not even unpacked.
"""

import zipfile
import zlib
from dataclasses import dataclass, field
from datetime import datetime
from hashlib import sha256
from pathlib import Path

from edge_component.activation.attempt import Attempt
from edge_component.activation.table import Installed
from edge_component.bundles.signature import TrustedKey, verify_signature
from edge_component.bundles.store import Store
from edge_component.bundles.unpack import Preview, UnpackLimits, open_archive, preview
from edge_component.bundles.verification import Asked, Circumstances, FoundFile, Verified, verify
from edge_component.contracts.heartbeat import ModelRef
from edge_component.contracts.limits import LIMITS
from edge_component.contracts.manifest import MANIFEST_FILE, SIGNATURE_FILE, Manifest, bundle_digest
from edge_component.errors import ArchiveError, BundleError, ManifestError, SignatureError, UnsignedError


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
    """Verify, unpack and keep a bundle; ``attempt`` is told the phase, and asked whether there is time left.

    Raises:
        BundleError, StoreError, ActivationDeadlineError: the staged copy is gone.
    """
    attempt.at_phase("receive")
    seen = preview(archive, intake.limits)
    attempt.at_phase("verify")
    verified, listed = _verified(seen, intake.trust, asked, circumstances)
    attempt.at_phase("store")
    if not intake.store.holds(verified.digest):
        try:
            folder = intake.store.stage(archive, listed, intake.limits, lambda: attempt.left_s() > 0)
        except BundleError:
            attempt.at_phase("verify")
            raise
        intake.store.keep(folder, verified.digest)
    manifest = verified.manifest
    installed = Installed(
        ModelRef(manifest.model_name, manifest.version, verified.digest), manifest.component_name, manifest.release
    )
    return Taken(installed, manifest, intake.store.path(verified.digest), manifest.created_at)


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
    seen: Preview, trust: tuple[TrustedKey, ...], asked: Asked, circumstances: Circumstances
) -> tuple[Verified, dict[str, FoundFile]]:
    """What may be tried, and what each of its files has to be."""
    if seen.signature is None:
        raise UnsignedError(f"there is no {SIGNATURE_FILE}")
    if len(seen.signature) > LIMITS.signature_bytes_max:
        raise SignatureError(f"{SIGNATURE_FILE} has more than {LIMITS.signature_bytes_max} bytes")
    signed = verify_signature(seen.signature, trust)
    manifest_bytes = seen.manifest or b""
    if len(manifest_bytes) > LIMITS.manifest_bytes_max:
        raise ManifestError(f"{MANIFEST_FILE} has more than {LIMITS.manifest_bytes_max} bytes")
    verified = verify(seen.sizes_bytes, manifest_bytes, signed, asked, circumstances)
    digests = {**signed.digests, SIGNATURE_FILE: sha256(seen.signature).hexdigest()}
    return verified, {path: FoundFile(digest, seen.sizes_bytes[path]) for path, digest in digests.items()}
