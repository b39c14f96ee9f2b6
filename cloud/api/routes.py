"""The routes below ``/v1``: read-only, keyset pages, every parameter strict, every error documented."""

from collections.abc import Callable
from http import HTTPStatus
from typing import Annotated, Any

from fastapi import APIRouter, Query, Request
from fastapi.responses import JSONResponse
from pydantic import BaseModel, ConfigDict, Field

from cloud.api import schemas
from cloud.api.door_guard import IS_STRANGER, OPEN_PATH
from cloud.api.problems import documented
from cloud.drift.judgement import LEVELS
from cloud.fleet.health import STATUSES
from cloud.fleet.queries import LIMIT_DEFAULT, LIMIT_MAX, DeviceFilters, Page, Queries
from cloud.fleet.store import EVENT_KINDS

NAME_CHARS_MAX = 256
Name = Annotated[str, Field(min_length=1, max_length=NAME_CHARS_MAX)]
PAGE_ERRORS = documented(HTTPStatus.BAD_REQUEST, HTTPStatus.UNPROCESSABLE_ENTITY, HTTPStatus.SERVICE_UNAVAILABLE)


class Paging(BaseModel):
    """How much, from where; an unknown parameter is refused rather than ignored."""

    model_config = ConfigDict(extra="forbid")

    limit: int = Field(default=LIMIT_DEFAULT, ge=1, le=LIMIT_MAX)
    cursor: str | None = Field(default=None, min_length=1, max_length=512, description="next_cursor of the page before")


class DeviceParameters(Paging):
    """Filters of the device list; all must hold."""

    status: Annotated[str, Field(pattern=f"^({'|'.join(STATUSES)})$")] | None = None
    model: Name | None = Field(default=None, description="serves a model of this name")
    version: Name | None = Field(default=None, description="serves this version (of that model, where one is named)")
    group: Name | None = Field(default=None, description="member of this thing group")


class EventParameters(Paging):
    """Filters of the history."""

    thing_name: Name | None = None
    kind: Annotated[str, Field(pattern=f"^({'|'.join(EVENT_KINDS)})$")] | None = None


class DriftParameters(Paging):
    """Filters of the drift decisions."""

    thing_name: Name | None = None
    model: Name | None = None
    level: Annotated[str, Field(pattern=f"^({'|'.join(LEVELS)})$")] | None = None


class NoParameters(BaseModel):
    """Any parameter at all is refused."""

    model_config = ConfigDict(extra="forbid")


LoopStates = Callable[[], list[dict[str, str]]]
StoreState = Callable[[], dict[str, Any]]


def router(queries: Queries, loops: LoopStates, store: StoreState) -> APIRouter:
    """All routes over one store; ``loops`` tells the state of the process's own loops, ``store`` its size and retention."""
    routes = APIRouter()
    _add_lists(routes, queries)
    _add_singles(routes, queries, loops)
    _add_store(routes, store)
    return routes


def _add_lists(routes: APIRouter, queries: Queries) -> None:
    @routes.get("/v1/devices", responses=_page(schemas.DevicePage), summary="Devices by name")
    def devices(asked: Annotated[DeviceParameters, Query()]) -> JSONResponse:
        filters = DeviceFilters(asked.status, asked.model, asked.version, asked.group)
        return _answer(queries.devices(filters, asked.limit, asked.cursor))

    @routes.get("/v1/models", responses=_page(schemas.ModelPage), summary="Model versions that serve or are wanted")
    def models(asked: Annotated[Paging, Query()]) -> JSONResponse:
        return _answer(queries.models(asked.limit, asked.cursor))

    @routes.get("/v1/deployments", responses=_page(schemas.DeploymentPage), summary="Deployments, the newest first")
    def deployments(asked: Annotated[Paging, Query()]) -> JSONResponse:
        return _answer(queries.deployments(asked.limit, asked.cursor))

    @routes.get("/v1/events", responses=_page(schemas.EventPage), summary="The fleet's history, the newest first")
    def events(asked: Annotated[EventParameters, Query()]) -> JSONResponse:
        return _answer(queries.events(asked.limit, asked.cursor, asked.thing_name, asked.kind))

    @routes.get("/v1/drift", responses=_page(schemas.DriftPage), summary="Drift decisions, the newest first")
    def drift(asked: Annotated[DriftParameters, Query()]) -> JSONResponse:
        return _answer(queries.decisions(asked.limit, asked.cursor, asked.thing_name, asked.model, asked.level))


def _add_singles(routes: APIRouter, queries: Queries, loops: LoopStates) -> None:
    single = documented(HTTPStatus.NOT_FOUND, HTTPStatus.UNPROCESSABLE_ENTITY, HTTPStatus.SERVICE_UNAVAILABLE)

    @routes.get(
        "/v1/devices/{thing_name}",
        responses={200: {"model": schemas.DeviceDetail}, **single},
        summary="Everything known of one device",
    )
    def device(thing_name: str, _: Annotated[NoParameters, Query()]) -> JSONResponse:
        return JSONResponse(queries.device(thing_name))

    @routes.get(OPEN_PATH, responses={200: {"model": schemas.Healthz}, **single}, summary="The service itself")
    def healthz(request: Request, _: Annotated[NoParameters, Query()]) -> JSONResponse:
        states = loops()
        status = "degraded" if any(state["trouble"] for state in states) else "ok"
        if request.scope.get(IS_STRANGER):
            return JSONResponse({"status": status})
        return JSONResponse({"status": status, **queries.counters(), "loops": states})


def _add_store(routes: APIRouter, store: StoreState) -> None:
    errors = documented(HTTPStatus.UNPROCESSABLE_ENTITY, HTTPStatus.SERVICE_UNAVAILABLE)

    @routes.get("/v1/store", responses={200: {"model": schemas.Store}, **errors}, summary="Size and retention")
    def size_and_retention(_: Annotated[NoParameters, Query()]) -> JSONResponse:
        return JSONResponse(store())


def _page(model: type[schemas.Strict]) -> dict[int | str, dict[str, Any]]:
    return {200: {"model": model}, **PAGE_ERRORS}


def _answer(page: Page) -> JSONResponse:
    return JSONResponse({"items": page.items, "next_cursor": page.next_cursor})
