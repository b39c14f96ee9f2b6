"""Which session answers for a model's name, and the atomic switch between two of them.

The failure this exists for: a request that sees half a swap. A request reads one attribute, :attr:`Route.active`, once,
and keeps what it found until it has answered: so it sees exactly one version, and the old session lives until the last
request that holds it is done (reference counting frees it then). Nothing on that way takes a lock.

Switching, counting and removing take the router's lock; they happen a few times a day. Counts are kept per *tally*,
each written by one thread only, so that counting costs no lock either, and added up when somebody asks.
"""

import threading
from dataclasses import dataclass, field, replace
from typing import Protocol

from edge_component.contracts.heartbeat import ModelRef
from edge_component.contracts.manifest import Manifest
from edge_component.errors import UnknownModelError
from edge_component.inference.session import Session


@dataclass(frozen=True, slots=True)
class ActiveModel:
    """One exact, loaded model; ``generation`` is unique for each switch in this process."""

    ref: ModelRef
    manifest: Manifest
    session: Session
    generation: int


@dataclass(slots=True)
class Tally:
    """What one connection asked of one generation; written by its own thread only."""

    generation: int
    answered_count: int = 0
    failed_count: int = 0


@dataclass(frozen=True, slots=True)
class Totals:
    """Requests since the process started: answered, and failed by the model's own fault."""

    answered_count: int = 0
    failed_count: int = 0

    def plus(self, other: "Totals | Tally") -> "Totals":
        """Element-wise sum."""
        return Totals(self.answered_count + other.answered_count, self.failed_count + other.failed_count)


class Follower(Protocol):
    """Holds on to something of the active model, such as a binding, between requests."""

    def let_go(self) -> None:
        """Drop it; called by the switching thread. What a request in flight uses, it keeps until it is done."""


@dataclass(slots=True)
class Route:
    """A model's name. ``active`` is read without a lock and only ever replaced as a whole."""

    name: str
    active: ActiveModel | None = None
    followers: list[Follower] = field(default_factory=list)
    open_tallies: list[Tally] = field(default_factory=list)
    closed_totals: dict[int, Totals] = field(default_factory=dict)


class Router:
    """Routes by model name. A route, once made, stays the same object for the life of the process."""

    def __init__(self) -> None:
        """No routes."""
        self._routes: dict[str, Route] = {}
        self._lock = threading.Lock()
        self._generation = 0

    def route(self, name: str) -> Route:
        """The route that serves ``name``.

        Raises:
            UnknownModelError: nothing serves under that name.
        """
        route = self._routes.get(name)
        if route is None or route.active is None:
            raise UnknownModelError(f"no model named {name!r} serves here; there are {self.names()}")
        return route

    def active(self, name: str) -> ActiveModel | None:
        """What serves ``name`` now."""
        route = self._routes.get(name)
        return route.active if route is not None else None

    def names(self) -> list[str]:
        """Everything that serves, sorted."""
        return sorted(name for name, route in self._routes.copy().items() if route.active is not None)

    def switch(self, ref: ModelRef, manifest: Manifest, session: Session) -> ActiveModel:
        """Let this session answer for its model's name from the next request on; returns it with its generation."""
        with self._lock:
            self._generation += 1
            active = ActiveModel(ref, manifest, session, self._generation)
            route = self._routes.get(ref.name)
            if route is None:
                route = self._routes[ref.name] = Route(ref.name)
            route.active = active
            _let_go(route)
        return active

    def remove(self, name: str) -> None:
        """Answer ``unknown-model`` from the next request on; requests in flight are finished."""
        with self._lock:
            route = self._routes.get(name)
            if route is not None:
                route.active = None
                _let_go(route)

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
        tally = Tally(generation)
        with self._lock:
            route.open_tallies.append(tally)
        return tally

    def close_tally(self, route: Route, tally: Tally) -> None:
        """Fold a counter in; its thread must not write to it any more."""
        with self._lock:
            route.open_tallies = [kept for kept in route.open_tallies if kept is not tally]
            earlier = route.closed_totals.get(tally.generation, Totals())
            route.closed_totals[tally.generation] = earlier.plus(tally)

    def totals(self, name: str, generation: int | None = None) -> Totals:
        """Counts of one generation, or of all of them."""
        with self._lock:
            route = self._routes.get(name)
            if route is None:
                return Totals()
            parts = [(tally.generation, Totals().plus(replace(tally))) for tally in route.open_tallies]
            parts += list(route.closed_totals.items())
        total = Totals()
        for of_generation, part in parts:
            if generation in (None, of_generation):
                total = total.plus(part)
        return total


def _let_go(route: Route) -> None:
    for follower in route.followers:
        follower.let_go()
