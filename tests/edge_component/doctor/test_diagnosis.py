"""Each illness by itself: its check, its severity and a remedy; and a healthy device has none."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from edge_component.contracts.heartbeat import Heartbeat, ModelRef, OutboxState, ServedModel
from edge_component.doctor.diagnosis import HURTS, STOPS, DoorsSeen, Seen, diagnose

NOW = datetime(2026, 6, 1, tzinfo=UTC)
YEAR = timedelta(days=365)
SERVED = ServedModel(ModelRef("weather", "1.0.0", "a" * 64), "serving", NOW)
HEARTBEAT = Heartbeat("1.0.0", 7, NOW, "boot", "linux/x86_64", (SERVED,), OutboxState(), 10**9, 10**8)
WELL = Seen(
    python=(3, 11),
    packages={"numpy": "", "onnxruntime": ""},
    folder="/work",
    folder_problem="",
    folder_mode=0o755,
    disk_free_bytes=10**9,
    files_free_count=10**6,
    memory_free_bytes=10**9,
    open_files_max=1024,
    shared_memory_problem="",
    journal_problem="",
    reserve_problem="",
    trust_problem="",
    trust_mode=0o755,
    now=NOW,
    trusted_at=NOW,
    socket_path_bytes=60,
    lock_held=True,
    runtime_problem="",
    heartbeat=HEARTBEAT,
    doors=DoorsSeen("", "", datetime(1960, 1, 1, tzinfo=UTC), NOW + YEAR),
)


def test_a_healthy_device_has_nothing() -> None:
    diagnosis = diagnose(WELL)
    assert diagnosis.ok
    assert all(check.ok for check in diagnosis.checks)
    assert diagnosis.to_document()["ok"] is True


@pytest.mark.parametrize(
    ("change", "name", "severity"),
    [
        ({"python": (3, 10)}, "python", STOPS),
        ({"packages": {"onnxruntime": "cannot be imported"}}, "onnxruntime", STOPS),
        ({"user_problem": "it is a stranger", "journal_problem": "no", "runtime_problem": "no"}, "this user", STOPS),
        ({"disk_free_bytes": 49_999_999}, "disk", STOPS),
        ({"files_free_count": 0}, "files", STOPS),
        ({"memory_free_bytes": 1}, "memory", HURTS),
        ({"open_files_max": 64}, "open files", HURTS),
        ({"shared_memory_problem": "memfd_create: Operation not permitted"}, "shared memory", STOPS),
        ({"now": datetime(1970, 1, 1, tzinfo=UTC)}, "clock", STOPS),
        ({"read_only_problem": "the file system of /work is mounted read-only"}, "file system", STOPS),
        ({"place_problem": "store is no folder"}, "work folder's contents", STOPS),
        ({"owner_problem": "runtime.lock is root's"}, "work folder's owner", HURTS),
        ({"bundle_problem": "model.onnx has changed on the disk"}, "stored models", HURTS),
        ({"now": NOW - timedelta(days=2)}, "clock", STOPS),
        ({"folder_problem": "/work is no folder"}, "work folder", STOPS),
        ({"folder_mode": 0o777}, "work folder's permissions", HURTS),
        ({"journal_problem": "activation.json cannot be read"}, "journal", STOPS),
        ({"reserve_problem": "activation.json has no room reserved"}, "way back on a full disk", HURTS),
        ({"socket_path_bytes": 108}, "socket path", HURTS),
        ({"trust_problem": "no public key"}, "trusted keys", STOPS),
        ({"trust_problem": None}, "trusted keys", HURTS),
        ({"trust_mode": 0o775}, "trusted keys' permissions", HURTS),
        ({"doors": DoorsSeen("door.key: its mode is 644", "chmod 600 door.key.")}, "TCP doors", HURTS),
        ({"doors": DoorsSeen("", "", NOW - YEAR, NOW + timedelta(days=9))}, "TCP doors' certificate", HURTS),
        ({"doors": DoorsSeen("", "", NOW - YEAR, NOW)}, "TCP doors' certificate", HURTS),
        ({"doors": DoorsSeen("", "", NOW + timedelta(days=1), NOW + YEAR)}, "TCP doors' certificate", HURTS),
        ({"runtime_problem": "no runtime answers", "heartbeat": None}, "runtime answers", STOPS),
        ({"heartbeat": replace(HEARTBEAT, reasons=("the disk is full",))}, "healthy", HURTS),
        ({"heartbeat": replace(HEARTBEAT, models=())}, "a model serves", STOPS),
        ({"heartbeat": replace(HEARTBEAT, models=(replace(SERVED, state="failed"),))}, "a model serves", STOPS),
    ],
)
def test_each_illness_is_found_alone_with_its_remedy(change: dict[str, Any], name: str, severity: str) -> None:
    diagnosis = diagnose(replace(WELL, **change))
    (ill,) = [check for check in diagnosis.checks if not check.ok]
    assert (ill.name, ill.severity) == (name, severity)
    assert ill.found
    assert ill.remedy
    assert diagnosis.ok is (severity == HURTS)
    assert {"check": name, "ok": False, "severity": severity} == {
        key: value for key, value in ill.to_document().items() if key not in ("found", "remedy")
    }


@pytest.mark.parametrize(("lock_held", "told"), [(True, "does not answer"), (False, "Start the component")])
def test_a_runtime_that_hangs_is_told_from_one_that_is_away(lock_held: bool, told: str) -> None:
    ill = replace(WELL, lock_held=lock_held, runtime_problem="no runtime answers", heartbeat=None)
    (check,) = [check for check in diagnose(ill).checks if not check.ok]
    assert told in check.remedy


def test_a_fast_clock_is_not_called_slow() -> None:
    assert diagnose(replace(WELL, now=NOW + timedelta(days=4000))).ok


def test_a_device_without_tcp_doors_is_not_asked_for_their_keys() -> None:
    assert not [check for check in diagnose(replace(WELL, doors=None)).checks if "TCP" in check.name]
