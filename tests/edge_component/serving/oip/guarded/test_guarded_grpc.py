"""gRPC's door with keys: no call without the token, and strangers who are hung up on."""

import socket
import ssl
import threading
from contextlib import ExitStack
from typing import Any

import grpc
import numpy as np
import pytest
import tritonclient.grpc
from tritonclient.utils import InferenceServerException

from edge_component.rpc.frames import PREFACE
from tests.edge_component.serving.oip.guarded.conftest import (
    BEARER,
    GRPC_TOKEN,
    WAIT_S,
    WRONG,
    Guarded,
    MakeGuarded,
    hello,
)
from tests.edge_component.serving.oip.test_http_abuse import read_all


@pytest.mark.parametrize("authorization", WRONG)
def test_without_the_token_grpc_says_so_and_does_nothing(guarded: Guarded, authorization: str) -> None:
    client = guarded.grpc_client()
    headers = {"authorization": authorization} if authorization else {}
    tensor = tritonclient.grpc.InferInput("x", [1, 3], "FP32").set_data_from_numpy(np.ones((1, 3), np.float32))
    for call in (
        lambda: client.infer("scale", [tensor], headers=headers),
        lambda: client.is_server_live(headers=headers),
        lambda: client.get_model_metadata("nobody", headers=headers),
    ):
        with pytest.raises(InferenceServerException, match="token") as refusal:
            call()
        assert refusal.value.status() == "StatusCode.UNAUTHENTICATED"
    told: list[Any] = []
    arrived = threading.Event()
    client.start_stream(lambda result, error: (told.append(error), arrived.set()), headers=headers)
    assert arrived.wait(WAIT_S)
    assert "token" in str(told[0])
    client.stop_stream()
    client.close()
    assert guarded.plain.fastpath.sink.records == []


def test_two_tokens_are_none(guarded: Guarded) -> None:
    credentials = grpc.ssl_channel_credentials(guarded.files.certificate.read_bytes())
    with grpc.secure_channel(f"127.0.0.1:{guarded.grpc.port}", credentials) as channel:
        call = channel.unary_unary("/inference.GRPCInferenceService/ServerLive")
        assert call(b"", metadata=(("authorization", BEARER),)) == b"\x08\x01"
        with pytest.raises(grpc.RpcError) as refusal:
            call(b"", metadata=(("authorization", BEARER), ("authorization", "Bearer other")))
        assert refusal.value.code() == grpc.StatusCode.UNAUTHENTICATED


def is_answered(guarded: Guarded) -> bool:
    """Whether somebody who comes now, with the token, is answered."""
    client = guarded.grpc_client()
    try:
        return bool(client.is_server_live(headers=GRPC_TOKEN))
    finally:
        client.close()


def test_without_tls_nobody_is_answered(guarded: Guarded) -> None:
    plain = tritonclient.grpc.InferenceServerClient(f"127.0.0.1:{guarded.grpc.port}")
    with pytest.raises(InferenceServerException):
        plain.is_server_live()
    plain.close()
    assert is_answered(guarded)


def test_who_does_not_finish_the_handshake_is_hung_up_on(open_guarded: MakeGuarded) -> None:
    guarded = open_guarded(hello_s=1.0)
    begun = hello(guarded)
    with ExitStack() as opened:
        connections = [opened.enter_context(connect(guarded)) for _ in range(6)]
        for connection, said in zip(
            connections,
            (b"", begun[:1], begun[: len(begun) // 2], begun, b"\x16\x03\x01\xff\xff", PREFACE),
            strict=True,
        ):
            connection.sendall(said)
        for connection in connections:
            read_all(connection)  # returns when the server hangs up
    assert is_answered(guarded)


def connect(guarded: Guarded) -> socket.socket:
    return socket.create_connection((guarded.host, guarded.grpc.port), timeout=WAIT_S)


def secured(guarded: Guarded) -> ssl.SSLSocket:
    """A connection that has greeted by TLS and waits for what the server says first."""
    context = guarded.context()
    context.set_alpn_protocols(["h2"])
    connection = context.wrap_socket(connect(guarded), server_hostname=guarded.host, suppress_ragged_eofs=True)
    assert connection.selected_alpn_protocol() == "h2"
    assert connection.recv(1)
    return connection


def test_a_place_is_kept_by_who_has_shown_the_token_and_by_nobody_else(open_guarded: MakeGuarded) -> None:
    guarded = open_guarded(connections_max=2)
    known = guarded.grpc_client()
    assert known.is_server_live(headers=GRPC_TOKEN)
    with ExitStack() as kept:
        strangers = [kept.enter_context(secured(guarded)) for _ in range(6)]  # each in the place of the one before
        read_all(strangers[0])  # returns when the server hangs up
        assert known.is_server_live(headers=GRPC_TOKEN)
        assert is_answered(guarded), "in a stranger's place"
    known.close()
