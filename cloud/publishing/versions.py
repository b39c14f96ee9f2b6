"""Which version comes next. Pure."""

from collections.abc import Iterable

from cloud.errors import InvalidInputError
from edge_component.contracts.codec import VERSION_PATTERN

AUTO = "auto"
FIRST_VERSION = "1.0.0"


def check_version(text: str) -> str:
    """The text itself, if it is a semantic version.

    Raises:
        InvalidInputError: it is not.
    """
    if not VERSION_PATTERN.fullmatch(text):
        raise InvalidInputError(f"{text!r} is not a version", "Write three numbers, such as 1.2.0.")
    return text


def next_minor(existing: Iterable[str]) -> str:
    """The highest existing version with its minor number raised; ``1.0.0`` where there is none.

    Pre-releases (``1.2.0-rc.1``) count as their release, so that the next version is above both.
    """
    highest = highest_version(existing)
    if highest is None:
        return FIRST_VERSION
    major, minor, _ = numbers(highest)
    return f"{major}.{minor + 1}.0"


def highest_version(existing: Iterable[str]) -> str | None:
    """The highest of the texts that are versions; a release is above its own pre-releases."""
    versions = [text for text in existing if VERSION_PATTERN.fullmatch(text)]
    return max(versions, key=lambda text: (numbers(text), "-" not in text, text), default=None)


def numbers(version: str) -> tuple[int, int, int]:
    """Major, minor and patch."""
    major, minor, patch = version.partition("-")[0].split(".")
    return int(major), int(minor), int(patch)
