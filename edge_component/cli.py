"""``edgewright-edge``: what a person on the device may ask of its runtime.

Results go to standard output as JSON, errors with their remedy to standard error; what the doctor found wrong goes to
both, so that it is what a person reads last. It speaks to the runtime through its doors, like any other client; the doctor
alone, and a look at tensors that the fast path does not carry, read the work folder.
"""

import argparse
import json
import os
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edge_component.bundles.store import Store
from edge_component.cli_bench import add_bench, inputs_of, run_bench, tensors_of
from edge_component.cli_route import add_route, run_route
from edge_component.client import Client, ClientError, RefusedError, UnavailableError
from edge_component.client.admin import AdminClient
from edge_component.clock import SystemClock
from edge_component.contracts.admin import SOCKET_NAME as ADMIN_SOCKET
from edge_component.contracts.errors import ContractError
from edge_component.contracts.fastpath import SOCKET_NAME as INFER_SOCKET
from edge_component.contracts.heartbeat import Heartbeat, ModelRef
from edge_component.contracts.manifest import MANIFEST_FILE, Manifest, TensorSpec
from edge_component.doctor.diagnosis import diagnose
from edge_component.doctor.examination import examine
from edge_component.errors import UnsupportedTensorError

DEFAULT_WORK = Path("/greengrass/v2/work/com.edgewright.Runtime")
EXIT_CODES = (
    "Exit codes: 0 done, 1 done but the result could not be written, 2 usage, 3 refused, "
    "4 the doctor found what stops this device, 5 no runtime, 130 Ctrl-C."
)
LOOK_S = 5.0
"""For a look at the runtime, or at a model, which may have to be loaded first."""


def main(argv: list[str] | None = None) -> int:
    """Entry point; returns the exit code."""
    arguments = _parser().parse_args(argv)
    try:
        return _run(arguments)
    except KeyboardInterrupt:
        return 130
    except BrokenPipeError:  # whoever reads has read enough: `| head`
        _give_output_up()
        return 0
    except OSError as error:  # a full disk behind `>`
        print(f"error: the result could not be written: {error.strerror}", file=sys.stderr)
        _give_output_up()
        return 1


def _give_output_up() -> None:
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # else Python would complain at its end


def _run(arguments: argparse.Namespace) -> int:
    try:
        result = arguments.run(arguments)
    except ClientError as error:
        print(f"error: {error}", file=sys.stderr)
        if error.remedy:
            print(f"remedy: {error.remedy}", file=sys.stderr)
        return 5 if isinstance(error, UnavailableError) else 3
    except (OSError, ValueError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 3
    print(json.dumps(result, indent=2), flush=True)
    return _told(result) if arguments.run is _doctor else 0


def _told(diagnosis: Any) -> int:  # noqa: ANN401 - JSON
    for check in diagnosis["checks"]:
        if not check["ok"]:
            print(f"{check['severity']}: {check['check']}: {check['found']}", file=sys.stderr)
            print(f"remedy: {check['remedy']}", file=sys.stderr)
    return 0 if diagnosis["ok"] else 4


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="edgewright-edge", description="Look at, and change, what this device serves.", epilog=EXIT_CODES
    )
    parser.add_argument(
        "--work", type=Path, default=DEFAULT_WORK, help=f"the runtime's folder (default: {DEFAULT_WORK})"
    )
    commands = parser.add_subparsers(required=True, metavar="COMMAND")

    def add(
        name: str, run: Callable[[argparse.Namespace], Any], text: str, example: str = ""
    ) -> argparse.ArgumentParser:
        epilog = f"For example: edgewright-edge {example or name}"
        command = commands.add_parser(
            name, help=text, description=text, epilog=epilog, formatter_class=argparse.RawDescriptionHelpFormatter
        )
        command.add_argument("--work", type=Path, default=argparse.SUPPRESS, help="as before the command")
        command.set_defaults(run=run)
        return command

    add("status", _status, "everything the runtime says of itself")
    models = add("models", _models, "what serves, and what a revert would bring back", "models weather")
    models.add_argument("model", nargs="?", help="one model's name: what it takes and gives")
    activate = add(
        "activate", _activate, "make a bundle's zip serve",
        "activate Weather-1.0.0-linux-x86_64.zip --component com.edgewright.model.Weather --version 1.0.0",
    )  # fmt: skip
    activate.add_argument("bundle", type=Path)
    activate.add_argument("--component", required=True, help="such as com.edgewright.model.Weather")
    activate.add_argument("--version", required=True)
    for name, run, text in (
        (
            "revert",
            _revert,
            "bring a model's previous version back (a fleet service that wants the other one deploys it again)",
        ),
        ("deactivate", _deactivate, "stop serving a model and forget its bundles"),
    ):
        add(name, run, text, f"{name} weather").add_argument("model")
    floor = add(
        "lower-floor", _lower_floor, "let older releases of a component in again, and forget a time that is yet to come",
        "lower-floor com.edgewright.model.Weather",
    )  # fmt: skip
    floor.add_argument("component", help="whose releases count from what is committed of it; told to the cloud")
    predict = add("predict", _predict, "ask a model once", """predict linear '{"x": [[1.0, 2.0, 3.0]]}'""")
    predict.add_argument("model")
    predict.add_argument("inputs", help='JSON: {"input": [[1.0, 2.0]]}, or - to read it from standard input')
    predict.add_argument("--deadline-s", type=float, default=5.0)
    example = "route weather --split active=90 previous=10"
    add_route(add("route", run_route, "see or set which version answers whom", example))
    add_bench(add("bench", run_bench, "measure what an answer takes on this device", "bench weather"))
    add("flush", _flush, "queue what telemetry has counted so far")
    doctor = add("doctor", _doctor, "what would stop this device from serving, and the remedy")
    doctor.add_argument("--trust", type=Path, help="folder of trusted keys (default: the one of the last start)")
    return parser


def _admin(arguments: argparse.Namespace) -> AdminClient:
    return AdminClient(arguments.work / ADMIN_SOCKET)


def _seen(arguments: argparse.Namespace) -> Heartbeat:
    """What waits for nothing in the runtime: one that hangs is told of soon."""
    return AdminClient(arguments.work / ADMIN_SOCKET, timeout_s=LOOK_S).status()


def _status(arguments: argparse.Namespace) -> Any:  # noqa: ANN401 - JSON
    return dict(_seen(arguments).to_document())


def _models(arguments: argparse.Namespace) -> Any:  # noqa: ANN401 - JSON
    if arguments.model is None:
        return [dict(model.to_document()) for model in _seen(arguments).models]
    try:
        opened = tensors_of(arguments.work / INFER_SOCKET, arguments.model, LOOK_S)
    except RefusedError as refusal:
        return _stored_tensors(arguments, refusal)
    inputs, outputs = ([region.spec for region in side] for side in (opened.inputs, opened.outputs))
    return _tensors(opened.model, inputs, outputs)


def _stored_tensors(arguments: argparse.Namespace, refusal: RefusedError) -> Any:  # noqa: ANN401 - JSON
    """Of a model that the fast path does not carry, text above all, its bundle tells."""
    refs = [model.active for model in _seen(arguments).models if model.active.name == arguments.model]
    if refusal.code != UnsupportedTensorError.code or not refs:
        raise refusal
    try:
        manifest = Manifest.from_bytes((Store(arguments.work).path(refs[0].digest) / MANIFEST_FILE).read_bytes())
    except ContractError:
        raise refusal from None
    return _tensors(refs[0], manifest.inputs, manifest.outputs)


def _tensors(model: ModelRef, inputs: Sequence[TensorSpec], outputs: Sequence[TensorSpec]) -> Any:  # noqa: ANN401 - JSON
    sides = {"inputs": inputs, "outputs": outputs}
    told = {side: [dict(spec.to_document()) for spec in specs] for side, specs in sides.items()}
    return {"active": dict(model.to_document()), **told}


def _activate(arguments: argparse.Namespace) -> Any:  # noqa: ANN401 - JSON
    event = _admin(arguments).activate(arguments.bundle, arguments.component, arguments.version)
    return dict(event.to_document())


def _revert(arguments: argparse.Namespace) -> Any:  # noqa: ANN401 - JSON
    return dict(_admin(arguments).revert(arguments.model).to_document())


def _deactivate(arguments: argparse.Namespace) -> Any:  # noqa: ANN401 - JSON
    return dict(_admin(arguments).deactivate(arguments.model).to_document())


def _lower_floor(arguments: argparse.Namespace) -> Any:  # noqa: ANN401 - JSON
    return dict(_admin(arguments).lower_floor(arguments.component).to_document())


def _flush(arguments: argparse.Namespace) -> Any:  # noqa: ANN401 - JSON
    return {"window_count": _admin(arguments).flush()}


def _predict(arguments: argparse.Namespace) -> Any:  # noqa: ANN401 - JSON
    inputs = inputs_of(sys.stdin.read() if arguments.inputs == "-" else arguments.inputs)
    with Client(arguments.work / INFER_SOCKET, deadline_s=arguments.deadline_s) as client:
        answer = client.infer(arguments.model, inputs)
    return {
        "model": dict(answer.model.to_document()),
        "run_us": answer.run_us,
        "outputs": {name: _as_json(array) for name, array in answer.outputs.items()},
    }


def _as_json(array: NDArray[np.generic]) -> Any:  # noqa: ANN401 - JSON
    """JSON has no word for NaN and infinities: they are ``null``, not something that only Python reads."""
    if array.dtype.kind != "f":
        return array.tolist()
    values = array.astype(object)
    values[~np.isfinite(array)] = None
    return values.tolist()


def _doctor(arguments: argparse.Namespace) -> Any:  # noqa: ANN401 - JSON
    return diagnose(examine(arguments.work, arguments.trust, SystemClock())).to_document()


if __name__ == "__main__":
    sys.exit(main())
