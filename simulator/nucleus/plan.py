"""What a deployment means for what is installed: a pure table.

The failure it exists for: believing that deploying the same version again does something. It does nothing as long as
the component is up, on the real nucleus as here; only another version or, on Lite, a configuration merge does.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from enum import StrEnum

from simulator.nucleus.document import Deployment
from simulator.nucleus.profile import Profile

UP = frozenset({"RUNNING", "FINISHED"})


class Treatment(StrEnum):
    """Of one component."""

    LEAVE = "leave"
    FETCH_AND_RUN = "fetch and run"  # another version: download, install, startup or run
    RUN_AGAIN = "run again"  # the same version: install, startup or run
    RESTART = "restart"  # the same version: startup or run


def treatment(
    version: str,
    installed_version: str | None,
    state: str,
    *,
    changes_configuration: bool,
    profile: Profile,
    changed_steps: frozenset[str] = frozenset(),
) -> Treatment:
    """What becomes of one component.

    Args:
        version: what was resolved.
        installed_version: what the device says it has; ``None`` for a new component.
        state: the component's state in Greengrass's words; empty where it has no unit yet.
        changes_configuration: whether the deployment has a configurationUpdate for it.
        profile: whether that alone restarts it.
        changed_steps: names of its steps that read otherwise with what the deployment changes.
    """
    if version != installed_version:
        return Treatment.FETCH_AND_RUN
    if changes_configuration and profile.restarts_on_merge:
        return Treatment.RUN_AGAIN
    changed = changed_steps if profile.restarts_on_changed_script else frozenset()
    if state not in UP or "install" in changed:
        return Treatment.RUN_AGAIN
    return Treatment.RESTART if changed else Treatment.LEAVE


@dataclass(frozen=True, slots=True)
class Plan:
    """For every component that is wanted or installed."""

    treatments: Mapping[str, Treatment]
    removed: tuple[str, ...]

    @property
    def to_run(self) -> tuple[str, ...]:
        """What runs anew, in the order of ``treatments``."""
        return tuple(name for name, chosen in self.treatments.items() if chosen is not Treatment.LEAVE)

    @property
    def to_install(self) -> tuple[str, ...]:
        """Of those, whose install step runs as well."""
        return tuple(name for name in self.to_run if self.treatments[name] is not Treatment.RESTART)


def make_plan(
    deployment: Deployment,
    resolved: Mapping[str, str],
    installed: Mapping[str, str],
    state_of: Callable[[str], str],
    profile: Profile,
    changed_steps_of: Callable[[str], frozenset[str]] = lambda _name: frozenset(),
) -> Plan:
    """Apply the table.

    Args:
        deployment: the document.
        resolved: versions by name, in the order in which they are to be treated.
        installed: versions by name.
        state_of: a component's state in Greengrass's words.
        profile: the nucleus.
        changed_steps_of: an installed component's steps that read otherwise with what the deployment changes.
    """
    treatments = {
        name: treatment(
            version,
            installed.get(name),
            state_of(name),
            changes_configuration=name in deployment.components and deployment.components[name].changes_configuration,
            profile=profile,
            changed_steps=changed_steps_of(name) if version == installed.get(name) else frozenset(),
        )
        for name, version in resolved.items()
    }
    return Plan(treatments, tuple(sorted(installed.keys() - resolved.keys())))
