"""``edgewright fleet``: the fleet's own store, how large it is, what of its history may go, and what would."""

import os
import threading
from datetime import UTC, datetime
from typing import Annotated

import typer

from cloud.cli.api_client import api_client, fetched
from cloud.cli.output import OutputFormat, OutputOption, print_fields, print_json, print_rows
from cloud.fleet.database import Database
from cloud.fleet.history import SqliteHistory
from cloud.fleet.pruning import Pruning, PruningPace, told
from cloud.fleet.retention import DAYS_MAX, DAYS_MIN, VARIABLE_PREFIX, RetentionLimits
from cloud.settings import Settings

fleet = typer.Typer(
    name="fleet", help="Show how large the fleet's store is and for how long history is kept.", no_args_is_help=True
)
COLUMNS = ["table", "kind", "days", "oldest_at", "due_count"]
UNBOUNDED = 2**62
BESIDE_SERVE = PruningPace(batch_pause_s=0.05)
"""Faster than the loop of ``edgewright serve``, and slow enough to let it write in between."""

DaysOption = Annotated[
    int | None, typer.Option(min=DAYS_MIN, max=DAYS_MAX, help="In place of the variable of that name.")
]


def _now() -> datetime:
    return datetime.now(UTC)


@fleet.command()
def store(output: OutputOption = OutputFormat.TABLE) -> None:
    """Show the size of the fleet's store, and of each kind of history: kept for how long, since when, how much is due.

    As edgewright serve has it, which lets go of what is due by itself, every ten minutes. How long is set in its
    environment: EDGEWRIGHT_RETENTION_WINDOW_DAYS, _QUIET_DECISION_DAYS, _DRIFT_DECISION_DAYS, _EVENT_DAYS, _AUDIT_DAYS.

    For example:

      edgewright fleet store

      edgewright fleet store -o json
    """
    with api_client(Settings.from_environment()) as client:
        found = fetched(client, "/v1/store", {})
    if output is OutputFormat.JSON:
        print_json(found)
        return
    print_fields({name: value for name, value in found.items() if name != "retention"}, output)
    print_rows(found["retention"], COLUMNS, output)


@fleet.command()
def prune(
    *,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only say what would go; nothing is deleted.")] = False,
    window_days: DaysOption = None,
    quiet_decision_days: DaysOption = None,
    drift_decision_days: DaysOption = None,
    event_days: DaysOption = None,
    audit_days: DaysOption = None,
    output: OutputOption = OutputFormat.TABLE,
) -> None:
    """Delete history that is past its time now, or say what that would be.

    Opens the database of EDGEWRIGHT_DATABASE_URL itself, also while edgewright serve runs: a few hundred rows at a time. What
    is deleted makes room in the file for what comes next; a file made by this version also shrinks by most of it.

    For example:

      edgewright fleet prune --dry-run

      edgewright fleet prune --dry-run --window-days 15 -o json

      EDGEWRIGHT_DATABASE_URL=sqlite:////var/lib/edgewright/fleet.db edgewright fleet prune
    """
    chosen = {
        "window_days": window_days, "quiet_decision_days": quiet_decision_days,
        "drift_decision_days": drift_decision_days, "event_days": event_days, "audit_days": audit_days,
    }  # fmt: skip
    options = {f"{VARIABLE_PREFIX}{name.upper()}": str(days) for name, days in chosen.items() if days is not None}
    limits = RetentionLimits.from_environment({**os.environ, **options})
    database = Database.from_url(Settings.from_environment().database_url, must_exist=True)
    try:
        history = SqliteHistory(database)
        if dry_run:
            print_rows(told(history, limits, _now(), UNBOUNDED)["retention"], COLUMNS, output)
            return
        gone = Pruning(history, _now, limits, BESIDE_SERVE).pass_once(threading.Event())
        print_rows(
            [{"table": name, "deleted_count": count} for name, count in gone.items()],
            ["table", "deleted_count"],
            output,
        )
    finally:
        database.close()
