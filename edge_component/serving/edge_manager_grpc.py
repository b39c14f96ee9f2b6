"""The migration door: the SageMaker Edge Manager agent's gRPC API, over a Unix socket, for clients made for the agent.

The failure this exists for: a fleet of applications that cannot leave a service which ended on 2024-04-26, because all of
them speak its agent's protocol. Their calls are answered here by the same router as everybody's.

What differs from the agent: models come with deployments, verified and signed, never from a client's path. So *LoadModel*
only says that the client wants a model that serves, and *UnLoadModel* hides it from this door; memory is the runtime's
business. Captures stay on the device's disk. Shared memory is System V, checked for its owner (sysv_memory.py).

| call | status, besides OK and INTERNAL |
|---|---|
| Predict | NOT_FOUND no such model, or unloaded; INVALID_ARGUMENT a tensor that is not the model's; DEADLINE_EXCEEDED; RESOURCE_EXHAUSTED overloaded; PERMISSION_DENIED, OUT_OF_RANGE shared memory |
| LoadModel | NOT_FOUND nothing serves under that name: deploy it; ALREADY_EXISTS |
| UnLoadModel, DescribeModel | NOT_FOUND |
| ListModels | |
| CaptureData | INVALID_ARGUMENT the id is no UUID; ALREADY_EXISTS; OUT_OF_RANGE a time in the future; RESOURCE_EXHAUSTED; UNIMPLEMENTED captures are switched off |
| GetCaptureDataStatus | an unknown id is the answer's status NOT_FOUND |

Any call: UNIMPLEMENTED for a model with tensors that the protocol cannot name. Synchronous, a thread for each call.
"""

import logging
import os
import threading
from collections import deque
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

import grpc
from google.protobuf.message import DecodeError

from edge_component.contracts.manifest import TensorSpec
from edge_component.contracts.unix_address import unix_address
from edge_component.errors import DeviceError, UnknownModelError
from edge_component.serving.access import SocketAccess, may_use
from edge_component.serving.edge_manager_capture import Capture, CapturedTensor, Captures, check_capture
from edge_component.serving.edge_manager_errors import AlreadyLoadedError, TensorRefusedError, code_of
from edge_component.serving.edge_manager_tensors import metadata_fields, read_inputs, to_fields
from edge_component.serving.fastpath_connection import Serving
from edge_component.serving.listener import remove_name, restrict
from edge_component.serving.oip_status import GrpcCode, sentence_of
from edge_component.serving.predictor import Predictor
from edge_component.serving.proto_text import Rpc, load_proto
from edge_component.serving.sysv_memory import read_segment

log = logging.getLogger(__name__)

PROTO_FILE = Path(__file__).with_name("edge_manager.proto")
SERVICE = "AWS.SageMaker.Edge.Agent"
SOCKET_NAME = "edge-manager.sock"
WORKERS = 8
CALLS_MAX = 64
MESSAGE_BYTES_MAX = 64_000_000
DETAILS_CHARS_MAX = 2_000

_STATUS_CODES = {code.value[0]: code for code in grpc.StatusCode}
Fields = dict[str, Any]
Message = Any
Context = grpc.ServicerContext


@dataclass(frozen=True, slots=True)
class EdgeManagerParts:
    """What the door needs; ``access`` is the socket's, and tells whose shared memory is read."""

    work_path: Path
    serving: Serving
    access: SocketAccess
    capture_bytes_max: int
    now: Callable[[], datetime]


class EdgeManagerCalls:
    """The agent's calls, each from a request message to the fields of its answer; raises DeviceError."""

    def __init__(self, parts: EdgeManagerParts) -> None:
        """Every model that serves can be asked for; none has been loaded."""
        self._parts = parts
        self._router = parts.serving.router
        self.captures = Captures(parts.work_path, parts.capture_bytes_max)
        self._loaded: dict[str, str] = {}
        self._unloaded: frozenset[str] = frozenset()
        self._lock = threading.Lock()
        self._predictors: deque[Predictor] = deque()

    def close(self) -> None:
        """Fold the counters in."""
        while self._predictors:
            self._predictors.pop().close()

    def predict(self, request: Message, context: Context) -> Fields:
        """Outputs always travel as bytes, as the agent's did."""
        outputs = self._visible(request.name)[1]
        predictor = self._predictors.pop() if self._predictors else Predictor(self._parts.serving)
        try:
            inputs = read_inputs(request.tensors, predictor.inputs(request.name), self._read_memory)
            prediction = predictor.predict(request.name, inputs, context.time_remaining() or 0.0)
        finally:
            self._predictors.append(predictor)
        return {"tensors": [to_fields(spec, prediction.outputs[spec.name]) for spec in outputs]}

    def load_model(self, request: Message, context: Context) -> Fields:
        """See the module's text."""
        del context
        with self._lock:
            self._serving_specs(request.name)
            if request.name in self._loaded:
                raise AlreadyLoadedError(f"model {request.name!r} is loaded already")
            model = self._describe(request.name, request.url)
            self._loaded[request.name] = request.url
            self._unloaded -= {request.name}
        return {"model": model}

    def un_load_model(self, request: Message, context: Context) -> Fields:
        """See the module's text."""
        del context
        with self._lock:
            self._visible(request.name)
            self._loaded.pop(request.name, None)
            self._unloaded |= {request.name}
        return {}

    def list_models(self, request: Message, context: Context) -> Fields:
        """What Predict would answer for; a model that the protocol cannot describe is left out."""
        del request, context
        names = [name for name in self._router.names() if name not in self._unloaded]
        return {"models": [model for name in names if (model := self._described_or_none(name)) is not None]}

    def describe_model(self, request: Message, context: Context) -> Fields:
        """A model's inputs and outputs."""
        del context
        self._visible(request.name)
        return {"model": self._describe(request.name, self._loaded.get(request.name, ""))}

    def capture_data(self, request: Message, context: Context) -> Fields:
        """Taken when it returns, written when its status says so."""
        del context
        self.captures.check_on()
        stamp = request.inference_timestamp
        inferred_at = check_capture(request.capture_id, stamp.seconds, stamp.nanos, self._parts.now())
        inputs = [*map(self._captured_tensor, request.input_tensors), *map(self._captured_datum, request.inputs)]
        outputs = [*map(self._captured_tensor, request.output_tensors), *map(self._captured_datum, request.outputs)]
        self.captures.take(Capture(request.capture_id, request.model_name, inferred_at, inputs, outputs))
        return {}

    def get_capture_data_status(self, request: Message, context: Context) -> Fields:
        """See edge_manager_capture.py."""
        del context
        return {"status": int(self.captures.status(request.capture_id))}

    def _visible(self, name: str) -> tuple[tuple[TensorSpec, ...], tuple[TensorSpec, ...]]:
        if name in self._unloaded:
            raise UnknownModelError(f"model {name!r} was unloaded", "Call LoadModel first.")
        return self._serving_specs(name)

    def _serving_specs(self, name: str) -> tuple[tuple[TensorSpec, ...], tuple[TensorSpec, ...]]:
        route = self._router.route(name)
        active = route.active or route.resolve()
        return active.inputs, active.outputs

    def _describe(self, name: str, url: str) -> Fields:
        inputs, outputs = self._serving_specs(name)
        return {
            "url": url,
            "name": name,
            "input_tensor_metadatas": [metadata_fields(spec) for spec in inputs],
            "output_tensor_metadatas": [metadata_fields(spec) for spec in outputs],
        }

    def _described_or_none(self, name: str) -> Fields | None:
        try:
            return self._describe(name, self._loaded.get(name, ""))
        except DeviceError as error:
            log.debug("%s is not listed: %s", name, error)
            return None

    def _read_memory(self, handle: Message) -> bytes:
        access = self._parts.access
        return read_segment(handle.segment_id, handle.offset, handle.size, lambda user_id: may_use(access, user_id))

    def _content(self, message: Message) -> bytes:
        if message.WhichOneof("data") == "shared_memory_handle":
            return self._read_memory(message.shared_memory_handle)
        content: bytes = message.byte_data
        return content

    def _captured_tensor(self, message: Message) -> CapturedTensor:
        about = message.tensor_metadata
        kind = about.DESCRIPTOR.fields_by_name["data_type"].enum_type.values_by_number.get(about.data_type)
        if kind is None:
            raise TensorRefusedError(f"{about.name}: there is no data type {about.data_type}")
        return CapturedTensor(about.name, kind.name, tuple(about.shape), self._content(message))

    def _captured_datum(self, message: Message) -> CapturedTensor:
        kind = message.DESCRIPTOR.fields_by_name["encoding"].enum_type.values_by_number.get(message.encoding)
        return CapturedTensor(message.name, kind.name if kind else "NONE", (), self._content(message))


class EdgeManagerListener:
    """The door: one gRPC server on ``edge-manager.sock``."""

    def __init__(self, parts: EdgeManagerParts) -> None:
        """Not yet open."""
        self._path = parts.work_path / SOCKET_NAME
        self._access = parts.access
        self._calls = EdgeManagerCalls(parts)
        self._inode = 0
        self._server = grpc.server(
            ThreadPoolExecutor(WORKERS, thread_name_prefix="edge-manager"),
            maximum_concurrent_rpcs=CALLS_MAX,
            options=[
                ("grpc.max_receive_message_length", MESSAGE_BYTES_MAX),
                ("grpc.max_send_message_length", -1),
            ],
        )
        self._server.add_generic_rpc_handlers((_handlers(self._calls),))

    def open(self) -> None:
        """Listen; under another name until it can be connected to, see listener.py.

        Raises:
            OSError: the folder is not there or may not be written.
        """
        beside = self._path.with_name(f".{self._path.name}.{os.getpid()}")
        beside.unlink(missing_ok=True)
        try:
            with unix_address(beside) as address:
                self._server.add_insecure_port(f"unix:{address}")
        except RuntimeError as error:  # grpc's word for whatever the system said
            raise OSError(f"gRPC cannot listen: {error}") from error
        restrict(beside, self._access)
        self._inode = beside.stat().st_ino
        self._calls.captures.start()
        self._server.start()
        beside.replace(self._path)

    def stop(self, wait_s: float) -> None:
        """Take no more calls, finish those under way for up to ``wait_s``, write the captures, close."""
        remove_name(self._path, self._inode)
        self._server.stop(wait_s).wait()
        self._calls.captures.stop()
        self._calls.close()


def _handlers(calls: EdgeManagerCalls) -> grpc.GenericRpcHandler:
    methods = {
        "Predict": calls.predict,
        "LoadModel": calls.load_model,
        "UnLoadModel": calls.un_load_model,
        "ListModels": calls.list_models,
        "DescribeModel": calls.describe_model,
        "CaptureData": calls.capture_data,
        "GetCaptureDataStatus": calls.get_capture_data_status,
    }
    rpcs = load_proto(PROTO_FILE.read_text(), PROTO_FILE.name).services[SERVICE]
    return grpc.method_handlers_generic_handler(
        SERVICE, {name: _handler(rpc, methods[name]) for name, rpc in rpcs.items()}
    )


def _handler(rpc: Rpc, method: Callable[[Message, Context], Fields]) -> "grpc.RpcMethodHandler[bytes, Message]":
    def call(data: bytes, context: Context) -> Message:
        try:
            return rpc.response(**method(rpc.request.FromString(data), context))
        except DecodeError as error:
            code, details = GrpcCode.INVALID_ARGUMENT, f"not a message of the protocol: {error}"
        except DeviceError as error:
            code, details = code_of(error), sentence_of(error)
        except Exception:  # whoever waits must be told, whatever is wrong
            log.exception("a call of the Edge Manager's protocol ended in an unforeseen error")
            code, details = GrpcCode.INTERNAL, "an unforeseen error; see the runtime's log"
        return context.abort(_STATUS_CODES[code], details[:DETAILS_CHARS_MAX])

    return grpc.unary_unary_rpc_method_handler(call, response_serializer=rpc.response.SerializeToString)
