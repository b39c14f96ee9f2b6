"""``edgewright get`` and ``edgewright describe``: the fleet, through its status API."""

from collections.abc import Iterator, Mapping
from typing import Annotated, Any
from urllib.parse import quote

import typer

from cloud.cli.api_client import api_client, fetched
from cloud.cli.arguments import chosen
from cloud.cli.output import OutputFormat, OutputOption, print_fields, print_rows, progress_console
from cloud.drift.judgement import LEVELS
from cloud.fleet.health import STATUSES
from cloud.fleet.store import EVENT_KINDS
from cloud.names import is_retirement
from cloud.settings import Settings

PAGE_COUNT = 500
get = typer.Typer(
    name="get", help="List devices, models, deployments, events or drift decisions.", no_args_is_help=True
)
describe = typer.Typer(name="describe", help="Show everything known of one thing.", no_args_is_help=True)

LimitOption = Annotated[int, typer.Option(min=1, max=100_000, help="At most so many.")]


@get.command()
def devices(
    status: Annotated[str, typer.Option(help=f"Only of this status: {', '.join(STATUSES)}.")] = "",
    model: Annotated[str, typer.Option(help="Only those that serve this model.")] = "",
    version: Annotated[str, typer.Option(help="Only those that serve this version.")] = "",
    group: Annotated[str, typer.Option(help="Only members of this thing group.")] = "",
    limit: LimitOption = 1_000,
    output: OutputOption = OutputFormat.TABLE,
) -> None:
    """List devices: status, what each truly serves, what is wanted.

    What serves is what the runtime itself reports, never what Greengrass says of a deployment.

    For example:

      edgewright get devices --status diverged

      edgewright get devices --model weather --version 1.0.0 -o json
    """
    _check("--status", status, STATUSES)
    filters = {"status": status, "model": model, "version": version, "group": group}
    rows = [_device_row(row) if output is OutputFormat.TABLE else row for row in listed("devices", filters, limit)]
    print_rows(rows, ["device", "status", "serves", "wanted", "last_seen", "drift"], output)


@get.command()
def models(limit: LimitOption = 1_000, output: OutputOption = OutputFormat.TABLE) -> None:
    """List model versions that serve or are wanted somewhere, and what became of retraining them.

    For example:

      edgewright get models -o json
    """
    columns = ["model_name", "version", "serving_count", "wanted_count", "retraining", "why"]
    found = listed("models", {}, limit)
    print_rows((_model_row(row) for row in found) if output is OutputFormat.TABLE else found, columns, output)


@get.command()
def deployments(limit: LimitOption = 50, output: OutputOption = OutputFormat.TABLE) -> None:
    """List deployments, the newest first.

    For example:

      edgewright get deployments --limit 5
    """
    columns = ["deployment_id", "name", "target_arn", "status", "device_statuses", "created_at"]
    print_rows(listed("deployments", {}, limit), columns, output)


@get.command()
def events(
    device: Annotated[str, typer.Option(help="Only of this device.")] = "",
    kind: Annotated[str, typer.Option(help=f"Only of this kind: {', '.join(EVENT_KINDS)}.")] = "",
    limit: LimitOption = 50,
    output: OutputOption = OutputFormat.TABLE,
) -> None:
    """List what happened, the newest first.

    For example:

      edgewright get events

      edgewright get events --device station-1 --kind activation -o json
    """
    _check("--kind", kind, EVENT_KINDS)
    found = listed("events", {"thing_name": device, "kind": kind}, limit)
    print_rows(found, ["at", "thing_name", "kind", "outcome", "sentence"], output)


@get.command()
def drift(
    device: Annotated[str, typer.Option(help="Only of this device.")] = "",
    model: Annotated[str, typer.Option(help="Only of this model.")] = "",
    level: Annotated[str, typer.Option(help=f"Only of this level: {', '.join(LEVELS)}.")] = "",
    limit: LimitOption = 50,
    output: OutputOption = OutputFormat.TABLE,
) -> None:
    """List drift decisions, the newest first.

    For example:

      edgewright get drift --level alarm

      edgewright get drift --model weather --limit 10 -o json
    """
    _check("--level", level, LEVELS)
    found = listed("drift", {"thing_name": device, "model": model, "level": level}, limit)
    print_rows(found, ["ends_at", "thing_name", "model_name", "version", "level", "action", "sentence"], output)


@describe.command("device")
def describe_device(
    name: Annotated[str, typer.Argument(help="Thing name.")], output: OutputOption = OutputFormat.TABLE
) -> None:
    """Show everything known of one device.

    For example:

      edgewright describe device station-1

      edgewright describe device station-1 -o json
    """
    with api_client(Settings.from_environment()) as client:
        print_fields(fetched(client, f"/v1/devices/{quote(name, safe='')}", {}), output)


def _check(option: str, value: str, allowed: tuple[str, ...]) -> None:
    """The API would refuse it by a pattern, which is no sentence."""
    chosen([value] if value else None, allowed, option)


def listed(path: str, filters: Mapping[str, str], limit: int) -> Iterator[dict[str, Any]]:
    """Up to ``limit`` items of a list, page by page."""
    parameters: dict[str, str | int] = {name: value for name, value in filters.items() if value}
    with api_client(Settings.from_environment()) as client:
        while limit > 0:
            page = fetched(client, f"/v1/{path}", {**parameters, "limit": min(limit, PAGE_COUNT)})
            yield from page["items"]
            limit -= len(page["items"])
            if page["next_cursor"] is None:
                return
            parameters["cursor"] = page["next_cursor"]
    progress_console.print("[dim]There are more: --limit shows them.[/]", highlight=False)


def _model_row(model: Mapping[str, Any]) -> dict[str, Any]:
    retraining = model["retraining"]
    if retraining is None:
        return {**model, "why": None}
    state = f"{retraining['state']} (attempt {retraining['attempt']})"
    return {**model, "retraining": state, "why": retraining["sentence"] or None}


def _device_row(device: Mapping[str, Any]) -> dict[str, Any]:
    wanted = [one for one in device["wanted"] if one["model_name"]]
    return {
        "device": device["thing_name"],
        "status": device["status"],
        "serves": [f"{one['model_name']} {one['version']}" for one in device["models"]],
        "wanted": [f"{one['model_name']} {_wanted_version(one)}" for one in wanted],
        "last_seen": device["last_seen_at"],
        "drift": device["drift"]["level"] if device["drift"] else None,
    }


def _wanted_version(wanted: Mapping[str, Any]) -> str:
    if is_retirement(wanted["component_name"], wanted["version"]):
        return "(retired)"
    refused = wanted["refused_version"]
    return f"{wanted['version']} ({refused} was refused)" if refused else str(wanted["version"])
