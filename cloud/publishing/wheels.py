"""The wheels that a device installs from, fetched once for each platform and Python version and kept in a cache.

The failure this exists for: a core device without a package index (or with a compiler's worth of missing headers) that
can install nothing. So the runtime's artifact carries every wheel, pinned by ``requirements.lock``, binary only. A cache
folder is used again only if each wheel in it still has the digest it was fetched with; then no network is needed.

What may go wrong is one error that names the cache. Fetching is safe to run twice at once: a folder is made whole under
another name and renamed.
"""

import hashlib
import json
import os
import subprocess
import sys
import tempfile
import tomllib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from packaging.requirements import InvalidRequirement, Requirement
from packaging.utils import canonicalize_name, parse_wheel_filename

from cloud.digests import file_sha256
from cloud.errors import InvalidInputError
from cloud.publishing.errors import WheelsUnavailableError

CACHE_VARIABLE = "EDGEWRIGHT_WHEEL_CACHE"
LISTING_FILE = "wheels.json"
INSTALLER = "pip==26.0"
"""The pip that travels along, since a Debian without python3-venv has none."""

PYTHON_VERSIONS = ("3.11", "3.12", "3.13")
GLIBC_MINOR_MAX = 28
"""Newest glibc that a device must have (Debian 10, RHEL 8, Amazon Linux 2023 have it)."""

DOWNLOAD_TIMEOUT_S = 900


@dataclass(frozen=True, slots=True)
class Wheelhouse:
    """One platform's and Python version's wheels; ``pins`` is ``name==version`` for each, without the installer."""

    platform: str
    python_version: str
    wheels: Mapping[str, Path]
    installer: Path
    pins: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Wanted:
    """What to fetch: direct requirements, and the versions that everything is held to."""

    platform: str
    python_version: str
    requirements: tuple[str, ...]
    constraints: tuple[str, ...]

    @property
    def key(self) -> str:
        """The cache folder's name: the same wish, the same folder."""
        text = json.dumps([self.platform, self.python_version, self.requirements, self.constraints, INSTALLER])
        digest = hashlib.sha256(text.encode()).hexdigest()[:16]
        return f"{self.platform.replace('/', '-')}-{self.python_version}-{digest}"


def default_cache(environment: Mapping[str, str] | None = None) -> Path:
    """``$EDGEWRIGHT_WHEEL_CACHE``, else ``edgewright/wheels`` below the user's cache folder."""
    source = os.environ if environment is None else environment
    if CACHE_VARIABLE in source:
        return Path(source[CACHE_VARIABLE])
    home = source.get("XDG_CACHE_HOME") or str(Path.home() / ".cache")
    return Path(home) / "edgewright" / "wheels"


def device_requirements(pyproject: str, *, with_grpc: bool = False) -> tuple[str, ...]:
    """The ``[device]`` extra of pyproject.toml's text: what the runtime imports; and ``[grpc]``, if its doors are wanted."""
    extras = tomllib.loads(pyproject)["project"]["optional-dependencies"]
    return tuple(extras["device"] + (extras["grpc"] if with_grpc else []))


def constraints_for(lock: str, python_version: str) -> tuple[str, ...]:
    """The pins of a lock file that hold for a Python version on Linux, their markers evaluated away.

    pip evaluates markers for the Python it runs on, not for the one it downloads for; so they are taken out here.

    Raises:
        InvalidInputError: a line is not ``name==version``.
    """
    environment = {
        "python_version": python_version,
        "python_full_version": f"{python_version}.0",
        "sys_platform": "linux",
        "platform_system": "Linux",
        "os_name": "posix",
        "platform_python_implementation": "CPython",
        "implementation_name": "cpython",
        "extra": "",
    }
    pins = []
    for line in lock.splitlines():
        text = line.partition(" #")[0].strip()
        if not text or text.startswith("#"):
            continue
        try:
            requirement = Requirement(text)
        except InvalidRequirement as error:
            raise InvalidInputError(f"requirements.lock: {line!r}: {error}", "Write the lock file again.") from error
        if requirement.marker is None or requirement.marker.evaluate(environment):
            pins.append(f"{requirement.name}{requirement.specifier}")
    return tuple(pins)


def wheelhouse(wanted: Wanted, cache: Path) -> Wheelhouse:
    """From the cache, or fetched into it.

    Raises:
        WheelsUnavailableError: not in the cache, and the package index did not give them.
    """
    folder = cache / wanted.key
    if not _is_whole(folder):
        _fetch(wanted, folder)
    wheels = {path.name: path for path in sorted(folder.glob("*.whl"))}
    installer_name = canonicalize_name(Requirement(INSTALLER).name)
    installer = next(path for name, path in wheels.items() if parse_wheel_filename(name)[0] == installer_name)
    del wheels[installer.name]
    pins = tuple(sorted(_pin(name) for name in wheels))
    return Wheelhouse(wanted.platform, wanted.python_version, wheels, installer, pins)


def _pin(wheel_name: str) -> str:
    name, version, _, _ = parse_wheel_filename(wheel_name)
    return f"{name}=={version}"


def _is_whole(folder: Path) -> bool:
    try:
        listed: Mapping[str, str] = json.loads((folder / LISTING_FILE).read_bytes())
        return bool(listed) and all(file_sha256(folder / name) == digest for name, digest in listed.items())
    except (OSError, ValueError):
        return False


def _fetch(wanted: Wanted, folder: Path) -> None:
    folder.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=f"{folder.name}-", dir=folder.parent) as scratch:
        whole = Path(scratch) / "whole"
        whole.mkdir()
        _download(wanted, Path(scratch), whole)
        listing = {path.name: file_sha256(path) for path in sorted(whole.glob("*.whl"))}
        (whole / LISTING_FILE).write_text(json.dumps(listing, indent=1))
        if folder.exists():  # damaged, or made by somebody else meanwhile
            folder.rename(Path(scratch) / "replaced")
        whole.rename(folder)


def _download(wanted: Wanted, scratch: Path, destination: Path) -> None:
    requirements, constraints = scratch / "requirements.txt", scratch / "constraints.txt"
    requirements.write_text("\n".join([*wanted.requirements, INSTALLER]) + "\n")
    constraints.write_text("\n".join(wanted.constraints) + "\n")
    command = [
        sys.executable, "-m", "pip", "download", "--quiet", "--no-input", "--disable-pip-version-check",
        "--only-binary=:all:", "--implementation", "cp", "--python-version", wanted.python_version,
        *_platform_options(wanted.platform), "--dest", str(destination),
        "--requirement", str(requirements), "--constraint", str(constraints),
    ]  # fmt: skip
    try:
        subprocess.run(command, check=True, capture_output=True, text=True, timeout=DOWNLOAD_TIMEOUT_S)
    except subprocess.CalledProcessError as error:
        raise _unavailable(wanted, destination, _last_lines(error.stderr)) from error
    except subprocess.TimeoutExpired as error:
        raise _unavailable(wanted, destination, f"no end after {DOWNLOAD_TIMEOUT_S} s") from error


def _platform_options(platform: str) -> Sequence[str]:
    machine = platform.rpartition("/")[2]
    tags = [f"manylinux_2_{minor}_{machine}" for minor in range(GLIBC_MINOR_MAX, 16, -1)]
    return [option for tag in [*tags, f"manylinux2014_{machine}"] for option in ("--platform", tag)]


def _unavailable(wanted: Wanted, destination: Path, reason: str) -> WheelsUnavailableError:
    cache = destination.parent.parent
    return WheelsUnavailableError(
        f"the wheels for {wanted.platform}, Python {wanted.python_version} are not in {cache} "
        f"and could not be fetched: {reason}",
        f"Run it once where a package index can be reached, or copy {cache} from such a machine.",
    )


def _last_lines(text: str, line_count: int = 2) -> str:
    lines = [line.strip() for line in text.splitlines() if line.startswith("ERROR")]
    return " ".join(lines[-line_count:]) or text.strip()[-300:]
