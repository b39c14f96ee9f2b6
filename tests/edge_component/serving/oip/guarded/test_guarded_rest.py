"""REST's door with keys: TLS and the token before anything else, and the same protocol behind them."""

import http.client
import json
import os
import ssl
from contextlib import ExitStack

import pytest

from tests.edge_component.graphs import endless_model
from tests.edge_component.serving.certificates import TOKEN
from tests.edge_component.serving.oip.conftest import BODY_BYTES_MAX
from tests.edge_component.serving.oip.guarded.conftest import (
    BEARER,
    LONG_S,
    WAIT_S,
    WRONG,
    Guarded,
    MakeGuarded,
    hello,
)
from tests.edge_component.serving.oip.test_cancelling import ended
from tests.edge_component.serving.oip.test_http_abuse import GOOD, HEAD, read_all
from tests.edge_component.waiting import wait_until


@pytest.mark.parametrize("authorization", WRONG)
def test_without_the_token_rest_says_how_and_does_nothing(guarded: Guarded, authorization: str) -> None:
    headers = {"Authorization": authorization} if authorization else {}
    for method, path, body in (
        ("POST", "/v2/models/scale/infer", GOOD), ("GET", "/v2/health/live", None), ("GET", "/nowhere", None)
    ):  # fmt: skip
        answer = guarded.ask(method, path, body, **headers)
        assert answer.status == 401
        assert answer.headers["WWW-Authenticate"].startswith('Bearer realm="edgewright"')
        assert ("invalid_token" in answer.headers["WWW-Authenticate"]) is bool(authorization)
        assert TOKEN not in answer.body.decode()
    assert guarded.plain.fastpath.sink.records == []
    assert guarded.is_served()


def test_a_strangers_body_is_not_waited_for(guarded: Guarded) -> None:
    with guarded.secured() as connection:
        connection.sendall(HEAD % BODY_BYTES_MAX)
        assert read_all(connection).startswith(b"HTTP/1.1 401 ")
    with guarded.secured() as connection:
        connection.sendall(HEAD % BODY_BYTES_MAX + bytes(1_000_000))
        assert read_all(connection).startswith(b"HTTP/1.1 401 ")


def test_a_request_may_name_any_host_once_it_has_the_token(guarded: Guarded) -> None:
    assert guarded.ask("GET", "/v2", Authorization=BEARER, Host="press-7.plant.example").status == 200


def test_plain_http_is_told_that_this_door_speaks_tls(guarded: Guarded) -> None:
    for message in (HEAD % len(GOOD) + GOOD, b"GET /v2 HTTP/1.1\r\n\r\n", HEAD % 900_000 + bytes(900_000)):
        with guarded.raw() as connection:
            connection.sendall(message)
            answer = read_all(connection)
        assert answer.startswith(b"HTTP/1.1 400 ")
        assert json.loads(answer.partition(b"\r\n\r\n")[2])["error"] == "this door speaks TLS: ask with https"
    assert guarded.is_served()


@pytest.mark.parametrize(
    ("message", "status"), [(b"nonsense\r\n\r\n", 400), (b"GET / HTTP/3.0\r\n\r\n", 505), (b"X" * 20_000, 431)]
)
def test_what_is_no_request_is_answered_under_tls_too_and_ended_as_tls_ends(
    guarded: Guarded, message: bytes, status: int
) -> None:
    with guarded.secured() as connection:  # which raises if the end is a cut
        connection.sendall(message)
        assert read_all(connection).startswith(b"HTTP/1.1 %d " % status)
    assert guarded.is_served()


def test_who_does_not_finish_the_handshake_is_hung_up_on(open_guarded: MakeGuarded) -> None:
    guarded = open_guarded(hello_s=1.0)
    begun = hello(guarded)
    with ExitStack() as opened:
        silent = opened.enter_context(guarded.secured())
        connections = [opened.enter_context(guarded.raw()) for _ in range(6)]
        for connection, said in zip(
            connections,
            (b"", begun[:1], begun[: len(begun) // 2], begun, b"\x16\x03\x01\xff\xff", os.urandom(300)),
            strict=True,
        ):
            connection.sendall(said)
        for connection in connections:
            read_all(connection)  # returns when the server hangs up
        assert silent.recv(1) == b"", "silent after the handshake"
    assert guarded.is_served()


def test_half_a_record_is_waited_for_only_so_long(open_guarded: MakeGuarded) -> None:
    guarded = open_guarded(hello_s=1.0, request_s=0.5)
    with guarded.raw() as connection:
        incoming, outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
        tls = guarded.context().wrap_bio(incoming, outgoing, server_hostname="127.0.0.1")
        while True:
            try:
                tls.do_handshake()
                break
            except ssl.SSLWantReadError:
                connection.sendall(outgoing.read())
                incoming.write(connection.recv(65_536))
        tls.write(HEAD % len(GOOD))
        connection.sendall(outgoing.read()[:-5])
        read_all(connection)
    assert guarded.is_served()


def test_a_place_is_kept_by_who_has_shown_the_token_and_by_nobody_else(open_guarded: MakeGuarded) -> None:
    guarded = open_guarded(connections_max=2)
    with ExitStack() as kept:
        first = kept.enter_context(guarded.secured())
        assert is_answered(first)
        strangers = [kept.enter_context(guarded.secured()) for _ in range(6)]  # each in the place of the one before
        with pytest.raises(ssl.SSLEOFError):
            strangers[0].recv(1)
        assert is_answered(first)
        second = kept.enter_context(guarded.secured())
        assert is_answered(second)
        with pytest.raises(ssl.SSLError, match=r"(?i)alert"):
            guarded.secured()
        assert is_answered(first)
        assert is_answered(second)


def is_answered(connection: ssl.SSLSocket) -> bool:
    connection.sendall(b"GET /v2/health/live HTTP/1.1\r\nAuthorization: %b\r\n\r\n" % BEARER.encode())
    return connection.recv(65_536).endswith(b'{"live":true}')


def test_a_client_that_hangs_up_under_tls_ends_its_run(guarded: Guarded) -> None:
    doors = guarded.plain
    doors.fastpath.put("1.0.0", endless_model(), name="endless")
    active = doors.fastpath.router.active("endless")
    assert active is not None
    with guarded.secured() as connection:
        head = (HEAD % len(GOOD)).replace(b"models/scale", b"models/endless")
        connection.sendall(head.replace(b"Host", b"Authorization: %b\r\nHost" % BEARER.encode()) + GOOD)
        wait_until(lambda: active.gate.in_flight_count == 1)
    assert ended(doors, active) == "cancelled"
    assert guarded.is_served()


def test_a_door_that_is_closed_hangs_up_on_whoever_is_there(open_guarded: MakeGuarded) -> None:
    guarded = open_guarded(hello_s=LONG_S)
    with guarded.secured() as known, guarded.secured() as silent, guarded.raw() as half_open:
        assert is_answered(known)
        guarded.rest.stop(WAIT_S)
        for connection in (known, silent, half_open):
            assert connection.recv(1) == b""


def test_under_tls_a_run_goes_on_as_long_as_its_client_waits(guarded: Guarded) -> None:
    guarded.plain.fastpath.put("1.0.0", endless_model(), name="endless")
    gate = guarded.plain.fastpath.router.gate("endless")
    body = GOOD[:-1] + b', "parameters": {"timeout": 300000}}'
    answer = guarded.ask("POST", "/v2/models/endless/infer", body, Authorization=BEARER)
    assert (answer.status, json.loads(answer.body)["code"]) == (504, "deadline-exceeded")  # type: ignore[attr-defined]
    connection = http.client.HTTPSConnection(guarded.host, guarded.rest.port, timeout=WAIT_S, context=guarded.context())
    connection.request("POST", "/v2/models/endless/infer", GOOD, {"Authorization": BEARER})
    wait_until(lambda: gate.in_flight_count == 1)
    connection.close()
    wait_until(lambda: gate.in_flight_count == 0)
    assert [record.code for record in guarded.plain.fastpath.sink.records] == ["deadline-exceeded", "cancelled"]
