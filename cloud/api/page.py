"""One page for people: which device truly serves what, what is wanted, what drifts, what happened.

Server-rendered, no script, no request to anywhere else; it renews itself by the browser's own refresh. Its content
security policy forbids everything that the page does not use.
"""

from collections.abc import Callable
from datetime import datetime
from typing import Annotated, Any

from fastapi import APIRouter, Query
from fastapi.responses import HTMLResponse
from jinja2 import Environment, PackageLoader, StrictUndefined
from pydantic import BaseModel, ConfigDict, Field

from cloud.fleet.queries import DeviceFilters, Queries
from cloud.names import MODEL_PREFIX, is_retirement
from edge_component.contracts.codec import parse_moment

REFRESH_S = 5
DEVICE_COUNT = 100
EVENT_COUNT = 25
SECURITY_HEADERS = {
    "Content-Security-Policy": (
        "default-src 'none'; style-src 'unsafe-inline'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
    ),
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Cache-Control": "no-store",
}
TONES = {
    "ok": "good", "changing": "busy", "diverged": "bad", "failed": "bad", "degraded": "poor", "silent": "poor",
    "unheard": "plain", "unjudged": "plain",
    "quiet": "good", "warn": "poor", "alarm": "bad", "insufficient": "plain",
    "open": "busy", "running": "busy", "succeeded": "good", "stopped": "poor",
}  # fmt: skip


class PageParameters(BaseModel):
    """Which devices, from where."""

    model_config = ConfigDict(extra="forbid")

    cursor: str | None = Field(default=None, min_length=1, max_length=512)
    status: str | None = Field(default=None, min_length=1, max_length=32)


def router(queries: Queries, clock: Callable[[], datetime]) -> APIRouter:
    """The route ``/``."""
    environment = Environment(loader=PackageLoader("cloud.api"), autoescape=True, undefined=StrictUndefined)
    template = environment.get_template("fleet.html")
    routes = APIRouter()

    @routes.get("/", include_in_schema=False)
    def fleet(asked: Annotated[PageParameters, Query()]) -> HTMLResponse:
        return HTMLResponse(template.render(view(queries, clock(), asked)), headers=SECURITY_HEADERS)

    return routes


def view(queries: Queries, now: datetime, asked: PageParameters) -> dict[str, Any]:
    """Everything the template shows."""
    devices = queries.devices(DeviceFilters(status=asked.status), DEVICE_COUNT, asked.cursor)
    counts = queries.status_counts()
    return {
        "now": f"{now:%Y-%m-%d %H:%M:%S} UTC",
        "refresh_s": REFRESH_S,
        "chosen": asked.status or "",
        "tiles": [(status, count, TONES.get(status, "plain")) for status, count in counts.items()],
        "device_count": sum(counts.values()),
        "devices": [_device(device, now) for device in devices.items],
        "next_cursor": devices.next_cursor,
        "models": [_model(model) for model in queries.models().items],
        "events": [_event(event, now) for event in queries.events(EVENT_COUNT).items],
        "counters": queries.counters()["counters"],
    }


def _device(device: dict[str, Any], now: datetime) -> dict[str, Any]:
    served = {model["model_name"]: model["version"] for model in device["models"]}
    wanted = [one for one in device["wanted"] if one["component_name"].startswith(MODEL_PREFIX)]
    return device | {
        "tone": TONES.get(device["status"], "plain"),
        "seen": ago(device["last_seen_at"], now),
        "drift_tone": TONES.get(device["drift"]["level"], "plain") if device["drift"] else "plain",
        "wanted_models": [
            {
                "name": one["model_name"] or one["component_name"].removeprefix(MODEL_PREFIX),
                "version": "retired" if is_gone else one["version"],
                "refused_version": one["refused_version"],
                "is_served": served.get(one["model_name"]) == (None if is_gone else one["version"]),
            }
            for one in wanted
            for is_gone in [is_retirement(one["component_name"], one["version"])]
        ],
    }


def _model(model: dict[str, Any]) -> dict[str, Any]:
    state = model["retraining"]["state"] if model["retraining"] else ""
    return model | {"retraining_tone": TONES.get(state, "plain")}


def _event(event: dict[str, Any], now: datetime) -> dict[str, Any]:
    good = {"activated", "already-active", "restored", "SUCCEEDED", "ok", "succeeded"}
    bad = {"refused", "reverted", "FAILED", "failed", "diverged", "given-up", "retrain"}
    outcome = event["outcome"]
    tone = "good" if outcome in good else "bad" if outcome in bad else "plain"
    return event | {"ago": ago(event["at"], now), "tone": tone}


def ago(at: str | None, now: datetime) -> str:
    """Such as ``12 s ago``."""
    if at is None:
        return "never"
    seconds = max((now - parse_moment(at)).total_seconds(), 0)
    for size, unit in ((86_400, "d"), (3_600, "h"), (60, "min")):
        if seconds >= 2 * size:
            return f"{seconds // size:.0f} {unit} ago"
    return f"{seconds:.0f} s ago"
