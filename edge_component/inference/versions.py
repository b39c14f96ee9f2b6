"""One exact version of a model as the router holds it: loaded, or asleep and to be loaded again when it is asked for.

The failure this exists for: a request that sees half a change. What a request works with is one frozen
:class:`ActiveModel`; every change of session, rules or limits makes a new one. :class:`Version` is the router's own
record of what is loaded, and is only written under its lock.
"""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Protocol

from edge_component.contracts.heartbeat import ModelRef
from edge_component.contracts.manifest import Manifest, TensorSpec
from edge_component.contracts.routes import ModelRules, ShadowReport, ShadowRule
from edge_component.errors import DeviceError
from edge_component.inference.admission import AdmissionLimits, Gate
from edge_component.inference.deadline import Leash
from edge_component.inference.session import Session, Tensors


class Mirror(Protocol):
    """Shows a sample of what was asked and answered to another version; never delays, drops when it cannot keep up."""

    def offer(self, inputs: Tensors, outputs: Tensors) -> None:
        """One answered request; the arrays are copied if they are kept. Never raises."""

    def report(self) -> ShadowReport:
        """How the two have compared since the rule was set."""


@dataclass(frozen=True, slots=True)
class Turn:
    """Where a request stands in a sequence of requests; an empty ``sequence`` is a request on its own.

    ``starts``: whatever state the sequence had is forgotten before it; ``ends``: after it.
    """

    sequence: str = ""
    starts: bool = False
    ends: bool = False


NO_TURN = Turn()


class Detour(Protocol):
    """A way to the answer other than running the session on the request alone: with others', or with carried state.

    Attributes:
        inputs, outputs: what the caller gives and gets; carried tensors are not among them.
    """

    @property
    def inputs(self) -> tuple[TensorSpec, ...]:
        """What the caller gives."""

    @property
    def outputs(self) -> tuple[TensorSpec, ...]:
        """What the caller gets."""

    def run(self, inputs: Tensors, leash: Leash, allowed_s: float, turn: Turn) -> Tensors:
        """The outputs by name, in memory of their own.

        Raises:
            RequestError: as :meth:`Session.run`, or stopped by its deadline.
        """


@dataclass(frozen=True, slots=True)
class ActiveModel:
    """One exact, loaded model; ``generation`` is unique for each switch in this process.

    Attributes:
        gate: the places of this model's name; enter before computing, leave after.
        mirror: to be shown answered requests, where one is set.
        detour: to be run instead of the session, where one is set.
    """

    ref: ModelRef
    manifest: Manifest
    session: Session
    generation: int
    gate: Gate = field(default_factory=lambda: Gate(AdmissionLimits()))
    mirror: Mirror | None = None
    detour: Detour | None = None

    @property
    def inputs(self) -> tuple[TensorSpec, ...]:
        """What a caller gives."""
        return self.session.inputs if self.detour is None else self.detour.inputs

    @property
    def outputs(self) -> tuple[TensorSpec, ...]:
        """What a caller gets."""
        return self.session.outputs if self.detour is None else self.detour.outputs


@dataclass(frozen=True, slots=True)
class Loaded:
    """A bundle's graph in memory, warm. ``size_bytes`` is what loading it took, as far as that can be measured.

    ``baseline`` is the bundle's ``baseline.json``, if it has one.
    """

    manifest: Manifest
    session: Session
    size_bytes: int = 0
    baseline: bytes | None = None


class Loader(Protocol):
    """Loads verified bundles of this device's store."""

    def load(self, ref: ModelRef) -> Loaded:
        """Load and warm up.

        Raises:
            DeviceError: it is gone, damaged, or cannot be loaded.
        """

    def needed_bytes(self, ref: ModelRef) -> int:
        """An estimate of what loading it will take; 0 if nothing is known."""


@dataclass(slots=True, eq=False)
class Version:
    """The router's record; see the module's text."""

    ref: ModelRef
    generation: int
    loaded: ActiveModel | None = None
    manifest: Manifest | None = None
    """Its own, once it has been loaded."""
    gone: bool = False
    """The device holds it no more: it must not be loaded again."""
    used_s: float = 0.0
    """Monotonic time at which it was last seen to answer."""
    answered_count: int = 0
    """As of then."""
    failure: DeviceError | None = None
    """Why the last attempt to load it failed, until ``retry_s``."""
    retry_s: float = 0.0


Wake = Callable[[Version], ActiveModel]


class Equipment(Protocol):
    """Makes what the rules of a model ask for. See equipment.py; what cannot be had is left out, and logged."""

    def detour(self, manifest: Manifest, session: Session, rules: ModelRules) -> Detour | None:
        """Batching or carried state, where there is any."""

    def mirror(self, answering: ActiveModel, rule: ShadowRule, shadow: Version, wake: Wake) -> Mirror | None:
        """The way to another version, which may have to be woken first."""


class Bare:
    """Nothing but sessions."""

    def detour(self, manifest: Manifest, session: Session, rules: ModelRules) -> Detour | None:
        """None."""
        del manifest, session, rules
        return None

    def mirror(self, answering: ActiveModel, rule: ShadowRule, shadow: Version, wake: Wake) -> Mirror | None:
        """None."""
        del answering, rule, shadow, wake
        return None
