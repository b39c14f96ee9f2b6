"""``edgewright deploy``: a version to thing groups, and what each device says; the doing is ``cloud.publishing.deploy``."""

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from typing import Annotated, Any

import typer

from cloud.aws.greengrass import Components, Deployments
from cloud.aws.iot import ThingRegistry
from cloud.aws.s3 import ObjectStore
from cloud.aws.session import AwsSession
from cloud.cli.interrupted import interruptible
from cloud.cli.output import OutputFormat, OutputOption, print_json, print_rows, progress_console, shown
from cloud.cli.progress import shown_progress
from cloud.cli.reported import ReportedVersions
from cloud.errors import InvalidInputError
from cloud.names import RETIRED_PREFIX, RUNTIME_COMPONENT
from cloud.publishing.component_names import find_component
from cloud.publishing.deploy import Deployed, DeployPorts, Target, deploy as deploy_to, find_target, plan
from cloud.publishing.deployment import DeploymentPlan, Wish
from cloud.publishing.waiting import DeviceStatus, check_outcome, wait_for_devices
from cloud.settings import Settings

DEPLOYED_COLUMNS = ("target", "deployment_id", "is_new", "device_count", "job_document_bytes")
STATUS_COLUMNS = ("thing_name", "status", "reason")
DEPLOYED_SO_FAR = (
    "What was deployed goes on. Run the same command again (without --again): it keeps those deployments, makes those that "
    "are missing, and waits."
)


def deploy(
    model: Annotated[str, typer.Argument(help="Model name or component; `runtime` for the runtime alone.")],
    version: Annotated[str, typer.Argument(help="Published version.")],
    to: Annotated[list[str], typer.Option("--to", help="Thing group or thing; group:NAME, thing:NAME. Repeatable.")],
    runtime_version: Annotated[
        str, typer.Option(help="Default: the one the target has, else the highest published.")
    ] = "",
    runtime_config: Annotated[str, typer.Option(help="JSON object to merge; restarts the runtime on Lite.")] = "",
    runtime_reset: Annotated[
        list[str] | None, typer.Option(help="JSON pointer that goes back to the recipe's default. Repeatable.")
    ] = None,
    wait: Annotated[bool, typer.Option("--wait", help="Until every device has finished.")] = False,
    timeout_s: Annotated[int, typer.Option(min=1, help="How long --wait waits.")] = 600,
    again: Annotated[bool, typer.Option("--again", help="A new deployment even if nothing changes.")] = False,
    nonce: Annotated[str, typer.Option(help="New text: devices run the model's hand-over again.")] = "",
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Show the deployment and change nothing.")] = False,
    output: OutputOption = OutputFormat.TABLE,
) -> None:
    """Deploy a published model version, the runtime's version pinned beside it; the target's other components stay.

    A model version that every device of the target refused is left behind: what they run is carried in its place.

    To go back, publish the older compilation anew and deploy that version: devices refuse a release older than they have taken.

    A device's SUCCEEDED is Greengrass's word; `edgewright get devices` shows what really serves.

    Exit code 1: a device failed; 4: a later deployment took this one's place; 5: not all have finished in time (it goes on).

    For example:

      edgewright deploy weather 1.1.0 --to canary --wait

      edgewright deploy weather 1.1.0 --to ring-1 --to ring-2 --runtime-config '{"heartbeat_s": 30}' --dry-run

      edgewright deploy runtime 1.1.0 --to canary --runtime-reset /accessControl --wait
    """
    settings = Settings.from_environment()
    session = AwsSession(settings.region)
    wish = replace(
        _wish(model, version, settings, session),
        runtime_configuration=_configuration(runtime_config),
        runtime_reset=tuple(runtime_reset or ()),
        nonce=nonce,
    )
    if runtime_version:
        wish = replace(wish, runtime_version=runtime_version)
    with interruptible("deploying", DEPLOYED_SO_FAR), shown_progress() as report:
        ports = DeployPorts(
            ThingRegistry(session), Deployments(session), Components(session), report, ReportedVersions(settings)
        )
        targets = [find_target(name, ports) for name in to]
        plans = [plan(target, wish, ports) for target in targets]
        if not dry_run:
            deployed = [deploy_to(target, wish, ports, again=again) for target in targets]
            statuses = wait_for_devices(deployed, ports, timeout_s) if wait else ()
    if dry_run:
        _print_plans(targets, plans, output)
        print_left_behind(list(zip(targets, plans, strict=True)))
        print_empty(targets)
        return
    print_deployed(deployed, statuses, output)
    if runtime_config:
        progress_console.print(
            "[dim]Devices that join these targets later do not get this configuration; "
            "edgewright describe device says which lack it.[/]",
            highlight=False,
        )
    check_outcome(statuses)


def print_left_behind(plans: Sequence[tuple[Target, DeploymentPlan]]) -> None:
    """What a deployment does not carry on, and what may fail again, on standard error."""
    for target, planned in plans:
        sentences = [one.sentence for one in planned.refused] + ([planned.doubt] if planned.doubt else [])
        for sentence in sentences:
            line = f"[yellow]{shown(target.name)}:[/] {shown(sentence)}"
            progress_console.print(line, highlight=False, soft_wrap=True)


def print_empty(targets: Iterable[Target]) -> None:
    """Targets where there is nobody, on standard error: that every device has finished says nothing there."""
    for target in targets:
        if not target.thing_names:
            line = f"[yellow]{shown(target.name)}:[/] no device is in it; the deployment is for those that join."
            progress_console.print(line, highlight=False, soft_wrap=True)


def _wish(model: str, version: str, settings: Settings, session: AwsSession) -> Wish:
    if model in {"runtime", RUNTIME_COMPONENT}:
        return Wish(runtime_version=version)
    if version.startswith(RETIRED_PREFIX):
        raise InvalidInputError(
            f"{version} stands for a model's retirement", f"edgewright undeploy {model} retires it."
        )
    return Wish(find_component(model, settings.bucket, ObjectStore(session)), version)


def _configuration(text: str) -> Mapping[str, Any] | None:
    if not text:
        return None
    try:
        value = json.loads(text)
    except ValueError as error:
        raise InvalidInputError(f"--runtime-config is not JSON: {error}", "Write one JSON object.") from error
    if not isinstance(value, dict):
        raise InvalidInputError("--runtime-config is not a JSON object", 'Write for example {"heartbeat_s": 30}.')
    return value


def _print_plans(targets: Sequence[Target], plans: Sequence[DeploymentPlan], output: OutputFormat) -> None:
    rows = [
        {
            "target": target.name,
            "component": name,
            "version": entry["componentVersion"],
            "configuration": entry.get("configurationUpdate", {}).get("merge"),
            "job_document_bytes": planned.job_document_bytes,
            "is_change": planned.is_change,
        }
        for target, planned in zip(targets, plans, strict=True)
        for name, entry in planned.components.items()
    ]
    print_rows(rows, ("target", "component", "version", "configuration", "is_change"), output)


def print_deployed(deployed: Sequence[Deployed], statuses: Sequence[DeviceStatus], output: OutputFormat) -> None:
    """What was deployed where, and what devices said."""
    documents = [each.to_document() for each in deployed]
    rows = [status.to_document() for status in statuses]
    print_left_behind([(each.target, each.plan) for each in deployed])
    print_empty(each.target for each in deployed)
    if output is OutputFormat.JSON:
        print_json({"deployments": documents, "devices": rows})
        return
    print_rows(documents, DEPLOYED_COLUMNS, output)
    if rows:
        progress_console.print()
        print_rows(rows, STATUS_COLUMNS, output)
