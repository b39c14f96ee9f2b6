"""The Open Inference Protocol over gRPC, on a Unix socket or a TCP port: our own server (edge_component/rpc) with its methods.

Why our own: grpcio's server takes longer for a call that does nothing than a whole prediction takes here, most of it handing
the call from thread to thread; here a call is answered by the thread that reads it (edge_component/rpc/README.md).

What bounds it: ``Capacity``'s threads and calls, of which each connection has its share (rpc/workers.py), and of these
``STREAMS_MAX`` streams (oip_grpc_calls.py). Over a Unix socket the kernel says who connects, so its access is REST's.

The classes of its messages come from oip.proto when the door is opened; nothing here is imported before.
"""

import socket
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from edge_component.errors import DeviceError
from edge_component.rpc.calls import Service
from edge_component.rpc.errors import GrpcCode
from edge_component.rpc.limits import Limits
from edge_component.rpc.messages import Memory
from edge_component.rpc.server import Capacity, RpcServer
from edge_component.serving.access import peer_of
from edge_component.serving.grpc_service import ending_in_status, paths, stream_ending_in_status, unary
from edge_component.serving.listener import Place, TcpDoor
from edge_component.serving.oip_grpc_calls import Askers, DoorWide, OipGrpc
from edge_component.serving.oip_repository import Behind
from edge_component.serving.oip_request import SharedMemory
from edge_component.serving.oip_status import status_of
from edge_component.serving.proto_text import load_proto

if TYPE_CHECKING:  # only for doors with keys
    from edge_component.serving.door_guard import DoorGuard

PROTO_FILE = Path(__file__).with_name("oip.proto")
SERVICE = "inference.GRPCInferenceService"
CAPACITY = Capacity(threads_max=32, calls_max=128)

_UNARY = {
    "ServerLive": OipGrpc.server_live,
    "ServerReady": OipGrpc.server_ready,
    "ServerMetadata": OipGrpc.server_metadata,
    "ModelReady": OipGrpc.model_ready,
    "ModelMetadata": OipGrpc.model_metadata,
    "ModelConfig": OipGrpc.model_config,
    "ModelStatistics": OipGrpc.model_statistics,
    "RepositoryIndex": OipGrpc.repository_index,
    "RepositoryModelLoad": OipGrpc.repository_model_load,
    "RepositoryModelUnload": OipGrpc.repository_model_unload,
    "SystemSharedMemoryStatus": OipGrpc.system_shared_memory_status,
    "SystemSharedMemoryRegister": OipGrpc.system_shared_memory_register,
    "SystemSharedMemoryUnregister": OipGrpc.system_shared_memory_unregister,
    "CudaSharedMemoryStatus": OipGrpc.cuda_shared_memory_status,
    "CudaSharedMemoryRegister": OipGrpc.cuda_shared_memory_register,
    "CudaSharedMemoryUnregister": OipGrpc.cuda_shared_memory_unregister,
    "TraceSetting": OipGrpc.trace_setting,
    "LogSettings": OipGrpc.log_settings,
}


class GrpcDoor:
    """The door: opened and stopped by oip_doors.py."""

    def __init__(self, place: Place, behind: Behind, message_bytes_max: int, guard: "DoorGuard | None" = None) -> None:
        """Not yet open; a TCP door has a guard unless it is on loopback."""
        self._over_tcp = isinstance(place, TcpDoor)
        self._guard = guard
        self._rpcs = load_proto(PROTO_FILE.read_text(), PROTO_FILE.name).services[SERVICE]
        self._askers = Askers(behind.service)
        self._door = DoorWide(behind, self._askers, self._rpcs["ModelInfer"], self._rpcs["ModelStreamInfer"])
        limits = Limits(message_bytes_max)
        greeter = None
        if guard is not None:
            from edge_component.serving.oip_grpc_guard import IDLE_S, GrpcGreeter  # noqa: PLC0415 - only where there are keys

            greeter = GrpcGreeter(guard)
            limits = Limits(message_bytes_max, idle_s=IDLE_S)
        self._server = RpcServer(place, self._service_for, limits, CAPACITY, greeter, behind.polling)

    def open(self) -> None:
        """Listen and answer.

        Raises:
            OSError: the folder is not there, or the port is taken.
        """
        self._server.open()

    @property
    def port(self) -> int:
        """Of a TCP door that is open."""
        return self._server.port

    def stop(self, wait_s: float) -> None:
        """Take no more calls, finish those under way for up to ``wait_s``, close."""
        self._server.stop(wait_s)
        self._askers.close()

    def _service_for(self, accepted: socket.socket, keep: Callable[[], None]) -> Service:
        regions = self._door.behind.regions
        shared = SharedMemory(regions, None if self._over_tcp else peer_of(accepted).user_id)
        memory = Memory()
        calls = OipGrpc(self._door, shared, memory)
        methods: dict[str, Any] = {
            name: unary(self._rpcs[name], method.__get__(calls), _code_of) for name, method in _UNARY.items()
        }
        methods["ModelInfer"] = ending_in_status(calls.model_infer, _code_of)
        streams = {"ModelStreamInfer": stream_ending_in_status(calls.model_stream_infer, _code_of)}
        service = Service(paths(SERVICE, methods), paths(SERVICE, streams), memory=memory)
        if self._guard is None:
            return service
        from edge_component.serving.oip_grpc_guard import admission  # noqa: PLC0415 - as above

        return replace(service, admit=admission(self._guard, keep))


def _code_of(error: DeviceError) -> GrpcCode:
    return status_of(error).grpc
