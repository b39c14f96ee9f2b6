"""The doctor on the doors of real runtimes: exposed without keys, with keys that are well, open to others, ended."""

import json
import os
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from edge_component.cli import main
from edge_component.clock import ManualClock
from edge_component.doctor.diagnosis import Check, diagnose
from edge_component.doctor.examination import examine
from tests.edge_component.runtime_process import RuntimeProcess
from tests.edge_component.serving.certificates import TOKEN, write_certificate, write_private

pytestmark = pytest.mark.usefixtures("bundles")  # which put a key into the trust folder
KEYS = {"oip_certificate_file": "door.pem", "oip_key_file": "door.key", "oip_token_file": "token"}


def found(work: Path, now: datetime | None = None) -> dict[str, Check]:
    seen = examine(work, None, ManualClock(now or datetime.now(UTC)))
    return {check.name: check for check in diagnose(seen).checks if "TCP" in check.name}


def test_an_exposed_door_without_keys(start_runtime: Callable[..., RuntimeProcess], free_port: int) -> None:
    runtime = start_runtime(config={"oip_host": "0.0.0.0", "oip_grpc_port": free_port})
    check = found(runtime.work)["TCP doors"]
    assert "beyond loopback, without TLS and a token" in check.found
    assert "oip_host" in check.remedy
    assert "restart" in check.remedy


def test_a_loopback_door_needs_none_and_a_device_without_doors_is_not_asked(
    start_runtime: Callable[..., RuntimeProcess], free_port: int, tmp_path: Path
) -> None:
    runtime = start_runtime(config={"oip_rest_port": free_port})
    assert [(name, check.ok) for name, check in found(runtime.work).items()] == [("TCP doors", True)]
    assert found(start_runtime(tmp_path / "other").work) == {}


def test_keys_are_looked_at_as_they_are_now(
    start_runtime: Callable[..., RuntimeProcess], free_port: int, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    work = tmp_path / "work"
    work.mkdir()
    write_certificate(work / "door")
    write_private(work / "token", TOKEN.encode())
    runtime = start_runtime(work, config={"oip_host": "0.0.0.0", "oip_rest_port": free_port, **KEYS})
    assert [check.ok for check in found(work).values()] == [True, True]
    assert "ended at" in found(work, datetime.now(UTC) + timedelta(days=400))["TCP doors' certificate"].found
    (work / "door.key").chmod(0o640)
    runtime.kill()
    check = found(work)["TCP doors"]
    assert "door.key: its mode is 640" in check.found
    assert "chmod 600" in check.remedy
    main(["--work", str(work), "doctor"])
    told = {check["check"]: check for check in json.loads(capsys.readouterr().out)["checks"]}
    assert told["TCP doors"]["severity"] == "hurts"
    (work / "door.key").chmod(0o600)
    write_certificate(work / "door", datetime.now(UTC) - timedelta(days=30), timedelta(days=31))
    assert "in 24 hours" in found(work)["TCP doors' certificate"].found or "in 23 hours" in str(found(work))
    (work / "token").unlink()
    assert "token: No such file" in found(work)["TCP doors"].found


def test_a_key_of_somebody_elses_is_told_to_root_too(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_certificate(tmp_path / "door")
    write_private(tmp_path / "token", TOKEN.encode())
    doors = {"oip_host": "0.0.0.0", "oip_rest_port": 8000, **KEYS}
    (tmp_path / "runtime.lock").write_text(json.dumps({"doors": doors}))
    key, real_stat = tmp_path / "door.key", Path.stat

    def stat(path: Path, **options: bool) -> os.stat_result:  # as root would see two other users' files
        result = real_stat(path, **options)
        owners = {key: 1001, tmp_path / "runtime.lock": 1002}
        return os.stat_result((*result[:4], owners.get(path, result.st_uid), *result[5:10]))

    monkeypatch.setattr(Path, "stat", stat)
    assert "door.key: it is user 1001's, and user 1002 cannot read it" in found(tmp_path)["TCP doors"].found


@pytest.mark.parametrize("content", ["", "{", "[]", '{"doors": 7}', '{"doors": {"oip_rest_port": "many"}}'])
def test_a_lock_that_says_nothing_is_no_illness(tmp_path: Path, content: str) -> None:
    (tmp_path / "runtime.lock").write_text(content)
    assert found(tmp_path) == {}
