"""What each call of the Open Inference Protocol's gRPC service does; oip_grpc.py carries them.

Each method takes a request message and the call's context and returns the response's fields, or raises DeviceError. May be
called from any thread: each has an :class:`~edge_component.serving.oip_service.Asker` of its own.
"""

import threading
import time
from collections.abc import Iterator
from typing import Any

import grpc

from edge_component.errors import DeviceError
from edge_component.inference.errors import BusyError
from edge_component.serving.oip_absent import no_cuda_region, refuse_cuda, refuse_log_settings, refuse_tracing
from edge_component.serving.oip_grpc_infer import InferenceCall, Message, answer_fields
from edge_component.serving.oip_repository import Behind
from edge_component.serving.oip_request import SharedMemory, chosen_outputs
from edge_component.serving.oip_service import Asker
from edge_component.serving.oip_status import sentence_of

STREAMS_MAX = 16
"""Each holds one of the server's threads for as long as its client likes."""

FINAL_WANTED = "triton_enable_empty_final_response"
"""Clients of streams that may have several responses to a request ask which one is the last."""

Context = grpc.ServicerContext


class OipGrpc:
    """The calls; see the module's text."""

    def __init__(self, behind: Behind) -> None:
        """Nothing is opened; :meth:`close` once the server has stopped."""
        self._service = behind.service
        self._repository = behind.repository
        self._shared = SharedMemory(behind.regions)  # gRPC does not say who connects
        self._local = threading.local()
        self._askers: list[Asker] = []
        self._streams = threading.Semaphore(STREAMS_MAX)

    def close(self) -> None:
        """Keep what was counted."""
        while self._askers:
            self._askers.pop().close()

    def server_live(self, _request: Message, _: Context) -> dict[str, Any]:
        """See the protocol."""
        return {"live": True}

    def server_ready(self, _request: Message, _: Context) -> dict[str, Any]:
        """The doors open only once every model has been restored."""
        return {"ready": True}

    def server_metadata(self, _request: Message, _: Context) -> dict[str, Any]:
        """See the protocol."""
        return self._repository.server_metadata()

    def model_ready(self, request: Message, _: Context) -> dict[str, Any]:
        """See the protocol."""
        return {"ready": self._repository.is_ready(request.name, request.version)}

    def model_metadata(self, request: Message, _: Context) -> dict[str, Any]:
        """See the protocol."""
        return self._repository.model_metadata(request.name, request.version)

    def model_config(self, request: Message, _: Context) -> dict[str, Any]:
        """See Triton's model configuration extension."""
        return {"config": self._repository.model_config(request.name, request.version)}

    def model_statistics(self, request: Message, _: Context) -> dict[str, Any]:
        """See Triton's statistics extension."""
        return self._repository.statistics(request.name, request.version)

    def repository_index(self, _request: Message, _: Context) -> dict[str, Any]:
        """See Triton's model repository extension."""
        return {"models": self._repository.index()}

    def repository_model_load(self, request: Message, _: Context) -> dict[str, Any]:
        """See :class:`Repository`."""
        self._repository.load(request.model_name, request.parameters)
        return {}

    def repository_model_unload(self, request: Message, _: Context) -> dict[str, Any]:
        """See :class:`Repository`."""
        self._repository.unload(request.model_name)
        return {}

    def system_shared_memory_status(self, request: Message, _: Context) -> dict[str, Any]:
        """See Triton's system-shared-memory extension."""
        found = self._shared.registered().status(request.name, self._shared.peer_id)
        return {"regions": {region["name"]: region for region in found}}

    def system_shared_memory_register(self, request: Message, _: Context) -> dict[str, Any]:
        """See Triton's system-shared-memory extension."""
        self._shared.registered().register(
            request.name, request.key, request.offset, request.byte_size, self._shared.peer_id
        )
        return {}

    def system_shared_memory_unregister(self, request: Message, _: Context) -> dict[str, Any]:
        """See Triton's system-shared-memory extension."""
        self._shared.registered().unregister(request.name, self._shared.peer_id)
        return {}

    def cuda_shared_memory_status(self, request: Message, _: Context) -> dict[str, Any]:
        """See oip_absent.py."""
        no_cuda_region(request.name)
        return {}

    def cuda_shared_memory_register(self, _request: Message, _: Context) -> dict[str, Any]:
        """See oip_absent.py."""
        refuse_cuda()

    def cuda_shared_memory_unregister(self, _request: Message, _: Context) -> dict[str, Any]:
        """See oip_absent.py."""
        return {}

    def trace_setting(self, _request: Message, _: Context) -> dict[str, Any]:
        """See oip_absent.py."""
        refuse_tracing()

    def log_settings(self, _request: Message, _: Context) -> dict[str, Any]:
        """See oip_absent.py."""
        refuse_log_settings()

    def model_infer(self, request: Message, context: Context) -> dict[str, Any]:
        """Predict."""
        began_ns = time.perf_counter_ns()
        request_id = request.id or _id_in_metadata(context)
        call = InferenceCall(request, self._shared, context.time_remaining(), began_ns, request_id)
        asker = self._asker()
        asker.is_wanted = context.is_active
        answered = asker.ask(call.question)
        ran_ns = time.perf_counter_ns()
        sent = chosen_outputs(answered, call.wanted, binary=True)
        fields = answer_fields(answered, sent, request.id, is_typed=call.is_typed)
        asker.settle(answered, time.perf_counter_ns() - ran_ns)
        return fields

    def model_stream_infer(self, requests: Iterator[Message], context: Context) -> Iterator[dict[str, Any]]:
        """Predict, request by request; an error is an answer too, and the stream goes on."""
        if not self._streams.acquire(blocking=False):
            raise BusyError(
                f"{STREAMS_MAX} streams are open already", "Close streams that are done, or ask one by one."
            )
        try:
            for request in requests:
                try:
                    fields = self.model_infer(request, context)
                    if FINAL_WANTED in request.parameters:  # each request has one response, which is thus the last one
                        fields["parameters"] = {"triton_final_response": {"bool_param": True}}
                    yield {"infer_response": fields}
                except DeviceError as error:
                    yield {"error_message": sentence_of(error), "infer_response": {"id": request.id}}
        finally:
            self._streams.release()

    def _asker(self) -> Asker:
        asker: Asker | None = getattr(self._local, "asker", None)
        if asker is None:
            asker = self._local.asker = Asker(self._service)
            self._askers.append(asker)
        return asker


def _id_in_metadata(context: Context) -> str:
    """What a proxy or the client calls the request, beside its message."""
    for key, value in context.invocation_metadata():
        if key == "x-request-id":
            return str(value)
    return ""
