"""The Open Inference Protocol over gRPC: a synchronous server on a Unix socket or a TCP port.

Synchronous, with a thread for each call that is being answered: measured, it adds less than gRPC's asyncio server to a
request (171 against 217 us, bare), and runs models on all cores. What bounds it: ``WORKERS`` threads, ``CALLS_MAX`` calls
at once (more are refused at once), and of these ``STREAMS_MAX`` streams (oip_grpc_calls.py).

The classes of its messages come from oip.proto when the door is opened; nothing here is imported before.
"""

import logging
import os
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import grpc
from google.protobuf.message import DecodeError

from edge_component.contracts.unix_address import unix_address
from edge_component.errors import DeviceError
from edge_component.serving.access import OWNER_ONLY, SocketAccess
from edge_component.serving.exposure import LOOPBACK, TcpAddress
from edge_component.serving.listener import remove_name, restrict
from edge_component.serving.oip_errors import OipMalformedError
from edge_component.serving.oip_grpc_calls import Context, OipGrpc
from edge_component.serving.oip_grpc_infer import Message
from edge_component.serving.oip_repository import Behind
from edge_component.serving.oip_status import GrpcCode, sentence_of, status_of
from edge_component.serving.proto_text import Rpc, load_proto

if TYPE_CHECKING:  # only for doors with keys
    from edge_component.serving.door_guard import DoorGuard

log = logging.getLogger(__name__)

PROTO_FILE = Path(__file__).with_name("oip.proto")
SERVICE = "inference.GRPCInferenceService"
WORKERS = 32
CALLS_MAX = 128
DETAILS_CHARS_MAX = 2_000
"""Of an error's sentence: it travels in a header, and those are small."""

_STATUS_CODES = {code.value[0]: code for code in grpc.StatusCode}


@dataclass(frozen=True, slots=True)
class GrpcAddress:
    """A Unix socket's path and who may connect, or else a port (0 is any free one) of an address.

    gRPC takes 0.0.0.0 and :: alike for every address of this device.

    Of the access only the file's mode and group count: gRPC does not ask the kernel who connects.
    """

    unix: Path | None = None
    access: SocketAccess = OWNER_ONLY
    port: int = 0
    host: str = LOOPBACK

    @property
    def name(self) -> str:
        """For logs."""
        return self.unix.name if self.unix is not None else TcpAddress(self.host, self.port).name


class GrpcListener:
    """One gRPC server on one address."""

    def __init__(
        self, address: GrpcAddress, behind: Behind, message_bytes_max: int, guard: "DoorGuard | None" = None
    ) -> None:
        """Not yet open; a TCP address has a guard unless it is on loopback."""
        self._address = address
        self._credentials: grpc.ServerCredentials | None = None
        interceptors: list[grpc.ServerInterceptor] = []
        options: list[tuple[str, int]] = []
        if guard is not None:
            from edge_component.serving import oip_grpc_guard  # noqa: PLC0415 - only where there are keys

            self._credentials = oip_grpc_guard.secure_credentials(guard)
            interceptors.append(oip_grpc_guard.TokenInterceptor(guard))
            options += oip_grpc_guard.guarded_options(guard)
        self._calls = OipGrpc(behind)
        self._inode = 0
        self.port = address.port
        self._server = grpc.server(
            ThreadPoolExecutor(WORKERS, thread_name_prefix="oip-grpc"),
            interceptors=interceptors,
            maximum_concurrent_rpcs=CALLS_MAX,
            options=[
                *options,
                ("grpc.max_receive_message_length", message_bytes_max),
                ("grpc.max_send_message_length", -1),
                ("grpc.so_reuseport", 0),
            ],
        )
        self._server.add_generic_rpc_handlers((_handlers(self._calls),))

    def open(self) -> None:
        """Listen and answer.

        Raises:
            OSError: the folder is not there, or the port is taken.
        """
        try:
            if self._address.unix is not None:
                self._open_unix(self._address.unix)
            else:
                self.port = self._add_port(self._address.name)
                self._server.start()
        except RuntimeError as error:  # grpc's word for whatever the system said
            raise OSError(f"gRPC cannot listen: {error}") from error

    def stop(self, wait_s: float) -> None:
        """Take no more calls, finish those under way for up to ``wait_s``, close."""
        if self._address.unix is not None:
            remove_name(self._address.unix, self._inode)
        self._server.stop(wait_s).wait()
        self._calls.close()

    def _add_port(self, name: str) -> int:
        if self._credentials is None:
            return self._server.add_insecure_port(name)
        return self._server.add_secure_port(name, self._credentials)

    def _open_unix(self, path: Path) -> None:
        """Under another name until it can be connected to; see listener.py."""
        beside = path.with_name(f".{path.name}.{os.getpid()}")
        beside.unlink(missing_ok=True)
        with unix_address(beside) as address:
            self._server.add_insecure_port(f"unix:{address}")
        restrict(beside, self._address.access)
        self._inode = beside.stat().st_ino
        self._server.start()
        beside.replace(path)


def _handlers(calls: OipGrpc) -> grpc.GenericRpcHandler:
    rpcs = load_proto(PROTO_FILE.read_text(), PROTO_FILE.name).services[SERVICE]
    return grpc.method_handlers_generic_handler(
        SERVICE, {name: _handler(rpc, getattr(calls, _snake_case(name))) for name, rpc in rpcs.items()}
    )


def _handler(rpc: Rpc, method: Callable[..., Any]) -> "grpc.RpcMethodHandler[bytes, Message]":
    write = rpc.response.SerializeToString
    if rpc.is_response_stream:
        return grpc.stream_stream_rpc_method_handler(_stream(rpc, method), response_serializer=write)
    return grpc.unary_unary_rpc_method_handler(_unary(rpc, method), response_serializer=write)


def _unary(rpc: Rpc, method: Callable[..., Any]) -> Callable[[bytes, Context], Message]:
    def call(data: bytes, context: Context) -> Message:
        try:
            return rpc.response(**method(_read(rpc, data), context))
        except Exception as error:  # noqa: BLE001 - whoever waits must be told, whatever is wrong
            code, details = _told(error)
        return context.abort(code, details)

    return call


def _stream(rpc: Rpc, method: Callable[..., Any]) -> Callable[[Iterator[bytes], Context], Iterator[Message]]:
    def call(received: Iterator[bytes], context: Context) -> Iterator[Message]:
        try:
            for fields in method((_read(rpc, data) for data in received), context):
                yield rpc.response(**fields)
        except grpc.RpcError:  # the client has gone: grpc ends the requests so, and nobody waits for an answer
            return
        except Exception as error:  # noqa: BLE001 - as above
            code, details = _told(error)
        else:
            return
        context.abort(code, details)

    return call


def _read(rpc: Rpc, data: bytes) -> Message:
    try:
        return rpc.request.FromString(data)
    except DecodeError as error:
        raise OipMalformedError(f"not a message of the protocol: {error}") from error


def _told(error: Exception) -> tuple[grpc.StatusCode, str]:
    """How an error ends a call."""
    if isinstance(error, DeviceError):
        return _STATUS_CODES[status_of(error).grpc], sentence_of(error)[:DETAILS_CHARS_MAX]
    log.error("a call ended in an unforeseen error", exc_info=error)
    return _STATUS_CODES[GrpcCode.INTERNAL], "an unforeseen error; see the runtime's log"


def _snake_case(name: str) -> str:
    return "".join(f"_{letter.lower()}" if letter.isupper() else letter for letter in name).removeprefix("_")
