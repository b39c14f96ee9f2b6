"""Recipe variables in scripts and in Setenv. Pure.

The failure it exists for: a script that says ``${X}`` or ``{dep:artifacts:path}``, which AWS's documentation allows and
Lite does not: there every ``{`` begins one of six variables or fails the script. (Measured; read in recipe-runner.) The
Java nucleus replaces those of a declared dependency, and leaves what it does not know.
"""

import json
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path

from simulator.nucleus.configuration import Configuration, parse_pointer
from simulator.nucleus.errors import UnknownVariableError
from simulator.nucleus.profile import Profile

VARIABLE_BYTES_MAX = 256
"""Lite's buffer for what stands between the braces."""

_BRACES = re.compile(r"\{([^}]*)(\}?)")


@dataclass(frozen=True, slots=True)
class Places:
    """Where a device keeps things; all below one root folder, laid out as Lite does."""

    root: Path

    def work(self, component: str) -> Path:
        """A component's own folder, kept over versions."""
        return self.root / "work" / component

    def artifacts(self, component: str, version: str) -> Path:
        """Where a version's artifacts lie as downloaded."""
        return self.root / "packages" / "artifacts" / component / version

    def unarchived(self, component: str, version: str) -> Path:
        """Where its archives are unpacked, each in a folder of the archive's name without ``.zip``."""
        return self.root / "packages" / "artifacts-unarchived" / component / version

    def recipe(self, component: str, version: str) -> Path:
        """Its recipe, as the cloud sent it."""
        return self.root / "packages" / "recipes" / f"{component}-{version}.json"

    def log(self, component: str) -> Path:
        """What the component's steps print."""
        return self.root / "logs" / f"{component}.log"


@dataclass(frozen=True, slots=True)
class Variables:
    """What variables stand for, for one version of one component.

    ``dependencies`` are those whose variables may be named, ``{<dependency>:artifacts:path}``: version and configuration
    of each; none on a nucleus that does not know this form.
    """

    places: Places
    thing_name: str
    component: str
    version: str
    configuration: Configuration
    dependencies: Mapping[str, tuple[str, Configuration]] = field(default_factory=dict)

    def value(self, name: str) -> str | None:
        """``None`` for a name that is no variable."""
        kind, _, argument = name.partition(":")
        if kind in self.dependencies:
            version, configuration = self.dependencies[kind]
            other = replace(self, component=kind, version=version, configuration=configuration, dependencies={})
            return other.value(argument)
        if kind == "configuration":
            return self._configured(argument)
        known: dict[str, Callable[[], str]] = {
            "kernel:rootPath": lambda: str(self.places.root),
            "iot:thingName": lambda: self.thing_name,
            "work:path": lambda: f"{self.places.work(self.component)}/",
            "artifacts:path": lambda: f"{self.places.artifacts(self.component, self.version)}/",
            "artifacts:decompressedPath": lambda: f"{self.places.unarchived(self.component, self.version)}/",
        }
        return known[name]() if name in known else None

    def _configured(self, pointer: str) -> str | None:
        try:
            value = self.configuration.value(parse_pointer(pointer))
        except KeyError:
            return None
        return value if isinstance(value, str) else json.dumps(value)


def interpolate(text: str, variables: Variables, profile: Profile) -> str:
    """Replace every variable.

    Raises:
        UnknownVariableError: naming it, where this nucleus fails instead of leaving it.
    """

    def replace(match: re.Match[str]) -> str:
        name, closed = match.group(1), match.group(2)
        value = variables.value(name) if closed and len(name.encode()) <= VARIABLE_BYTES_MAX else None
        if value is not None:
            return value
        if profile.fails_on_unknown_variable:
            raise UnknownVariableError(
                f"{variables.component} {variables.version}: {{{name}{closed} is not a recipe variable",
                "A script may contain no brace but those of recipe variables; write $X instead of a braced X.",
            )
        return match.group(0)

    return _BRACES.sub(replace, text)
