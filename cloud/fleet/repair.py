"""What to do about a device that serves other than Greengrass claims. Pure; the loop that acts is ``reconcile``.

The failure this exists for: deploying the same version again does nothing (SUCCEEDED in 5 s, the startup not run).
Measured to repair it: a configuration merge with a nonce on the model component, which makes Lite run the component's
``startup`` again. The Java nucleus does so only because the recipe's script names the nonce (read in its source): what was
published before it did, is repaired there by another version alone. Lite listens to thing groups only, so the repair goes
to the target that wanted the version; on devices that already serve it the hand-over answers ``already-active`` and nothing changes.

Bounded: at most ``tries_max`` for one (target, component, version), ``pause_s`` apart, then it is left to a person. The
count starts anew only once nothing of that key has differed, and nothing was tried, for ``forget_after_s``.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta

from cloud.fleet.health import Difference
from cloud.names import MODEL_PREFIX, is_retirement

NAMED_COUNT_MAX = 5
"""Devices that a sentence names: it stands in the history of each of them."""


@dataclass(frozen=True, slots=True)
class RepairLimits:
    """How often, how soon again, and when an old difference is forgotten.

    Attributes:
        tries_max: deployments for one difference.
        pause_s: from one try to the next.
        forget_after_s: since the last try, for a key of which nothing differs any more.
    """

    tries_max: int = 3
    pause_s: float = 60.0
    forget_after_s: float = 3_600.0


@dataclass(frozen=True, slots=True)
class RepairKey:
    """What a repair repairs."""

    target_arn: str
    component_name: str
    version: str

    @property
    def is_retirement(self) -> bool:
        """Whether it is a model's removal that never happened."""
        return is_retirement(self.component_name, self.version)


@dataclass(frozen=True, slots=True)
class Tried:
    """The ledger's line for a key."""

    try_count: int
    last_at: datetime


@dataclass(frozen=True, slots=True)
class Repair:
    """Deploy ``deployment_id`` again with ``nonce``; ``things`` are those that differ."""

    key: RepairKey
    deployment_id: str
    nonce: str
    try_number: int
    things: tuple[str, ...]

    @property
    def sentence(self) -> str:
        """For the fleet's history."""
        things = _named(self.things)
        why = f"{things} never let go of the model" if self.key.is_retirement else f"it does not serve on {things}"
        return (
            f"Deploying {self.key.component_name} {self.key.version} again with a configuration nonce "
            f"(try {self.try_number}), because {why}."
        )


@dataclass(frozen=True, slots=True)
class GiveUp:
    """Tried often enough: a person must look. ``last_at`` is when it was tried last."""

    key: RepairKey
    things: tuple[str, ...]
    last_at: datetime

    @property
    def sentence(self) -> str:
        """For the fleet's history."""
        still = f"does not serve {self.key.component_name} {self.key.version}"
        if self.key.is_retirement:
            still = f"serves what was retired by {self.key.component_name} {self.key.version}"
        return f"{_named(self.things)} still {still} after every repair; look at the device's Greengrass log."


def _named(things: tuple[str, ...]) -> str:
    rest = len(things) - NAMED_COUNT_MAX
    return ", ".join(things[:NAMED_COUNT_MAX]) + (f" and {rest} more" if rest > 0 else "")


def decide_repairs(
    diverged: Mapping[str, Iterable[Difference]],
    targets: Mapping[str, str],
    ledger: Mapping[RepairKey, Tried],
    now: datetime,
    limits: RepairLimits = RepairLimits(),
) -> tuple[Repair | GiveUp, ...]:
    """One repair for each target, component and version that differs, as far as the ledger allows.

    Args:
        diverged: thing name to its differences; only kind ``diverged`` of a model component is repaired.
        targets: deployment id to target ARN.
        ledger: what was tried already.
        now: the time of this run.
        limits: bounds.
    """
    open_differences = repairable(diverged, targets)
    decided = (
        _decide(key, deployment_id, tuple(things), ledger.get(key), now, limits)
        for (key, deployment_id), things in open_differences.items()
    )
    return tuple(step for step in decided if step is not None)


def repairable(
    diverged: Mapping[str, Iterable[Difference]], targets: Mapping[str, str]
) -> Mapping[tuple[RepairKey, str], list[str]]:
    """Differences that a repair is for: (key, deployment id) to the things that differ, by name."""
    things: dict[tuple[RepairKey, str], list[str]] = {}
    for thing_name, differences in sorted(diverged.items()):
        for difference in differences:
            wanted = difference.wanted
            target_arn = targets.get(wanted.deployment_id)
            is_model = wanted.component_name.startswith(MODEL_PREFIX)
            if difference.kind == "diverged" and target_arn is not None and is_model:
                key = RepairKey(target_arn, wanted.component_name, wanted.version)
                things.setdefault((key, wanted.deployment_id), []).append(thing_name)
    return things


def _decide(
    key: RepairKey,
    deployment_id: str,
    things: tuple[str, ...],
    tried: Tried | None,
    now: datetime,
    limits: RepairLimits,
) -> Repair | GiveUp | None:
    if tried is None:
        return Repair(key, deployment_id, _nonce(now, 1), 1, things)
    if now < tried.last_at + timedelta(seconds=limits.pause_s):
        return None
    if tried.try_count >= limits.tries_max:
        return GiveUp(key, things, tried.last_at)
    try_number = tried.try_count + 1
    return Repair(key, deployment_id, _nonce(now, try_number), try_number, things)


def _nonce(now: datetime, try_number: int) -> str:
    return f"{now:%Y%m%dT%H%M%SZ}-{try_number}"


def forgettable(
    ledger: Mapping[RepairKey, Tried], still_open: Iterable[RepairKey], now: datetime, limits: RepairLimits
) -> tuple[RepairKey, ...]:
    """Keys whose count starts anew: nothing of them differs, and the last try is long past."""
    open_keys, before = set(still_open), now - timedelta(seconds=limits.forget_after_s)
    return tuple(key for key, tried in ledger.items() if key not in open_keys and tried.last_at < before)
