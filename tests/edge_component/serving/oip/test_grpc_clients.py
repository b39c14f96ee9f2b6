"""What other clients than tritonclient's do at the gRPC door: each of these once failed, or is how one of them asks.

Found by grpc-js, grpclib, nghttp and curl, run by hand; told here by grpcio and by frames of our own.
"""

import socket
import struct
import threading
from collections.abc import Iterator, Sequence
from contextlib import closing
from typing import Any

import grpc
import hpack
import numpy as np
import pytest
from tritonclient.grpc import service_pb2

from edge_component.rpc import server
from edge_component.rpc.frames import (
    CONNECTION,
    FRAME_BYTES,
    PING_BYTES,
    PREFACE,
    STREAMS_MAX,
    WINDOW_BYTES,
    WINDOW_BYTES_MAX,
    Code,
    Flag,
    Kind,
    Setting,
    frame,
    read_head,
    read_number,
    settings,
    window_update,
)
from edge_component.rpc.protocol import CALLS_MAX
from tests.edge_component.serving.oip.conftest import Doors

SERVICE = "/inference.GRPCInferenceService/"
WAIT_S = 20.0
NO_MESSAGE = bytes(5)
FIELDS = ((":method", "POST"), (":scheme", "http"), (":authority", "x"), ("te", "trailers"))


class RawClient:
    """Frames, and nothing that decides about them."""

    def __init__(self, port: int, said: dict[int, int] | None = None) -> None:
        self.socket = socket.create_connection(("127.0.0.1", port), timeout=WAIT_S)
        self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._reads = self.socket.makefile("rb")
        self._encoder, self.decoder = hpack.Encoder(), hpack.Decoder()
        self.socket.sendall(PREFACE + settings(said or {}))

    def close(self) -> None:
        self._reads.close()
        self.socket.close()

    def begin(self, number: int, method: str = "ServerLive", content_type: str = "application/grpc") -> None:
        block = self._encoder.encode([*FIELDS, (":path", SERVICE + method), ("content-type", content_type)])
        self.socket.sendall(frame(Kind.HEADERS, Flag.END_HEADERS, number, block))

    def end(self, number: int) -> None:
        self.socket.sendall(frame(Kind.DATA, Flag.END_STREAM, number, NO_MESSAGE))

    def send(self, number: int, message: bytes) -> None:
        """One message, and the end; no more than a stream's window holds."""
        content = struct.pack(">BI", 0, len(message)) + message
        for begin in range(0, len(content), FRAME_BYTES):
            self.socket.sendall(frame(Kind.DATA, 0, number, content[begin : begin + FRAME_BYTES]))
        self.socket.sendall(frame(Kind.DATA, Flag.END_STREAM, number))

    def frames(self) -> Iterator[tuple[int, int, int, bytes]]:
        """Kind, flags, stream and payload, until the server hangs up."""
        while head := self._reads.read(9):
            kind, flags, number, size = read_head(bytearray(head), 0)
            yield kind, flags, number, self._reads.read(size)

    def next(self, wanted: Kind) -> bytes:
        """The payload of the next frame of that kind."""
        return next(payload for kind, _, _, payload in self.frames() if kind == wanted)

    def answered(self, number: int) -> dict[str, str]:
        """All header fields of one stream's answer, once it has ended."""
        fields: dict[str, str] = {}
        for kind, flags, stream, payload in self.frames():
            if kind == Kind.HEADERS:
                said = dict(self.decoder.decode(payload))
                if stream == number:
                    fields |= said
                    if flags & Flag.END_STREAM:
                        return fields
        raise AssertionError(f"hung up before stream {number} had ended: {fields}")


@pytest.fixture
def raw(doors: Doors) -> Iterator[RawClient]:
    with closing(RawClient(doors.grpc.port)) as client:
        yield client


def test_as_many_calls_at_once_as_a_client_is_told_are_all_answered(raw: RawClient) -> None:
    """A client counts a call as over when it has the answer, which is before the thread that sent it can say so."""
    for index in range(CALLS_MAX - 1):
        raw.begin(1 + 2 * index)
    for index in range(1_000):
        number = 1 + 2 * (CALLS_MAX + index)
        raw.begin(number)
        raw.end(number)
        fields = raw.answered(number)
        assert fields["grpc-status"] == "0", fields


def test_a_client_without_a_header_table_can_read_the_answers(doors: Doors) -> None:
    with closing(RawClient(doors.grpc.port, {Setting.HEADER_TABLE_SIZE: 0})) as client:
        client.decoder.max_allowed_table_size = 0  # which makes it refuse a block that does not say so too
        for number in (1, 3):
            client.begin(number)
            client.end(number)
            assert client.answered(number)["grpc-status"] == "0"
        client.begin(5, content_type="text/html")
        client.end(5)
        assert client.answered(5)[":status"] == "415"


@pytest.mark.parametrize(
    ("content_type", "status"),
    [
        ("application/grpc+proto", "200"), ("application/grpc;charset=utf-8", "200"),
        ("application/grpc-web+proto", "415"), ("application/json", "415"),
    ],
)  # fmt: skip
def test_only_grpc_itself_is_answered(raw: RawClient, content_type: str, status: str) -> None:
    raw.begin(1, content_type=content_type)
    raw.end(1)
    assert raw.answered(1)[":status"] == status


def test_a_door_that_closes_answers_what_was_on_its_way_and_refuses_what_comes_after(
    doors: Doors, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(server, "LEAVING_S", WAIT_S)
    with closing(RawClient(doors.grpc.port)) as client:
        client.begin(1)
        client.socket.sendall(frame(Kind.PING, Flag.ACK, CONNECTION, bytes(PING_BYTES)))  # which nobody asked for
        client.begin(3)
        client.end(3)
        assert client.answered(3)["grpc-status"] == "0"
        closing_door = threading.Thread(target=doors.grpc.stop, args=(WAIT_S,))
        closing_door.start()
        assert last_of(client.next(Kind.GOAWAY)) == STREAMS_MAX
        ping = client.next(Kind.PING)
        client.begin(5)  # before the client has heard
        client.socket.sendall(frame(Kind.PING, Flag.ACK, CONNECTION, ping))
        assert last_of(client.next(Kind.GOAWAY)) == 5
        client.begin(7)
        assert client.next(Kind.RST_STREAM) == bytes((0, 0, 0, Code.REFUSED_STREAM))
        for number in (5, 1):
            client.end(number)
            assert client.answered(number)["grpc-status"] == "0"
    closing_door.join(WAIT_S)
    assert not closing_door.is_alive(), "the client has hung up"


def test_who_stays_at_a_door_that_closes_is_hung_up_on_once_it_is_answered(
    doors: Doors, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(server, "LEAVING_S", 0.0)
    with closing(RawClient(doors.grpc.port)) as busy, closing(RawClient(doors.grpc.port)) as idle:
        busy.begin(1)
        for client in (busy, idle):
            client.socket.sendall(frame(Kind.PING, 0, CONNECTION, bytes(PING_BYTES)))
            client.next(Kind.PING)  # the server has come so far
        closing_door = threading.Thread(target=doors.grpc.stop, args=(WAIT_S,))
        closing_door.start()
        assert [kind for kind, *_ in idle.frames()] == [Kind.GOAWAY, Kind.PING, Kind.GOAWAY]
        busy.end(1)
        assert busy.answered(1)["grpc-status"] == "0"
        assert list(busy.frames()) == []
    closing_door.join(WAIT_S)
    assert not closing_door.is_alive()


def test_a_client_that_takes_nothing_does_not_keep_a_door_from_closing(doors: Doors) -> None:
    doors.put_identity("FP32")
    message = request(row_of(900_000)).SerializeToString()
    said = {Setting.INITIAL_WINDOW_SIZE: WINDOW_BYTES_MAX}
    with closing(RawClient(doors.grpc.port, said)) as client:
        client.socket.sendall(window_update(CONNECTION, WINDOW_BYTES_MAX - WINDOW_BYTES))
        for number in (1, 3, 5):  # together more than the kernel keeps for a client
            client.begin(number, "ModelInfer")
            client.send(number, message)
        client.next(Kind.DATA)  # begun, and nothing more is taken
        closing_door = threading.Thread(target=doors.grpc.stop, args=(0.1,))
        closing_door.start()
        closing_door.join(WAIT_S)
        assert not closing_door.is_alive()


def last_of(goaway: bytes) -> int:
    """The last stream that a GOAWAY says is answered."""
    return read_number(goaway[:4])


def row_of(size: int) -> np.ndarray:
    return np.random.default_rng(size).random((1, size), np.float32)


def request(array: np.ndarray) -> Any:
    made = service_pb2.ModelInferRequest(model_name="same-fp32", raw_input_contents=[array.tobytes()])
    made.inputs.add(name="x", datatype="FP32", shape=array.shape)
    return made


SIZES = (3, 5_000, 30_000, 900_000)
"""Within one frame, within one window, beyond both, and nearly as large as this door takes."""
OPTIONS: dict[str, Sequence[tuple[str, Any]]] = {
    "small windows": [("grpc.http2.lookahead_bytes", 1), ("grpc.http2.bdp_probe", 0)],
    "small frames": [("grpc.http2.max_frame_size", 16_384), ("grpc.http2.write_buffer_size", 1_024)],
    "no header table": [("grpc.http2.hpack_table_size.decoder", 0), ("grpc.http2.hpack_table_size.encoder", 0)],
    "pings": [("grpc.keepalive_time_ms", 10), ("grpc.keepalive_permit_without_calls", 1), ("grpc.http2.max_pings_without_data", 0)],
}  # fmt: skip


@pytest.mark.parametrize("compression", list(grpc.Compression), ids=lambda each: each.name)
@pytest.mark.parametrize("options", OPTIONS.values(), ids=OPTIONS.keys())
def test_calls_and_streams_with_options_of_grpcio(
    doors: Doors, options: Sequence[tuple[str, Any]], compression: grpc.Compression
) -> None:
    doors.put_identity("FP32")
    rows = [row_of(size) for size in SIZES]
    answer = service_pb2.ModelInferResponse
    streamed = service_pb2.ModelStreamInferResponse
    with grpc.insecure_channel(f"unix:{doors.grpc_path}", options, compression) as channel:
        infer = channel.unary_unary(f"{SERVICE}ModelInfer", lambda sent: sent.SerializeToString(), answer.FromString)
        for row in rows:
            assert infer(request(row), WAIT_S).raw_output_contents[0] == row.tobytes()
        waiting = [infer.future(request(row), WAIT_S) for row in rows[:3] * 10]
        for row, future in zip(rows[:3] * 10, waiting, strict=True):
            assert future.result().raw_output_contents[0] == row.tobytes()
        stream = channel.stream_stream(
            f"{SERVICE}ModelStreamInfer", lambda sent: sent.SerializeToString(), streamed.FromString
        )
        answers = stream((request(row) for row in rows), WAIT_S)
        assert [each.infer_response.raw_output_contents[0] for each in answers] == [row.tobytes() for row in rows]
