"""What each call of the Open Inference Protocol's gRPC service does, for one connection; oip_grpc.py carries them.

Each method takes a request message and the call and returns the response's fields, or raises DeviceError; a prediction
takes and returns bytes. May be called from any thread.
"""

import time
from collections import deque
from collections.abc import Generator, Iterator
from dataclasses import dataclass, field
from threading import Lock
from typing import Any

from edge_component.errors import DeviceError, sentence_of
from edge_component.inference.errors import BusyError
from edge_component.rpc.calls import Call, Reply
from edge_component.rpc.messages import Buffer, Memory
from edge_component.serving.grpc_service import Message, read
from edge_component.serving.oip_absent import no_cuda_region, refuse_cuda, refuse_log_settings, refuse_tracing
from edge_component.serving.oip_grpc_answer import AnswerWriter, is_answered_typed, typed_fields
from edge_component.serving.oip_grpc_infer import InferenceHead, Recurring
from edge_component.serving.oip_repository import Behind
from edge_component.serving.oip_request import SharedMemory, WantedOutput, chosen_outputs
from edge_component.serving.oip_service import Answered, Asker, OipService
from edge_component.serving.oip_wire import message_field, text_field
from edge_component.serving.proto_text import Rpc

STREAMS_MAX = 16
"""Of one client, if it is alone. Each holds one of the server's threads for as long as its client likes."""

FINAL_WANTED = "triton_enable_empty_final_response"
"""Clients of streams that may have several responses to a request ask which one is the last."""

FINAL = message_field(4, text_field(1, "triton_final_response") + message_field(2, b"\x08\x01"))
"""The parameter that says so: true."""
REQUEST_ID_HEADER = b"x-request-id"


class Askers:
    """One door's: as many as calls were answered at once, each for one at a time. From any thread."""

    def __init__(self, service: OipService) -> None:
        """None yet; :meth:`close` once the server has stopped."""
        self._service = service
        self._idle: deque[Asker] = deque()

    def take(self) -> Asker:
        """One that nobody uses."""
        try:
            return self._idle.pop()
        except IndexError:
            return Asker(self._service)

    def give_back(self, asker: Asker) -> None:
        """Done with it."""
        asker.is_wanted = None
        self._idle.append(asker)

    def close(self) -> None:
        """Keep what was counted."""
        while self._idle:
            self._idle.pop().close()


class Streams:
    """One door's, open: a connection may have one more as long as it has fewer than are left, and always one."""

    def __init__(self) -> None:
        """None."""
        self._lock = Lock()
        self._left = 2 * STREAMS_MAX
        self._counts: dict[object, int] = {}

    def take(self, connection: object) -> None:
        """One more.

        Raises:
            BusyError: it must not have more.
        """
        with self._lock:
            count = self._counts.get(connection, 0)
            if count >= max(self._left, 1):
                raise BusyError(
                    f"{count} streams are open on this connection already",
                    "Close streams that are done, or ask one by one.",
                )
            self._counts[connection] = count + 1
            self._left -= 1

    def give_back(self, connection: object) -> None:
        """One that was taken."""
        with self._lock:
            self._left += 1
            self._counts[connection] -= 1
            if not self._counts[connection]:
                del self._counts[connection]


@dataclass(frozen=True, slots=True)
class DoorWide:
    """What one door's connections share."""

    behind: Behind
    askers: Askers
    infer: Rpc
    stream: Rpc
    streams: Streams = field(default_factory=Streams)


class OipGrpc:
    """The calls of one connection; see the module's text."""

    def __init__(self, door: DoorWide, shared: SharedMemory, memory: Memory) -> None:
        """``memory`` is where its requests lie."""
        self._repository = door.behind.repository
        self._door = door
        self._shared = shared
        self._memory = memory
        self._recurring = Recurring()
        self._writer = AnswerWriter()

    def server_live(self, _request: Message, _: Call) -> dict[str, Any]:
        """See the protocol."""
        return {"live": True}

    def server_ready(self, _request: Message, _: Call) -> dict[str, Any]:
        """The doors open only once every model has been restored."""
        return {"ready": True}

    def server_metadata(self, _request: Message, _: Call) -> dict[str, Any]:
        """See the protocol."""
        return self._repository.server_metadata()

    def model_ready(self, request: Message, _: Call) -> dict[str, Any]:
        """See the protocol."""
        return {"ready": self._repository.is_ready(request.name, request.version)}

    def model_metadata(self, request: Message, _: Call) -> dict[str, Any]:
        """See the protocol."""
        return self._repository.model_metadata(request.name, request.version)

    def model_config(self, request: Message, _: Call) -> dict[str, Any]:
        """See Triton's model configuration extension."""
        return {"config": self._repository.model_config(request.name, request.version)}

    def model_statistics(self, request: Message, _: Call) -> dict[str, Any]:
        """See Triton's statistics extension."""
        return self._repository.statistics(request.name, request.version)

    def repository_index(self, _request: Message, _: Call) -> dict[str, Any]:
        """See Triton's model repository extension."""
        return {"models": self._repository.index()}

    def repository_model_load(self, request: Message, _: Call) -> dict[str, Any]:
        """See :class:`Repository`."""
        self._repository.load(request.model_name, request.parameters)
        return {}

    def repository_model_unload(self, request: Message, _: Call) -> dict[str, Any]:
        """See :class:`Repository`."""
        self._repository.unload(request.model_name)
        return {}

    def system_shared_memory_status(self, request: Message, _: Call) -> dict[str, Any]:
        """See Triton's system-shared-memory extension."""
        found = self._shared.registered().status(request.name, self._shared.peer_id)
        return {"regions": {region["name"]: region for region in found}}

    def system_shared_memory_register(self, request: Message, _: Call) -> dict[str, Any]:
        """See Triton's system-shared-memory extension."""
        self._shared.registered().register(
            request.name, request.key, request.offset, request.byte_size, self._shared.peer_id
        )
        return {}

    def system_shared_memory_unregister(self, request: Message, _: Call) -> dict[str, Any]:
        """See Triton's system-shared-memory extension."""
        self._shared.registered().unregister(request.name, self._shared.peer_id)
        return {}

    def cuda_shared_memory_status(self, request: Message, _: Call) -> dict[str, Any]:
        """See oip_absent.py."""
        no_cuda_region(request.name)
        return {}

    def cuda_shared_memory_register(self, _request: Message, _: Call) -> dict[str, Any]:
        """See oip_absent.py."""
        refuse_cuda()

    def cuda_shared_memory_unregister(self, _request: Message, _: Call) -> dict[str, Any]:
        """See oip_absent.py."""
        return {}

    def trace_setting(self, _request: Message, _: Call) -> dict[str, Any]:
        """See oip_absent.py."""
        refuse_tracing()

    def log_settings(self, _request: Message, _: Call) -> dict[str, Any]:
        """See oip_absent.py."""
        refuse_log_settings()

    def model_infer(self, data: Buffer, call: Call) -> Reply:
        """Predict."""
        known = self._recurring.find(data)
        if known is None:
            request = read(self._door.infer, data)
            head, raw = InferenceHead(request), list(request.raw_input_contents)
            self._recurring.keep(data, request, head)
            self._memory.aligned_at = self._recurring.raw_at
        else:
            head, raw = known
        return self._predict(head, raw, call, call.began_ns)

    def model_stream_infer(self, received: Iterator[Buffer], call: Call) -> Generator[Reply, None, None]:
        """Predict, request by request; an error is an answer too, and the stream goes on."""
        self._door.streams.take(self)
        try:
            for data in received:
                began_ns = time.perf_counter_ns()  # of this request: the call may have been open for hours
                request = read(self._door.infer, data)
                try:
                    head = InferenceHead(request)
                    reply = self._predict(head, list(request.raw_input_contents), call, began_ns)
                    yield self._streamed(head, reply)
                except DeviceError as error:
                    failed = self._door.stream.response(
                        error_message=sentence_of(error), infer_response={"id": request.id}
                    )
                    yield Reply((failed.SerializeToString(),))
        finally:
            self._door.streams.give_back(self)

    def _predict(self, head: InferenceHead, raw: list[Buffer], call: Call, began_ns: int) -> Reply:
        header_id = "" if head.id else call.metadata(REQUEST_ID_HEADER)
        wanted = head.wanted(self._shared)
        question = head.question(raw, self._shared, call.time_left_s(), began_ns, header_id)
        asker = self._door.askers.take()
        try:
            asker.is_wanted = call.is_wanted
            answered = asker.ask(question)
        except BaseException:
            self._door.askers.give_back(asker)
            raise
        ran_ns = time.perf_counter_ns()

        def settle(ready_ns: int) -> None:
            asker.settle(answered, ready_ns - ran_ns)
            self._door.askers.give_back(asker)

        try:
            return Reply(self._written(answered, head, wanted), settle)
        except BaseException:  # the model has answered all the same
            settle(time.perf_counter_ns())
            raise

    def _written(self, answered: Answered, head: InferenceHead, wanted: tuple[WantedOutput, ...]) -> list[Buffer]:
        sent = chosen_outputs(answered, wanted, binary=True)
        if is_answered_typed(sent, is_typed=head.is_typed):
            return [self._door.infer.response(**typed_fields(answered, sent, head.id)).SerializeToString()]
        return self._writer.parts(answered, sent, head.id)

    def _streamed(self, head: InferenceHead, reply: Reply) -> Reply:
        """The same answer as one of a stream's."""
        content = b"".join(reply.parts)
        if FINAL_WANTED in head.parameters:  # each request has one response, which is thus the last one
            content += FINAL
        return Reply((message_field(2, content),), reply.after_sending)
