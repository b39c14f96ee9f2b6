"""The same over TLS: both ways at once, and clients that do not shake hands."""

import socket
import ssl
import threading
import time

import grpc
import pytest

from tests.edge_component.rpc.conftest import ALL_ROOM, Open, ask, pattern, tls_client, trusting, until
from tests.edge_component.rpc.raw_client import (
    DATA,
    END_STREAM,
    PATIENCE_S,
    PREFACE,
    SETTINGS,
    WINDOW_UPDATE,
    begin,
    call,
    frame,
    message,
    number,
    setting,
)


def test_a_call_over_tls(open_server: Open) -> None:
    served = open_server(tls=True)
    client = tls_client(served)
    client.send(call(1, b"over TLS"), call(3, b"2000000", "/t.T/Large"))
    assert client.answer(1).messages == [b"over TLS"]
    assert client.answer(3).messages == [pattern(2_000_000)]
    served.server.stop(PATIENCE_S)
    assert client.gone_away() == 0


def test_reading_and_writing_at_once_over_tls(open_server: Open) -> None:
    """Large messages both ways on several streams at once, over grpcio's TLS."""
    served = open_server(tls=True, message_bytes_max=40_000_000)
    certificate = served.tls_certificate.read_bytes()
    options = (("grpc.max_receive_message_length", -1), ("grpc.use_local_subchannel_pool", 1))
    channel = grpc.secure_channel(f"localhost:{served.server.port}", grpc.ssl_channel_credentials(certificate), options)
    served.channels.append(channel)
    contents = [pattern(700_000)[turn:] for turn in range(20)]
    found: list[list[bytes]] = []

    def chat() -> None:
        found.append(list(channel.stream_stream("/t.T/Chat")(iter(contents), timeout=3 * PATIENCE_S)))

    threads = [threading.Thread(target=chat) for _ in range(4)]
    for thread in threads:
        thread.start()
    for turn_count in range(100):
        assert ask(channel, "Echo", b"%d" % turn_count) == b"%d" % turn_count
    for thread in threads:
        thread.join(3 * PATIENCE_S)
    assert found == [contents] * 4


def test_a_tls_client_that_does_not_read_is_heard_all_the_same(open_server: Open) -> None:
    """Its cancellation ends the answer that nobody takes."""
    served = open_server(tls=True)
    client = tls_client(served, *ALL_ROOM)
    client.send(frame(WINDOW_UPDATE, 0, 0, number(2**31 - 1 - 65_535)))
    client.send(begin(1, "/t.T/Flood") + frame(DATA, 0, 1, message(b"x")))
    client.send(begin(3, "/t.T/Chat") + frame(DATA, 0, 3, message(b"x")))
    until(lambda: not served.is_sending())
    client.send(begin(5, "/t.T/Gate"), frame(DATA, END_STREAM, 5, message(b"x")))
    assert served.behind.inside.acquire(timeout=PATIENCE_S)
    assert served.behind.inside.acquire(timeout=PATIENCE_S), "the call behind the answer that nobody takes"
    client.close()
    assert served.behind.left.acquire(timeout=PATIENCE_S)


def test_a_tls_server_stops_though_its_client_does_not_read(open_server: Open) -> None:
    served = open_server(tls=True)
    client = tls_client(served, *ALL_ROOM)
    client.send(frame(WINDOW_UPDATE, 0, 0, number(2**31 - 1 - 65_535)))
    client.send(begin(1, "/t.T/Flood") + frame(DATA, 0, 1, message(b"x")))
    assert served.behind.inside.acquire(timeout=PATIENCE_S)
    until(lambda: not served.is_sending())
    began_s = time.monotonic()
    served.server.stop(0.5)
    assert time.monotonic() - began_s < PATIENCE_S / 2
    assert served.behind.left.acquire(timeout=PATIENCE_S)


def test_a_handshake_that_takes_too_long_is_ended(open_server: Open) -> None:
    served = open_server(tls=True, hello_s=0.3)
    hello = ssl.MemoryBIO()
    shaking = trusting().wrap_bio(ssl.MemoryBIO(), hello)
    with pytest.raises(ssl.SSLWantReadError):
        shaking.do_handshake()
    waited = threading.Event()
    for pieces in ([], [hello.read()[:20]], [bytes((byte,)) for byte in b"\x16\x03\x01\x02\x00" + bytes(100)]):
        plain = socket.create_connection(("127.0.0.1", served.server.port), PATIENCE_S)
        with plain:
            try:
                for piece in pieces:
                    plain.sendall(piece)
                    waited.wait(0.02)
                while plain.recv(1_000):
                    pass
            except ConnectionError:
                continue
    assert tls_client(served).is_alive()


def test_a_plain_client_at_a_tls_door_is_hung_up_on(open_server: Open) -> None:
    served = open_server(tls=True)
    client = served.connect()
    client.send(PREFACE + frame(SETTINGS, 0, 0, setting(4, 1)))
    assert client.is_hung_up_on()
    assert tls_client(served).is_alive()
