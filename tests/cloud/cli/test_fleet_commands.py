"""``get`` and ``describe`` against the real API over HTTP; ``serve`` as the process that users start and stop."""

import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from cloud.api.app import create_app
from cloud.api.server import AddressTakenError, ApiServer
from cloud.fleet.database import Database
from tests.cloud.api.sample_fleet import fill

COMMAND = [sys.executable, "-m", "cloud.cli.app"]


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ApiServer]:
    database = Database(tmp_path_factory.mktemp("cli") / "fleet.db")
    fill(database)
    with ApiServer(create_app(database)) as running:
        yield running
    database.close()


def run(url: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, "EDGEWRIGHT_API_URL": url, "COLUMNS": "200"}
    return subprocess.run([*COMMAND, *arguments], env=environment, capture_output=True, text=True, timeout=60)


def test_lists_are_json_for_scripts_and_tables_for_people(server: ApiServer) -> None:
    devices: list[dict[str, Any]] = json.loads(run(server.url, "get", "devices", "-o", "json").stdout)
    assert [device["thing_name"] for device in devices] == ["EWR", "JFK", "LGA", "SWF"]
    table = run(server.url, "get", "devices", "--status", "diverged").stdout
    assert "LGA" in table
    assert "weather 1.0.0" in table
    assert "EWR" not in table
    assert not any(line.endswith(" ") for line in table.splitlines())


def test_one_device_is_described(server: ApiServer) -> None:
    device = json.loads(run(server.url, "describe", "device", "LGA", "-o", "json").stdout)
    assert device["status"] == "diverged"
    table = run(server.url, "describe", "device", "LGA").stdout.splitlines()
    assert sum('"event_id"' in line for line in table) == len(device["events"]) > 1, "one line for each"


def test_api_errors_keep_their_sentence_and_exit_code(server: ApiServer) -> None:
    unknown = run(server.url, "describe", "device", "../no body")
    assert (unknown.returncode, unknown.stdout) == (4, "")
    wrong = run(server.url, "get", "devices", "--status", "happy")
    assert wrong.returncode == 3
    assert "query.status" in wrong.stderr
    away = run("http://127.0.0.1:9", "get", "models")
    assert away.returncode == 5
    assert "edgewright serve" in away.stderr


def test_serve_prints_its_address_answers_and_ends_cleanly(tmp_path: Path) -> None:
    environment = {
        **os.environ,
        "EDGEWRIGHT_DATABASE_URL": f"sqlite:///{tmp_path / 'fleet.db'}",
        "AWS_ENDPOINT_URL": "http://127.0.0.1:9",
        "AWS_ACCESS_KEY_ID": "local",
        "AWS_SECRET_ACCESS_KEY": "local",
        "AWS_DEFAULT_REGION": "us-east-1",
        "AWS_MAX_ATTEMPTS": "1",
    }
    with subprocess.Popen(
        [*COMMAND, "serve", "--port", "0"], env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout is not None
        url = process.stdout.readline().strip()
        try:
            health = httpx.get(f"{url}/healthz", timeout=10, trust_env=False).json()
            assert {loop["name"] for loop in health["loops"]} == {"ingest", "reconcile", "drift"}
            assert httpx.get(url, timeout=10, trust_env=False).status_code == 200
        finally:
            process.send_signal(signal.SIGINT)
            assert process.wait(60) == 0


def test_an_address_that_is_taken_is_said_so(server: ApiServer, tmp_path: Path) -> None:
    port = int(server.url.rpartition(":")[2])
    with pytest.raises(AddressTakenError, match=str(port)):
        ApiServer(create_app(Database(tmp_path / "x.db")), port=port)
