"""The app factory: one FastAPI application over one fleet database.

It owns nothing: database and loops belong to whoever serves it (``cloud.cli.fleet_service``). Read-only, which a
test holds it to: the one token that opens all of it (door_guard.py) starts nothing. A route that changes something needs roles.
"""

from collections.abc import Callable
from datetime import UTC, datetime
from http import HTTPStatus
from typing import Any

from fastapi import FastAPI
from fastapi.openapi.utils import get_openapi

from cloud.api import page, problems
from cloud.api.door_guard import OPEN_PATH, DoorGuard
from cloud.api.routes import LoopStates, router
from cloud.fleet.database import Database
from cloud.fleet.history import SqliteHistory
from cloud.fleet.pruning import told
from cloud.fleet.queries import Queries
from cloud.fleet.retention import RetentionLimits

TITLE = "Edgewright fleet status"
VERSION = "1"


def utc_now() -> datetime:
    """The wall clock."""
    return datetime.now(UTC)


def create_app(
    database: Database,
    clock: Callable[[], datetime] = utc_now,
    loops: LoopStates = list,
    token: str = "",
    retention: RetentionLimits = RetentionLimits(),
) -> FastAPI:
    """Build the application.

    Args:
        database: read from; not closed.
        clock: for "seen 5 s ago" on the page.
        loops: states of the process's own loops, for ``/healthz``: dictionaries with ``name`` and ``trouble``.
        token: what every request but ``/healthz`` must carry; empty: none, and only requests to localhost are answered.
        retention: what the process's own loop keeps history for.
    """
    app = FastAPI(title=TITLE, version=VERSION, docs_url=None, redoc_url=None)  # both load scripts from elsewhere
    queries = Queries(database)
    problems.install(app)
    history = SqliteHistory(database)
    app.include_router(router(queries, loops, lambda: told(history, retention, clock())))
    app.include_router(page.router(queries, clock))
    app.add_middleware(DoorGuard, token=token)  # the last is the outermost
    app.openapi = lambda: _openapi(app)  # type: ignore[method-assign] # FastAPI's documented way to extend the schema
    return app


def _openapi(app: FastAPI) -> dict[str, Any]:
    """FastAPI's own schema, plus the problem document that every error refers to and the token that may be asked for."""
    if app.openapi_schema is None:
        schema = get_openapi(title=TITLE, version=VERSION, routes=app.routes)
        parts = problems.Problem.model_json_schema(ref_template="#/components/schemas/{model}")
        schemas = schema.setdefault("components", {}).setdefault("schemas", {})
        schemas.update(parts.pop("$defs"))
        schemas["Problem"] = parts
        schema["components"]["securitySchemes"] = {
            "bearer": {"type": "http", "scheme": "bearer"},
            "browser": {"type": "http", "scheme": "basic", "description": "any name; the token is the password"},
        }
        for path, methods in schema["paths"].items():
            if path != OPEN_PATH:
                methods["get"]["security"] = [{"bearer": []}, {"browser": []}]
                methods["get"]["responses"].update(_refusals())
        app.openapi_schema = schema
    return app.openapi_schema


def _refusals() -> dict[str, Any]:
    """What the guard answers, which no route knows of."""
    documented = problems.documented(HTTPStatus.UNAUTHORIZED, HTTPStatus.FORBIDDEN)
    return {str(status): response for status, response in documented.items()}
