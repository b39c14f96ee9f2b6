"""What a step of a recipe comes to at this moment: its script and environment, with versions and configurations as they are.

The failure it exists for: a restarted component that still runs with the configuration of its first start. A step is read
anew at every start; and a nucleus that restarts what reads otherwise after a deployment can ask for that beforehand.

It starts nothing (``supervisor.py``, ``unit.py``). Concurrency: belongs to the device's event loop.
"""

import shutil
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

from simulator.nucleus.configuration import Configuration
from simulator.nucleus.errors import RecipeError
from simulator.nucleus.interpolation import Places, Variables, interpolate
from simulator.nucleus.lifecycle import Kind
from simulator.nucleus.profile import Profile
from simulator.nucleus.recipe import Recipe, Step
from simulator.nucleus.services import ConfigurationStore
from simulator.nucleus.surprises import Surprises
from simulator.nucleus.unit import Launch

NOTIFY_LINES = "\nsystemd-notify --ready\nsystemd-notify --stopping\n"


@dataclass(frozen=True, slots=True)
class Environment:
    """What every step's environment is made of besides its own; see :meth:`Steps.launch`.

    Attributes:
        base: such as PATH, AWS_REGION and the IPC socket.
        token_of: a component's SVCUID.
        version_of: of an installed component; ``None`` for another.
    """

    base: Mapping[str, str]
    token_of: Callable[[str], str]
    version_of: Callable[[str], str | None] = lambda _name: None


class Steps:
    """The steps of every component of one device."""

    def __init__(
        self,
        profile: Profile,
        places: Places,
        thing_name: str,
        configurations: ConfigurationStore,
        environment: Environment,
        surprises: Surprises,
    ) -> None:
        """Nothing is read yet."""
        self._profile = profile
        self._places = places
        self._thing_name = thing_name
        self._configurations = configurations
        self._environment = environment
        self._surprises = surprises

    def launch(self, recipe: Recipe, kind: Kind) -> Launch:
        """Script and environment of a step, with this moment's configuration.

        Raises:
            UnknownVariableError: a brace that is no variable.
            RecipeError: Setenv has a name that no environment can have.
        """
        step = recipe.steps[kind.value]
        variables = self._variables(recipe, self._known)
        script, environment = self._read(recipe, step, variables)
        if bad := [name for name in environment if not name.isidentifier()]:
            raise RecipeError(f"{recipe.name}: Setenv has the impossible name {bad[0]!r}")
        if step.skip_if and _is_skipped(interpolate(step.skip_if, variables, self._profile), self._environment.base):
            script = "true"
        if kind is Kind.STARTUP and self._profile.uses_systemd:
            script += NOTIFY_LINES
        if kind is not Kind.INSTALL and (delay_s := self._surprises.start_delay_s.get(recipe.name)):
            script = f"sleep {delay_s:g}\n{script}"
        token = self._environment.token_of(recipe.name)
        proof = {"SVCUID": token, "AWS_CONTAINER_AUTHORIZATION_TOKEN": token}
        return Launch(
            script,
            {**self._environment.base, **proof, **environment},
            self._places.work(recipe.name),
            step.timeout_s or self._profile.default_timeout_s,
        )

    def changed(self, recipe: Recipe, to_be: Mapping[str, tuple[str, Configuration]]) -> frozenset[str]:
        """Steps that read otherwise with versions and configurations as they are to be than with those of now."""
        now, then = self._variables(recipe, self._known), self._variables(recipe, to_be.get)
        return frozenset(
            name
            for name, step in recipe.steps.items()
            if self._read(recipe, step, now) != self._read(recipe, step, then)
        )

    def _read(self, recipe: Recipe, step: Step, variables: Variables) -> tuple[str, Mapping[str, str]]:
        """Script and declared environment of a step, as these variables make them."""
        declared = {**recipe.environment, **step.environment}
        environment = {name: interpolate(value, variables, self._profile) for name, value in declared.items()}
        return interpolate(step.script, variables, self._profile), environment

    def _variables(self, recipe: Recipe, look: Callable[[str], tuple[str, Configuration] | None]) -> Variables:
        _, configuration = look(recipe.name) or ("", self._configurations.of(recipe.name))
        names = [dependency.name for dependency in recipe.dependencies]
        found = {name: known for name in names if (known := look(name)) is not None}
        dependencies = found if self._profile.replaces_dependency_variables else {}
        return Variables(self._places, self._thing_name, recipe.name, recipe.version, configuration, dependencies)

    def _known(self, name: str) -> tuple[str, Configuration] | None:
        version = self._environment.version_of(name)
        return None if version is None else (version, self._configurations.of(name))


def _is_skipped(condition: str, environment: Mapping[str, str]) -> bool:
    """Whether a step's Skipif holds."""
    kind, _, what = condition.strip().partition(" ")
    if kind.lower() == "exists":
        return Path(what.strip()).exists()
    return shutil.which(what.strip(), path=environment.get("PATH")) is not None
