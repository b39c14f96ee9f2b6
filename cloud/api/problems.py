"""Every error as a problem document (RFC 9457), whoever raised it: our domain, the router or the framework.

The failure this exists for: an API whose errors have three shapes. The domain knows no HTTP; which status its leaves
become is decided here and nowhere else.
"""

import logging
from collections.abc import Mapping, Sequence
from http import HTTPStatus
from typing import Any

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from pydantic import BaseModel, Field
from starlette.exceptions import HTTPException
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from cloud.errors import ConflictError, EdgewrightError, InvalidInputError, NotFoundError, UnavailableError

log = logging.getLogger(__name__)

MEDIA_TYPE = "application/problem+json"
TYPE_PREFIX = "urn:edgewright:problem:"
STATUSES: tuple[tuple[type[EdgewrightError], HTTPStatus], ...] = (
    (NotFoundError, HTTPStatus.NOT_FOUND),
    (InvalidInputError, HTTPStatus.BAD_REQUEST),
    (ConflictError, HTTPStatus.CONFLICT),
    (UnavailableError, HTTPStatus.SERVICE_UNAVAILABLE),
)


class FieldError(BaseModel, strict=True):
    """One thing that is wrong with a request."""

    where: str = Field(examples=["query.limit"])
    problem: str = Field(examples=["Input should be less than or equal to 500"])


class Problem(BaseModel, strict=True):
    """A problem document."""

    type: str = Field(examples=["urn:edgewright:problem:device-unknown"])
    title: str = Field(examples=["Not Found"])
    status: int = Field(examples=[404])
    detail: str = Field(examples=["no device is named 'EWR'"])
    instance: str = Field(examples=["/v1/devices/EWR"])
    remedy: str = Field(default="", examples=["See edgewright get devices."])
    errors: list[FieldError] = Field(default_factory=list)


def documented(*statuses: HTTPStatus) -> dict[int | str, dict[str, Any]]:
    """The ``responses`` of a route, for OpenAPI."""
    schema = {"$ref": "#/components/schemas/Problem"}
    return {
        int(status): {"description": status.phrase, "content": {MEDIA_TYPE: {"schema": schema}}} for status in statuses
    }


def install(app: FastAPI) -> None:
    """Let every error leave the app as a problem document."""

    @app.exception_handler(EdgewrightError)
    def ours(request: Request, error: EdgewrightError) -> JSONResponse:
        status = next((one for kind, one in STATUSES if isinstance(error, kind)), HTTPStatus.INTERNAL_SERVER_ERROR)
        return problem(request, status, str(error), code=error.code, remedy=error.remedy)

    @app.exception_handler(RequestValidationError)
    def invalid(request: Request, error: RequestValidationError) -> JSONResponse:
        errors = [{"where": ".".join(map(str, one["loc"])), "problem": str(one["msg"])} for one in error.errors()]
        detail = "; ".join(f"{one['where']}: {one['problem']}" for one in errors)
        return problem(request, HTTPStatus.UNPROCESSABLE_ENTITY, detail, code="invalid-request", errors=errors)

    @app.exception_handler(HTTPException)
    def routed(request: Request, error: HTTPException) -> JSONResponse:
        return problem(request, HTTPStatus(error.status_code), str(error.detail), headers=error.headers)

    app.add_middleware(UnexpectedErrors)


class UnexpectedErrors:
    """A defect of ours becomes a logged problem document, and the connection lives on.

    Starlette would answer too, but raise again, upon which the server closes a connection that the client believes open.
    """

    def __init__(self, app: ASGIApp) -> None:
        """Wrap the application below."""
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass on; answer if what is below fails before it has."""
        has_begun = False

        async def noted(message: Message) -> None:
            nonlocal has_begun
            has_begun = has_begun or message["type"] == "http.response.start"
            await send(message)

        try:
            await self._app(scope, receive, noted)
        except Exception:
            if scope["type"] != "http" or has_begun:
                raise
            log.exception("%s %s failed in a way that nobody foresaw", scope["method"], scope["path"])
            detail = "Something went wrong here; it was logged."
            answer = problem(Request(scope), HTTPStatus.INTERNAL_SERVER_ERROR, detail)
            await answer(scope, receive, send)


def problem(
    request: Request,
    status: HTTPStatus,
    detail: str,
    *,
    code: str = "",
    remedy: str = "",
    errors: Sequence[Mapping[str, str]] = (),
    headers: Mapping[str, str] | None = None,
) -> JSONResponse:
    """One problem document."""
    document = {
        "type": TYPE_PREFIX + (code or status.phrase.lower().replace(" ", "-")),
        "title": status.phrase,
        "status": int(status),
        "detail": detail,
        "instance": request.url.path,
        "remedy": remedy,
        "errors": list(errors),
    }
    return JSONResponse(document, int(status), dict(headers) if headers else None, MEDIA_TYPE)
