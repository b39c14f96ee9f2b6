"""What other clients than tritonclient's do at the gRPC door: each of these once failed, or is how one of them asks.

Found by grpc-js, grpclib, nghttp and curl, run by hand; told here by grpcio and by frames of our own.
"""

import socket
from collections.abc import Iterator, Sequence
from contextlib import closing
from typing import Any

import grpc
import hpack
import numpy as np
import pytest
from tritonclient.grpc import service_pb2

from edge_component.rpc.frames import PREFACE, Flag, Kind, Setting, frame, read_head, settings
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

    def frames(self) -> Iterator[tuple[int, int, int, bytes]]:
        """Kind, flags, stream and payload, until the server hangs up."""
        while head := self._reads.read(9):
            kind, flags, number, size = read_head(bytearray(head), 0)
            yield kind, flags, number, self._reads.read(size)

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
