"""All components of one device: started in dependency order, bound to each other as their recipes say.

The failure it exists for: a model component that takes its runtime down with it. A HARD dependency binds: the dependent
never starts while the other has no unit, and is stopped when it ends. A SOFT one only orders. (Measured on Lite.)

It decides no deployment (``deployment.py``) and reads no step (``steps.py``). Concurrency: belongs to the device's event
loop.
"""

import asyncio
import logging
import os
import signal
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass

from simulator.nucleus.errors import ComponentBrokenError, ComponentNotReadyError
from simulator.nucleus.interpolation import Places
from simulator.nucleus.lifecycle import ACTIVE, GREENGRASS_STATE, Event, Kind, State
from simulator.nucleus.profile import Profile
from simulator.nucleus.recipe import Recipe
from simulator.nucleus.services import ComponentView
from simulator.nucleus.steps import Steps
from simulator.nucleus.unit import UnitProcess

SETTLED = frozenset({State.RUNNING, State.EXITED, State.FINISHED, State.BROKEN, State.WAITING})
READY = ACTIVE | {State.FINISHED}

logger = logging.getLogger(__name__)


@dataclass(slots=True)
class Component:
    """One installed component: the recipe its unit was made from, and the unit of its startup or run."""

    recipe: Recipe
    unit: UnitProcess | None
    bound_to: tuple[str, ...] = ()


class Supervisor:
    """Implements :class:`simulator.nucleus.services.Components`."""

    def __init__(
        self,
        profile: Profile,
        places: Places,
        steps: Steps,
        on_change: Callable[[], None] = lambda: None,
    ) -> None:
        """Nothing runs; ``on_change`` hears that some component's state is another one."""
        self._profile = profile
        self._places = places
        self._steps = steps
        self._on_change = on_change
        self._components: dict[str, Component] = {}
        self._stopped_along: set[str] = set()
        """Ended with what they depend on, and to be started with it."""
        self._starting: set[asyncio.Task[None]] = set()

    def views(self) -> Sequence[ComponentView]:
        """Every component, in order of name."""
        return [
            ComponentView(name, component.recipe.version, self.greengrass_state(name))
            for name, component in sorted(self._components.items())
        ]

    def greengrass_state(self, name: str) -> str:
        """A component's state in Greengrass's words; empty for an unknown one."""
        component = self._components.get(name)
        if component is None:
            return ""
        if component.unit is None:
            return "INSTALLED" if self._profile.install_only_hangs else "FINISHED"
        return GREENGRASS_STATE[component.unit.state]

    def process_id(self, name: str) -> int | None:
        """Of the component's startup or run; ``None`` without a process."""
        component = self._components.get(name)
        return component.unit.process_id if component and component.unit else None

    def component_of_process(self, process_id: int) -> str | None:
        """Whose process it is, by its session; ``None`` for a stranger's."""
        try:
            session = os.getsid(process_id)
        except ProcessLookupError:
            return None
        return next((name for name in self._components if self.process_id(name) == session), None)

    def report_state(self, name: str, state: str) -> None:
        """RUNNING completes a startup, as systemd's readiness does; ERRORED is a failure, or changes nothing (Lite)."""
        component = self._components.get(name)
        if component is None or component.unit is None:
            return
        if state == "RUNNING":
            component.unit.announce(Event.READY)
        elif self._profile.errored_fails:
            component.unit.kill()

    async def install(self, recipe: Recipe) -> None:
        """Run a recipe's install step, if it has one.

        Raises:
            ComponentBrokenError: it failed as often as it is tried.
        """
        if "install" not in recipe.steps:
            return
        unit = self._make_unit(recipe, Kind.INSTALL)
        unit.start()
        limit_s = self._profile.ready_timeout_s
        try:
            if await unit.wait_for(frozenset({State.EXITED, State.BROKEN}), limit_s) is State.BROKEN:
                raise ComponentBrokenError(
                    f"{recipe.name} {recipe.version}: install failed {self._profile.tries} times ({unit.last_exit})",
                    f"Read {self._places.log(recipe.name)}.",
                )
        finally:
            await unit.stop()

    async def put(self, recipe: Recipe) -> None:
        """Replace a component's unit by this recipe's; what ran before is stopped, nothing is started."""
        await self.remove(recipe.name)
        kind = None if recipe.main_step is None else Kind(recipe.main_step)
        unit = None if kind is None else self._make_unit(recipe, kind)
        bound_to = tuple(dependency.name for dependency in recipe.dependencies if dependency.hard)
        self._components[recipe.name] = Component(recipe, unit, bound_to)

    async def remove(self, name: str) -> None:
        """Stop a component and forget it."""
        component = self._components.pop(name, None)
        if component is not None and component.unit is not None:
            await component.unit.stop()
        self._stop_dependents(name)

    def forgive(self) -> None:
        """Forget every failure, as ``systemctl reset-failed`` does."""
        for component in self._components.values():
            if component.unit is not None:
                component.unit.forgive()

    async def start_all(self) -> None:
        """Start everything that is not active, each after what it depends on has settled."""
        starts: dict[str, asyncio.Task[None]] = {}
        for name in start_order(component.recipe for component in self._components.values()):
            unit = self._components[name].unit
            if unit is None:
                continue
            if self._profile.restarts_finished or name in self._stopped_along or unit.state is not State.FINISHED:
                self._stopped_along.discard(name)
                starts[name] = self._begin_start(name, starts)
        if starts:
            await asyncio.wait(starts.values())

    async def wait_ready(self, name: str) -> None:
        """Wait until a component is RUNNING or FINISHED.

        Raises:
            ComponentBrokenError: it is BROKEN.
            ComponentNotReadyError: neither in time; at once clear for one without startup and run, but Lite waits.
        """
        component = self._components[name]
        limit_s = self._profile.ready_timeout_s
        if component.unit is None:
            if self._profile.install_only_hangs:
                await asyncio.sleep(limit_s)
                raise ComponentNotReadyError(
                    f"{name} has neither run nor startup and never finishes here ({limit_s:g} s waited)",
                    "Give it a startup step.",
                )
            return
        if await component.unit.wait_for(READY | {State.BROKEN}, limit_s) is State.BROKEN:
            raise ComponentBrokenError(
                f"{name} {component.recipe.version} failed {self._profile.tries} times ({component.unit.last_exit})",
                f"Read {self._places.log(name)}.",
            )

    async def restart(self, name: str) -> None:
        """Stop and start one component; what depends HARD on it, and ran, follows (read, in systemd and Java)."""
        component = self._components[name]
        if component.unit is None:
            return
        followers = tuple(self._bound_to(name))
        await component.unit.stop()
        self._stop_dependents(name)
        component.unit.forgive()
        component.unit.start()
        for follower in followers:
            self._stopped_along.discard(follower)
            self._begin_start(follower, {})

    async def stop_component(self, name: str) -> None:
        """Stop one component."""
        unit = self._components[name].unit
        if unit is not None:
            await unit.stop()

    def _begin_start(self, name: str, starts: Mapping[str, asyncio.Task[None]]) -> "asyncio.Task[None]":
        """Start it in a task that ends with the device."""
        task = asyncio.get_running_loop().create_task(self._start_in_order(name, starts))
        self._starting.add(task)
        task.add_done_callback(self._starting.discard)
        return task

    def _start_no_more(self) -> None:
        for task in self._starting:
            task.cancel()

    async def stop_all(self) -> None:
        """Stop every component, dependents along with the rest."""
        self._start_no_more()
        units = [component.unit for component in self._components.values() if component.unit is not None]
        await asyncio.gather(*(unit.stop() for unit in units))

    async def power_off(self) -> None:
        """Every process dies at once."""
        self._start_no_more()
        units = [component.unit for component in self._components.values() if component.unit is not None]
        await asyncio.gather(*(unit.power_off() for unit in units))

    def kill(self, name: str, number: int = signal.SIGKILL) -> bool:
        """Send a signal to a component's processes; ``False`` if it has none."""
        component = self._components.get(name)
        if component is None or component.unit is None or component.unit.process_id is None:
            return False
        component.unit.kill(number)
        return True

    async def _start_in_order(self, name: str, starts: Mapping[str, asyncio.Task[None]]) -> None:
        component = self._components[name]
        assert component.unit is not None
        for other in [dependency.name for dependency in component.recipe.dependencies]:
            if other in starts and other != name and not _waits_for(self._components, other, name):
                await asyncio.wait({starts[other]})
            state = await self._settled(other)
            if other not in component.bound_to:
                continue
            if state not in READY and not self._has_finished(other):
                logger.warning("%s does not start: it depends HARD on %s, which is %s", name, other, state or "no unit")
                return
        await component.unit.wait_for(frozenset(State) - {State.STOPPING}, self._profile.ready_timeout_s)
        component.unit.start()
        for other in component.bound_to if self._profile.hard_binds else ():
            if await self._settled(other) is State.FINISHED:
                await component.unit.stop()

    def _has_finished(self, name: str) -> bool:
        """Whether it has neither run nor startup, and counts as finished for that."""
        return name in self._components and self.greengrass_state(name) == "FINISHED"

    async def _settled(self, name: str) -> State | None:
        """Where a component's first try led; ``None`` for one without a unit."""
        component = self._components.get(name)
        if component is None or component.unit is None:
            return None
        return await component.unit.wait_for(SETTLED | {State.NEW, State.STOPPING}, self._profile.ready_timeout_s)

    def _note(self, name: str, state: State) -> None:
        self._on_change()
        if state is State.BROKEN or (state is State.FINISHED and self._profile.hard_binds):
            self._stop_dependents(name)

    def _bound_to(self, name: str) -> Mapping[str, UnitProcess]:
        """Units that depend HARD on a component and are alive."""
        return {
            dependent: component.unit
            for dependent, component in self._components.items()
            if name in component.bound_to and component.unit is not None and component.unit.is_alive()
        }

    def _stop_dependents(self, name: str) -> None:
        for dependent, unit in self._bound_to(name).items():
            logger.info("%s is stopped with %s, on which it depends HARD", dependent, name)
            unit.ask_to_stop()
            self._stopped_along.add(dependent)

    def _make_unit(self, recipe: Recipe, kind: Kind) -> UnitProcess:
        self._places.work(recipe.name).mkdir(parents=True, exist_ok=True)
        return UnitProcess(
            recipe.name,
            kind,
            lambda: self._steps.launch(recipe, kind),
            self._profile,
            self._places.root / "run",
            self._places.log(recipe.name),
            lambda state: self._note(recipe.name, state) if kind is not Kind.INSTALL else None,
        )


def _waits_for(components: Mapping[str, Component], name: str, other: str) -> bool:
    """Whether a component directly depends on another one (a circle of two is cut there)."""
    return any(dependency.name == other for dependency in components[name].recipe.dependencies)


def start_order(recipes: Iterable[Recipe]) -> tuple[str, ...]:
    """Names so that each comes after what it depends on; a circle is cut at its first name in alphabetical order."""
    known = {recipe.name: recipe for recipe in sorted(recipes, key=lambda recipe: recipe.name)}
    ordered: dict[str, None] = {}

    def visit(name: str, above: tuple[str, ...]) -> None:
        if name in ordered or name in above or name not in known:
            return
        for dependency in known[name].dependencies:
            visit(dependency.name, (*above, name))
        ordered[name] = None

    for name in known:
        visit(name, ())
    return tuple(ordered)
