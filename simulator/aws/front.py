"""The request path of the local cloud: target → validate → check → perform (ours, or moto's) → react → answer.

The failure this exists for: a request that slips past validation or past the allow-list. There is one path, and moto
is behind it: nothing reaches moto that is not signed for a known service, valid by its model and listed as real. Not
the socket (:mod:`simulator.aws.server`); not the devices' data plane, which is unsigned and gets its own door here.

Concurrency: called from many server threads; holds no state but the register, which is read-only by then.
"""

import io
import logging
from collections.abc import Callable, Iterable, Sequence
from typing import Any

from moto.core.request import Request
from moto.moto_server.werkzeug_app import BackendRequest, DomainDispatcherApplication, create_backend_app
from werkzeug.wrappers import Response

from simulator.aws import validation, wire
from simulator.aws.cloud import ACCOUNT_ID, DeviceDoor
from simulator.aws.errors import AwsError, NotRealError
from simulator.aws.operations import Call, Operations, Source

log = logging.getLogger(__name__)

Environ = dict[str, Any]
StartResponse = Callable[..., Any]


class Front:
    """A WSGI application."""

    def __init__(self, operations: Operations, device_doors: Sequence[DeviceDoor] = ()) -> None:
        """Register and doors may still be filled until the first request."""
        self._operations = operations
        self._device_doors = device_doors
        self._moto = DomainDispatcherApplication(create_backend_app)
        self.closed = False

    def __call__(self, environ: Environ, start_response: StartResponse) -> Iterable[bytes]:
        """Answer one request."""
        request = BackendRequest(environ)
        body = request.get_data()  # kept: moto reads the same bytes again
        environ["wsgi.input"], environ["CONTENT_LENGTH"] = io.BytesIO(body), str(len(body))
        answer: Iterable[bytes] = self._answer(request)(environ, start_response)
        return answer

    def _answer(self, request: Request) -> Response:
        if self.closed:  # a kept-alive connection outlives the server's socket
            return Response("the local cloud has stopped", 503, {"Connection": "close"})
        scope = wire.signed_scope(request)
        services = wire.services_signed_as(scope.signing_name) if scope else ()
        service = services[0] if services else ""
        try:
            if scope is None:
                return self._unsigned(request)
            target = wire.find_target(request, scope, services)
            if target is None:
                raise NotRealError(f"{scope.signing_name} {request.method} {request.path}")  # noqa: TRY301 - one exit for all refusals
            service = target.service
            return self._perform(request, target)
        except AwsError as error:
            return wire.render_error(service, error)
        except Exception as error:
            log.exception("%s %s broke", request.method, request.path)
            broken = AwsError("InternalFailure", f"the local cloud broke: {type(error).__name__}: {error}", status=500)
            return wire.render_error(service, broken)

    def _unsigned(self, request: Request) -> Response:
        for door in self._device_doors:
            response = door(request)
            if response is not None:
                return response
        raise AwsError("MissingAuthenticationToken", "the request is not signed (Signature Version 4)", status=403)

    def _perform(self, request: Request, target: wire.Target) -> Response:
        service, operation = target.service, target.operation
        source = self._operations.source(service, operation)
        if source is None:
            raise NotRealError(f"{service}:{operation}")
        parameters = wire.parse(request, target)
        validation.validate(service, target.model, parameters)
        call = Call(service, operation, parameters, target.region, ACCOUNT_ID)
        self._operations.check(call)
        if source is Source.EDGEWRIGHT:
            response = wire.render(request, target, self._operations.handler(service, operation)(call))
        else:
            response = self._ask_moto(request, call)
        if response.status_code < 300:
            self._operations.react(call, response)
        return response

    def _ask_moto(self, request: Request, call: Call) -> Response:
        try:
            return Response.from_app(self._moto, request.environ, buffered=True)
        except NotImplementedError as error:
            raise NotRealError(f"{call.service}:{call.operation}") from error
