"""Decide whether a bundle may be activated on this device, now. Pure: values in, a manifest or a typed refusal out.

The failure this exists for: a perfectly signed bundle that is the wrong one. A signature does not protect against
rollback, freeze and mix-and-match; these rules, in this order, do:

1. the files in the bundle are exactly the signed ones (``model.sig`` itself aside), and ``manifest.json`` is as signed;
2. ``manifest.json`` follows its contract, and lists the same files with the same digests, and with the sizes that the
   archive says they have; its model's name can be asked for (``@`` begins a version), logged, and told in a heartbeat,
   and so can its version;
3. component and version are those of the Greengrass component that handed it over;
4. the platform is this device's;
5. it has not expired, at the later of the device's clock and the latest time that a trusted signer has ever named: a
   clock set back revives nothing. (A clock that is *ahead* can refuse, but never poisons that floor.)
6. its release is not below the highest that this device has committed for the component, and if equal, it is the same
   bundle; or it is one of the very bundles that may come back (activation/table.py says which).

All of this is known before anything but the manifest and the signature is unpacked. That the other files are the signed
ones is seen as they are written (unpack.py). It does not read files, verify signatures (signature.py) or load the model
(inference/trial.py).
"""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING

from edge_component.contracts.codec import format_moment
from edge_component.contracts.errors import ContractError
from edge_component.contracts.manifest import (
    GOLDEN_FILE,
    MANIFEST_FILE,
    MODEL_FILE,
    SIGNATURE_FILE,
    Manifest,
    bundle_digest,
)
from edge_component.contracts.routes import PIN
from edge_component.errors import (
    ExpiredError,
    ManifestError,
    OlderReleaseError,
    TamperedError,
    WrongComponentError,
    WrongPlatformError,
    WrongVersionError,
)

NAME_CHARS_MAX = 128
VERSION_CHARS_MAX = 64
"""As many as Greengrass allows for a component's."""

if TYPE_CHECKING:  # a trial's child reads manifests, and needs no cryptography, 11 of its 173 ms of imports
    from edge_component.bundles.signature import SignedFiles


@dataclass(frozen=True, slots=True)
class FoundFile:
    """A file as it lies in a bundle, or has to."""

    sha256: str
    size_bytes: int


@dataclass(frozen=True, slots=True)
class Release:
    """The highest release that was committed for a component, and of which bundle."""

    number: int
    digest: str


@dataclass(frozen=True, slots=True)
class Asked:
    """What the hand-over says it brings."""

    component_name: str
    version: str


@dataclass(frozen=True, slots=True)
class Circumstances:
    """This device, now.

    Attributes:
        platform: such as ``linux/x86_64``.
        now: the device's clock.
        trusted_at: the latest ``created_at`` of any bundle whose signature was valid; ``None`` before the first.
        floor: for the component asked for; ``None`` if it never had a committed release.
        welcome: digests that this floor does not keep out.
    """

    platform: str
    now: datetime
    trusted_at: datetime | None
    floor: Release | None
    welcome: frozenset[str] = frozenset()


@dataclass(frozen=True, slots=True)
class Verified:
    """A bundle that may be tried; ``digest`` is its identity."""

    manifest: Manifest
    digest: str


def verify(
    sizes_bytes: Mapping[str, int],
    manifest_bytes: bytes,
    signed: "SignedFiles",
    asked: Asked,
    circumstances: Circumstances,
) -> Verified:
    """Apply the rules above.

    Args:
        sizes_bytes: of every file by its path, as the archive says, ``manifest.json`` and ``model.sig`` included.
        manifest_bytes: of its ``manifest.json``; empty if there is none.
        signed: what the valid signature vouches for.
        asked: by whom it was handed over.
        circumstances: of the device.

    Raises:
        TamperedError, ManifestError, WrongComponentError, WrongVersionError, WrongPlatformError, ExpiredError,
        OlderReleaseError: the first rule that refuses.
    """
    _check_signed(sizes_bytes, manifest_bytes, signed)
    manifest = read_manifest(manifest_bytes)
    _check_listed(sizes_bytes, manifest, signed)
    _check_names(manifest)
    _check_asked(manifest, asked)
    if manifest.platform != circumstances.platform:
        raise WrongPlatformError(f"made for {manifest.platform}; this device is {circumstances.platform}")
    _check_expiry(manifest, circumstances)
    digest = bundle_digest(manifest_bytes)
    if digest not in circumstances.welcome:
        _check_release(manifest, digest, circumstances.floor)
    return Verified(manifest, digest)


def read_manifest(manifest_bytes: bytes) -> Manifest:
    """Decode ``manifest.json``.

    Raises:
        ManifestError: naming the field.
    """
    try:
        return Manifest.from_bytes(manifest_bytes)
    except ContractError as error:
        raise ManifestError(f"{MANIFEST_FILE}: {error}") from error


def _check_signed(sizes_bytes: Mapping[str, int], manifest_bytes: bytes, signed: "SignedFiles") -> None:
    present = set(sizes_bytes) - {SIGNATURE_FILE}
    if missing := sorted(set(signed.digests) - present):
        raise TamperedError(f"signed but missing: {', '.join(missing)}")
    if added := sorted(present - set(signed.digests)):
        raise TamperedError(f"not signed: {', '.join(added)}")
    if MANIFEST_FILE not in present:
        raise ManifestError(f"there is no {MANIFEST_FILE}")
    found = bundle_digest(manifest_bytes)
    if found != signed.digests[MANIFEST_FILE]:
        raise TamperedError(f"{MANIFEST_FILE} is not the file that was signed (SHA-256 {found[:12]}…)")


def _check_listed(sizes_bytes: Mapping[str, int], manifest: Manifest, signed: "SignedFiles") -> None:
    listed = {path: file.sha256 for path, file in manifest.files.items()}
    vouched = {path: digest for path, digest in signed.digests.items() if path != MANIFEST_FILE}
    if listed != vouched:
        differing = sorted(path for path in {*listed, *vouched} if listed.get(path) != vouched.get(path))
        raise ManifestError(f"{MANIFEST_FILE} does not list the files that were signed: {', '.join(differing)}")
    for path, file in manifest.files.items():
        if sizes_bytes[path] != file.size_bytes:
            raise TamperedError(f"{path} has {sizes_bytes[path]} bytes; {MANIFEST_FILE} says {file.size_bytes}")
    if absent := [path for path in (MODEL_FILE, GOLDEN_FILE) if path not in listed]:
        raise ManifestError(f"a bundle needs {' and '.join(absent)}")


def _check_names(manifest: Manifest) -> None:
    name, version = manifest.model_name, manifest.version
    if not (0 < len(name) <= NAME_CHARS_MAX and name.isprintable() and PIN not in name):
        raise ManifestError(
            f"{MANIFEST_FILE}: model_name: {name[:80]!r} must be of 1 to {NAME_CHARS_MAX} printable characters but {PIN}"
        )
    if len(version) > VERSION_CHARS_MAX:
        raise ManifestError(f"{MANIFEST_FILE}: version: has {len(version)} characters; at most {VERSION_CHARS_MAX} fit")


def _check_asked(manifest: Manifest, asked: Asked) -> None:
    if manifest.component_name != asked.component_name:
        raise WrongComponentError(f"it is {manifest.component_name}, handed over by {asked.component_name}")
    if manifest.version != asked.version:
        raise WrongVersionError(f"it is version {manifest.version}, handed over as {asked.version}")


def _check_expiry(manifest: Manifest, circumstances: Circumstances) -> None:
    now, trusted_at, expired_at = circumstances.now, circumstances.trusted_at, format_moment(manifest.expires_at)
    if now >= manifest.expires_at:
        raise ExpiredError(f"expired at {expired_at}; it is {format_moment(now)}")
    if trusted_at is not None and trusted_at >= manifest.expires_at:
        raise ExpiredError(
            f"expired at {expired_at}; it is {format_moment(now)} by the clock, but a signed bundle has named "
            f"{format_moment(trusted_at)}",
            "Set the clock, and publish the model again. If the clock is right, that bundle was signed under a wrong one: "
            "`edgewright-edge lower-floor COMPONENT`.",
        )


def _check_release(manifest: Manifest, digest: str, floor: Release | None) -> None:
    if floor is None or manifest.release > floor.number:
        return
    if manifest.release < floor.number:
        raise OlderReleaseError(f"release {manifest.release}; this device has committed release {floor.number}")
    if digest != floor.digest:
        raise OlderReleaseError(f"another bundle was committed as release {floor.number} (digest {floor.digest[:12]}…)")
