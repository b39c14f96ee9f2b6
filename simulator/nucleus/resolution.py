"""Which version of which component: requirements in, one recipe per component out.

The failure it exists for: a model rollout that upgrades the runtime by resolution. As on Lite, an installed version that
satisfies every requirement is kept without asking the cloud; what is not installed gets the highest that fits; a
requirement found later that an earlier choice does not meet fails the deployment, there is no going back.
"""

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass

from simulator.nucleus.errors import ResolutionError
from simulator.nucleus.recipe import BUILT_IN, Recipe
from simulator.nucleus.versions import VersionRange


@dataclass(frozen=True, slots=True)
class Resolved:
    """One choice; ``arn`` is empty for an installed version, whose artifacts are there."""

    recipe: Recipe
    arn: str


Installed = Callable[[str], Resolved | None]
AskCloud = Callable[[str, str], Awaitable[Resolved]]


async def resolve(roots: Mapping[str, str], installed: Installed, ask_cloud: AskCloud) -> Mapping[str, Resolved]:
    """Choose a version of each root component and of everything they depend on.

    Args:
        roots: requirement by component name.
        installed: what the device has of a component.
        ask_cloud: name and requirement to the highest version that fits.

    Raises:
        ResolutionError: two requirements contradict each other, or nothing fits.
    """
    waiting = {name: requirement for name, requirement in roots.items() if name not in BUILT_IN}
    chosen: dict[str, Resolved] = {}
    while waiting:
        name = next(iter(waiting))
        requirement = waiting.pop(name)
        present = installed(name)
        if present is not None and present.recipe.version in VersionRange.parse(requirement):
            chosen[name] = present
        else:
            chosen[name] = await ask_cloud(name, requirement)
        _add_dependencies(chosen[name].recipe, chosen, waiting)
    return chosen


def _add_dependencies(recipe: Recipe, chosen: Mapping[str, Resolved], waiting: dict[str, str]) -> None:
    for dependency in recipe.dependencies:
        if dependency.name in chosen:
            version = chosen[dependency.name].recipe.version
            if version not in VersionRange.parse(dependency.requirement):
                raise ResolutionError(
                    f"{recipe.name} {recipe.version} needs {dependency.name} {dependency.requirement}, "
                    f"but {version} was chosen for another requirement"
                )
        else:
            asked = waiting.get(dependency.name)
            waiting[dependency.name] = f"{asked} {dependency.requirement}" if asked else dependency.requirement
