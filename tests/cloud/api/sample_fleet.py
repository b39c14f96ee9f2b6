"""A small fleet in every state that the API shows: filled through the real store, ledger and journal."""

from dataclasses import replace
from datetime import timedelta

import numpy as np

from cloud.drift.assembly import Batch, Stretch, WholeWindow
from cloud.drift.decision import decide, streaks_of
from cloud.drift.journal import Journal
from cloud.fleet.database import Database
from cloud.fleet.desired import DeploymentRecord, MemoryControlPlane, MemoryPublications, Publication
from cloud.fleet.facts import DeploymentStatusFact
from cloud.fleet.ledger import Ledger
from cloud.fleet.reconcile import Reconciler
from cloud.fleet.store import SqliteFactSink
from tests.cloud.drift.samples import simple_baseline, window
from tests.cloud.fleet.samples import DIGEST, T0, activation_fact, heartbeat_fact

COMPONENT = "com.edgewright.model.Weather"
TARGET = "arn:aws:iot:us-east-1:123456789012:thinggroup/stations"
NOW = T0 + timedelta(seconds=190)


def fill(database: Database) -> None:
    sink = SqliteFactSink(database)
    sink.commit([heartbeat_fact(100, "1.0.0", thing=name) for name in ("EWR", "JFK", "LGA")])
    refused = activation_fact(101, "refused")
    event = replace(
        refused.event, code="golden-mismatch", message="low_visibility differs by 0.3 in sample 4.", phase="golden"
    )
    sink.commit([replace(refused, event=event), activation_fact(102, thing="JFK")])
    sink.commit([heartbeat_fact(180, version, thing=name) for name, version in
                 (("EWR", "1.0.0"), ("JFK", "1.1.0"), ("LGA", "1.0.0"))])  # fmt: skip
    sink.commit([claim("EWR", "FAILED"), claim("JFK", "SUCCEEDED"), claim("LGA", "SUCCEEDED")])
    control_plane = MemoryControlPlane(
        {
            "d1": DeploymentRecord(
                "d1", TARGET, "weather-1.1.0", {COMPONENT: "1.1.0"}, "ACTIVE", T0, refused={COMPONENT: "1.2.0"}
            )
        },
        {"stations": ("EWR", "JFK", "LGA", "SWF")},
        {"LGA": {COMPONENT: "1.1.0"}},
    )
    publications = MemoryPublications(
        {(COMPONENT, "1.1.0"): Publication(COMPONENT, "weather", "1.1.0", {"linux/x86_64": DIGEST})}
    )
    Reconciler(control_plane, publications, Ledger(database), lambda: NOW).pass_once()
    _judge(Journal(database))


def claim(thing: str, status: str) -> DeploymentStatusFact:
    reason = "FAILED_ROLLBACK_NOT_REQUESTED" if status == "FAILED" else ""
    return DeploymentStatusFact(f"ev-{thing}", thing, "d1", status, reason, (), (), T0 + timedelta(seconds=150))


def _judge(journal: Journal) -> None:
    random = np.random.default_rng(30)
    baseline = simple_baseline(random)
    for thing, shifts, centre in (("EWR", {"f1": 1.0}, 0.0), ("JFK", {}, -3.0)):
        stretch = Stretch(thing, "weather", "1.0.0", "b" * 64)
        streaks = journal.streaks(stretch)
        for turn in range(3):
            starts_at = T0 + timedelta(minutes=turn)
            whole = WholeWindow(thing, f"w{turn}", starts_at, starts_at + timedelta(minutes=1), 400)
            decision = decide(window(baseline, random, 400, shifts, centre), baseline, None, streaks)
            attempt = 1 if decision.action == "retrain" else None
            journal.record(stretch, Batch((whole,)), decision, NOW + timedelta(seconds=turn), attempt)
            streaks = streaks_of(decision)
