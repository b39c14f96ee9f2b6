"""What of the fleet's history may go, and when. Pure; ``history`` deletes it, ``pruning`` paces that.

The failure this exists for: a store that is never pruned, so that some thousand devices fill its disk in a year, and an
operator learns of it at night. By kind, since they differ in size and in worth:

* telemetry windows, by when they arrived: some kilobytes each, and worth nothing once they are judged and their peers are;
* drift decisions, as large and as many: those that say nothing is wrong go before those that warn;
* the history's routine (``drift``, ``restart``, ``status``): what devices went through;
* the audit trail (``activation``, ``deployment``, ``incident``, ``repair``; statuses of deployments; deployments that
  later ones replaced): what was changed in the fleet, and by what. It never goes before its own, longer period.

However old, these stay, since something still needs them: the latest decision about a device (the page shows it) and about
each model version that it serves (the next judgement counts its rows in a row from there); decisions that a retraining
refers to; the latest deployment of each target, with what its devices said of it; refusals, which every look at
Greengrass would tell anew. Devices, retrainings and counters are few, and are not history.

Nothing grows old by this machine's clock alone (:func:`as_of`): one that is set wrong for a minute would take all of it.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass, fields
from datetime import datetime, timedelta
from typing import Self

from cloud.errors import InvalidInputError

DAYS_MIN = 15
"""A message may wait in SQS for 14 days: what is forgotten sooner would be taken for news when it comes again."""
DAYS_MAX = 36_500

ROUTINE_KINDS = ("drift", "restart", "status")
AUDIT_KINDS = ("activation", "deployment", "incident", "repair")
"""Together every kind of event there is."""

CALM_LEVELS = ("insufficient", "quiet")
DRIFTING_LEVELS = ("warn", "alarm")

VARIABLE_PREFIX = "EDGEWRIGHT_RETENTION_"

SILENCE = timedelta(days=7)
"""After which a fleet of which nothing is heard does not grow older; shorter than every period."""


@dataclass(frozen=True, slots=True)
class RetentionLimits:
    """For how long history is kept, each ``DAYS_MIN`` to ``DAYS_MAX`` days.

    Attributes:
        window_days: telemetry windows, from their arrival.
        quiet_decision_days: drift decisions that say nothing is wrong.
        drift_decision_days: drift decisions that warn; not shorter.
        event_days: routine events.
        audit_days: the audit trail; not shorter than routine events.
    """

    window_days: int = 30
    quiet_decision_days: int = 30
    drift_decision_days: int = 90
    event_days: int = 90
    audit_days: int = 730

    @classmethod
    def from_environment(cls, environment: Mapping[str, str]) -> Self:
        """Read ``EDGEWRIGHT_RETENTION_<FIELD>``, such as ``EDGEWRIGHT_RETENTION_WINDOW_DAYS=60``.

        Raises:
            InvalidInputError: naming the variable.
        """
        known = {f"{VARIABLE_PREFIX}{one.name.upper()}": one.name for one in fields(cls)}
        for variable in environment:
            if variable.startswith(VARIABLE_PREFIX) and variable not in known:
                raise InvalidInputError(f"{variable} is no retention period", f"There are {', '.join(known)}.")
        limits = cls(
            **{name: _days(variable, environment) for variable, name in known.items() if variable in environment}
        )
        for longer, shorter in (("audit_days", "event_days"), ("drift_decision_days", "quiet_decision_days")):
            if getattr(limits, longer) < getattr(limits, shorter):
                raise InvalidInputError(
                    f"{VARIABLE_PREFIX}{longer.upper()} is {getattr(limits, longer)}, shorter than "
                    f"{shorter} ({getattr(limits, shorter)})",
                    f"Let it be at least as long as {VARIABLE_PREFIX}{shorter.upper()}.",
                )
        return limits


def as_of(now: datetime, heard_at: datetime | None) -> datetime:
    """The time that history is judged at: ``now``, but not long after a device was last heard, by AWS IoT's clock.

    A fleet that nobody hears writes no history either, so that nothing is lost by waiting.
    """
    return now if heard_at is None else min(now, heard_at + SILENCE)


@dataclass(frozen=True, slots=True)
class Cut:
    """Rows of one table that are older than ``before`` and that nothing needs.

    Attributes:
        table: of the fleet database.
        kind: of an event, or a decision's level; empty where the table has no kinds.
        days: the period that ``before`` stands for.
    """

    table: str
    kind: str
    days: int
    before: datetime


def cuts(limits: RetentionLimits, now: datetime) -> tuple[Cut, ...]:
    """Everything that may go at ``now``, the largest first."""
    periods = [
        ("window", "", limits.window_days),
        *(("decision", level, limits.quiet_decision_days) for level in CALM_LEVELS),
        *(("decision", level, limits.drift_decision_days) for level in DRIFTING_LEVELS),
        *(("event", kind, limits.event_days) for kind in ROUTINE_KINDS),
        *(("event", kind, limits.audit_days) for kind in AUDIT_KINDS),
        ("device_deployment", "", limits.audit_days),
        ("deployment", "", limits.audit_days),
    ]
    return tuple(Cut(table, kind, days, now - timedelta(days=days)) for table, kind, days in periods)


def _days(variable: str, environment: Mapping[str, str]) -> int:
    text = environment[variable]
    if not re.fullmatch(r"[0-9]{1,9}", text) or not DAYS_MIN <= int(text) <= DAYS_MAX:
        raise InvalidInputError(
            f"{variable} is {text!r}",
            f"Write whole days, {DAYS_MIN} to {DAYS_MAX}: a message may come again for 14 days, and must still be known.",
        )
    return int(text)
