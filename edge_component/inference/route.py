"""Where a name leads: the object that doors keep, and the pure step from rules to it.

The failure this exists for: a look-up on the way of every request. A door keeps its :class:`Route`; the router changes
what is in it, under its lock, and never the object. Reading needs no lock.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Protocol

from edge_component.contracts.heartbeat import ModelRef
from edge_component.contracts.routes import PIN, ModelRules, RouteTable
from edge_component.errors import DeviceError, UnknownModelError
from edge_component.inference.admission import Gate
from edge_component.inference.choice import Held, Share, choose_by_draw, choose_by_key, real_name, shadow_of, shares
from edge_component.inference.likeness import unlike
from edge_component.inference.versions import ActiveModel, Version, Wake


class Follower(Protocol):
    """Holds on to something of the active model, such as a binding, between requests."""

    def let_go(self) -> None:
        """Drop it; called by the switching thread. What a request in flight uses, it keeps until it is done."""


@dataclass(frozen=True, slots=True)
class Plan:
    """Who may answer for a name: as many versions as shares."""

    shares: tuple[Share, ...]
    versions: tuple[Version, ...]


@dataclass(slots=True, eq=False)
class Route:
    """A name. ``active`` is read without a lock, and only ever replaced as a whole.

    It is ``None`` unless it is the one possible answer, and loaded: ask :meth:`resolve` then.
    """

    name: str
    wake: Wake
    draw: Callable[[], float]
    active: ActiveModel | None = None
    plan: Plan | None = None
    followers: list[Follower] = field(default_factory=list)

    def resolve(self, key: str = "") -> ActiveModel:
        """Who answers: always the same for the same key, drawn anew without one; loaded first if it is not.

        Raises:
            UnknownModelError: nothing serves under that name any more.
            DeviceError: it could not be loaded.
        """
        plan = self.plan
        if plan is None:
            raise UnknownModelError(f"nothing serves as {self.name!r} here any more")
        index = 0
        if len(plan.versions) > 1:
            index = choose_by_key(plan.shares, key) if key else choose_by_draw(plan.shares, self.draw())
        version = plan.versions[index]
        try:
            loaded = version.loaded or self.wake(version)
        except DeviceError:
            if self.plan is plan:
                raise
        else:
            now = self.plan
            if now is plan or (now is not None and version in now.versions):
                return loaded
        return self.resolve(key)  # a change came between, or loading has shown other tensors: who answers now


@dataclass(slots=True, eq=False)
class Model:
    """What the router knows of one model name."""

    gate: Gate
    active: Version | None = None
    versions: dict[ModelRef, Version] = field(default_factory=dict)

    def held(self, rules: ModelRules) -> Held | None:
        """The versions that may answer; ``None`` where nothing serves. What was never loaded may be like or unlike."""
        if self.active is None:
            return None
        others = tuple(ref for ref in self.versions if ref != self.active.ref)
        if not rules.split and rules.shadow is None:
            return Held(self.active.ref, others)
        return Held(self.active.ref, others, self._unlike(rules), self._unlike(rules, may_give_more=True))

    def _unlike(self, rules: ModelRules, *, may_give_more: bool = False) -> dict[ModelRef, str]:
        active = self.active.manifest if self.active is not None else None
        return {
            ref: how
            for ref, version in self.versions.items()
            if active is not None and version.manifest is not None
            and (how := unlike(active, version.manifest, rules, may_give_more=may_give_more))
        }  # fmt: skip


def plan_for(asked: str, table: RouteTable, models: Mapping[str, Model]) -> Plan | None:
    """Who may answer for a name now; ``None`` if it leads nowhere."""
    name, pinned = real_name(asked, table.aliases)
    if asked.endswith(PIN):
        return None  # no version: whoever asks so means one, and must not be answered by any other
    model = models.get(name)
    held = model.held(table.rules(name)) if model is not None else None
    if model is None or held is None:
        return None
    if not pinned:
        among = shares(table.rules(name).split, held)
    elif (ref := held.find(pinned)) is not None:
        among = (Share(ref, 1),)
    else:
        return None
    return Plan(among, tuple(model.versions[share.ref] for share in among))


def is_ruled(version: Version, rules: ModelRules, model: Model) -> bool:
    """Some rule names this version, or it is the active one: it stays in memory while there is room."""
    held = model.held(rules)
    if held is None:
        return False
    return version.ref in (held.active, *(share.ref for share in shares(rules.split, held)), shadow_of(rules, held))
