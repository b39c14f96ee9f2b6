"""The app factory: one FastAPI application over one fleet database.

It owns nothing: database and loops belong to whoever serves it (``cloud.cli.fleet_service``). Read-only and without access
control: it listens on loopback by default; keys and roles come with the rollout API.
"""

from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any

from fastapi import FastAPI
from fastapi.openapi.utils import get_openapi

from cloud.api import page, problems
from cloud.api.routes import LoopStates, router
from cloud.fleet.database import Database
from cloud.fleet.queries import Queries

TITLE = "Edgewright fleet status"
VERSION = "1"


def utc_now() -> datetime:
    """The wall clock."""
    return datetime.now(UTC)


def create_app(database: Database, clock: Callable[[], datetime] = utc_now, loops: LoopStates = list) -> FastAPI:
    """Build the application.

    Args:
        database: read from; not closed.
        clock: for "seen 5 s ago" on the page.
        loops: states of the process's own loops, for ``/healthz``: dictionaries with ``name`` and ``trouble``.
    """
    app = FastAPI(title=TITLE, version=VERSION, docs_url=None, redoc_url=None)  # both load scripts from elsewhere
    queries = Queries(database)
    problems.install(app)
    app.include_router(router(queries, loops))
    app.include_router(page.router(queries, clock))
    app.openapi = lambda: _openapi(app)  # type: ignore[method-assign] # FastAPI's documented way to extend the schema
    return app


def _openapi(app: FastAPI) -> dict[str, Any]:
    """FastAPI's own schema, plus the problem document that every error refers to."""
    if app.openapi_schema is None:
        schema = get_openapi(title=TITLE, version=VERSION, routes=app.routes)
        parts = problems.Problem.model_json_schema(ref_template="#/components/schemas/{model}")
        schemas = schema.setdefault("components", {}).setdefault("schemas", {})
        schemas.update(parts.pop("$defs"))
        schemas["Problem"] = parts
        app.openapi_schema = schema
    return app.openapi_schema
