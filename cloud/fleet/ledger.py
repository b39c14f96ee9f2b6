"""The store's side of reconciling: what is wanted, what was judged, what was tried.

Rows in and values out, no decisions (``health`` and ``repair`` make them, ``reconcile`` drives). Rows are written only
where they change, so that a quiet fleet writes nothing. Thread-safe: each method is one transaction.
"""

import json
import sqlite3
from collections.abc import Iterable, Mapping, Set as AbstractSet
from datetime import datetime

from cloud.fleet.database import Database, from_ms
from cloud.fleet.desired import DeploymentRecord, Wanted, parse_target
from cloud.fleet.health import Claim, DeviceView, Serving, Verdict
from cloud.fleet.order import to_ms
from cloud.fleet.repair import GiveUp, Repair, RepairKey, Tried
from cloud.fleet.store import add_event


class Ledger:
    """Reads and writes for ``reconcile``."""

    def __init__(self, database: Database) -> None:
        """Borrow the database; the caller closes it."""
        self._database = database

    def record_deployments(self, records: Iterable[DeploymentRecord]) -> None:
        """Replace what is known of the latest deployments; earlier ones stay as history. What one leaves behind is told."""
        records = tuple(records)
        rows = [
            (
                one.deployment_id, one.target_arn, one.name, json.dumps(dict(one.components), sort_keys=True),
                one.status, to_ms(one.created_at),
            )
            for one in records
        ]  # fmt: skip
        latest = json.dumps([row[0] for row in rows])
        with self._database.write() as connection:
            connection.executemany(
                "INSERT INTO deployment VALUES (?, ?, ?, ?, ?, ?, 1) ON CONFLICT (deployment_id)"
                " DO UPDATE SET status = excluded.status, is_latest = 1",
                rows,
            )
            connection.execute(
                "UPDATE deployment SET is_latest = 0 WHERE is_latest AND deployment_id NOT IN"
                " (SELECT value FROM json_each(?))",
                (latest,),
            )
            for one in records:
                _tell_refused(connection, one)

    def record_groups(self, groups: Mapping[str, Iterable[str]], now: datetime) -> None:
        """Group name to thing names; things never heard of become devices with status ``unheard``."""
        rows = {(thing, group) for group, things in groups.items() for thing in things}
        with self._database.write() as connection:
            _replace_rows(connection, "device_group", rows)
            _add_devices(connection, {thing for thing, _ in rows}, now)

    def record_wanted(self, wanted: Mapping[str, Mapping[str, Wanted]], now: datetime) -> None:
        """Thing → component → wanted; what is not in it is wanted no longer."""
        rows = {
            (
                thing, one.component_name, one.version, one.deployment_id, one.model_name, one.digest,
                json.dumps(dict(one.configured), sort_keys=True), one.refused_version,
            )
            for thing, components in wanted.items()
            for one in components.values()
        }  # fmt: skip
        with self._database.write() as connection:
            _replace_rows(connection, "wanted", rows)
            _add_devices(connection, set(wanted), now)

    def record_installed(self, thing_name: str, installed: Mapping[str, str]) -> None:
        """What the nucleus of one device claims."""
        with self._database.write() as connection:
            connection.execute("DELETE FROM installed WHERE thing_name = ?", (thing_name,))
            connection.executemany(
                "INSERT INTO installed VALUES (?, ?, ?)",
                [(thing_name, name, version) for name, version in installed.items()],
            )

    def platforms(self) -> Mapping[str, str]:
        """Thing name to platform, as reported."""
        with self._database.read() as connection:
            return {row[0]: row[1] for row in connection.execute("SELECT thing_name, platform FROM device")}

    def views(self) -> tuple[DeviceView, ...]:
        """Every device as ``health`` sees it, from one consistent reading."""
        with self._database.read() as connection:
            return tuple(_views(connection))

    def targets(self) -> Mapping[str, str]:
        """Deployment id to target ARN."""
        with self._database.read() as connection:
            return {row[0]: row[1] for row in connection.execute("SELECT deployment_id, target_arn FROM deployment")}

    def record_verdicts(self, verdicts: Mapping[str, Verdict], now: datetime) -> tuple[str, ...]:
        """Write what changed, with an event where the status itself did; returns the names of those."""
        now_ms = to_ms(now)
        changed: list[str] = []
        with self._database.write() as connection:
            before = {
                row["thing_name"]: (row["status"], row["status_sentence"])
                for row in connection.execute("SELECT thing_name, status, status_sentence FROM device")
            }
            for name, verdict in verdicts.items():
                status, sentence = before.get(name, ("", ""))
                if name not in before or (status, sentence) == (verdict.status, verdict.sentence):
                    continue
                connection.execute(
                    "UPDATE device SET status = ?1, status_sentence = ?2,"
                    " status_since_ms = CASE WHEN status = ?1 THEN status_since_ms ELSE ?3 END WHERE thing_name = ?4",
                    (verdict.status, verdict.sentence, now_ms, name),
                )
                if status != verdict.status:
                    changed.append(name)
                    columns = (now_ms, "status", name, "", "", verdict.status, verdict.sentence)
                    add_event(connection, f"status/{name}/{now_ms}", columns)
        return tuple(changed)

    def tried(self) -> Mapping[RepairKey, Tried]:
        """Everything that was ever repaired."""
        with self._database.read() as connection:
            return {
                RepairKey(row["target_arn"], row["component_name"], row["version"]): Tried(
                    row["try_count"], from_ms(row["last_at_ms"])
                )
                for row in connection.execute("SELECT * FROM repair")
            }

    def forget_tries(self, keys: Iterable[RepairKey]) -> None:
        """Let the count of these keys start anew."""
        rows = [(key.target_arn, key.component_name, key.version) for key in keys]
        if rows:
            with self._database.write() as connection:
                connection.executemany(
                    "DELETE FROM repair WHERE target_arn = ? AND component_name = ? AND version = ?", rows
                )

    def record_try(self, repair: Repair, now: datetime) -> None:
        """Count a try before it is made, so that a crash cannot make it endless."""
        key = repair.key
        with self._database.write() as connection:
            connection.execute(
                "INSERT OR REPLACE INTO repair VALUES (?, ?, ?, ?, ?, '')",
                (key.target_arn, key.component_name, key.version, repair.try_number, to_ms(now)),
            )

    def forgive_try(self, repair: Repair) -> None:
        """Take a try back that cannot have deployed anything; the pause after it stays."""
        key = repair.key
        with self._database.write() as connection:
            connection.execute(
                "UPDATE repair SET try_count = ? WHERE target_arn = ? AND component_name = ? AND version = ?",
                (repair.try_number - 1, key.target_arn, key.component_name, key.version),
            )

    def record_repaired(self, repair: Repair, deployment_id: str, now: datetime) -> None:
        """Which deployment the try became."""
        key = repair.key
        with self._database.write() as connection:
            connection.execute(
                "UPDATE repair SET last_deployment_id = ? WHERE target_arn = ? AND component_name = ? AND version = ?",
                (deployment_id, key.target_arn, key.component_name, key.version),
            )
            _repair_events(connection, repair, f"repair/{repair.nonce}", "redeployed", now)

    def record_given_up(self, given_up: GiveUp, now: datetime) -> None:
        """Once for each row of tries."""
        key = given_up.key
        with self._database.write() as connection:
            name = f"given-up/{key.target_arn}/{key.component_name}/{key.version}/{to_ms(given_up.last_at)}"
            _repair_events(connection, given_up, name, "given-up", now)


def _tell_refused(connection: sqlite3.Connection, record: DeploymentRecord) -> None:
    """Once for each target and version, however many deployments go on without it."""
    _, target = parse_target(record.target_arn)
    for name, version in record.refused.items():
        carried = record.components.get(name)
        sentence = (
            f"{name} {version} failed on every device of {target} that tried it; deployments carry {carried or 'nothing'} "
            "in its place."
        )
        columns = (to_ms(record.created_at), "deployment", "", "", version, "refused", sentence)
        add_event(connection, f"refused/{record.target_arn}/{name}/{version}/{carried}", columns)


def _repair_events(
    connection: sqlite3.Connection, step: Repair | GiveUp, key: str, outcome: str, now: datetime
) -> None:
    for thing_name in step.things:
        columns = (to_ms(now), "repair", thing_name, "", step.key.version, outcome, step.sentence)
        add_event(connection, f"{key}/{thing_name}", columns)


def _replace_rows(connection: sqlite3.Connection, table: str, rows: AbstractSet[tuple[str, ...]]) -> None:
    """Make a table hold exactly these rows, touching only those that differ; the first two columns are its key."""
    before = {tuple(row) for row in connection.execute(f"SELECT * FROM {table}")}  # noqa: S608 - a table of ours
    key = "thing_name = ? AND group_name = ?" if table == "device_group" else "thing_name = ? AND component_name = ?"
    connection.executemany(f"DELETE FROM {table} WHERE {key}", [row[:2] for row in before - rows])  # noqa: S608 - a table and keys of ours
    if new := rows - before:
        marks = ", ".join("?" * len(next(iter(new))))
        connection.executemany(f"INSERT OR REPLACE INTO {table} VALUES ({marks})", new)  # noqa: S608 - only question marks


def _add_devices(connection: sqlite3.Connection, things: set[str], now: datetime) -> None:
    connection.executemany(
        "INSERT OR IGNORE INTO device (thing_name, status, status_sentence, status_since_ms, first_seen_at_ms)"
        " VALUES (?1, 'unheard', 'No heartbeat has come from this device yet.', ?2, ?2)",
        [(thing, to_ms(now)) for thing in sorted(things)],
    )


def _views(connection: sqlite3.Connection) -> Iterable[DeviceView]:
    models: dict[str, dict[str, Serving]] = {}
    for row in connection.execute("SELECT thing_name, model_name, version, digest, state FROM device_model"):
        models.setdefault(row[0], {})[row[1]] = Serving(row[2], row[3], row[4])
    wanted: dict[str, dict[str, Wanted]] = {}
    for row in connection.execute("SELECT * FROM wanted"):
        wanted.setdefault(row["thing_name"], {})[row["component_name"]] = Wanted(
            row["component_name"], row["version"], row["deployment_id"], row["model_name"], row["digest"],
            json.loads(row["configured"]), row["refused_version"],
        )  # fmt: skip
    claims: dict[str, dict[str, Claim]] = {}
    for row in connection.execute(
        "SELECT d.thing_name, d.deployment_id, d.status, d.reason, d.changed_at_ms FROM device_deployment d"
        " WHERE d.deployment_id IN (SELECT deployment_id FROM wanted)"
    ):
        claims.setdefault(row[0], {})[row[1]] = Claim(row[2], row[3], from_ms(row[4]))
    installed: dict[str, dict[str, str]] = {}
    for row in connection.execute("SELECT thing_name, component_name, version FROM installed"):
        installed.setdefault(row[0], {})[row[1]] = row[2]
    for row in connection.execute(
        "SELECT d.thing_name, d.runtime_version, d.health, d.reasons, d.configuration, h.received_at_ms"
        " FROM device d LEFT JOIN heartbeat h USING (thing_name) ORDER BY d.thing_name"
    ):
        name = row["thing_name"]
        yield DeviceView(
            thing_name=name,
            heard_at=None if row["received_at_ms"] is None else from_ms(row["received_at_ms"]),
            runtime_version=row["runtime_version"],
            health=row["health"],
            reasons=tuple(json.loads(row["reasons"])),
            models=models.get(name, {}),
            wanted=wanted.get(name, {}),
            claims=claims.get(name, {}),
            installed=installed.get(name, {}),
            configuration=None if row["configuration"] is None else json.loads(row["configuration"]),
        )
