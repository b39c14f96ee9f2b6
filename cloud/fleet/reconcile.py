"""The loop that keeps wanted, installed and serving apart, and repairs a deployment that only claims to have succeeded.

The shell around ``desired``, ``health`` and ``repair``: look at Greengrass, write down what is wanted, judge every
device, repair what diverged. Each try is counted before it is made. One reconciler per fleet database: run it in one
process. It is not a rollout; it changes no version that somebody wants.
"""

import threading
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from datetime import datetime

from cloud.errors import DeniedError, EdgewrightError
from cloud.fleet.desired import (
    ControlPlane,
    Publication,
    PublicationSource,
    identified,
    parse_target,
    wanted_by_thing,
)
from cloud.fleet.health import HealthLimits, Verdict, judge
from cloud.fleet.ledger import Ledger
from cloud.fleet.repair import GiveUp, RepairLimits, decide_repairs, forgettable, repairable
from cloud.names import is_ours


@dataclass(frozen=True, slots=True)
class ReconcileLimits:
    """How often, and how much at once.

    Attributes:
        interval_s: from the end of one pass to the start of the next.
        installed_count_max: devices asked for their installed components in one pass; those that differ come
            first, then those whose status changed.
    """

    interval_s: float = 5.0
    installed_count_max: int = 50
    health: HealthLimits = field(default_factory=HealthLimits)
    repair: RepairLimits = field(default_factory=RepairLimits)


@dataclass(frozen=True, slots=True)
class Pass:
    """What one pass did."""

    device_count: int
    changed_count: int
    repaired: tuple[str, ...]
    given_up: tuple[str, ...]


class Reconciler:
    """Compares and repairs. Not thread-safe; one thread drives it."""

    def __init__(
        self,
        control_plane: ControlPlane,
        publications: PublicationSource,
        ledger: Ledger,
        clock: Callable[[], datetime],
        limits: ReconcileLimits = ReconcileLimits(),
    ) -> None:
        """``clock`` gives UTC; nothing is contacted until a pass."""
        self._control_plane = control_plane
        self._publications = publications
        self._ledger = ledger
        self._clock = clock
        self._limits = limits
        self._published: dict[tuple[str, str], Publication] = {}

    def pass_once(self) -> Pass:
        """One pass over the whole fleet.

        Raises:
            EdgewrightError: Greengrass, S3 or the store did not answer; the next pass begins anew.
        """
        now = self._clock()
        self._look(now)
        views = self._ledger.views()
        verdicts = {view.thing_name: judge(view, now, self._limits.health) for view in views}
        changed = self._ledger.record_verdicts(verdicts, now)
        self._ask_installed(verdicts, changed)
        repaired, given_up = self._repair(verdicts, now)
        return Pass(len(views), len(changed), repaired, given_up)

    def run(self, stop: threading.Event, report: Callable[[EdgewrightError | None], None]) -> None:
        """Pass until ``stop`` is set; ``report`` hears the first failure of each row of failures, and its end."""
        failing = False
        while not stop.is_set():
            try:
                self.pass_once()
                if failing:
                    report(None)
                failing = False
            except EdgewrightError as error:
                if not failing:
                    report(error)
                failing = True
            stop.wait(self._limits.interval_s)

    def _look(self, now: datetime) -> None:
        deployments = tuple(self._control_plane.latest_deployments())
        members = {one.target_arn: tuple(self._control_plane.members(one.target_arn)) for one in deployments}
        platforms = self._ledger.platforms()
        named = {key for one in deployments for key in one.components.items()}
        published = {key: self._publication(*key) for key in named}
        wanted = {
            thing: {
                name: identified(one, published[name, one.version], platforms.get(thing, ""))
                for name, one in components.items()
            }
            for thing, components in wanted_by_thing(deployments, members).items()
        }
        self._ledger.record_deployments(deployments)
        self._ledger.record_groups(_groups(members), now)
        self._ledger.record_wanted(wanted, now)

    def _publication(self, component_name: str, version: str) -> Publication | None:
        """What was published of a component of ours; what is found is kept, what is not is looked for in each pass."""
        key = component_name, version
        if key not in self._published and is_ours(component_name):
            found = self._publications.find(*key)
            if found is not None:
                self._published[key] = found
        return self._published.get(key)

    def _ask_installed(self, verdicts: Mapping[str, Verdict], changed: Iterable[str]) -> None:
        differing = (name for name, verdict in verdicts.items() if verdict.differences)
        for name in list(dict.fromkeys((*differing, *changed)))[: self._limits.installed_count_max]:
            self._ledger.record_installed(name, self._control_plane.installed(name))

    def _repair(self, verdicts: Mapping[str, Verdict], now: datetime) -> tuple[tuple[str, ...], tuple[str, ...]]:
        diverged = {name: verdict.differences for name, verdict in verdicts.items() if verdict.differences}
        targets, tried, limits = self._ledger.targets(), self._ledger.tried(), self._limits.repair
        still_open = [key for key, _ in repairable(diverged, targets)]
        self._ledger.forget_tries(forgettable(tried, still_open, now, limits))
        steps = decide_repairs(diverged, targets, tried, now, limits)
        repaired, given_up = [], []
        for step in steps:
            if isinstance(step, GiveUp):
                self._ledger.record_given_up(step, now)
                given_up.append(step.sentence)
                continue
            self._ledger.record_try(step, now)
            try:
                new_id = self._control_plane.redeploy(step.deployment_id, step.key.component_name, step.nonce)
            except DeniedError:  # nothing was deployed, and nothing will be until somebody mends that
                self._ledger.forgive_try(step)
                raise
            if new_id is None:  # its target was deployed to since this pass looked; the next pass judges that
                continue
            self._ledger.record_repaired(step, new_id, now)
            repaired.append(step.sentence)
        return tuple(repaired), tuple(given_up)


def _groups(members: Mapping[str, tuple[str, ...]]) -> Mapping[str, tuple[str, ...]]:
    parsed = {parse_target(target): things for target, things in members.items()}
    return {name: things for (kind, name), things in parsed.items() if kind == "thinggroup"}
