"""The runtime component's artifact: the device's sources, its wheels and the keys it trusts, in one reproducible zip.

The failure this exists for: a device that installs something else than what was tested, because its artifact was built
from a working folder with caches and tests in it, or against whatever versions the index had that day. Layout::

    edge_component/…     sources: no tests, no caches
    wheels/*.whl         for every Python version asked for, this platform only
    pip.whl              installs them: ``PYTHONPATH=pip.whl python -m pip install --no-index …``
    requirements.txt     every pin, with a marker where Python versions differ
    trust/<hint>.pem     public keys whose bundles the device activates; the hint is a signature's own name for its key
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat, load_pem_public_key

from cloud.errors import InvalidInputError
from cloud.publishing.archive import write_archive
from cloud.publishing.errors import SigningKeyError
from cloud.publishing.signing import key_hint
from cloud.publishing.wheels import Wheelhouse

PACKAGE = "edge_component"
SOURCE_SUFFIXES = frozenset({".py", ".typed", ".json", ".proto"})
LEFT_OUT = frozenset({"__pycache__", "tests"})


@dataclass(frozen=True, slots=True)
class RuntimeParts:
    """What goes in.

    Attributes:
        package: the folder ``edge_component``.
        public_keys: PEM, at least one.
        wheelhouses: of one platform, one for each Python version.
    """

    package: Path
    public_keys: tuple[bytes, ...]
    wheelhouses: tuple[Wheelhouse, ...]


def runtime_archive_name(version: str, platform: str) -> str:
    """``edgewright-runtime-<version>-<os>-<arch>.zip``."""
    return f"edgewright-runtime-{version}-{platform.replace('/', '-')}.zip"


def write_runtime_archive(parts: RuntimeParts, path: Path) -> str:
    """Write the zip; returns its SHA-256 in hex.

    Raises:
        SigningKeyError: no key, or one that is not a P-256 public key.
        InvalidInputError: the package folder is not there.
    """
    return write_archive(path, runtime_entries(parts))


def runtime_entries(parts: RuntimeParts) -> dict[str, Path | bytes]:
    """Name in the archive to content."""
    if not (parts.package / "__init__.py").is_file():
        raise InvalidInputError(f"{parts.package} is not the package {PACKAGE}", "Run it from a checkout.")
    entries: dict[str, Path | bytes] = {
        f"{PACKAGE}/{path.relative_to(parts.package).as_posix()}": path for path in _sources(parts.package)
    }
    for house in parts.wheelhouses:
        entries |= {f"wheels/{name}": path for name, path in house.wheels.items()}
        entries["pip.whl"] = house.installer
    entries["requirements.txt"] = requirements(parts.wheelhouses).encode()
    entries |= trust_entries(parts.public_keys)
    return entries


def requirements(houses: Sequence[Wheelhouse]) -> str:
    """``requirements.txt`` over several Python versions: a pin that not all of them share carries a marker."""
    versions: dict[str, list[str]] = {}
    for house in houses:
        for pin in house.pins:
            versions.setdefault(pin, []).append(house.python_version)
    return "".join(f"{line}\n" for line in _lines(versions, len(houses)))


def trust_entries(public_keys: Iterable[bytes]) -> Mapping[str, bytes]:
    """``trust/<hint>.pem`` for each key, in the spelling that its hint is computed from."""
    entries = {}
    for pem in public_keys:
        spelt = _p256_pem(pem)
        entries[f"trust/{key_hint(spelt)}.pem"] = spelt
    if not entries:
        raise SigningKeyError(
            "the runtime would trust no key, hence activate nothing", "Give the public key with --trust KEY.pub."
        )
    return entries


def _lines(versions: Mapping[str, Sequence[str]], house_count: int) -> Iterator[str]:
    for pin, pythons in sorted(versions.items()):
        if len(pythons) == house_count:
            yield pin
        else:
            yield f"{pin} ; " + " or ".join(f"python_version == '{python}'" for python in pythons)


def _sources(package: Path) -> Iterator[Path]:
    for path in sorted(package.rglob("*")):
        is_left_out = LEFT_OUT.intersection(path.relative_to(package).parts)
        if path.is_file() and path.suffix in SOURCE_SUFFIXES and not is_left_out:
            yield path


def _p256_pem(pem: bytes) -> bytes:
    try:
        key = load_pem_public_key(pem)
    except (ValueError, UnsupportedAlgorithm) as error:
        raise SigningKeyError(
            "a key to trust is not a PEM public key", "Export it with `edgewright keys export`."
        ) from error
    if not isinstance(key, ec.EllipticCurvePublicKey) or not isinstance(key.curve, ec.SECP256R1):
        raise SigningKeyError("a key to trust is not on P-256", "Export it with `edgewright keys export`.")
    return key.public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)
