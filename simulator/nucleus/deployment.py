"""Carries a deployment out: resolve, record, install, switch, start, wait, clean up; then a verdict.

The failure it exists for: a simulator whose SUCCEEDED is always true. The order of these phases is Lite's own, with
its hole: a version is recorded before anything of it runs. A daemon killed in between finds, when it is back, nothing
left to do, and reports SUCCEEDED for a startup that never ran.

What a document means is decided in ``plan.py`` and ``resolution.py``; this is the shell around them. On Lite a failed
deployment leaves what it reached; the Java nucleus goes back to what there was before it, where the deployment asks for
that (``snapshot.py``), and what it added is stopped.

Concurrency: one deployment at a time, as one task on the device's event loop; cancelling it is the daemon's death.
Downloads run in worker threads.
"""

import asyncio
import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from functools import partial
from typing import ParamSpec, TypeVar

from simulator.nucleus.artifacts import delete_version, fetch_artifacts, versions_on_disk
from simulator.nucleus.configuration import DEFAULT_TIME_MS, Configuration, KeyPath
from simulator.nucleus.document import Deployment, Wanted
from simulator.nucleus.errors import DeploymentFailedError, RecipeError, SourceUnavailableError
from simulator.nucleus.interpolation import Places
from simulator.nucleus.plan import Plan, Treatment, make_plan
from simulator.nucleus.ports import ComponentSource, Platform
from simulator.nucleus.profile import Profile
from simulator.nucleus.recipe import Recipe, parse_recipe
from simulator.nucleus.resolution import Resolved, resolve
from simulator.nucleus.services import ConfigurationStore
from simulator.nucleus.snapshot import Snapshot
from simulator.nucleus.state import DeviceState, Installed
from simulator.nucleus.steps import Steps
from simulator.nucleus.supervisor import Supervisor, start_order
from simulator.nucleus.surprises import Surprises

logger = logging.getLogger(__name__)

Parameters = ParamSpec("Parameters")
Answer = TypeVar("Answer")


class Phase(StrEnum):
    """Where a deployment is; each ends with everything it did on disk."""

    RESOLVE = "resolve"
    RECORD = "record"
    INSTALL = "install"
    SWITCH = "switch"
    START = "start"
    WAIT = "wait"
    CLEAN = "clean"


@dataclass(frozen=True, slots=True)
class Verdict:
    """How a deployment ended.

    Attributes:
        code, message: of the failure; empty on success.
        detailed_status: for fleet status. Lite says the same of every failure, whatever the deployment asked for.
    """

    deployment_id: str
    succeeded: bool
    code: str = ""
    message: str = ""
    detailed_status: str = ""

    @property
    def job_status(self) -> str:
        """For the IoT Job."""
        return "SUCCEEDED" if self.succeeded else "FAILED"


@dataclass(frozen=True, slots=True)
class Workshop:
    """What a deployment works on, shared with the device."""

    profile: Profile
    places: Places
    platform: Platform
    source: ComponentSource
    supervisor: Supervisor
    steps: Steps
    configurations: ConfigurationStore
    state: DeviceState
    save: Callable[[], None]
    surprises: Surprises


class DaemonKilledError(Exception):
    """The injected death of the deployment daemon; no deployment's verdict."""


async def carry_out(deployment: Deployment, workshop: Workshop) -> Verdict:
    """Make the device what the document says, as far as it goes.

    Raises:
        DaemonKilledError: injected, between two phases.
    """
    run = _Run(deployment, workshop)
    try:
        await run.run()
    except DeploymentFailedError as error:
        logger.warning("deployment %s failed (%s): %s", deployment.deployment_id, error.code, error)
        return await run.failed(error)
    except DaemonKilledError:
        raise
    except Exception as error:  # a defect of the simulator is this deployment's end, not the daemon's
        logger.exception("deployment %s ended in an unforeseen error", deployment.deployment_id)
        defect = DeploymentFailedError(f"an unforeseen error of the simulator: {error!r}", "Report it.")
        return await run.failed(defect)
    return Verdict(deployment.deployment_id, succeeded=True, detailed_status="SUCCESSFUL")


class _Run:
    """One deployment on its way."""

    def __init__(self, deployment: Deployment, workshop: Workshop) -> None:
        self.deployment = deployment
        self.at = workshop
        self.resolved: Mapping[str, Resolved] = {}
        self.plan = Plan({}, ())
        self.phase = Phase.RESOLVE
        self.before = Snapshot.of(workshop.state, workshop.configurations)
        self.broken_before = {view.name for view in workshop.supervisor.views() if view.state == "BROKEN"}

    async def failed(self, error: DeploymentFailedError) -> Verdict:
        """The verdict, after going back as far as this nucleus does."""
        told = [str(error), error.remedy]
        detail = "FAILED_ROLLBACK_NOT_REQUESTED"
        if self.at.profile.rolls_back and self.phase in {Phase.RESOLVE, Phase.RECORD}:
            self._restore()
            detail = "FAILED_NO_STATE_CHANGE"
        elif self.at.profile.rolls_back and self.deployment.wants_rollback:
            try:
                await self._roll_back()
                detail = "FAILED_ROLLBACK_COMPLETE"
            except (DeploymentFailedError, OSError) as second:  # OSError: the recipe of before is gone
                told += ["And going back failed:", str(second), getattr(second, "remedy", "")]
                detail = "FAILED_UNABLE_TO_ROLLBACK"
        message = " ".join(part for part in told if part)
        return Verdict(self.deployment.deployment_id, False, error.code, message, detail)

    def _restore(self) -> None:
        self.before.restore(self.at.state, self.at.configurations)
        self.at.save()

    async def _roll_back(self) -> None:
        """Have what was touched as it was before, running; what was broken then may stay so."""
        logger.info("deployment %s: going back", self.deployment.deployment_id)
        self._restore()
        touched = {name: self.at.state.installed.get(name) for name in self.plan.to_run}
        for name in [name for name, component in touched.items() if component is None]:
            await self.at.supervisor.remove(name)
        back = {
            name: self._read_recipe(name, component.version)
            for name, component in touched.items()
            if component is not None
        }
        for name, recipe in back.items():
            if name in self.plan.to_install:
                await self.at.supervisor.install(recipe)
            await self.at.supervisor.put(recipe)
            self.at.state.installed[name].unit_version = recipe.version
        self.at.save()
        await self._start()
        await self._wait_for([name for name in back if name not in self.broken_before])

    async def run(self) -> None:
        phases = {
            Phase.RESOLVE: self._resolve,
            Phase.RECORD: self._record,
            Phase.INSTALL: self._install,
            Phase.SWITCH: self._switch,
            Phase.START: self._start,
            Phase.WAIT: self._wait,
            Phase.CLEAN: self._clean,
        }
        for phase, act in phases.items():
            self.phase = phase
            logger.info("deployment %s: %s", self.deployment.deployment_id, phase)
            await act()
            if self.at.surprises.daemon_dies_after == phase:
                self.at.surprises.daemon_dies_after = None
                raise DaemonKilledError(phase)

    async def _resolve(self) -> None:
        """Join the root components of all of this device's targets, and choose versions."""
        wanted = {name: root.requirement for name, root in self.deployment.components.items()}
        self.at.state.roots[self.deployment.target] = wanted  # on Lite it stays, and fails the next deployment too
        groups = {f"thinggroup/{name}" for name in await self._ask(self.at.source.thing_groups)}
        roots: dict[str, str] = {}
        for target, components in list(self.at.state.roots.items()):
            if target.startswith("thinggroup/") and target not in groups and target != self.deployment.target:
                del self.at.state.roots[target]
                continue
            for name, requirement in components.items():
                roots[name] = f"{roots[name]} {requirement}" if name in roots else requirement
        chosen = await resolve(roots, self._installed, self._ask_cloud)
        self.resolved = {name: chosen[name] for name in start_order(entry.recipe for entry in chosen.values())}
        self.plan = make_plan(
            self.deployment,
            {name: entry.recipe.version for name, entry in self.resolved.items()},
            {name: component.version for name, component in self.at.state.installed.items()},
            self.at.supervisor.greengrass_state,
            self.at.profile,
            self._changed_steps if self.at.profile.restarts_on_changed_script else lambda _name: frozenset(),
        )

    def _changed_steps(self, name: str) -> frozenset[str]:
        to_be = {
            other: (entry.recipe.version, self._to_be_configured(other, entry.recipe)[0])
            for other, entry in self.resolved.items()
        }
        return self.at.steps.changed(self.resolved[name].recipe, to_be)

    async def _record(self) -> None:
        """Download what is new, and write down version and configuration, component by component."""
        if self.at.profile.rolls_back:
            for name in self.resolved:
                await self._fetch(name)
        for name, entry in self.resolved.items():
            if not self.at.profile.rolls_back:
                await self._fetch(name)
            self._write_down(name, entry)

    async def _fetch(self, name: str) -> None:
        if self.plan.treatments[name] is Treatment.FETCH_AND_RUN:
            entry = self.resolved[name]
            await self._ask(fetch_artifacts, entry.recipe, entry.arn, self.at.source, self.at.places)

    def _write_down(self, name: str, entry: Resolved) -> None:
        component = self.at.state.installed.setdefault(name, Installed(entry.recipe.version))
        component.version = entry.recipe.version
        component.arn = entry.arn or component.arn
        if "install" in entry.recipe.steps or not self.at.profile.runs_stale_install:
            component.install_version = entry.recipe.version
        if name in self.deployment.components:
            component.fleet_configuration_arns = _with_arn(
                component.fleet_configuration_arns, self.deployment.configuration_arn
            )
        tree, changed = self._to_be_configured(name, entry.recipe)
        if tree != self.at.configurations.of(name):
            self.at.configurations.put(name, tree, changed)
        self.at.save()

    def _to_be_configured(self, name: str, recipe: Recipe) -> tuple[Configuration, tuple[KeyPath, ...]]:
        """What it will be, and where that is new."""
        wanted = self.deployment.components.get(name, Wanted("*"))
        tree = self.at.configurations.of(name).reset(wanted.reset or ())
        tree, defaulted = tree.merge((), recipe.defaults, DEFAULT_TIME_MS)
        tree, merged = tree.merge((), wanted.merge or {}, self.deployment.at_ms)
        return tree, tuple(dict.fromkeys((*defaulted, *merged)))

    async def _install(self) -> None:
        for name in self.plan.to_install:
            version = self.at.state.installed[name].install_version
            if version is None:
                continue
            recipe = self.resolved[name].recipe
            await self.at.supervisor.install(recipe if version == recipe.version else self._read_recipe(name, version))

    async def _switch(self) -> None:
        """Stop what ran before and put the new units in its place."""
        for name in self.plan.to_run:
            recipe = self.resolved[name].recipe
            await self.at.supervisor.put(recipe)
            self.at.state.installed[name].unit_version = recipe.version
            self.at.save()

    async def _start(self) -> None:
        self.at.supervisor.forgive()
        await self.at.supervisor.start_all()

    async def _wait(self) -> None:
        await self._wait_for(list(self.resolved))

    async def _wait_for(self, names: Sequence[str]) -> None:
        await asyncio.sleep(self.at.profile.settle_s)
        for name in names:
            await self.at.supervisor.wait_ready(name)

    async def _clean(self) -> None:
        """Remove what is no longer wanted: components, and versions before the present one."""
        for name in self.plan.removed:
            await self.at.supervisor.remove(name)
            for version in versions_on_disk(name, self.at.places):
                delete_version(name, version, self.at.places)
            del self.at.state.installed[name]
            self.at.configurations.forget(name)
        if self.at.profile.deletes_old_versions:
            for name, entry in self.resolved.items():
                for version in versions_on_disk(name, self.at.places) - {entry.recipe.version}:
                    delete_version(name, version, self.at.places)
        self.at.save()

    def _installed(self, name: str) -> Resolved | None:
        component = self.at.state.installed.get(name)
        if component is None or not self.at.places.recipe(name, component.version).exists():
            return None
        return Resolved(self._read_recipe(name, component.version), "")

    async def _ask_cloud(self, name: str, requirement: str) -> Resolved:
        answer = await self._ask(self.at.source.resolve, name, requirement, self.at.platform)
        recipe = parse_recipe(answer.recipe, self.at.profile, self.at.platform)
        if (recipe.name, recipe.version) != (name, answer.version):
            raise RecipeError(f"the recipe of {name} {answer.version} calls itself {recipe.name} {recipe.version}")
        path = self.at.places.recipe(name, answer.version)
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(answer.recipe)
        return Resolved(recipe, answer.arn)

    def _read_recipe(self, name: str, version: str) -> Recipe:
        return parse_recipe(self.at.places.recipe(name, version).read_bytes(), self.at.profile, self.at.platform)

    async def _ask(
        self,
        question: Callable[Parameters, Answer],
        *arguments: Parameters.args,
        **options: Parameters.kwargs,
    ) -> Answer:
        """Ask in a worker thread; a source that does not answer is asked again for ever, as Lite does."""
        told = False
        while True:
            try:
                return await asyncio.to_thread(partial(question, *arguments, **options))
            except SourceUnavailableError as error:
                if not told:
                    logger.warning("deployment %s waits: %s", self.deployment.deployment_id, error)
                told = True
                await asyncio.sleep(self.at.profile.retry_s)


def _with_arn(arns: list[str], arn: str) -> list[str]:
    """Add a configuration's ARN; another revision of the same target is replaced."""
    target = arn.rpartition(":")[0]
    return [*(other for other in arns if other.rpartition(":")[0] != target), arn]
