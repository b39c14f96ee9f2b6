"""The API's door over real sockets: who is answered, who is not and how, over TLS too; and the page in a real browser."""

import datetime as dt
import logging
import socket
import ssl
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import httpx
import pytest

from cloud.api.app import create_app
from cloud.api.door_keys import CertificateFiles, certificate_warning
from cloud.api.door_token import DoorKeysError
from cloud.api.problems import MEDIA_TYPE, Problem
from cloud.api.schemas import Healthz
from cloud.api.server import ApiServer
from cloud.fleet.database import Database
from tests.edge_component.serving.certificates import TOKEN, write_certificate, write_private

BEARER = {"Authorization": f"Bearer {TOKEN}"}
TROUBLE = [{"name": "ingest", "trouble": "arn:aws:iam::123456789012:user/ops may not sqs:ReceiveMessage"}]
GUARDED = ["/", "/v1/devices", "/v1/devices/EWR", "/v1/nothing", "/openapi.json", "/healthz/", "//healthz", "/docs"]


@pytest.fixture(scope="module")
def guarded(database: Database) -> Iterator[ApiServer]:
    with ApiServer(create_app(database, loops=lambda: TROUBLE, token=TOKEN)) as server:
        yield server


@pytest.fixture
def stranger(guarded: ApiServer) -> Iterator[httpx.Client]:
    with httpx.Client(base_url=guarded.url, trust_env=False) as client:
        yield client


@pytest.mark.parametrize("path", GUARDED)
def test_a_stranger_is_asked_for_the_token_whatever_the_path(stranger: httpx.Client, path: str) -> None:
    answer = stranger.get(path)
    assert (answer.status_code, answer.headers["content-type"]) == (401, MEDIA_TYPE)
    problem = Problem.model_validate(answer.json())
    assert (problem.type, problem.status) == ("urn:edgewright:problem:unauthorized", 401)
    assert "Authorization: Bearer" in problem.detail
    assert answer.headers.get_list("www-authenticate") == [
        'Bearer realm="edgewright"',
        'Basic realm="edgewright", charset="UTF-8"',
    ]


def test_a_wrong_token_is_told_so(stranger: httpx.Client) -> None:
    for headers in ({"Authorization": "Bearer nobody"}, {"Authorization": "Basic nobody"}):
        for path in ("/v1/devices", "/healthz"):
            answer = stranger.get(path, headers=headers)
            assert answer.status_code == 401
            assert 'error="invalid_token"' in answer.headers.get_list("www-authenticate")[0]


def test_the_token_opens_everything(stranger: httpx.Client) -> None:
    for path, status in (("/", 200), ("/v1/devices", 200), ("/openapi.json", 200), ("/v1/nothing", 404)):
        assert stranger.get(path, headers=BEARER).status_code == status
        assert stranger.get(path, auth=("anybody", TOKEN)).status_code == status
    assert stranger.post("/v1/devices", auth=("anybody", TOKEN)).status_code == 401, "a browser could be made to"
    assert stranger.post("/v1/devices", headers=BEARER).status_code == 405


def test_health_is_one_word_for_strangers_and_everything_for_those_who_may(stranger: httpx.Client) -> None:
    assert stranger.get("/healthz").json() == {"status": "degraded"}
    known = stranger.get("/healthz", headers=BEARER).json()
    assert known["loops"] == TROUBLE
    for document in (known, {"status": "degraded"}):
        Healthz.model_validate(document)


@pytest.mark.parametrize("host", ["x/healthz?", "x/healthz#", "x/healthz", "healthz", "x\\healthz?", "@x/healthz?"])
def test_no_host_makes_a_path_of_itself(stranger: httpx.Client, host: str) -> None:
    """A URL that is put together of what a client sends is not what is asked for."""
    answer = stranger.get("/v1/devices/JFK", headers={"Host": host})
    assert answer.status_code in {400, 401}
    assert "first_seen_at" not in answer.text


@pytest.mark.parametrize(
    "target", ["/healthz/../v1/devices", "/healthz%2f..%2fv1%2fdevices", "/v1/devices?/healthz", "/%68ealthz"]
)
def test_no_path_makes_another_of_itself(guarded: ApiServer, target: str) -> None:
    host, _, port = guarded.url.removeprefix("http://").partition(":")
    with socket.create_connection((host, int(port)), timeout=10) as connection:
        connection.sendall(f"GET {target} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n".encode())
        answer = b"".join(iter(lambda: connection.recv(65_536), b"")).decode()
    assert answer.startswith("HTTP/1.1 401 ") or answer.endswith('{"status":"degraded"}')


def test_refusals_are_logged_as_a_number_and_never_the_token(
    stranger: httpx.Client, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.WARNING):
        for _ in range(20):
            stranger.get("/v1/devices", headers={"Authorization": "Bearer some-guess-at-it"})
    assert caplog.text.count("refused") <= 1, "once in a minute"
    assert "guess" not in caplog.text


def test_without_a_token_only_this_machine_s_own_names_are_answered(client: httpx.Client) -> None:
    assert client.get("/v1/devices").status_code == 200
    assert client.get("/v1/devices", headers={"Host": "localhost:1"}).status_code == 200
    rebound = client.get("/v1/devices", headers={"Host": "evil.example"})
    assert (rebound.status_code, rebound.headers["content-type"]) == (403, MEDIA_TYPE)
    assert Problem.model_validate(rebound.json()).type == "urn:edgewright:problem:host-refused"


def test_with_a_token_any_name_is_answered(stranger: httpx.Client) -> None:
    assert stranger.get("/v1/devices", headers={**BEARER, "Host": "fleet.example"}).status_code == 200


def test_what_the_guard_answers_is_documented(client: httpx.Client) -> None:
    schema = client.get("/openapi.json").json()
    assert set(schema["components"]["securitySchemes"]) == {"bearer", "browser"}
    for path, methods in schema["paths"].items():
        assert ("401" in methods["get"]["responses"]) == (path != "/healthz")


def trusting(certificate: Path) -> ssl.SSLContext:
    return ssl.create_default_context(cafile=str(certificate))


@pytest.mark.parametrize("host", ["127.0.0.1", "::1"])
def test_tls_serves_those_who_trust_the_certificate_and_nobody_in_plain_http(
    database: Database, tmp_path: Path, host: str
) -> None:
    certificate = write_certificate(tmp_path / "door")
    files = CertificateFiles(certificate, tmp_path / "door.key")
    with ApiServer(create_app(database, token=TOKEN), host, certificate=files) as server:
        assert server.url.startswith("https://")
        with httpx.Client(verify=trusting(certificate), trust_env=False) as client:
            assert client.get(f"{server.url}/v1/devices", headers=BEARER).status_code == 200
            assert client.get(f"{server.url}/v1/devices").status_code == 401
        with httpx.Client(trust_env=False) as client:
            with pytest.raises(httpx.ConnectError, match="CERTIFICATE_VERIFY_FAILED"):
                client.get(f"{server.url}/healthz")
            with pytest.raises(httpx.TransportError):
                client.get(f"{server.url.replace('https', 'http')}/healthz")


def test_a_renewed_certificate_is_served_and_a_half_renewed_one_is_not(database: Database, tmp_path: Path) -> None:
    certificate = write_certificate(tmp_path / "door")
    files = CertificateFiles(certificate, tmp_path / "door.key")
    old = certificate.read_text()
    with ApiServer(create_app(database, token=TOKEN), certificate=files) as server:
        port = int(server.url.rpartition(":")[2])
        write_certificate(tmp_path / "new")
        (tmp_path / "new.pem").replace(certificate)  # and its key not yet
        files.look()
        assert "MISMATCH" in files.trouble(dt.datetime.now(dt.UTC))
        assert ssl.get_server_certificate(("127.0.0.1", port)) == old
        (tmp_path / "new.key").replace(tmp_path / "door.key")
        files.look()  # the server's own look, brought forward
        assert files.trouble(dt.datetime.now(dt.UTC)) == ""
        assert ssl.get_server_certificate(("127.0.0.1", port)) == certificate.read_text() != old


def test_the_server_looks_by_itself(database: Database, tmp_path: Path) -> None:
    certificate = write_certificate(tmp_path / "door")

    class Looked(CertificateFiles):
        count = 0

        def look(self) -> None:
            self.count += 1
            super().look()

    files = Looked(certificate, tmp_path / "door.key")
    with ApiServer(create_app(database), certificate=files):
        pass
    assert files.count >= 1


def test_what_is_wrong_with_a_certificate_is_named(tmp_path: Path) -> None:
    certificate, key = write_certificate(tmp_path / "door"), tmp_path / "door.key"
    locked = write_certificate(tmp_path / "locked", password=b"secret")
    cases = [
        ((tmp_path / "missing.pem", key), "missing.pem: No such file"),
        ((certificate, tmp_path / "missing.key"), "missing.key: No such file"),
        ((write_certificate(tmp_path / "other"), key), "other.pem and .*door.key are no certificate .*MISMATCH"),
        ((locked, tmp_path / "locked.key"), "unencrypted key"),
        ((certificate, write_private(tmp_path / "noise", b"noise")), "noise"),
        ((key, key), "door.key"),
    ]
    for paths, named in cases:
        with pytest.raises(DoorKeysError, match=named) as caught:
            CertificateFiles(*paths)
        assert caught.value.remedy
    key.chmod(0o644)
    with pytest.raises(DoorKeysError, match="its mode is 644"):
        CertificateFiles(certificate, key)


NOW = dt.datetime(2026, 1, 1, tzinfo=dt.UTC)


@pytest.mark.parametrize(
    ("begins_days", "ends_days", "told"),
    [
        (-300, 65, ""),
        (-300, 20, "ends at 2026-01-21"),
        (-1, 6, ""),
        (-6, 1, "ends at"),
        (-9, -1, "ended"),
        (1, 9, "only from"),
    ],
)
def test_a_certificate_is_spoken_of_before_it_ends(begins_days: int, ends_days: int, told: str) -> None:
    sentence = certificate_warning(NOW + dt.timedelta(days=begins_days), NOW + dt.timedelta(days=ends_days), NOW)
    assert (told in sentence) if told else not sentence


@pytest.mark.parametrize("has_token", [True, False])
def test_a_browser_reaches_the_page_with_the_token_as_its_password(
    guarded: ApiServer, needs_program: Callable[[str], str], tmp_path: Path, has_token: bool
) -> None:
    url = guarded.url.replace("http://", f"http://anybody:{TOKEN}@") if has_token else guarded.url
    options = ["--headless", "--no-sandbox", "--disable-gpu", f"--user-data-dir={tmp_path}", "--dump-dom"]
    command = [needs_program("chromium"), *options, url]
    shown = subprocess.run(command, capture_output=True, text=True, timeout=120).stdout
    assert ("JFK" in shown) == has_token


def test_nothing_can_be_changed_through_the_api(database: Database) -> None:
    """One token without roles is enough only as long as this holds."""
    methods = {method for route in create_app(database).routes for method in getattr(route, "methods", None) or ()}
    assert methods == {"GET", "HEAD"}
