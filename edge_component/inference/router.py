"""Which session answers for a name, and the atomic change from one to another.

The failure this exists for: a request that sees half a swap. A request reads one attribute, :attr:`Route.active`, once,
and keeps what it found until it has answered: so it sees exactly one version, and the old session lives until the last
request that holds it is done (reference counting frees it then). Nothing on that way takes a lock. Only where there is
more than one possible answer (a split), none yet (an unloaded model) or none at all, ``active`` is ``None`` and
:meth:`Route.resolve` finds out.

A *name* is a model's, ``name@version``, or an alias of either. Who may answer for it is decided in choice.py; loading
on demand and the memory budget are residents.py's. Everything that changes takes the router's lock; that happens a few
times a day.
"""

import random
import threading
from collections.abc import Callable
from dataclasses import dataclass, field, replace

from edge_component.clock import Clock, SystemClock
from edge_component.contracts.heartbeat import ModelRef
from edge_component.contracts.manifest import Manifest
from edge_component.contracts.routes import ModelRules, RouteTable, ShadowReport
from edge_component.errors import UnknownModelError, UnknownVersionError
from edge_component.inference.admission import AdmissionLimits, Gate
from edge_component.inference.choice import Held, real_name, shadow_of
from edge_component.inference.residents import Residents
from edge_component.inference.route import Follower, Model, Plan, Route, is_ruled, plan_for
from edge_component.inference.session import Session
from edge_component.inference.tallies import Tallies, Tally, Totals
from edge_component.inference.versions import ActiveModel, Bare, Equipment, Loaded, Loader, Mirror, Version

__all__ = ["ActiveModel", "Equipment", "Follower", "Loaded", "Route", "Router", "RouterLimits", "Tally", "Totals"]


@dataclass(frozen=True, slots=True)
class RouterLimits:
    """``admission``: of each model name without rules of its own; ``model_memory_bytes_max``: of all, 0 for none."""

    admission: AdmissionLimits = field(default_factory=AdmissionLimits)
    model_memory_bytes_max: int = 0
    idle_unload_s: float = 600.0
    """After which a version that only pinned requests asked for is unloaded."""


class Router:
    """Routes by name. A route, once made, stays the same object for as long as the name leads anywhere."""

    def __init__(
        self,
        limits: RouterLimits | None = None,
        equipment: Equipment | None = None,
        clock: Clock | None = None,
        draw: Callable[[], float] = random.random,
    ) -> None:
        """No models. ``draw`` gives numbers in [0, 1) for requests without a key."""
        self._limits = limits or RouterLimits()
        self._equipment = equipment or Bare()
        self._draw = draw
        self._lock = threading.RLock()
        self._models: dict[str, Model] = {}
        self._routes: dict[str, Route] = {}
        self._table = RouteTable()
        self._tallies = Tallies()
        self._generations: dict[int, str] = {}
        self._residents = Residents(self._limits.model_memory_bytes_max, clock or SystemClock())

    # What requests ask -------------------------------------------------------------------------------------------------

    def route(self, name: str) -> Route:
        """The route of a model's name, of ``name@version``, or of an alias.

        Raises:
            UnknownModelError: nothing serves under that name.
            UnknownVersionError: the model serves, but not in that version.
        """
        route = self._routes.get(name)
        if route is None or route.plan is None:
            route = self._new_route(name)
        return route

    def _new_route(self, name: str) -> Route:
        with self._lock:
            plan = plan_for(name, self._table, self._models)
            if plan is None:
                raise self._unknown(name)
            route = self._routes.setdefault(name, Route(name, self._wake, self._draw))
            self._lead(route, plan)
        return route

    def _unknown(self, name: str) -> UnknownModelError:
        model_name, version = real_name(name, self._table.aliases)
        model = self._models.get(model_name)
        if model is not None and model.active is not None:
            found = [ref.version for ref in model.versions]
            if not version:
                return UnknownVersionError(f"{name!r} asks for a version and names none; there are {found}")
            return UnknownVersionError(f"version {version} of {model_name!r} is not on this device; there are {found}")
        return UnknownModelError(f"no model named {name!r} serves here; there are {self.names()}")

    # What changes ------------------------------------------------------------------------------------------------------

    def load_with(self, loader: Loader) -> None:
        """How versions are loaded that are asked for and are not in memory."""
        self._residents.loader = loader

    def make_room(self, ref: ModelRef) -> None:
        """Unload idle models until one more may be loaded.

        Raises:
            MemoryBudgetError: it would not fit even so.
        """
        self._residents.make_room(ref, self._candidates(), self._put_to_sleep)

    def hold(self, name: str, refs: tuple[ModelRef, ...]) -> None:
        """The versions of a model that may answer from now on, the one to revert to right after the active one.

        What is not among them is forgotten, but for the one that answers until the next switch.
        """
        with self._lock:
            model = self._model(name)
            kept = {ref: model.versions.get(ref) or self._new_version(ref) for ref in refs}
            if model.active is not None:
                kept.setdefault(model.active.ref, model.active)
            self._keep(model, kept)
            self._equip_anew(model)
            self._refresh(name)

    def switch(self, ref: ModelRef, manifest: Manifest, session: Session, size_bytes: int = 0) -> ActiveModel:
        """Let this session answer for its model's name from the next request on; returns it with its generation."""
        with self._lock:
            model, rules = self._model(ref.name), self._table.rules(ref.name)
            version = self._new_version(ref)
            before, model.active = model.active, version
            if before is not None and before.ref in model.versions and not is_ruled(before, rules, model):
                before.loaded = None  # it may be asked for again by its version, and is loaded again then
            kept = {held: version if held == ref else known for held, known in model.versions.items()}
            if ref not in kept:  # nobody said what is held: then only what answers is
                kept = {ref: version}
            self._keep(model, kept)
            self._install(version, Loaded(manifest, session, size_bytes))
            self._equip_anew(model)
            self._refresh(ref.name)
            assert version.loaded is not None, "installed just now"
            return version.loaded

    def remove(self, name: str) -> None:
        """Answer ``unknown-model`` from the next request on; requests in flight are finished."""
        with self._lock:
            model = self._models.get(name)
            if model is not None:
                model.active = None
                self._keep(model, {})
                self._refresh(name)

    def set_table(self, table: RouteTable) -> None:
        """Follow other rules from the next request on."""
        with self._lock:
            before, self._table = self._table, table
            for name, model in self._models.items():
                if before.rules(name) != table.rules(name):
                    gate = self._new_gate(name)
                    if gate.limits != model.gate.limits:
                        model.gate = gate
                    same = _detours_alike(before.rules(name), table.rules(name))
                    self._equip_anew(model, keep_detours=same)
            for name in (*self._models, *before.aliases, *table.aliases):
                self._refresh(name)

    def tick(self) -> None:
        """Notice what is used, unload what only pinned requests asked for and no longer do; about once a second."""
        with self._lock:
            counts = {generation: totals.answered_count for generation, totals in self._tallies.by_generation().items()}
            candidates = self._candidates()
            self._residents.notice(candidates, counts)
            for version in self._residents.idle(candidates, self._limits.idle_unload_s):
                if not is_ruled(version, self._table.rules(version.ref.name), self._models[version.ref.name]):
                    self._put_to_sleep(version)
        self._residents.give_back()

    # What is known -----------------------------------------------------------------------------------------------------

    @property
    def table(self) -> RouteTable:
        """The rules that are followed."""
        return self._table

    def active(self, name: str) -> ActiveModel | None:
        """What serves a model's name now, if it is in memory."""
        model = self._models.get(name)
        return model.active.loaded if model is not None and model.active is not None else None

    def answering(self, name: str) -> ModelRef | None:
        """Which version answers a model's name, in memory or not."""
        model = self._models.get(name)
        return model.active.ref if model is not None and model.active is not None else None

    def generation(self, name: str) -> int:
        """Of what answers now; 0 for nothing."""
        model = self._models.get(name)
        return model.active.generation if model is not None and model.active is not None else 0

    def names(self) -> list[str]:
        """Every model that serves, sorted."""
        return sorted(name for name, model in self._models.copy().items() if model.active is not None)

    def held(self, table: RouteTable | None = None) -> dict[str, Held]:
        """The versions that may answer, by model name; by other rules than those that are followed, if given."""
        with self._lock:
            rules = (table or self._table).rules
            return {name: held for name, model in self._models.items() if (held := model.held(rules(name))) is not None}

    def versions(self, name: str) -> tuple[Version, ...]:
        """The records of a model's versions, for reports; read only."""
        with self._lock:
            model = self._models.get(name)
            return tuple(model.versions.values()) if model is not None else ()

    def gate(self, name: str) -> Gate:
        """A model's places."""
        with self._lock:
            return self._model(name).gate

    def fallbacks(self) -> tuple[str, ...]:
        """One sentence for each loaded version and execution provider that was preferred and is not what computes."""
        return tuple(
            f"{version.ref.name} {version.ref.version}: {reason}"
            for version, _ in self._candidates()
            if version.loaded is not None
            for reason in version.loaded.session.fallbacks
        )

    @property
    def resident_bytes(self) -> int:
        """What all loaded models take, those included that are unloaded but still in use."""
        return self._residents.charged_bytes

    # Followers and counts ----------------------------------------------------------------------------------------------

    def follow(self, route: Route, follower: Follower) -> None:
        """Tell the follower of every switch, so that an idle client does not keep an old model in memory."""
        with self._lock:
            route.followers.append(follower)

    def unfollow(self, route: Route, follower: Follower) -> None:
        """No longer."""
        with self._lock:
            route.followers = [kept for kept in route.followers if kept is not follower]

    def open_tally(self, route: Route, generation: int) -> Tally:
        """A new counter for one connection's thread."""
        del route
        return self._tallies.open(generation)

    def close_tally(self, route: Route, tally: Tally) -> None:
        """Fold a counter in; its thread must not write to it any more."""
        del route
        self._tallies.close(tally)

    def open_tally_count(self) -> int:
        """Counters in use: as many as open channels, or something leaks."""
        return self._tallies.open_count()

    def totals(self, name: str, generation: int | None = None) -> Totals:
        """Counts of one generation of a model, or of all of them."""
        total = Totals()
        for found, part in self._tallies.by_generation().items():
            if self._generations.get(found) == name and generation in (None, found):
                total = total.plus(part)
        return total

    # The parts of a change; all under the lock -------------------------------------------------------------------------

    def _model(self, name: str) -> Model:
        if name not in self._models:
            self._models[name] = Model(self._new_gate(name))
        return self._models[name]

    def _new_gate(self, name: str) -> Gate:
        rules, limits = self._table.rules(name), self._limits.admission
        return Gate(
            AdmissionLimits(
                rules.in_flight_max or limits.in_flight_max,
                limits.queue_max if rules.queue_max is None else rules.queue_max,
            )
        )

    def _new_version(self, ref: ModelRef) -> Version:
        generation = len(self._generations) + 1
        self._generations[generation] = ref.name
        return Version(ref, generation)

    def _keep(self, model: Model, kept: dict[ModelRef, Version]) -> None:
        for version in model.versions.values():
            if version is not kept.get(version.ref):
                version.gone, version.loaded = True, None
        model.versions = kept

    def _install(self, version: Version, loaded: Loaded) -> ActiveModel:
        model, rules = self._model(version.ref.name), self._table.rules(version.ref.name)
        detour = self._equipment.detour(loaded.manifest, loaded.session, rules)
        bare = ActiveModel(version.ref, loaded.manifest, loaded.session, version.generation, model.gate, detour=detour)
        version.manifest = loaded.manifest
        version.loaded = active = replace(bare, mirror=self._mirror(bare, model))
        self._residents.charge(version, loaded)
        return active

    def _equip_anew(self, model: Model, *, keep_detours: bool = True) -> None:
        """After a change of what is held or ruled; a model for which nothing changes stays the same object."""
        for version in model.versions.values():
            if (old := version.loaded) is None:
                continue
            detour = old.detour
            if not keep_detours:
                detour = self._equipment.detour(old.manifest, old.session, self._table.rules(old.ref.name))
            mirror = self._mirror(old, model)
            if (detour, mirror, model.gate) != (old.detour, old.mirror, old.gate):
                version.loaded = replace(old, gate=model.gate, detour=detour, mirror=mirror)

    def _mirror(self, answering: ActiveModel, model: Model) -> Mirror | None:
        rules = self._table.rules(answering.ref.name)
        held = model.held(rules)
        ref = shadow_of(rules, held) if held is not None else None
        if rules.shadow is None or held is None or ref is None or answering.ref in {ref, *held.unlike}:
            return None
        return self._equipment.mirror(answering, rules.shadow, model.versions[ref], self._wake)

    def _refresh(self, name: str) -> None:
        """Lead every route of a model, or an alias, to where it leads now."""
        aliases = self._table.aliases
        for asked, route in list(self._routes.items()):
            if name not in (asked, real_name(asked, aliases)[0]):
                continue
            plan = plan_for(asked, self._table, self._models)
            self._lead(route, plan)
            if plan is None and not route.followers:
                del self._routes[asked]

    def _lead(self, route: Route, plan: Plan | None) -> None:
        route.plan = plan
        route.active = plan.versions[0].loaded if plan is not None and len(plan.versions) == 1 else None
        for follower in route.followers:
            follower.let_go()

    def _candidates(self) -> list[tuple[Version, Gate]]:
        """Every version in memory, with its model's gate."""
        with self._lock:
            return [
                (version, model.gate)
                for model in self._models.values()
                for version in model.versions.values()
                if version.loaded is not None
            ]

    def _put_to_sleep(self, version: Version) -> None:
        with self._lock:
            version.loaded = None
            self._refresh(version.ref.name)

    def wake(self, ref: ModelRef) -> ActiveModel:
        """Have a version in memory that is held; returns it.

        Raises:
            UnknownVersionError: it is not held.
            DeviceError: it cannot be loaded.
        """
        version = next((known for known in self.versions(ref.name) if known.ref == ref), None)
        if version is None:
            raise UnknownVersionError(f"version {ref.version} of {ref.name!r} is not on this device")
        return version.loaded or self._wake(version)

    def shadow_report(self, name: str) -> ShadowReport | None:
        """How a model's shadow has compared; ``None`` where none is set."""
        active = self.active(name)
        return active.mirror.report() if active is not None and active.mirror is not None else None

    def _wake(self, version: Version) -> ActiveModel:
        """Load a version that is asked for; requests for it wait for the one that loads."""
        with self._residents.loading:
            if version.loaded is not None:
                return version.loaded
            candidates = self._candidates()  # behind a change that is under way
            if version.gone:
                raise _removed(version)
            loaded = self._residents.load(version, candidates, self._put_to_sleep)
            with self._lock:
                if version.gone:
                    raise _removed(version)
                active = self._install(version, loaded)
                self._equip_anew(self._models[version.ref.name])  # whose tensors it has is known only now
                self._refresh(version.ref.name)
            return active


def _removed(version: Version) -> UnknownVersionError:
    return UnknownVersionError(f"{version.ref.name} {version.ref.version} was removed just now")


def _detours_alike(one: ModelRules, other: ModelRules) -> bool:
    return (one.batch, one.states) == (other.batch, other.states)
