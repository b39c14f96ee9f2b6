"""Streams that clients keep open: some for each client, however many the others keep."""

import socket
from contextlib import ExitStack
from typing import Any

import pytest

from edge_component.serving.oip_grpc_calls import STREAMS_MAX
from tests.edge_component.rpc.raw_client import (
    DATA,
    END_HEADERS,
    END_STREAM,
    HEADERS,
    RawClient,
    block,
    frame,
    message,
)
from tests.edge_component.serving.oip.conftest import Doors

PATH = "/inference.GRPCInferenceService/ModelStreamInfer"
RESOURCE_EXHAUSTED = 8


@pytest.fixture
def connected(doors: Doors) -> Any:
    with ExitStack() as stack:

        def connect() -> RawClient:
            client = RawClient(stack.enter_context(socket.create_connection(("127.0.0.1", doors.grpc.port))))
            client.greet()
            return client

        yield connect


def open_streams(client: RawClient, count: int) -> int:
    """How many of so many are let in: each is asked something that is no request, and says so, or is at its end."""
    let_in = 0
    for stream in range(1, 2 * count, 2):
        client.send(frame(HEADERS, END_HEADERS, stream, block(PATH)) + frame(DATA, 0, stream, message(b"")))
        while (found := client.read()) is not None and found.stream != stream:
            pass
        assert found is not None
        let_in += not found.flags & END_STREAM
    return let_in


def test_a_client_that_keeps_streams_open_leaves_some_to_others(connected: Any) -> None:
    greedy = connected()
    assert open_streams(greedy, STREAMS_MAX + 3) == STREAMS_MAX
    assert 1 < open_streams(connected(), STREAMS_MAX) < STREAMS_MAX
    for _ in range(10):
        assert open_streams(connected(), 3) >= 1, "each client has one, whatever the others have"


def test_a_stream_that_is_done_makes_room_for_another(connected: Any) -> None:
    client = connected()
    assert open_streams(client, STREAMS_MAX) == STREAMS_MAX
    stream = 2 * STREAMS_MAX + 1
    client.send(frame(HEADERS, END_HEADERS | END_STREAM, stream, block(PATH)))
    assert client.answer(stream).status == RESOURCE_EXHAUSTED
    client.send(frame(DATA, END_STREAM, 1))
    assert client.answer(1).status == 0
    client.send(frame(HEADERS, END_HEADERS | END_STREAM, stream + 2, block(PATH)))
    assert client.answer(stream + 2).status == 0
