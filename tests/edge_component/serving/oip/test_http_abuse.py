"""Clients that are no clients: each is told why or hung up on, and a good client beside them is served."""

import json
import socket
import struct
import threading
import time

import pytest
from hypothesis import given, strategies as st

from edge_component.serving.http_messages import HttpError, Reply, read_head, without_sent
from edge_component.serving.http_routes import Routes
from tests.edge_component.serving.oip.conftest import BODY_BYTES_MAX, Doors, MakeDoors

GOOD = json.dumps({"inputs": [{"name": "x", "datatype": "FP32", "shape": [1, 3], "data": [1, 2, 3]}]}).encode()
HEAD = b"POST /v2/models/scale/infer HTTP/1.1\r\nHost: localhost\r\nContent-Length: %d\r\n\r\n"
GET = b"GET /v2/health/live HTTP/1.1\r\nHost: localhost\r\n%b\r\n"


def read_all(connection: socket.socket) -> bytes:
    """Everything until the server hangs up."""
    received = b""
    try:
        while piece := connection.recv(65_536):
            received += piece
    except ConnectionResetError:
        pass
    return received


def is_served(doors: Doors) -> bool:
    return doors.ask("POST", "/v2/models/scale/infer", GOOD)[0] == 200


REFUSED = [
    (b"nonsense\r\n\r\n", 400),
    (b"GET /v2 HTTP/3.0\r\n\r\n", 505),
    (b"GET /a b HTTP/1.1\r\n\r\n", 400),
    (b"GET /\x01 HTTP/1.1\r\n\r\n", 400),
    (b"GET /\xff HTTP/1.1\r\n\r\n", 400),
    (GET % b"no colon\r\n", 400),
    (GET % b"Name : value\r\n", 400),
    (GET % b" folded: value\r\n", 400),
    (GET % b"Content-Length: 1\r\nContent-Length: 1\r\n", 400),
    (GET % b"Content-Length: -1\r\n", 400),
    (GET % b"Content-Length: +1\r\n", 400),
    (GET % b"Content-Length: 1, 1\r\n", 400),
    (GET % b"Content-Length: \r\n", 400),
    (GET % b"X: a\nContent-Length: 5\r\n", 400),  # two headers to whoever takes a line's end for one
    (GET % b"X: a\rContent-Length: 5\r\n", 400),
    (GET % b"X: a\0b\r\n", 400),
    (GET % b"Content-Length\0: 5\r\n", 400),
    (GET % b"Content-Length\x0b: 5\r\n", 400),
    (GET % b"Transfer-Encoding\x85: chunked\r\n", 400),
    (b"GET /v2/health/live HTTP/1.1\nHost: localhost\r\n\r\n", 400),
    (GET % b"Inference-Header-Content-Length: 1\r\nInference-Header-Content-Length: 2\r\n", 400),
    (GET % b"Authorization: Bearer a\r\nauthorization: Bearer b\r\n", 400),
    (GET % b"Content-Encoding: gzip\r\nContent-Encoding: gzip\r\n", 400),
    (GET % b"Content-Length: 1e3\r\n", 400),
    (GET % b"Content-Length: 99999999999999999999\r\n", 400),
    (GET % b"Host: evil.example\r\n", 400),
    (GET % b"Transfer-Encoding: chunked\r\n", 411),
    (GET % (b"Content-Length: %d\r\n" % (BODY_BYTES_MAX + 1)), 413),
    (GET % (b"X: y\r\n" * 100), 431),
    (GET % (b"X: " + b"y" * 20_000 + b"\r\n"), 431),
    (GET % b"Inference-Header-Content-Length: x\r\n", 400),
]


@pytest.mark.parametrize(("message", "status"), REFUSED)
def test_what_is_no_request_is_answered_and_hung_up_on(doors: Doors, message: bytes, status: int) -> None:
    with doors.raw_http() as connection:
        connection.sendall(message)
        answer = read_all(connection)
    assert answer.startswith(b"HTTP/1.1 %d " % status), answer[:200]
    assert b"Connection: close" in answer
    assert json.loads(answer.partition(b"\r\n\r\n")[2])["error"]
    assert is_served(doors)


@pytest.mark.parametrize("path", ["scale/versions//infer", "scale/versions//", "/infer", "/versions/1.0.0/infer"])
def test_a_path_that_leaves_out_the_name_or_the_version_is_no_path(doors: Doors, path: str) -> None:
    """Nobody who asks for a version is answered by any other."""
    assert doors.ask("POST", f"/v2/models/{path}", GOOD)[0] == 404


def test_an_oversized_body_is_refused_before_it_is_sent_and_the_refusal_is_read(doors: Doors) -> None:
    with doors.raw_http() as connection:
        connection.sendall(HEAD % (BODY_BYTES_MAX * 2) + bytes(500_000))
        refusal = read_all(connection)
    assert refusal.startswith(b"HTTP/1.1 413 ")
    assert b"oip_body_bytes_max" in refusal, "it says what to do"


@pytest.mark.parametrize("cut", [1, 20, len(HEAD % len(GOOD)) - 1, len(HEAD % len(GOOD)) + 5])
def test_a_request_that_stops_half_way_ends_with_its_time(doors: Doors, cut: int) -> None:
    with doors.raw_http() as connection:
        connection.sendall((HEAD % len(GOOD) + GOOD)[:cut])
        assert read_all(connection).startswith(b"HTTP/1.1 408 ")
    assert is_served(doors)


def test_a_client_that_vanishes_in_mid_request_costs_nothing(doors: Doors) -> None:
    for cut in range(0, len(HEAD) + len(GOOD), 7):
        with doors.raw_http() as connection:
            connection.sendall((HEAD % len(GOOD) + GOOD)[:cut])
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))  # a reset
    assert is_served(doors)


def test_one_byte_at_a_time_is_cut_off_and_nobody_else_waits(doors: Doors) -> None:
    with doors.raw_http() as connection:
        answer = trickled(connection, (HEAD % len(GOOD) + GOOD) * 100)
    assert not answer or answer.startswith(b"HTTP/1.1 408 ")
    assert is_served(doors)


def trickled(connection: socket.socket, message: bytes) -> bytes:
    """Send one byte at a time until the server hangs up; what it said, unless the kernel threw that away."""
    ends_at_s = time.monotonic() + 20
    try:
        for byte in message:
            connection.sendall(bytes([byte]))
            time.sleep(0.05)
            assert time.monotonic() < ends_at_s, "nobody cut it off"
    except OSError:  # reset or broken pipe, as the kernel likes
        return read_all(connection)
    raise AssertionError("the whole trickle was read")


def test_requests_in_pieces_and_in_one_piece_are_the_same(doors: Doors) -> None:
    whole = HEAD % len(GOOD) + GOOD
    with doors.raw_http() as connection:
        for at in range(0, len(whole), 40):
            connection.sendall(whole[at : at + 40])
        connection.sendall(whole * 3 + GET % b"Connection: close\r\n")
        answer = read_all(connection)
    assert answer.count(b'"data":[2.0,4.0,6.0]') == 4
    assert answer.endswith(b'{"live":true}')


def test_a_client_that_waits_to_be_told_to_go_on(doors: Doors) -> None:
    with doors.raw_http() as connection:
        connection.sendall((HEAD % len(GOOD)).replace(b"\r\n\r\n", b"\r\nExpect: 100-continue\r\n\r\n"))
        assert connection.recv(100) == b"HTTP/1.1 100 Continue\r\n\r\n"
        connection.sendall(GOOD)
        assert connection.recv(15) == b"HTTP/1.1 200 OK"


def test_head_is_answered_as_get_without_a_body_and_the_conversation_goes_on(doors: Doors) -> None:
    """As health checks ask; a body would be read as the beginning of the next answer."""
    connection = doors.http()
    for path, status in (("/v2/health/ready", 200), ("/v2/models/nobody", 404), ("/v2/models/scale/infer", 405)):
        connection.request("HEAD", path)
        answer = connection.getresponse()
        assert (answer.status, answer.read()) == (status, b"")
        assert int(answer.headers["Content-Length"]) > 0
        connection.request("POST", "/v2/models/scale/infer", GOOD)
        assert b"[2.0,4.0,6.0]" in connection.getresponse().read()
    connection.close()


def test_http_1_0_is_closed_unless_it_asks_otherwise(doors: Doors) -> None:
    with doors.raw_http() as connection:
        connection.sendall(b"GET /v2/health/live HTTP/1.0\r\nHost: localhost\r\n\r\n")
        assert read_all(connection).endswith(b'{"live":true}')


def test_too_many_connections_are_told_and_the_others_served(open_doors: MakeDoors) -> None:
    doors = open_doors(connections_max=2)
    kept = [doors.raw_http() for _ in range(2)]
    for connection in kept:
        connection.sendall(GET % b"")
        assert connection.recv(15) == b"HTTP/1.1 200 OK"
    with doors.raw_http() as connection:
        assert b"HTTP/1.1 503 " in connection.recv(65_536)
    for connection in kept:
        connection.close()


def test_a_good_client_is_served_throughout(doors: Doors) -> None:
    stop = threading.Event()
    failed: list[bytes] = []

    def good() -> None:
        connection = doors.http()
        while not stop.is_set():
            connection.request("POST", "/v2/models/scale/infer", GOOD)
            answer = connection.getresponse().read()
            if b"[2.0,4.0,6.0]" not in answer:
                failed.append(answer)
        connection.close()

    thread = threading.Thread(target=good)
    thread.start()
    for message, _ in REFUSED[:8]:
        with doors.raw_http() as connection:
            connection.sendall(message)
            read_all(connection)
    stop.set()
    thread.join()
    assert not failed


@given(st.binary(max_size=200))
def test_any_head_is_read_or_refused(data: bytes) -> None:
    try:
        head = read_head(data)
    except HttpError as error:
        status = error.status
        assert 400 <= status <= 505
    else:
        assert head.target.startswith("/")


@given(st.lists(st.binary(max_size=5), max_size=5), st.integers(0, 30))
def test_what_is_left_to_send_is_what_was_not_sent(parts: list[bytes], sent: int) -> None:
    assert b"".join(without_sent(parts, sent)) == b"".join(parts)[sent:]


def test_an_answers_bytes() -> None:
    parts = Reply(200, [b"ab", memoryview(b"c")], b"text/plain", b"X: y\r\n").parts(keep_alive=False)
    assert b"".join(parts) == (
        b"HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\nContent-Length: 3\r\nX: y\r\nConnection: close\r\n\r\nabc"
    )


def test_routes() -> None:
    routes = Routes({"GET a/b": 1, "GET a/*": 2, "POST a/*/c/*": 3})
    assert routes.find("GET", "/a/b?x=1") == (1, ())
    assert routes.find("GET", "/a/%62c/") == (2, ("bc",))
    assert routes.find("POST", "/a/x%2Fy/c/z") == (3, ("x/y", "z"))
    for nothing in ("/a/x/c/", "/a//c/z", "/a/x//z"):
        with pytest.raises(HttpError) as refusal:
            routes.find("POST", nothing)
        assert refusal.value.status == 404
    with pytest.raises(HttpError) as refusal:
        routes.find("GET", "/a/x/c/z")
    assert refusal.value.status == 405
