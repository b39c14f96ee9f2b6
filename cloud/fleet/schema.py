"""The fleet database's tables, and how an older file becomes a current one.

The failure this exists for: last-seen writes that lock the device table (seen in other fleet systems). So what changes
with every heartbeat lies in ``heartbeat``, narrow and without indexes; what changes with a deployment lies in
``device`` and ``device_model``, indexed as ``(filter, name)`` for every filter that the API offers, since its pages are
keyset pages ordered by name. Times are milliseconds since 1970, UTC.

``PRAGMA user_version`` holds the schema's version. A file written by a later version is refused, untouched.
"""

import sqlite3

from cloud.errors import ConflictError

SCHEMA_VERSION = 5

TABLES = """
CREATE TABLE heartbeat (          -- hot: one row a device, rewritten by each heartbeat
    thing_name TEXT PRIMARY KEY, epoch TEXT NOT NULL, sequence INTEGER NOT NULL,
    recorded_at_ms INTEGER NOT NULL, received_at_ms INTEGER NOT NULL, fingerprint TEXT NOT NULL,
    answered_count INTEGER NOT NULL, failed_count INTEGER NOT NULL,
    queued_count INTEGER NOT NULL, dropped_count INTEGER NOT NULL,
    disk_free_bytes INTEGER NOT NULL, rss_bytes INTEGER NOT NULL
) WITHOUT ROWID;

CREATE TABLE device (             -- cold: written only on change
    thing_name TEXT PRIMARY KEY, status TEXT NOT NULL, status_sentence TEXT NOT NULL, status_since_ms INTEGER NOT NULL,
    runtime_version TEXT NOT NULL DEFAULT '', platform TEXT NOT NULL DEFAULT '',
    process_id INTEGER, started_at_ms INTEGER, boot_id TEXT NOT NULL DEFAULT '',
    health TEXT NOT NULL DEFAULT '', reasons TEXT NOT NULL DEFAULT '[]', first_seen_at_ms INTEGER NOT NULL
) WITHOUT ROWID;
CREATE INDEX device_by_status ON device (status, thing_name);

CREATE TABLE device_model (       -- what the runtime itself verified and answers with
    thing_name TEXT NOT NULL, model_name TEXT NOT NULL, version TEXT NOT NULL, digest TEXT NOT NULL,
    state TEXT NOT NULL, since_at_ms INTEGER NOT NULL, previous_version TEXT, previous_digest TEXT,
    PRIMARY KEY (thing_name, model_name)
) WITHOUT ROWID;
CREATE INDEX device_model_by_model ON device_model (model_name, thing_name);
CREATE INDEX device_model_by_version ON device_model (version, thing_name);
CREATE INDEX device_model_by_model_version ON device_model (model_name, version, thing_name);

CREATE TABLE device_group (
    thing_name TEXT NOT NULL, group_name TEXT NOT NULL, PRIMARY KEY (thing_name, group_name)
) WITHOUT ROWID;
CREATE INDEX device_group_by_group ON device_group (group_name, thing_name);

CREATE TABLE wanted (             -- what the latest deployments ask of a device
    thing_name TEXT NOT NULL, component_name TEXT NOT NULL, version TEXT NOT NULL, deployment_id TEXT NOT NULL,
    model_name TEXT NOT NULL DEFAULT '', digest TEXT NOT NULL DEFAULT '',
    PRIMARY KEY (thing_name, component_name)
) WITHOUT ROWID;

CREATE TABLE installed (          -- what the nucleus claims
    thing_name TEXT NOT NULL, component_name TEXT NOT NULL, version TEXT NOT NULL,
    PRIMARY KEY (thing_name, component_name)
) WITHOUT ROWID;

CREATE TABLE deployment (
    deployment_id TEXT PRIMARY KEY, target_arn TEXT NOT NULL, name TEXT NOT NULL, components TEXT NOT NULL,
    status TEXT NOT NULL, created_at_ms INTEGER NOT NULL, is_latest INTEGER NOT NULL
) WITHOUT ROWID;
CREATE INDEX deployment_by_time ON deployment (created_at_ms, deployment_id);

CREATE TABLE device_deployment (
    thing_name TEXT NOT NULL, deployment_id TEXT NOT NULL, status TEXT NOT NULL, reason TEXT NOT NULL,
    error_types TEXT NOT NULL, error_stack TEXT NOT NULL, changed_at_ms INTEGER NOT NULL,
    PRIMARY KEY (thing_name, deployment_id)
) WITHOUT ROWID;
CREATE INDEX device_deployment_by_deployment ON device_deployment (deployment_id, status, thing_name);

CREATE TABLE repair (             -- bounded tries for one difference
    target_arn TEXT NOT NULL, component_name TEXT NOT NULL, version TEXT NOT NULL,
    try_count INTEGER NOT NULL, last_at_ms INTEGER NOT NULL, last_deployment_id TEXT NOT NULL,
    PRIMARY KEY (target_arn, component_name, version)
) WITHOUT ROWID;

CREATE TABLE window (
    thing_name TEXT NOT NULL, window_id TEXT NOT NULL, model_name TEXT NOT NULL, version TEXT NOT NULL,
    digest TEXT NOT NULL, baseline_id TEXT NOT NULL, starts_at_ms INTEGER NOT NULL, ends_at_ms INTEGER NOT NULL,
    record_count INTEGER NOT NULL, part_count INTEGER NOT NULL, arrived_count INTEGER NOT NULL,
    arrived_at_ms INTEGER NOT NULL, decision_id INTEGER,
    PRIMARY KEY (thing_name, window_id)
) WITHOUT ROWID;
CREATE INDEX window_to_judge ON window (thing_name, model_name, version, ends_at_ms) WHERE decision_id IS NULL;
CREATE INDEX window_by_baseline ON window (baseline_id, ends_at_ms);

CREATE TABLE window_part (
    thing_name TEXT NOT NULL, window_id TEXT NOT NULL, part INTEGER NOT NULL, body BLOB NOT NULL,
    PRIMARY KEY (thing_name, window_id, part)
) WITHOUT ROWID;

CREATE TABLE decision (
    decision_id INTEGER PRIMARY KEY AUTOINCREMENT, at_ms INTEGER NOT NULL,
    thing_name TEXT NOT NULL, model_name TEXT NOT NULL, version TEXT NOT NULL,
    starts_at_ms INTEGER NOT NULL, ends_at_ms INTEGER NOT NULL,
    level TEXT NOT NULL, action TEXT NOT NULL, sentence TEXT NOT NULL, document TEXT NOT NULL
);
CREATE INDEX decision_by_thing ON decision (thing_name, decision_id);
CREATE INDEX decision_by_model ON decision (model_name, decision_id);
CREATE INDEX decision_by_level ON decision (level, decision_id);

CREATE TABLE incident (           -- one retraining per model version
    incident_id TEXT PRIMARY KEY, model_name TEXT NOT NULL, version TEXT NOT NULL, decision_id INTEGER NOT NULL,
    opened_at_ms INTEGER NOT NULL, detail TEXT NOT NULL, announced_at_ms INTEGER, UNIQUE (model_name, version)
) WITHOUT ROWID;

CREATE TABLE event (
    event_id INTEGER PRIMARY KEY AUTOINCREMENT, dedupe_key TEXT NOT NULL UNIQUE, at_ms INTEGER NOT NULL,
    kind TEXT NOT NULL, thing_name TEXT NOT NULL, model_name TEXT NOT NULL, version TEXT NOT NULL,
    outcome TEXT NOT NULL, sentence TEXT NOT NULL
);
CREATE INDEX event_by_thing ON event (thing_name, event_id);
CREATE INDEX event_by_kind ON event (kind, event_id);

CREATE TABLE counter (name TEXT PRIMARY KEY, value INTEGER NOT NULL) WITHOUT ROWID;
"""

ATTEMPTS = """
CREATE TABLE attempt (            -- one row for each attempt to replace a model version
    incident_id TEXT PRIMARY KEY, model_name TEXT NOT NULL, version TEXT NOT NULL, attempt INTEGER NOT NULL,
    decision_id INTEGER NOT NULL, opened_at_ms INTEGER NOT NULL, detail TEXT NOT NULL, announced_at_ms INTEGER,
    state TEXT NOT NULL DEFAULT 'open', sentence TEXT NOT NULL DEFAULT '', execution_arn TEXT NOT NULL DEFAULT '',
    ended_at_ms INTEGER, UNIQUE (model_name, version, attempt)
) WITHOUT ROWID;

INSERT INTO attempt (incident_id, model_name, version, attempt, decision_id, opened_at_ms, detail, announced_at_ms)
    SELECT incident_id, model_name, version, 1, decision_id, opened_at_ms, detail, announced_at_ms FROM incident;

DROP TABLE incident;

ALTER TABLE attempt RENAME TO incident;
"""

CONFIGURED = """
ALTER TABLE wanted ADD COLUMN configured TEXT NOT NULL DEFAULT '{}';

ALTER TABLE device ADD COLUMN configuration TEXT;
"""
"""Digests by JSON pointer: what was set of a runtime's configuration, and what it reports (NULL where it does not)."""

REFUSED = """
ALTER TABLE wanted ADD COLUMN refused_version TEXT NOT NULL DEFAULT '';
"""
"""The newer version in whose place this one is wanted."""

BY_AGE = """
DROP INDEX window_to_judge;

CREATE INDEX window_to_judge
    ON window (thing_name, model_name, version, baseline_id, ends_at_ms, record_count, arrived_at_ms)
    WHERE decision_id IS NULL AND arrived_count = part_count AND baseline_id <> '';

CREATE INDEX window_by_age ON window (arrived_at_ms);

CREATE INDEX decision_by_age ON decision (level, at_ms);

CREATE INDEX decision_by_stretch ON decision (thing_name, model_name, version, decision_id);

CREATE INDEX decision_by_model_level ON decision (model_name, level, decision_id);

CREATE INDEX event_by_age ON event (kind, at_ms);

CREATE INDEX wanted_by_model ON wanted (model_name, version);

CREATE INDEX device_deployment_by_age ON device_deployment (changed_at_ms);
"""
"""Deleting what is old costs what is deleted, whatever there is (``history``); so does judging (``cloud.drift.journal``).
What serves and is wanted is counted within an index (``queries``)."""

MIGRATIONS: tuple[str, ...] = (TABLES, ATTEMPTS, CONFIGURED, REFUSED, BY_AGE)
"""Step i takes a file from version i to i + 1; released steps never change."""


class StoreTooNewError(ConflictError):
    """The database was written by a later Edgewright; it was left untouched."""

    code = "store-too-new"


class StoreForeignError(ConflictError):
    """The database is another program's; it was left untouched."""

    code = "store-foreign"


def migrate(connection: sqlite3.Connection) -> None:
    """Bring a database to ``SCHEMA_VERSION`` in one transaction; a new file gets every table.

    Raises:
        StoreTooNewError: written by a later version.
        StoreForeignError: written by another program.
    """
    connection.execute("BEGIN IMMEDIATE")
    try:
        for step in MIGRATIONS[_version(connection) :]:
            for statement in _statements(step):
                connection.execute(statement)
        connection.execute(f"PRAGMA user_version = {SCHEMA_VERSION}")
        connection.execute("COMMIT")
    except BaseException:
        connection.execute("ROLLBACK")
        raise


def _version(connection: sqlite3.Connection) -> int:
    found = int(connection.execute("PRAGMA user_version").fetchone()[0])
    if found > SCHEMA_VERSION:
        raise StoreTooNewError(
            f"the fleet database has schema {found}; this Edgewright knows {SCHEMA_VERSION}",
            "Upgrade Edgewright, or point EDGEWRIGHT_DATABASE_URL at another file.",
        )
    if found == 0 and connection.execute("SELECT count(*) FROM sqlite_master").fetchone()[0]:
        raise StoreForeignError(
            f"{connection.execute('PRAGMA database_list').fetchone()[2]} is a database of another program",
            "Point EDGEWRIGHT_DATABASE_URL at a file of its own.",
        )
    return found


def _statements(script: str) -> list[str]:
    """Split at the semicolons that end lines; ``executescript`` would commit behind our back."""
    return [statement for part in script.split(";\n") if (statement := part.strip())]
