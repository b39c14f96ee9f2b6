"""The Open Inference Protocol over HTTP: which path is which call, for one connection.

Over TCP the kernel does not say who connects, and any web page that a browser on this device shows could: so a request
to a loopback door without keys must name a loopback host (against DNS rebinding), which a page cannot forge. A door with
keys asks for its token instead (door_guard.py), which a page does not know.

Opened by oip_doors.py; carried by http_connection.py; answered by oip_service.py.
"""

import logging
import time
from collections.abc import Callable
from typing import Any

from edge_component.errors import DeviceError, sentence_of
from edge_component.inference.errors import OverloadedError
from edge_component.serving.http_coding import unpacked
from edge_component.serving.http_connection import AfterSending, HttpRequest
from edge_component.serving.http_messages import HttpError, Reply
from edge_component.serving.http_routes import Routes
from edge_component.serving.oip_absent import no_cuda_region, refuse_cuda, refuse_log_settings, refuse_tracing
from edge_component.serving.oip_errors import OipMalformedError
from edge_component.serving.oip_json import InferenceHead, read_object, write_answer, write_json
from edge_component.serving.oip_repository import Behind
from edge_component.serving.oip_request import SharedMemory, chosen_outputs
from edge_component.serving.oip_service import Asker
from edge_component.serving.oip_status import status_of

log = logging.getLogger(__name__)

Document = dict[str, Any]

JSON_BYTES_HEADER = b"inference-header-content-length"
REQUEST_ID_HEADER = b"x-request-id"
TOO_LARGE = 413
LOOPBACK_HOSTS = frozenset({b"localhost", b"127.0.0.1", b"[::1]"})
ANY_HOST: frozenset[bytes] = frozenset()

Answer = tuple[Reply, AfterSending | None]
NO_HEAD = InferenceHead(b"{}")
HEAD_KEPT_BYTES = 4_096
"""Of a request's JSON that is kept, in case the next one's is the same."""


class OipRest:
    """Answers one connection's requests; an :class:`~edge_component.serving.http_connection.HttpService`."""

    aligned_by = JSON_BYTES_HEADER

    def __init__(
        self,
        behind: Behind,
        shared: SharedMemory,
        *,
        body_bytes_max: int,
        hosts: frozenset[bytes] = ANY_HOST,
        is_wanted: Callable[[], bool] | None = None,
    ) -> None:
        """Close it with the connection; ``hosts`` are those that a request may name."""
        self._repository = behind.repository
        self._shared = shared
        self._hosts = hosts
        self._body_bytes_max = body_bytes_max
        self._asker = Asker(behind.service, is_wanted)
        self._last_head: tuple[bytes, InferenceHead] = b"", NO_HEAD

    def close(self) -> None:
        """Keep what was counted."""
        self._asker.close()

    def respond(self, request: HttpRequest) -> Answer:
        """See :class:`~edge_component.serving.http_connection.HttpService`."""
        try:
            self._check_host(request)
            coding = request.head.headers.get(b"content-encoding")
            if coding is not None and coding != b"identity":
                request = request._replace(body=unpacked(request.body, coding, self._body_bytes_max))
            call, names = self.ROUTES.find(request.head.method, request.head.target)
            return call(self, request, *names)
        except DeviceError as error:
            return self._failed(error), None
        except HttpError as error:
            return self.refusal(error.status, str(error)), None
        except Exception:  # whoever waits must be told, whatever is wrong
            log.exception("a request for %s ended in an unforeseen error", request.head.target)
            return self.refusal(500, "an unforeseen error; see the runtime's log"), None

    def refusal(self, status: int, message: str) -> Reply:
        """See :class:`~edge_component.serving.http_connection.HttpService`."""
        return refusal(status, message)

    def _failed(self, error: DeviceError) -> Reply:
        document: dict[str, Any] = {"error": sentence_of(error), "code": error.code}
        headers = b""
        if isinstance(error, OverloadedError):
            document["retry_after_ms"] = error.retry_after_ms
            headers = b"Retry-After: %d\r\n" % -(-error.retry_after_ms // 1000)
        return Reply(status_of(error).http, [write_json(document)], headers=headers)

    def _check_host(self, request: HttpRequest) -> None:
        if not self._hosts:
            return
        host = request.head.headers.get(b"host", b"").lower()
        name = host if host.endswith(b"]") else host.rpartition(b":")[0] or host
        if name not in self._hosts:
            raise HttpError(403, "only requests to localhost are answered here; the Host header names another")

    def _infer(self, request: HttpRequest, *path: str) -> Answer:
        size = len(request.body)
        json_bytes = request.head.number(JSON_BYTES_HEADER, size)
        if json_bytes > size:
            raise OipMalformedError(f"Inference-Header-Content-Length is {json_bytes}, and the body has {size} bytes")
        version = path[1] if len(path) > 1 else ""
        header_id = request.head.headers.get(REQUEST_ID_HEADER, b"").decode("latin-1")
        head = self._head_of(request.body[:json_bytes])
        binary = request.body[json_bytes:]
        wanted = head.wanted(self._shared)
        answered = self._asker.ask(head.question((path[0], version), binary, self._shared, request.began_ns, header_id))
        ran_ns = time.perf_counter_ns()
        try:
            document, tensors = write_answer(answered, chosen_outputs(answered, wanted, binary=head.binary), head.id)
        except DeviceError:  # the model has answered all the same: NaN that JSON cannot say is what telemetry is for
            self._asker.settle(answered, time.perf_counter_ns() - ran_ns)
            raise
        reply = Reply(200, [document])
        if tensors:
            length = b"Inference-Header-Content-Length: %d\r\n" % len(document)
            reply = Reply(200, [document, *tensors], b"application/octet-stream", length)
        return reply, lambda ready_ns: self._asker.settle(answered, ready_ns - ran_ns)

    def _head_of(self, text: memoryview) -> InferenceHead:
        """Read, unless it is the one of the request before."""
        if len(text) > HEAD_KEPT_BYTES:
            return InferenceHead(text)
        kept, (last, head) = bytes(text), self._last_head
        if kept != last:
            head = InferenceHead(kept)
            if head.is_whole:
                self._last_head = kept, head
        return head

    def _live(self, _: HttpRequest) -> Answer:
        return _said({"live": True})

    def _ready(self, _: HttpRequest) -> Answer:
        return _said({"ready": True})  # the doors open only once every model has been restored

    def _server(self, _: HttpRequest) -> Answer:
        return _said(self._repository.server_metadata())

    def _model(self, _: HttpRequest, name: str, version: str = "") -> Answer:
        return _said(self._repository.model_metadata(name, version))

    def _config(self, _: HttpRequest, name: str, version: str = "") -> Answer:
        return _said(self._repository.model_config(name, version))

    def _model_ready(self, _: HttpRequest, name: str, version: str = "") -> Answer:
        ready = self._repository.is_ready(name, version)
        return Reply(200 if ready else 404, [write_json({"name": name, "ready": ready})]), None

    def _statistics(self, _: HttpRequest, name: str = "", version: str = "") -> Answer:
        return _said(self._repository.statistics(name, version))

    def _index(self, request: HttpRequest) -> Answer:
        if request.body:
            read_object(request.body)  # {"ready": …} changes nothing: what is listed is ready
        return _said(self._repository.index())

    def _load(self, request: HttpRequest, name: str) -> Answer:
        document = read_object(request.body) if request.body else {}
        self._repository.load(name, document.get("parameters") or {})
        return _said({})

    def _unload(self, _: HttpRequest, name: str) -> Answer:
        self._repository.unload(name)
        return _said({})

    def _region_status(self, _: HttpRequest, name: str = "") -> Answer:
        return _said(self._shared.registered().status(name, self._shared.peer_id))

    def _register(self, request: HttpRequest, name: str) -> Answer:
        document = read_object(request.body)
        key, offset, byte_size = document.get("key"), document.get("offset", 0), document.get("byte_size")
        if not isinstance(key, str) or type(offset) is not int or type(byte_size) is not int:
            raise OipMalformedError("key must be text, offset and byte_size numbers of bytes")
        self._shared.registered().register(name, key, offset, byte_size, self._shared.peer_id)
        return _said({})

    def _unregister(self, _: HttpRequest, name: str = "") -> Answer:
        self._shared.registered().unregister(name, self._shared.peer_id)
        return _said({})

    def _cuda_status(self, _: HttpRequest, name: str = "") -> Answer:
        no_cuda_region(name)
        return _said([])

    def _cuda_unregister(self, _: HttpRequest, _name: str = "") -> Answer:
        return _said({})

    def _cuda_register(self, _: HttpRequest, _name: str) -> Answer:
        refuse_cuda()

    def _trace(self, _: HttpRequest, _name: str = "") -> Answer:
        refuse_tracing()

    def _logging(self, _: HttpRequest) -> Answer:
        refuse_log_settings()

    ROUTES = Routes[Callable[..., Answer]](
        {
            "POST v2/models/*/infer": _infer,
            "POST v2/models/*/versions/*/infer": _infer,
            "GET v2": _server,
            "GET v2/health/live": _live,
            "GET v2/health/ready": _ready,
            "GET v2/models/stats": _statistics,
            "GET v2/models/*": _model,
            "GET v2/models/*/versions/*": _model,
            "GET v2/models/*/config": _config,
            "GET v2/models/*/versions/*/config": _config,
            "GET v2/models/*/ready": _model_ready,
            "GET v2/models/*/versions/*/ready": _model_ready,
            "GET v2/models/*/stats": _statistics,
            "GET v2/models/*/versions/*/stats": _statistics,
            "POST v2/repository/index": _index,
            "POST v2/repository/models/*/load": _load,
            "POST v2/repository/models/*/unload": _unload,
            "GET v2/systemsharedmemory/status": _region_status,
            "GET v2/systemsharedmemory/region/*/status": _region_status,
            "POST v2/systemsharedmemory/region/*/register": _register,
            "POST v2/systemsharedmemory/region/*/unregister": _unregister,
            "POST v2/systemsharedmemory/unregister": _unregister,
            "GET v2/cudasharedmemory/status": _cuda_status,
            "GET v2/cudasharedmemory/region/*/status": _cuda_status,
            "POST v2/cudasharedmemory/region/*/register": _cuda_register,
            "POST v2/cudasharedmemory/region/*/unregister": _cuda_unregister,
            "POST v2/cudasharedmemory/unregister": _cuda_unregister,
            "GET v2/trace/setting": _trace,
            "POST v2/trace/setting": _trace,
            "GET v2/models/*/trace/setting": _trace,
            "POST v2/models/*/trace/setting": _trace,
            "GET v2/logging": _logging,
            "POST v2/logging": _logging,
        }
    )


def refusal(status: int, message: str) -> Reply:
    """An error that is the transport's."""
    if status == TOO_LARGE:
        message += ". Raise oip_body_bytes_max in the runtime's configuration, or hand tensors over in shared memory."
    return Reply(status, [write_json({"error": message})])


def _said(document: Document | list[Document]) -> Answer:
    return Reply(200, [write_json(document)]), None
