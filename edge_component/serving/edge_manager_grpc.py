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

Any call: UNIMPLEMENTED for a model with tensors that the protocol cannot name. See edge_component/rpc for how calls are carried.
"""

import logging
import socket
import threading
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

from edge_component.contracts.manifest import TensorSpec
from edge_component.errors import DeviceError, UnknownModelError
from edge_component.rpc.calls import Call, Service
from edge_component.rpc.limits import Limits
from edge_component.rpc.server import Capacity, RpcServer
from edge_component.serving.access import SocketAccess, may_use
from edge_component.serving.edge_manager_capture import Capture, CapturedTensor, Captures, check_capture
from edge_component.serving.edge_manager_errors import AlreadyLoadedError, TensorRefusedError, code_of
from edge_component.serving.edge_manager_tensors import metadata_fields, read_inputs, to_fields
from edge_component.serving.grpc_service import Fields, Message, paths, unary
from edge_component.serving.listener import Door
from edge_component.serving.predictor import Predictor
from edge_component.serving.proto_text import load_proto
from edge_component.serving.serving import Serving
from edge_component.serving.sysv_memory import read_segment

log = logging.getLogger(__name__)

PROTO_FILE = Path(__file__).with_name("edge_manager.proto")
SERVICE = "AWS.SageMaker.Edge.Agent"
SOCKET_NAME = "edge-manager.sock"
CAPACITY = Capacity(threads_max=8, calls_max=128)  # no less than one connection is told
CONNECTIONS_MAX = 64
MESSAGE_BYTES_MAX = 64_000_000


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

    def predict(self, request: Message, call: Call) -> Fields:
        """Outputs always travel as bytes, as the agent's did."""
        outputs = self._visible(request.name)[1]
        predictor = self._predictors.pop() if self._predictors else Predictor(self._parts.serving)
        try:
            inputs = read_inputs(request.tensors, predictor.inputs(request.name), self._read_memory)
            prediction = predictor.predict(request.name, inputs, call.time_left_s() or 0.0)
        finally:
            self._predictors.append(predictor)
        return {"tensors": [to_fields(spec, prediction.outputs[spec.name]) for spec in outputs]}

    def load_model(self, request: Message, call: Call) -> Fields:
        """See the module's text."""
        del call
        with self._lock:
            self._serving_specs(request.name)
            if request.name in self._loaded:
                raise AlreadyLoadedError(f"model {request.name!r} is loaded already")
            model = self._describe(request.name, request.url)
            self._loaded[request.name] = request.url
            self._unloaded -= {request.name}
        return {"model": model}

    def un_load_model(self, request: Message, call: Call) -> Fields:
        """See the module's text."""
        del call
        with self._lock:
            self._visible(request.name)
            self._loaded.pop(request.name, None)
            self._unloaded |= {request.name}
        return {}

    def list_models(self, request: Message, call: Call) -> Fields:
        """What Predict would answer for; a model that the protocol cannot describe is left out."""
        del request, call
        names = [name for name in self._router.names() if name not in self._unloaded]
        return {"models": [model for name in names if (model := self._described_or_none(name)) is not None]}

    def describe_model(self, request: Message, call: Call) -> Fields:
        """A model's inputs and outputs."""
        del call
        self._visible(request.name)
        return {"model": self._describe(request.name, self._loaded.get(request.name, ""))}

    def capture_data(self, request: Message, call: Call) -> Fields:
        """Taken when it returns, written when its status says so."""
        del call
        self.captures.check_on()
        stamp = request.inference_timestamp
        inferred_at = check_capture(request.capture_id, stamp.seconds, stamp.nanos, self._parts.now())
        inputs = [*map(self._captured_tensor, request.input_tensors), *map(self._captured_datum, request.inputs)]
        outputs = [*map(self._captured_tensor, request.output_tensors), *map(self._captured_datum, request.outputs)]
        self.captures.take(Capture(request.capture_id, request.model_name, inferred_at, inputs, outputs))
        return {}

    def get_capture_data_status(self, request: Message, call: Call) -> Fields:
        """See edge_manager_capture.py."""
        del call
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


class EdgeManagerDoor:
    """The door: one gRPC server on ``edge-manager.sock``."""

    def __init__(self, parts: EdgeManagerParts) -> None:
        """Not yet open."""
        self._calls = calls = EdgeManagerCalls(parts)
        rpcs = load_proto(PROTO_FILE.read_text(), PROTO_FILE.name).services[SERVICE]
        methods: dict[str, Callable[[Message, Call], Fields]] = {
            "Predict": calls.predict,
            "LoadModel": calls.load_model,
            "UnLoadModel": calls.un_load_model,
            "ListModels": calls.list_models,
            "DescribeModel": calls.describe_model,
            "CaptureData": calls.capture_data,
            "GetCaptureDataStatus": calls.get_capture_data_status,
        }
        unaries = paths(SERVICE, {name: unary(rpcs[name], method, code_of) for name, method in methods.items()})
        place = Door(parts.work_path / SOCKET_NAME, socket.SOCK_STREAM, parts.access, CONNECTIONS_MAX)
        self._server = RpcServer(
            place, lambda *_: Service(unaries), Limits(MESSAGE_BYTES_MAX), CAPACITY, polling=parts.serving.polling
        )

    def open(self) -> None:
        """Listen.

        Raises:
            OSError: the folder is not there or may not be written.
        """
        self._calls.captures.start()
        try:
            self._server.open()
        except OSError:
            self._calls.captures.stop()
            raise

    def stop(self, wait_s: float) -> None:
        """Take no more calls, finish those under way for up to ``wait_s``, write the captures, close."""
        self._server.stop(wait_s)
        self._calls.captures.stop()
        self._calls.close()
