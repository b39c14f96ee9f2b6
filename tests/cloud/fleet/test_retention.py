"""What may go and when, as a table; and the pace at which it goes."""

import shutil
import threading
from datetime import timedelta
from pathlib import Path

import pytest
from hypothesis import given, strategies as st

from cloud.drift.judgement import LEVELS
from cloud.errors import EdgewrightError, InvalidInputError
from cloud.fleet.database import StoreUnavailableError
from cloud.fleet.history import HistoryRow, MemoryHistory
from cloud.fleet.pruning import DISK_FREE_BYTES_MIN, Pruning, PruningPace, disk_trouble
from cloud.fleet.retention import (
    AUDIT_KINDS,
    CALM_LEVELS,
    DAYS_MAX,
    DAYS_MIN,
    DRIFTING_LEVELS,
    ROUTINE_KINDS,
    SILENCE,
    RetentionLimits,
    as_of,
    cuts,
)
from cloud.fleet.store import EVENT_KINDS
from tests.cloud.fleet.samples import T0

AT_ONCE = PruningPace(batch_count_max=3, batch_pause_s=0.0, interval_s=0.0)


def test_every_kind_of_history_has_its_period() -> None:
    limits = RetentionLimits(20, 30, 40, 50, 60)
    found = {(cut.table, cut.kind): (cut.days, T0 - cut.before) for cut in cuts(limits, T0)}
    expected = {
        ("window", ""): 20,
        **{("decision", level): 30 for level in ("insufficient", "quiet")},
        **{("decision", level): 40 for level in ("warn", "alarm")},
        **{("event", kind): 50 for kind in ("drift", "restart", "status")},
        **{("event", kind): 60 for kind in ("activation", "deployment", "incident", "repair")},
        ("device_deployment", ""): 60,
        ("deployment", ""): 60,
    }
    assert found == {key: (days, timedelta(days=days)) for key, days in expected.items()}


def test_no_kind_is_forgotten_or_named_twice() -> None:
    assert sorted(ROUTINE_KINDS + AUDIT_KINDS) == sorted(EVENT_KINDS)
    assert sorted(CALM_LEVELS + DRIFTING_LEVELS) == sorted(LEVELS)


@pytest.mark.parametrize(
    ("heard_days_ago", "aged_days"),
    [(None, 0), (-1000, 0), (0, 0), (6, 0), (7, 0), (8, -1), (372, -365)],
)
def test_a_silent_fleet_does_not_grow_older(heard_days_ago: int | None, aged_days: int) -> None:
    heard_at = None if heard_days_ago is None else T0 - timedelta(days=heard_days_ago)
    assert as_of(T0, heard_at) == T0 + timedelta(days=aged_days)
    assert timedelta(days=DAYS_MIN) > SILENCE, "or a wrong clock could take what is young"


@given(st.lists(st.integers(DAYS_MIN, DAYS_MAX), min_size=5, max_size=5))
def test_the_audit_trail_outlives_the_routine_whatever_is_configured(days: list[int]) -> None:
    names = ("WINDOW", "QUIET_DECISION", "DRIFT_DECISION", "EVENT", "AUDIT")
    environment = {f"EDGEWRIGHT_RETENTION_{name}_DAYS": str(one) for name, one in zip(names, days, strict=True)}
    if days[4] < days[3] or days[2] < days[1]:
        with pytest.raises(InvalidInputError, match="shorter than"):
            RetentionLimits.from_environment(environment)
        return
    before = {(cut.table, cut.kind): cut.before for cut in cuts(RetentionLimits.from_environment(environment), T0)}
    assert before["event", "activation"] <= before["event", "status"]
    assert before["decision", "alarm"] <= before["decision", "quiet"]


@pytest.mark.parametrize("text", ["14", "0", "-1", "36501", "30.5", "30 ", "", "\u0661\u0665", "a year", "1" * 30])
def test_a_period_that_is_none_is_refused_by_its_variable(text: str) -> None:
    with pytest.raises(InvalidInputError, match="EDGEWRIGHT_RETENTION_WINDOW_DAYS") as caught:
        RetentionLimits.from_environment({"EDGEWRIGHT_RETENTION_WINDOW_DAYS": text})
    assert "15 to 36500" in caught.value.remedy


def test_a_misspelt_period_is_refused_instead_of_ignored() -> None:
    with pytest.raises(InvalidInputError, match="EDGEWRIGHT_RETENTION_WINDOWS_DAYS") as caught:
        RetentionLimits.from_environment({"EDGEWRIGHT_RETENTION_WINDOWS_DAYS": "20"})
    assert "EDGEWRIGHT_RETENTION_WINDOW_DAYS" in caught.value.remedy


def aged(days: float, key: int, *, is_needed: bool = False) -> HistoryRow:
    return HistoryRow("window", "", key, T0 - timedelta(days=days), is_needed)


def test_one_pass_deletes_whatever_is_due_in_batches_past_what_is_needed() -> None:
    old = [aged(40, key, is_needed=key % 2 == 0) for key in range(20)]
    history = MemoryHistory([*old, aged(29, 100)])
    gone = Pruning(history, lambda: T0, RetentionLimits(), AT_ONCE).pass_once(threading.Event())
    assert gone == {"window": 10}
    assert sorted(row.key for row in history.rows) == [*range(0, 20, 2), 100]
    assert len([cut for cut in history.batches if cut.table == "window"]) == 7


def test_a_stop_is_heard_between_batches() -> None:
    stop = threading.Event()

    class Stopping(MemoryHistory):
        def delete_batch(self, *arguments: object) -> object:  # type: ignore[override]
            stop.set()
            return super().delete_batch(*arguments)  # type: ignore[arg-type]

    history = Stopping([aged(40, key) for key in range(20)])
    assert Pruning(history, lambda: T0, RetentionLimits(), AT_ONCE).pass_once(stop) == {"window": 3}
    assert len(history.batches) == 1


def test_a_store_that_fails_is_told_once_and_asked_again() -> None:
    history = MemoryHistory([aged(40, 1)], failure=StoreUnavailableError("full", "Free some."))
    stop, heard = threading.Event(), list[EdgewrightError | None]()

    def report(error: EdgewrightError | None) -> None:
        heard.append(error)
        if error is None:
            stop.set()

    Pruning(history, lambda: T0, RetentionLimits(), AT_ONCE).run(stop, report)
    assert [error and str(error) for error in heard] == ["full", None]
    assert not history.rows


def test_a_disk_that_fills_up_is_told_of_while_there_is_time(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    usage = shutil.disk_usage(tmp_path)
    for free, trouble in ((DISK_FREE_BYTES_MIN, ""), (400_000_000, "0.4 GB are left")):
        monkeypatch.setattr(shutil, "disk_usage", lambda _, free=free: usage._replace(free=free))
        told = disk_trouble(tmp_path)
        assert told.startswith(trouble)
        assert bool(told) == bool(trouble)
    monkeypatch.undo()
    assert "cannot be looked at" in disk_trouble(tmp_path / "gone")
