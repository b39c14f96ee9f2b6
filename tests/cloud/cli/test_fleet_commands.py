"""``get`` and ``describe`` against the real API over HTTP; ``serve`` as the process that users start and stop."""

import json
import os
import signal
import ssl
import subprocess
import sys
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from types import MappingProxyType
from typing import Any

import httpx
import pytest

from cloud.api.app import create_app
from cloud.api.server import AddressTakenError, ApiServer
from cloud.cli.reported import ReportedVersions, is_served
from cloud.fleet.database import Database
from cloud.fleet.queries import Queries
from cloud.publishing.deploy import Target
from cloud.settings import Settings
from tests.cloud.api.sample_fleet import COMPONENT, fill
from tests.edge_component.serving.certificates import TOKEN, write_certificate, write_private

ROOT = Path(__file__).resolve().parents[3]
COMMAND = [sys.executable, "-m", "cloud.cli.app"]


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ApiServer]:
    database = Database(tmp_path_factory.mktemp("cli") / "fleet.db")
    fill(database)
    with ApiServer(create_app(database)) as running:
        yield running
    database.close()


def run(
    url: str, *arguments: str, environment: Mapping[str, str] = MappingProxyType({})
) -> subprocess.CompletedProcess[str]:
    whole = {**os.environ, "EDGEWRIGHT_API_URL": url or "http://127.0.0.1:9", "COLUMNS": "200", **environment}
    return subprocess.run([*COMMAND, *arguments], cwd=ROOT, env=whole, capture_output=True, text=True, timeout=60)


def test_lists_are_json_for_scripts_and_tables_for_people(server: ApiServer) -> None:
    devices: list[dict[str, Any]] = json.loads(run(server.url, "get", "devices", "-o", "json").stdout)
    assert [device["thing_name"] for device in devices] == ["EWR", "JFK", "LGA", "SWF"]
    table = run(server.url, "get", "devices", "--status", "diverged").stdout
    assert "LGA" in table
    assert "weather 1.0.0" in table
    assert "weather 1.1.0 (1.2.0 was refused)" in table
    assert "EWR" not in table
    assert not any(line.endswith(" ") for line in table.splitlines())


def test_a_list_that_goes_on_says_so(server: ApiServer) -> None:
    whole = json.loads(run(server.url, "get", "devices", "-o", "json").stdout)
    for limit, note in ((1, True), (len(whole), False)):
        part = run(server.url, "get", "devices", "--limit", str(limit), "-o", "json")
        assert json.loads(part.stdout) == whole[:limit]
        assert ("--limit" in part.stderr) == note, part.stderr


def test_one_device_is_described(server: ApiServer) -> None:
    device = json.loads(run(server.url, "describe", "device", "LGA", "-o", "json").stdout)
    assert device["status"] == "diverged"
    table = run(server.url, "describe", "device", "LGA").stdout.splitlines()
    assert sum("event id: " in line for line in table) == len(device["events"]) > 1, "one line for each"
    assert not any('{"' in line for line in table), "JSON is for scripts"


def test_the_store_says_how_large_it_is_and_what_is_due(server: ApiServer) -> None:
    found = json.loads(run(server.url, "fleet", "store", "-o", "json").stdout)
    assert found["file_bytes"] > 0
    kinds = {(one["table"], one["kind"]): one for one in found["retention"]}
    assert kinds["window", ""]["days"] == 30
    assert kinds["event", "activation"]["days"] == 730
    assert kinds["event", "activation"]["oldest_at"].startswith("2026-01-01T")
    table = run(server.url, "fleet", "store").stdout.splitlines()
    assert table[0].split()[:2] == ["file", "bytes"]
    assert any(line.split()[:3] == ["event", "activation", "730"] for line in table)


def aged_database(folder: Path) -> tuple[Database, dict[str, str]]:
    database = Database(folder / "fleet.db")
    fill(database)
    with database.write() as connection:
        connection.execute("UPDATE event SET at_ms = 0 WHERE kind = 'activation'")
    return database, {"EDGEWRIGHT_DATABASE_URL": f"sqlite:///{folder / 'fleet.db'}"}


def test_a_dry_run_says_what_would_go_and_deletes_nothing(tmp_path: Path) -> None:
    database, environment = aged_database(tmp_path)
    for days in ("730", "36500"):
        told = run("", "fleet", "prune", "--dry-run", "--audit-days", days, "-o", "json", environment=environment)
        due = {one["kind"]: one["due_count"] for one in json.loads(told.stdout) if one["table"] == "event"}
        assert due["activation"] == (2 if days == "730" else 0)
    assert len(Queries(database).events(kind="activation").items) == 2
    database.close()


def test_prune_deletes_what_is_due_beside_an_open_database(tmp_path: Path) -> None:
    database, environment = aged_database(tmp_path)
    fields = ("window", "quiet-decision", "drift-decision", "event", "audit")
    days = [word for field in fields for word in (f"--{field}-days", "10000")]
    pruned = run("", "fleet", "prune", *days, "-o", "json", environment=environment)
    assert json.loads(pruned.stdout) == [{"table": "event", "deleted_count": 2}]
    assert not Queries(database).events(kind="activation").items
    assert Queries(database).events().items
    database.close()


def test_periods_and_files_that_cannot_be_are_refused(tmp_path: Path) -> None:
    missing = run("", "fleet", "prune", environment={"EDGEWRIGHT_DATABASE_URL": f"sqlite:///{tmp_path / 'no.db'}"})
    assert (missing.returncode, (tmp_path / "no.db").exists()) == (3, False)
    assert "no fleet database at" in missing.stderr
    short = run("", "serve", environment={"EDGEWRIGHT_RETENTION_EVENT_DAYS": "3"})
    assert short.returncode == 3
    assert "EDGEWRIGHT_RETENTION_EVENT_DAYS" in short.stderr


@pytest.mark.parametrize(
    ("name", "version", "served"),
    [
        ("stations", "1.1.0", True),
        ("stations", "9.9.9", False),
        ("elsewhere", "1.1.0", False),
        ("thing:JFK", "1.1.0", True),
        ("thing:LGA", "1.1.0", False),
        ("thing:nobody", "1.1.0", None),
    ],
)
def test_what_devices_report_is_known_to_who_deploys(
    server: ApiServer, name: str, version: str, served: bool | None
) -> None:
    kind, _, short = name.rpartition(":")
    arn = f"arn:aws:iot:us-east-1:123456789012:{kind or 'thinggroup'}/{short}"
    target, reported = Target(short, arn, ()), ReportedVersions(Settings(api_url=server.url))
    assert reported.serves(target, COMPONENT, version) is served
    assert not reported.serves(target, f"{COMPONENT}2", version)


def test_where_no_api_answers_nobody_knows() -> None:
    target = Target("stations", "arn:aws:iot:us-east-1:123456789012:thinggroup/stations", ())
    assert ReportedVersions(Settings(api_url="http://127.0.0.1:9")).serves(target, COMPONENT, "1.1.0") is None


def test_a_model_s_component_is_the_one_that_is_wanted_or_its_usual_one() -> None:
    wanted = [{"model_name": "vad", "component_name": "com.edgewright.model.Speech"}]
    device = {
        "wanted": wanted,
        "models": [{"model_name": "vad", "version": "1"}, {"model_name": "f-64", "version": "2"}],
    }
    assert is_served(device, "com.edgewright.model.Speech", "1")
    assert is_served(device, "com.edgewright.model.F64", "2")
    assert not is_served(device, "com.edgewright.model.Vad", "1")


def test_api_errors_keep_their_sentence_and_exit_code(server: ApiServer) -> None:
    unknown = run(server.url, "describe", "device", "../no body")
    assert (unknown.returncode, unknown.stdout) == (4, "")
    wrong = run(server.url, "get", "devices", "--status", "happy")
    assert wrong.returncode == 3
    assert "--status 'happy' is none of ok, changing" in wrong.stderr
    away = run("http://127.0.0.1:9", "get", "models")
    assert away.returncode == 5
    assert "edgewright serve" in away.stderr


@pytest.mark.parametrize("body", [b"[]", b"{}", b'{"status": "success"}', b"null", b"<html>"])
def test_something_else_that_listens_there_is_said_so(body: bytes) -> None:
    class Other(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(200)
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *arguments: object) -> None:
            del arguments

    with HTTPServer(("127.0.0.1", 0), Other) as other:
        answering = threading.Thread(target=other.handle_request)
        answering.start()
        asked = run(f"http://127.0.0.1:{other.server_port}", "get", "devices")
        answering.join()
    assert asked.returncode == 5, asked.stderr
    assert "Traceback" not in asked.stderr
    assert "EDGEWRIGHT_API_URL" in asked.stderr


@contextmanager
def serving(folder: Path, *options: str, environment: Mapping[str, str] = MappingProxyType({})) -> Iterator[str]:
    """``edgewright serve`` in a folder, without any AWS; yields the address that it prints."""
    whole = {
        **os.environ,
        "PYTHONPATH": str(ROOT),
        "EDGEWRIGHT_DATABASE_URL": f"sqlite:///{folder / 'fleet.db'}",
        "AWS_ENDPOINT_URL": "http://127.0.0.1:9",
        "AWS_ACCESS_KEY_ID": "local",
        "AWS_SECRET_ACCESS_KEY": "local",
        "AWS_DEFAULT_REGION": "us-east-1",
        "AWS_MAX_ATTEMPTS": "1",
        **environment,
    }
    command = [*COMMAND, "serve", "--port", "0", *options]
    with subprocess.Popen(
        command, cwd=folder, env=whole, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout is not None
        url = process.stdout.readline().strip()
        try:
            yield url
        finally:
            process.send_signal(signal.SIGINT)
            assert process.wait(60) == 0


def test_serve_prints_its_address_answers_and_ends_cleanly(tmp_path: Path) -> None:
    with serving(tmp_path) as url:
        health = httpx.get(f"{url}/healthz", timeout=10, trust_env=False).json()
        assert {loop["name"] for loop in health["loops"]} == {
            "ingest",
            "reconcile",
            "drift",
            "retention",
            "clock",
            "disk",
        }
        assert httpx.get(url, timeout=10, trust_env=False).status_code == 200


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (("--host", "0.0.0.0"), "without a token"),
        (("--host", "0.0.0.0", "--behind-tls-proxy"), "without a token"),
        (("--host", "0.0.0.0", "--token-file", "token"), "plain HTTP"),
        (("--host", "0.0.0.0", "--token-file", "token", "--certificate-file", "door.pem"), "go together"),
        (("--token-file", "missing"), "missing: No such file"),
    ],
)
def test_an_exposed_door_is_refused_before_anything_is_opened(
    tmp_path: Path, options: tuple[str, ...], said: str
) -> None:
    write_private(tmp_path / "token", TOKEN.encode())
    refused = subprocess.run(
        [*COMMAND, "serve", "--port", "0", *options], cwd=tmp_path, env={**os.environ, "COLUMNS": "200", "PYTHONPATH": str(ROOT)},
        capture_output=True, text=True, timeout=60,
    )  # fmt: skip
    assert refused.returncode == 3
    assert said in refused.stderr
    assert "remedy:" in refused.stderr
    assert not (tmp_path / "edgewright.db").exists()


def test_serve_beyond_loopback_and_get_with_the_token(tmp_path: Path) -> None:
    write_certificate(tmp_path / "door")
    write_private(tmp_path / "token", TOKEN.encode())
    keys = ("--token-file", "token", "--certificate-file", "door.pem", "--key-file", "door.key")
    with serving(tmp_path, "--host", "0.0.0.0", *keys) as printed:
        url = printed.replace("0.0.0.0", "127.0.0.1")
        assert url.startswith("https://")
        trusting = {"EDGEWRIGHT_API_CA_FILE": str(tmp_path / "door.pem")}
        tokenless = run(url, "get", "devices", environment=trusting)
        assert tokenless.returncode == 3
        assert "EDGEWRIGHT_API_TOKEN_FILE" in tokenless.stderr
        known = {**trusting, "EDGEWRIGHT_API_TOKEN_FILE": str(tmp_path / "token")}
        assert json.loads(run(url, "get", "devices", "-o", "json", environment=known).stdout) == []
        distrusting = run(url, "get", "devices")
        assert distrusting.returncode == 5
        assert "CERTIFICATE_VERIFY_FAILED" in distrusting.stderr
        health = httpx.get(
            f"{url}/healthz", headers={"Authorization": f"Bearer {TOKEN}"}, trust_env=False,
            verify=ssl.create_default_context(cafile=str(tmp_path / "door.pem")),
        ).json()  # fmt: skip
        assert {"name": "door", "trouble": ""} in health["loops"]


def test_behind_a_proxy_that_ends_tls_the_token_is_still_asked_for(tmp_path: Path) -> None:
    with serving(
        tmp_path, "--host", "0.0.0.0", "--behind-tls-proxy", environment={"EDGEWRIGHT_API_TOKEN": TOKEN}
    ) as printed:
        url = printed.replace("0.0.0.0", "127.0.0.1")
        assert httpx.get(f"{url}/v1/devices", trust_env=False).status_code == 401
        assert httpx.get(f"{url}/healthz", trust_env=False).json()["status"] in {"ok", "degraded"}


def test_the_token_is_not_sent_over_a_network_in_plain_http() -> None:
    refused = run("http://fleet.example:8008", "get", "devices", environment={"EDGEWRIGHT_API_TOKEN": TOKEN})
    assert refused.returncode == 3
    assert "plain HTTP" in refused.stderr
    assert TOKEN not in refused.stderr


def test_a_submission_that_nobody_answered_names_the_job_that_may_have_been_started(tmp_path: Path) -> None:
    away = {"AWS_ENDPOINT_URL": "http://127.0.0.1:9", "AWS_ACCESS_KEY_ID": "local", "AWS_SECRET_ACCESS_KEY": "local"}
    for command in (("train", "models/weather", "--no-wait"), ("compile", "s3://b/model.tar.gz", "--no-wait")):
        unanswered = run("", *command, environment=away)
        assert unanswered.returncode == 5
        assert "Run the command again with --name" in " ".join(unanswered.stderr.split())


def test_an_address_that_is_taken_is_said_so(server: ApiServer, tmp_path: Path) -> None:
    port = int(server.url.rpartition(":")[2])
    with pytest.raises(AddressTakenError, match=str(port)):
        ApiServer(create_app(Database(tmp_path / "x.db")), port=port)
