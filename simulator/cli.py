"""The command ``edgewright-sim``: a cloud and core devices on this machine, started, looked at and disturbed.

Results go to standard output (JSON with ``-o json``), everything else to standard error. It decides nothing.
"""

import json
import logging
import os
import shlex
import signal
import sys
import threading
from pathlib import Path
from typing import Annotated, Any, get_args

import typer
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from simulator.demo.command import DemoOptions, run_demo
from simulator.errors import SimulatorError
from simulator.mqtt import BrokerAddress
from simulator.mqtt.broker import Kind
from simulator.nucleus.control import ask_device
from simulator.nucleus.process import ProcessOptions, run_device
from simulator.nucleus.profile import PROFILES, paced
from simulator.up import BROKER_VARIABLE, local_installation

DEFAULT_FOLDER = Path(".edgewright/sim")
DEMO_FOLDER = Path(".edgewright/demo")
UNAVAILABLE = 5
CHECK_S = 1.0
KINDS: tuple[Kind, ...] = get_args(Kind)

app = typer.Typer(
    name="edgewright-sim",
    help="A local cloud and simulated Greengrass core devices.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
)
device = typer.Typer(help="One core device.", no_args_is_help=True)
app.add_typer(device, name="device")

console = Console(stderr=True)

RootOption = Annotated[Path, typer.Option("--root", help="The device's folder.")]
JsonOption = Annotated[bool, typer.Option("--json", help="Print JSON instead of a table.")]


@device.command("run")
def run(
    thing_name: Annotated[str, typer.Argument(help="Thing name of the core device.")],
    root: RootOption,
    broker: Annotated[
        Path, typer.Option(help="The broker's address file; what up writes names it.", envvar=BROKER_VARIABLE)
    ],
    group: Annotated[list[str] | None, typer.Option(help="Thing group to join; repeatable.")] = None,
    profile: Annotated[str, typer.Option(help=f"Which nucleus: {' or '.join(sorted(PROFILES))}.")] = "lite",
    provisioning: Annotated[bool, typer.Option(help="Register the thing first.")] = True,
    pace: Annotated[float, typer.Option(min=0.01, help="Multiplies the nucleus's own waits; 1: as measured.")] = 1.0,
) -> None:
    """Register a core device and run it until Ctrl-C; prints one JSON line when it is up.

    For example:

      edgewright-sim device run station-1 --root /tmp/station-1 --group ring-canary
    """
    if profile not in PROFILES:
        raise typer.BadParameter(f"{profile} is not one of {sorted(PROFILES)}", param_hint="--profile")
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(name)s %(levelname)s %(message)s")
    logging.getLogger("botocore").setLevel(logging.WARNING)  # where it found credentials is no news of the device
    address = BrokerAddress.read(broker)
    options = ProcessOptions(
        thing_name, root, address, group or (), provisions=provisioning, profile=paced(PROFILES[profile], pace),
        region=os.environ.get("AWS_DEFAULT_REGION", "us-east-1"),
    )  # fmt: skip
    run_device(options)


@device.command("status")
def status(root: RootOption, as_json: JsonOption = False) -> None:
    """What a running device has installed and what runs.

    For example:

      edgewright-sim device status --root /tmp/station-1

      edgewright-sim device status --root /tmp/station-1 --json
    """
    _print_device(ask_device(root, "status"), as_json)


@device.command("kill")
def kill(
    root: RootOption,
    component: Annotated[str, typer.Argument(help="Component name.")],
    signal_name: Annotated[str, typer.Option("--signal", help="Signal's name.")] = "SIGKILL",
) -> None:
    """Kill a component's processes.

    For example:

      edgewright-sim device kill com.edgewright.Runtime --root /tmp/station-1
    """
    if not ask_device(root, "kill-component", name=component, signal=signal_name)["killed"]:
        raise typer.BadParameter(f"{component} has no process")


@device.command("restart")
def restart(root: RootOption) -> None:
    """Restart the nucleus: everything stops and starts again.

    For example:

      edgewright-sim device restart --root /tmp/station-1
    """
    ask_device(root, "restart-nucleus")


@device.command("power-off")
def power_off(root: RootOption) -> None:
    """Cut the power: every process dies at once; the folder stays as it is.

    For example:

      edgewright-sim device power-off --root /tmp/station-1
    """
    ask_device(root, "power-off")


@device.command("power-on")
def power_on(root: RootOption) -> None:
    """Give it power again.

    For example:

      edgewright-sim device power-on --root /tmp/station-1
    """
    ask_device(root, "power-on")


@device.command("kill-daemon")
def kill_daemon(root: RootOption) -> None:
    """Kill the deployment daemon, in the middle of whatever it does.

    For example:

      edgewright-sim device kill-daemon --root /tmp/station-1
    """
    ask_device(root, "kill-daemon")


@device.command("stop-ipc")
def stop_ipc(root: RootOption) -> None:
    """End the IPC daemon: components lose their nucleus, and its socket is gone.

    For example:

      edgewright-sim device stop-ipc --root /tmp/station-1
    """
    ask_device(root, "stop-ipc")


@device.command("start-ipc")
def start_ipc(root: RootOption) -> None:
    """Start the IPC daemon again.

    For example:

      edgewright-sim device start-ipc --root /tmp/station-1
    """
    ask_device(root, "start-ipc")


@device.command("surprise")
def surprise(
    root: RootOption,
    daemon_dies_after: Annotated[str, typer.Option(help="Phase of the next deployment: resolve, record, …")] = "",
    start_delay: Annotated[list[str] | None, typer.Option(help="<component>=<seconds>; repeatable.")] = None,
) -> None:
    """Prepare a fault for what comes next.

    For example:

      edgewright-sim device surprise --root /tmp/station-1 --daemon-dies-after record

      edgewright-sim device surprise --root /tmp/station-1 --start-delay com.edgewright.Runtime=30
    """
    arguments: dict[str, Any] = {"start_delay_s": dict(_delay(entry) for entry in start_delay or ())}
    if daemon_dies_after:
        arguments["daemon_dies_after"] = daemon_dies_after
    sys.stdout.write(json.dumps(ask_device(root, "surprise", **arguments)) + "\n")


@app.command("demo")
def demo(
    exit_at_end: Annotated[
        bool, typer.Option("--exit", help="Stop after the story; otherwise stay until Ctrl-C.")
    ] = False,
    summary: Annotated[Path | None, typer.Option(help="Write what happened as JSON to this file.")] = None,
    folder: Annotated[Path, typer.Option(help="Where the demo keeps its files; emptied at the start.")] = DEMO_FOLDER,
) -> None:
    """The whole loop on three simulated core devices: train, publish, deploy, drift, retrain, roll out, refuse.

    Exit code 0 only if everything it promises was seen.

    For example:

      edgewright-sim demo

      edgewright-sim demo --exit --summary summary.json
    """
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, signal.default_int_handler)  # whoever ends the demo, it tidies up
    if not run_demo(DemoOptions(folder.resolve(), exit_at_end, summary), Console()):
        _say("[bold red]error:[/] the demo ended without showing everything it promises; see above")
        raise typer.Exit(1)


@app.command("up")
def up(
    folder: Annotated[Path, typer.Option(help="Where broker and cloud keep their files.")] = DEFAULT_FOLDER,
    port: Annotated[int, typer.Option(help="Port of the local cloud; 0 takes a free one.")] = 0,
    broker: Annotated[str, typer.Option(help="auto, mosquitto or iotcore.")] = "auto",
) -> None:
    """Start a broker and the local cloud, write an environment file to source, and stay until Ctrl-C.

    The local cloud keeps its state in memory: each start begins empty.

    For example:

      edgewright-sim up

      edgewright-sim up --folder /tmp/cloud --port 4566 --broker iotcore
    """
    if broker not in KINDS:
        raise typer.BadParameter(f"{broker} is not one of {KINDS}", param_hint="--broker")
    stop = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: stop.set())
    with local_installation(folder, port, broker) as installation:
        line = {"url": installation.url, "broker": str(installation.broker_file), "env": str(installation.env_file)}
        sys.stdout.write(json.dumps(line) + "\n")
        sys.stdout.flush()
        sourced = f". {shlex.quote(str(installation.env_file))}"
        _say(f"In another shell:  [bold]{escape(sourced)}[/]   (Ctrl-C here stops everything)")
        while not stop.wait(CHECK_S):
            installation.cloud.check()


def _delay(entry: str) -> tuple[str, float]:
    name, _, seconds = entry.rpartition("=")
    if not name or not seconds.replace(".", "", 1).isdigit():
        raise typer.BadParameter(f"{entry!r} is not <component>=<seconds>", param_hint="--start-delay")
    return name, float(seconds)


def _print_device(document: dict[str, Any], as_json: bool) -> None:
    if as_json:
        sys.stdout.write(json.dumps(document, indent=2) + "\n")
        return
    standing = "connected" if document["connected"] else "offline" if document["running"] else "without power"
    Console().print(f"{document['thing_name']} ({document['profile']}): {standing}", highlight=False)
    table = Table(box=None, header_style="bold", pad_edge=False)
    for column in ("component", "version", "state", "process id"):
        table.add_column(column)
    for name, component in document["components"].items():
        table.add_row(name, component["version"], component["state"], str(component["process_id"] or "-"))
    Console().print(table)
    last = document["last_deployment"]
    if last is not None:
        Console().print(f"last deployment: {last['id']} {last['status']} {last['message']}", highlight=False)


def _say(marked_up: str) -> None:
    """On standard error; no line is broken, so that paths can be copied."""
    console.print(marked_up, highlight=False, soft_wrap=True)


def main() -> None:
    """Entry point. Exit codes: 0 done, 2 usage, 5 something of the simulation could not be started or reached."""
    try:
        app()
    except SimulatorError as error:
        _say(f"[bold red]error:[/] {escape(str(error))}")
        if error.remedy:
            _say(f"[bold]remedy:[/] {escape(error.remedy)}")
        sys.exit(UNAVAILABLE)
    except OSError as error:
        if error.filename is None:
            raise
        _say(f"[bold red]error:[/] {escape(f'{error.filename}: {error.strerror}')}")
        _say("[bold]remedy:[/] Check the path, and who may read and write there.")
        sys.exit(UNAVAILABLE)


if __name__ == "__main__":
    main()
