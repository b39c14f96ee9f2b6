"""From windows in the store to one announced incident; each step may fail, and none is taken twice."""

import json
from collections import Counter
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from itertools import pairwise
from pathlib import Path
from threading import Event
from typing import Any

import numpy as np
import pytest

from cloud.drift import watch as watch_module
from cloud.drift.attempts import Execution
from cloud.drift.incidents import Incident
from cloud.drift.judgement import DriftDecision, Observed
from cloud.drift.ports import (
    BaselineDamagedError,
    BaselineUnknownError,
    MemoryBaselines,
    MemoryExecutions,
    MemoryIncidents,
    MemoryReports,
    WatchPorts,
)
from cloud.drift.watch import DriftWatch, UnjudgedError, WatchLimits
from cloud.errors import UnavailableError
from cloud.fleet.database import Database
from cloud.fleet.facts import Origin, WindowFact
from cloud.fleet.history import SqliteHistory
from cloud.fleet.pruning import Pruning, PruningPace
from cloud.fleet.retention import RetentionLimits
from cloud.fleet.store import SqliteFactSink
from edge_component.contracts.baseline import Baseline
from edge_component.contracts.heartbeat import ModelRef
from edge_component.contracts.telemetry import TelemetryWindow
from tests.cloud.drift.samples import simple_baseline, window
from tests.cloud.fleet.samples import window_fact

T0 = datetime(2026, 1, 1, tzinfo=UTC)
BASELINE = simple_baseline(np.random.default_rng(20))
BASELINE_ID = "b" * 64
DRIFT = {"f1": 1.0}


class World:
    """Devices that send windows of five minutes, and a clock that the test turns."""

    def __init__(self, database: Database) -> None:
        self.now = T0
        self.random = np.random.default_rng(21)
        self.database, self.sink = database, SqliteFactSink(database)
        self.baselines = MemoryBaselines({BASELINE_ID: BASELINE})
        self.incidents, self.reports, self.executions = MemoryIncidents(), MemoryReports(), MemoryExecutions()
        self.sequence = 0
        self.ports = WatchPorts(self.baselines, self.incidents, self.reports, self.executions)
        self.watch = DriftWatch(database, self.ports, lambda: self.now, WatchLimits(settle_s=1))

    def send(
        self,
        turn: int,
        thing: str = "EWR",
        shifts: dict[str, float] | None = None,
        count: int = 400,
        version: str = "1.0.0",
        centre: float = 0.0,
        part_count: int = 1,
        *,
        baseline_id: str = BASELINE_ID,
        clock_is_off: timedelta = timedelta(0),
    ) -> None:
        seen = window(BASELINE, self.random, count, shifts, centre)
        ends_at = T0 + timedelta(minutes=5 * turn)
        whole = TelemetryWindow(
            ModelRef("weather", version, "a" * 64), baseline_id, f"{thing}-{turn}",
            ends_at + clock_is_off - timedelta(minutes=5), ends_at + clock_is_off, 300_000, count, seen.features, seen.outputs, part_count=part_count,
        )  # fmt: skip
        self.sequence += 1
        origin = Origin(thing, "e1", self.sequence, ends_at, ends_at)
        self.sink.commit([WindowFact(origin, whole)])
        self.now = ends_at + timedelta(seconds=2)

    def forget(self) -> None:
        history = SqliteHistory(self.database)
        Pruning(history, lambda: self.now, RetentionLimits(), PruningPace(batch_pause_s=0)).pass_once(Event())

    def one(self, query: str) -> object:
        with self.database.read() as connection:
            return connection.execute(query).fetchone()[0]


@pytest.fixture
def world(tmp_path: Path) -> Iterator[World]:
    database = Database(tmp_path / "fleet.db")
    yield World(database)
    database.close()


def test_three_drifting_windows_make_one_incident_that_is_announced_once(world: World) -> None:
    actions = []
    for turn in range(1, 6):
        for thing in ("EWR", "JFK"):
            world.send(turn, thing, DRIFT)
        actions.append({decision.action for decision in world.watch.pass_once()})
    assert actions == [{"none"}, {"none"}, {"retrain"}, {"retrain"}, {"retrain"}]
    (incident,) = world.incidents.announced
    assert (incident.model_name, incident.version) == ("weather", "1.0.0")
    assert incident.detail["sentence"].endswith("Retrain.")
    assert "f1" in incident.detail["features"]
    assert world.one("SELECT count(*) FROM event WHERE kind = 'incident'") == 1
    names = sorted(world.reports.files)
    assert names[0].startswith("weather/1.0.0/EWR/")
    assert json.loads(world.reports.files[names[0]])["violations"]


def test_the_history_tells_of_the_first_decision_that_says_so_and_of_the_end(world: World) -> None:
    """Else a device that drifts for a month leaves no room for a refused model, on a page of 25 events."""
    for turn in range(1, 15):
        world.send(turn, shifts=DRIFT if turn < 9 else None)
        world.watch.pass_once()
    with world.database.read() as connection:
        decided = [(row["level"], row["action"]) for row in connection.execute("SELECT * FROM decision")]
        told = [row["outcome"] for row in connection.execute("SELECT * FROM event WHERE kind = 'drift'")]
    assert decided.count(("alarm", "retrain")) > 2
    assert decided[-1] == ("quiet", "none")
    turns = [now for before, now in pairwise(decided) if before != now and {before[0], now[0]} != {"quiet"}]
    assert told == [action for _, action in turns]


def test_a_new_version_has_its_own_incident(world: World) -> None:
    for turn in range(1, 4):
        world.send(turn, shifts=DRIFT)
    for turn in range(4, 7):
        world.send(turn, shifts=DRIFT, version="1.1.0")
    world.watch.pass_once()
    assert [incident.version for incident in world.incidents.announced] == ["1.0.0", "1.1.0"]


def test_an_announcement_that_failed_is_made_again_under_the_same_id(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    tried: list[str] = []

    def lost(self: MemoryIncidents, incident: Incident) -> None:
        tried.append(incident.incident_id)
        raise UnavailableError("EventBridge is away")

    for turn in range(1, 4):
        world.send(turn, shifts=DRIFT)
    with monkeypatch.context() as patch:
        patch.setattr(MemoryIncidents, "announce", lost)
        with pytest.raises(UnavailableError):
            world.watch.pass_once()
    assert world.watch.pass_once() == ()
    assert [incident.incident_id for incident in world.incidents.announced] == tried


def test_small_windows_are_judged_together_and_the_rest_waits(world: World) -> None:
    for turn in range(1, 6):
        world.send(turn, count=90)
    (decision,) = world.watch.pass_once()
    assert decision.record_count == 270
    assert world.one("SELECT count(*) FROM window WHERE decision_id IS NULL") == 2


def test_windows_wait_for_their_parts_for_settling_and_for_their_baseline(world: World) -> None:
    world.send(1, part_count=2)
    assert world.watch.pass_once() == ()
    world.send(2, "JFK")
    world.now = T0 + timedelta(minutes=10, seconds=0.5)
    assert world.watch.pass_once() == ()
    world.now = T0 + timedelta(minutes=10, seconds=2)
    known = world.baselines.known.pop(BASELINE_ID)
    with pytest.raises(BaselineUnknownError, match="bbbbbbbbbbbb"):
        world.watch.pass_once()
    world.baselines.known[BASELINE_ID] = known
    world.now += timedelta(seconds=WatchLimits().baseline_again_s)
    assert len(world.watch.pass_once()) == 1


def test_windows_that_cannot_be_judged_are_neither_read_nor_looked_up_at_each_pass_nor_lost(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Thousands of them may lie there for a month, and a pass comes every other second."""
    known = world.baselines.known.pop(BASELINE_ID)
    read, looked_up = Counter[str](), Counter[str]()
    read_part, look_up = TelemetryWindow.read, MemoryBaselines.baseline

    def reading(document: Any) -> TelemetryWindow:
        read[document["window_id"]] += 1
        return read_part(document)

    def looking(baselines: MemoryBaselines, baseline_id: str) -> Baseline:
        looked_up[baseline_id] += 1
        return look_up(baselines, baseline_id)

    monkeypatch.setattr(TelemetryWindow, "read", reading)
    monkeypatch.setattr(MemoryBaselines, "baseline", looking)
    for turn in range(1, 4):
        for thing in ("EWR", "JFK"):
            world.send(turn, thing, DRIFT)
    for _ in range(5):
        with pytest.raises(BaselineUnknownError, match="bbbbbbbbbbbb"):
            world.watch.pass_once()
    assert (read, looked_up) == (Counter(), Counter({BASELINE_ID: 1}))
    with world.database.write() as connection:  # as retention does
        connection.execute("UPDATE window SET arrived_count = 0")
    assert world.watch.pass_once() == (), "nothing waits for it any more, and nothing is said of it"
    with world.database.write() as connection:
        connection.execute("UPDATE window SET arrived_count = 1")
    with pytest.raises(BaselineUnknownError):
        world.watch.pass_once()
    world.baselines.known[BASELINE_ID] = known
    world.now += timedelta(seconds=WatchLimits().baseline_again_s)
    assert len(world.watch.pass_once()) == 6, "every one of them counts now"
    assert len(world.incidents.announced) == 1
    read.clear()
    world.send(4, count=90)  # too few records to be judged
    for _ in range(5):
        assert world.watch.pass_once() == ()
    assert read == Counter()


def test_one_damaged_baseline_leaves_every_other_model_watched(world: World) -> None:
    world.baselines.damaged.add("d" * 64)
    for turn in range(1, 4):
        world.send(turn, "AAA", baseline_id="d" * 64)
        world.send(turn, "EWR", DRIFT)
    with pytest.raises(BaselineDamagedError):
        world.watch.pass_once()
    assert len(world.incidents.announced) == 1
    assert world.one("SELECT count(*) FROM window WHERE decision_id IS NULL") == 3


def test_a_defect_in_judging_one_model_leaves_every_other_one_watched_and_is_told(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    really_decide = watch_module.decide

    def deciding(window: Observed, *rest: Any, **named: Any) -> DriftDecision:
        if window.record_count == 401:
            raise ZeroDivisionError("of ours")
        return really_decide(window, *rest, **named)

    monkeypatch.setattr(watch_module, "decide", deciding)
    for turn in range(1, 4):
        world.send(turn, "AAA", DRIFT, count=401)
        world.send(turn, "EWR", DRIFT)
    with pytest.raises(UnjudgedError, match=r"weather 1\.0\.0 on AAA.*ZeroDivisionError.*of ours"):
        world.watch.pass_once()
    assert len(world.incidents.announced) == 1
    assert world.one("SELECT count(*) FROM window WHERE decision_id IS NULL") == 3


def test_peers_are_those_of_the_same_time(world: World) -> None:
    world.send(1, "JFK")
    world.send(2, "EWR")
    assert [decision.peer_record_count for decision in world.watch.pass_once()] == [0, 0]
    world.send(3, "JFK")
    world.send(3, "EWR")
    assert [decision.peer_record_count for decision in world.watch.pass_once()] == [400, 400]


def test_a_window_without_a_baseline_is_never_judged(world: World) -> None:
    world.send(1)
    with world.database.write() as connection:
        connection.execute("UPDATE window SET baseline_id = ''")
    assert world.watch.pass_once() == ()


def test_old_windows_are_forgotten_and_the_row_that_they_made_goes_on(world: World) -> None:
    for turn in (1, 2):
        world.send(turn, shifts=DRIFT)
    assert [decision.level for decision in world.watch.pass_once()] == ["quiet", "quiet"], (
        "an alarm takes three in a row"
    )
    world.now += timedelta(days=400)
    world.forget()
    assert world.one("SELECT count(*) FROM window") == 0
    assert world.one("SELECT count(*) FROM window_part") == 0
    assert world.one("SELECT count(*) FROM decision") == 1
    world.send(3, shifts=DRIFT)
    assert [decision.level for decision in world.watch.pass_once()] == ["alarm"]


@pytest.mark.parametrize("years", [-56, 10], ids=["1970", "ten years ahead"])
def test_a_device_whose_clock_is_wrong_is_judged_among_its_peers_and_forgotten_in_time(
    world: World, years: int
) -> None:
    for turn in range(1, 4):
        world.send(turn, "JFK", count=190, clock_is_off=timedelta(days=365 * years))
        world.send(turn, "EWR")
    decisions = world.watch.pass_once()
    assert [one.peer_record_count for one in decisions if one.record_count == 380] == [800]
    assert world.one("SELECT count(*) FROM window WHERE decision_id IS NULL") == 1, "it waits for more"
    world.now += timedelta(days=29)
    world.forget()
    assert world.one("SELECT count(*) FROM window") == 6
    world.now += timedelta(days=2)
    world.forget()
    assert world.one("SELECT count(*) FROM window") == 0


def drift_on(world: World, turns: range, announced_count: int) -> None:
    """More windows that drift, of one device; after each, so many incidents have been announced."""
    for turn in turns:
        world.send(turn, shifts=DRIFT)
        world.watch.pass_once()
        assert len(world.incidents.announced) == announced_count, turn


def announced(world: World) -> Incident:
    drift_on(world, range(1, 3), 0)
    drift_on(world, range(3, 4), 1)
    return world.incidents.announced[0]


def end(world: World, incident: Incident, status: str, error: str = "", cause: str = "") -> None:
    execution = Execution(f"arn:{incident.incident_id}", incident.incident_id, status, world.now, error, cause)
    world.executions.known.setdefault("weather", []).append(execution)


def test_a_failed_retraining_is_said_and_tried_again_later_under_other_names(
    world: World, caplog: pytest.LogCaptureFixture
) -> None:
    first = announced(world)
    end(world, first, "FAILED", "States.TaskFailed", '{"TrainingJobName": "t-1", "FailureReason": "no data"}')
    drift_on(world, range(4, 5), 1)
    failed = "Retraining of weather 1.0.0 failed (attempt 1 of 5): t-1: no data."
    assert world.one("SELECT sentence FROM event WHERE outcome = 'failed'").startswith(failed)
    assert failed in caplog.text
    drift_on(world, range(5, 16), 1)  # windows of five minutes, and a pause of an hour
    drift_on(world, range(17, 18), 2)
    second = world.incidents.announced[-1]
    assert second.incident_id != first.incident_id
    assert (second.detail["incident_id"], second.detail["attempt"]) == (second.incident_id, 2)
    assert world.one("SELECT count(*) FROM event WHERE sentence LIKE '%asked for again (attempt 2): %'") == 1
    end(world, second, "SUCCEEDED")
    drift_on(world, range(18, 80), 2)
    assert world.one("SELECT group_concat(state) FROM incident") == "failed,succeeded"
    assert world.one("SELECT count(*) FROM event WHERE kind = 'incident'") == 4


def test_a_retraining_that_nobody_began_is_a_failure_that_is_said(world: World) -> None:
    announced(world)
    drift_on(world, range(4, 17), 1)
    assert "edgewright setup --model" in str(world.one("SELECT sentence FROM event WHERE outcome = 'failed'"))


def test_step_functions_being_away_stops_no_judgement(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    def away(*_: object) -> None:
        raise UnavailableError("Step Functions is away")

    for turn in range(1, 4):
        world.send(turn, shifts=DRIFT)
    monkeypatch.setattr(MemoryExecutions, "executions", away)
    with pytest.raises(UnavailableError, match="Step Functions"):
        world.watch.pass_once()
    assert len(world.incidents.announced) == 1
    world.send(4, shifts=DRIFT)
    with pytest.raises(UnavailableError, match="Step Functions"):
        world.watch.pass_once()
    assert world.one("SELECT count(*) FROM decision") == 4


def test_windows_are_kept_by_our_clock_whatever_a_device_s_says(tmp_path: Path) -> None:
    """A device without a battery wakes in 1970, another in 2099: one would lose what waits, the other fill the disk."""
    database = Database(tmp_path / "fleet.db")
    world = World(database)
    wrong = {"past": datetime(1970, 1, 2, tzinfo=UTC), "future": datetime(2099, 1, 1, tzinfo=UTC)}
    for thing, ends_at in wrong.items():
        few = window_fact(1, thing=thing, starts_at=ends_at - timedelta(minutes=5), ends_at=ends_at, record_count=1)
        origin = Origin(thing, "e1", 1, ends_at, T0)
        world.sink.commit([WindowFact(origin, few.window)])

    def kept() -> list[str]:
        with database.read() as connection:
            return [row[0] for row in connection.execute("SELECT thing_name FROM window ORDER BY thing_name")]

    world.now = T0 + timedelta(days=29)
    world.forget()
    assert kept() == ["future", "past"]
    world.now = T0 + timedelta(days=31)
    world.forget()
    assert kept() == []
    with database.read() as connection:
        assert connection.execute("SELECT count(*) FROM window_part").fetchone()[0] == 0
    database.close()
