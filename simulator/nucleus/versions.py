"""Semantic versions and the requirement language of recipes, as pure values.

A requirement is comparators separated by blanks, all of which must hold, in alternatives separated by ``||``:
``1.0.0``, ``=1.0.0``, ``>=1.0.0 <2.0.0``, ``^1.2.0``, ``~1.2.0``, ``*``. (The npm dialect without hyphen ranges, which is
what Greengrass documents; pre-releases take part by ordinary precedence.)
"""

import re
from dataclasses import dataclass
from functools import total_ordering
from typing import Self

from simulator.nucleus.errors import VersionRangeError

_VERSION = re.compile(
    r"(0|[1-9]\d*)\.(0|[1-9]\d*)\.(0|[1-9]\d*)(?:-([0-9A-Za-z-]+(?:\.[0-9A-Za-z-]+)*))?(?:\+[0-9A-Za-z.-]+)?"
)
_COMPARATOR = re.compile(r"(>=|<=|>|<|=|\^|~)?\s*([^\s<>=^~|]+)")


@total_ordering
@dataclass(frozen=True, slots=True)
class Version:
    """``major.minor.patch`` with an optional pre-release; build metadata is ignored."""

    numbers: tuple[int, int, int]
    prerelease: tuple[str, ...] = ()

    @classmethod
    def parse(cls, text: str) -> Self:
        """Decode.

        Raises:
            VersionRangeError: not a semantic version.
        """
        match = _VERSION.fullmatch(text)
        if match is None:
            raise VersionRangeError(f"{text!r} is not a semantic version", "Write major.minor.patch, such as 1.0.0.")
        major, minor, patch, prerelease = match.groups()
        return cls((int(major), int(minor), int(patch)), tuple(prerelease.split(".")) if prerelease else ())

    def __str__(self) -> str:
        core = ".".join(map(str, self.numbers))
        return f"{core}-{'.'.join(self.prerelease)}" if self.prerelease else core

    def __lt__(self, other: "Version") -> bool:
        return self.precedence < other.precedence

    @property
    def precedence(self) -> tuple[tuple[int, int, int], bool, tuple[tuple[int, int, str], ...]]:
        """Sorts as semantic versioning says: a pre-release before its release, numbers before words."""
        parts = tuple((0, int(part), "") if part.isdigit() else (1, 0, part) for part in self.prerelease)
        return (self.numbers, not self.prerelease, parts)


@dataclass(frozen=True, slots=True)
class _Bound:
    operator: str
    version: Version

    def admits(self, version: Version) -> bool:
        return {
            "=": version == self.version,
            ">": version > self.version,
            ">=": version >= self.version,
            "<": version < self.version,
            "<=": version <= self.version,
        }[self.operator]


@dataclass(frozen=True, slots=True)
class VersionRange:
    """A requirement; ``"1.2.3" in VersionRange.parse(">=1.0.0 <2.0.0")``."""

    alternatives: tuple[tuple[_Bound, ...], ...]

    @classmethod
    def parse(cls, text: str) -> Self:
        """Decode.

        Raises:
            VersionRangeError: naming the part that is not understood.
        """
        return cls(tuple(_bounds(part) for part in text.split("||")))

    def __contains__(self, version: str) -> bool:
        parsed = Version.parse(version)
        return any(all(bound.admits(parsed) for bound in bounds) for bounds in self.alternatives)


def _bounds(text: str) -> tuple[_Bound, ...]:
    bounds: list[_Bound] = []
    at = 0
    for match in _COMPARATOR.finditer(text):
        if text[at : match.start()].strip():
            raise VersionRangeError(f"{text!r} is not a version requirement")
        at = match.end()
        bounds += _expand(match.group(1) or "=", match.group(2))
    if text[at:].strip():
        raise VersionRangeError(f"{text!r} is not a version requirement")
    return tuple(bounds)


def _expand(operator: str, text: str) -> list[_Bound]:
    if text in {"*", "x", "X"}:
        return []
    version = Version.parse(text)
    if operator not in {"^", "~"}:
        return [_Bound(operator, version)]
    major, minor, patch = version.numbers
    if operator == "~":
        end = (major, minor + 1, 0)
    elif major:
        end = (major + 1, 0, 0)
    elif minor:
        end = (0, minor + 1, 0)
    else:
        end = (0, 0, patch + 1)
    return [_Bound(">=", version), _Bound("<", Version(end))]
