"""What stands before every route: the token, or, where there is none, the name that a request calls this machine by.

The failure this exists for: a route that somebody adds and forgets to guard. So this is a layer around the whole
application, not a dependency of its routes. Only ``/healthz`` answers strangers, with one word: what a load balancer asks
for, and nothing of what troubles the service (sentences of AWS name accounts and queues).

Without a token the API is on loopback (exposure.py sees to that), and a request must name a loopback host: a web page that
has this address under a name of its own could read everything otherwise (DNS rebinding). With a token any host is answered:
such a page does not know it. Refusals are logged once in ``REPORT_S`` with their number: a log must not be what an attack
fills. One event loop.
"""

import logging
import time
from collections.abc import Callable
from http import HTTPStatus

from fastapi import Request
from fastapi.responses import JSONResponse
from starlette.types import ASGIApp, Receive, Scope, Send

from cloud.api.door_token import admits
from cloud.api.exposure import names_loopback
from cloud.api.problems import problem

log = logging.getLogger(__name__)

OPEN_PATH = "/healthz"
IS_STRANGER = "edgewright.is_stranger"
"""In a request's scope: it was let through without a token where there is one."""

REPORT_S = 60.0
NO_TOKEN = "this API asks for a token: send the header Authorization: Bearer <token>"  # noqa: S105 - none
WRONG_TOKEN = "this is not the token of this API"  # noqa: S105 - none
STRANGER_REMEDY = (
    "edgewright get takes it from EDGEWRIGHT_API_TOKEN_FILE or EDGEWRIGHT_API_TOKEN; a browser asks for a name and a "
    "password, which are any name and the token."
)
HOST_REMEDY = "Ask for http://localhost, or configure a token (edgewright serve --help)."


class DoorGuard:
    """A layer around the application; see the module's text."""

    def __init__(self, app: ASGIApp, token: str, monotonic: Callable[[], float] = time.monotonic) -> None:
        """``token`` is empty where none is configured."""
        self._app = app
        self._token = token
        self._monotonic = monotonic
        self._refused_count = 0
        self._report_again_s = monotonic()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass a request on, or refuse it before its body is taken in."""
        refusal = self._refusal(scope) if scope["type"] == "http" else None
        if refusal is None:
            await self._app(scope, receive, send)
        else:
            await refusal(scope, receive, send)

    def _refusal(self, scope: Scope) -> JSONResponse | None:
        request = Request(scope)
        if not self._token:
            if names_loopback(request.headers.get("host", "")):
                return None
            detail = "only requests to localhost are answered here; the Host header names another"
            return problem(request, HTTPStatus.FORBIDDEN, detail, code="host-refused", remedy=HOST_REMEDY)
        authorization = request.headers.get("authorization", "")
        if admits(self._token, authorization, request.method):
            return None
        if scope["path"] == OPEN_PATH and not authorization:  # never request.url: its parts include the Host header
            scope[IS_STRANGER] = True
            return None
        return self._challenged(request, is_wrong=bool(authorization))

    def _challenged(self, request: Request, *, is_wrong: bool) -> JSONResponse:
        self._count()
        detail = WRONG_TOKEN if is_wrong else NO_TOKEN
        answer = problem(request, HTTPStatus.UNAUTHORIZED, detail, remedy=STRANGER_REMEDY)
        wrong = ', error="invalid_token"' if is_wrong else ""
        answer.headers.append("WWW-Authenticate", f'Bearer realm="edgewright"{wrong}')
        answer.headers.append("WWW-Authenticate", 'Basic realm="edgewright", charset="UTF-8"')
        return answer

    def _count(self) -> None:
        self._refused_count += 1
        now_s = self._monotonic()
        if now_s >= self._report_again_s:
            log.warning("the API refused %d requests without its token", self._refused_count)
            self._report_again_s, self._refused_count = now_s + REPORT_S, 0
