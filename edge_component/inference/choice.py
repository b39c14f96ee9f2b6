"""Which version answers a request: pure, and the same on every device.

The failures this exists for: a caller that is answered by one version now and another a moment later; a share that moves
everybody when one weight changes; a rule that names a version the device does not hold, and so answers nobody.

With a key, the choice is weighted rendezvous hashing: every version draws ``-ln(u) / weight`` with ``u`` from a hash of key
and version, and the smallest draw answers. So a key's version depends on nothing else, shares follow the weights, and
a changed weight moves only callers to or from the version whose weight changed (Schindler and Schomaker, *Weighted
distributed hash tables*, SPAA 2005: the logarithmic method). Without a key, each request is drawn for itself.

Nothing here does I/O, holds state, or knows whether a version is loaded.
"""

import hashlib
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from edge_component.contracts.heartbeat import ModelRef
from edge_component.contracts.routes import ACTIVE, PREVIOUS, Arm, ModelRules, RouteTable, split_name

_HASH_SPAN = 2.0**64


@dataclass(frozen=True, slots=True)
class Held:
    """The versions of one model that this device can answer with: verified, and in its store."""

    active: ModelRef
    others: tuple[ModelRef, ...] = ()
    """Kept besides, the one that a revert would bring back first."""
    unlike: Mapping[ModelRef, str] = field(default_factory=dict)
    """Those of the others that take or give other tensors than the active one, and how; see likeness.py."""
    unshown: Mapping[ModelRef, str] = field(default_factory=dict)
    """Those that cannot be shown what the active one is asked, and why."""

    def find(self, selector: str) -> ModelRef | None:
        """The version that ``active``, ``previous`` or an exact version means here, if it is here."""
        if selector == ACTIVE:
            return self.active
        if selector == PREVIOUS:
            return self.others[0] if self.others else None
        return next((ref for ref in (self.active, *self.others) if ref.version == selector), None)


@dataclass(frozen=True, slots=True)
class Share:
    """A version and its weight among those that may answer."""

    ref: ModelRef
    weight: float


def real_name(asked: str, aliases: Mapping[str, str]) -> tuple[str, str]:
    """The model's name, and the version if one is pinned, that an asked name stands for."""
    return split_name(aliases.get(asked, asked))


def shares(split: Sequence[Arm], held: Held) -> tuple[Share, ...]:
    """Who may answer. What belongs to a version that is not here goes to the active one: somebody always answers.

    So does what belongs to a version with other tensors: whoever asks for the name alone means no version.
    """
    weights: dict[ModelRef, int] = {}
    for arm in split:
        ref = held.find(arm.version)
        if ref is None or ref in held.unlike:
            ref = held.active
        weights[ref] = weights.get(ref, 0) + arm.weight
    found = tuple(Share(ref, weight) for ref, weight in weights.items() if weight > 0)
    return found or (Share(held.active, 1),)


def shadow_of(rules: ModelRules, held: Held) -> ModelRef | None:
    """Who is shown what is asked, if anybody is and can be."""
    ref = held.find(rules.shadow.version) if rules.shadow is not None else None
    return None if ref in held.unshown else ref


def choose_by_key(among: Sequence[Share], key: str) -> int:
    """Index of the share that answers this caller, always the same one for the same key and weights."""
    draws = [-math.log(_unit(key, share.ref.version)) / share.weight for share in among]
    return draws.index(min(draws))


def choose_by_draw(among: Sequence[Share], draw: float) -> int:
    """Index of the share that a number in [0, 1) falls on."""
    point = draw * sum(share.weight for share in among)
    for index, share in enumerate(among):
        point -= share.weight
        if point < 0:
            return index
    return len(among) - 1


def missing(table: RouteTable, held: Mapping[str, Held]) -> tuple[str, ...]:
    """One sentence for each rule that this device cannot follow now, for the heartbeat's reasons."""
    sentences: list[str] = []
    for name, rules in table.models.items():
        if name not in held:
            continue
        for arm in rules.split:
            why = _absence(arm.version, held[name], held[name].unlike)
            if arm.weight and why:
                sentences.append(f"{name}: {arm.version} {why}; its share goes to the active version")
        if rules.shadow is not None:
            why = _absence(rules.shadow.version, held[name], held[name].unshown)
            if why:
                sentences.append(f"{name}: {rules.shadow.version} {why}; nothing is shadowed")
    return tuple(sentences)


def _absence(selector: str, held: Held, unfit: Mapping[ModelRef, str]) -> str:
    """Why a rule's version has no part, or an empty string."""
    ref = held.find(selector)
    if ref is None:
        return "is not on this device"
    return f"has other tensors than the active version ({unfit[ref]})" if ref in unfit else ""


def _unit(key: str, version: str) -> float:
    """A number in (0, 1) that depends on both and on nothing else."""
    digest = hashlib.blake2b(f"{len(version)}:{version}{key}".encode("utf-8", "surrogatepass"), digest_size=8).digest()
    return (int.from_bytes(digest, "little") + 0.5) / _HASH_SPAN
