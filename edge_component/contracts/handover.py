#!/usr/bin/env python3
"""Hand a model bundle over to the Edgewright runtime on this device, and let the exit code be the deployment's verdict.

This file travels inside each model component's artifact as ``activate.py`` and runs there under whatever Python 3 the
device has, so it uses the standard library alone and imports nothing of Edgewright. Greengrass runs it as the
component's ``startup`` step. It retries until the runtime's admin socket is there and has room, asks it to activate the bundle, and
exits 0 when that bundle serves, 1 when the runtime refused it (the old model serves on) and 2 when no runtime answered.

With ``--deactivate MODEL`` instead of ``--bundle`` it asks the runtime to let go of a model that this component brought
once: a retired model's component carries no bundle, and runs this at every start. A model that is gone already, or that
another component has brought since, is a success that changes nothing.

With ``--notify`` it tells systemd itself that it is ready, and only on success: Greengrass Lite would otherwise announce
success for a failed activation (it appends ``systemd-notify --ready`` to a startup script, which ``exec`` prevents).
"""

import argparse
import json
import os
import socket
import sys
import time
import uuid

RETRY_S = 0.2
ANSWER_SHARE = 0.95  # of the time for the runtime, so that its own word on what took too long still arrives
BUSY = "busy"  # the one refusal that passes: others hold all of the socket's connections
GONE = "unknown-model"  # the runtime's code for a model that it does not hold for this component
PATH_BYTES_MAX = 107  # of a Unix socket's address on Linux


def main() -> int:
    """Run one hand-over; returns the exit code."""
    arguments = parse_arguments()
    deadline = time.monotonic() + arguments.timeout_s
    answer = hand_over(arguments, deadline)
    if answer is None:
        print(
            f"edgewright: no runtime answered on {arguments.socket} within {arguments.timeout_s:g} s; "
            "is the component com.edgewright.Runtime part of this deployment?",
            file=sys.stderr,
        )
        return 2
    if not answer.get("ok") and not is_gone(arguments, answer):
        print(
            f"edgewright: {arguments.component} {arguments.version} was refused "
            f"({answer.get('code')}): {str(answer.get('message')).rstrip('.')}. {answer.get('remedy', '')}".rstrip(),
            file=sys.stderr,
        )
        return 1
    result = answer.get("result")
    outcome = result.get("outcome", "already-gone") if isinstance(result, dict) else "done"
    print(f"edgewright: {arguments.component} {arguments.version} {outcome}")
    if arguments.notify:
        notify_ready()
    return 0


def parse_arguments() -> argparse.Namespace:
    """The command line, as the recipe writes it."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n", 1)[0])
    parser.add_argument("--socket", required=True, help="the runtime's admin socket")
    wanted = parser.add_mutually_exclusive_group(required=True)
    wanted.add_argument("--bundle", help="the bundle's zip file")
    wanted.add_argument("--deactivate", metavar="MODEL", help="instead of a bundle: the model to let go of")
    parser.add_argument("--component", required=True, help="this component's name")
    parser.add_argument("--version", required=True, help="this component's version")
    parser.add_argument("--timeout-s", type=float, default=60.0, help="for everything together (default: 60)")
    parser.add_argument("--notify", action="store_true", help="send READY=1 to $NOTIFY_SOCKET on success")
    return parser.parse_args()


def is_gone(arguments: argparse.Namespace, answer: "dict[str, object]") -> bool:
    """Whether a refusal says that what shall leave is not there."""
    return bool(arguments.deactivate) and answer.get("code") == GONE


def hand_over(arguments: argparse.Namespace, deadline: float) -> "dict[str, object] | None":
    """Ask until the runtime answers or time is up; one that dies in mid-answer, or is busy, is asked again."""
    answer = None
    while True:
        left_s = deadline - time.monotonic()
        if left_s <= 0:
            return answer
        try:
            answer = ask(arguments, left_s)
        except (OSError, ValueError):
            answer = None
        if answer is not None and answer.get("code") != BUSY:
            return answer
        time.sleep(min(RETRY_S, max(deadline - time.monotonic(), 0)))


def ask(arguments: argparse.Namespace, left_s: float) -> "dict[str, object]":
    """Send one command and wait for its acknowledgement."""
    command = {
        "schema": "edgewright.command/1",
        "command": "deactivate" if arguments.deactivate else "activate",
        "request_id": uuid.uuid4().hex,
        "arguments": what_is_asked(arguments),
        "deadline_ms": max(int(left_s * 1000 * ANSWER_SHARE), 1),
    }
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as connection:
        connection.settimeout(left_s)
        connect(connection, arguments.socket)
        connection.sendall(json.dumps(command).encode() + b"\n")
        with connection.makefile("rb") as lines:
            line = lines.readline()
    if not line.endswith(b"\n"):
        raise ValueError("the runtime went away in mid-answer")
    answer = json.loads(line)
    if not isinstance(answer, dict):
        raise ValueError("the answer is not an object")  # noqa: TRY004 - retried like any other unusable answer
    return answer


def what_is_asked(arguments: argparse.Namespace) -> "dict[str, str]":
    """The command's arguments."""
    if arguments.deactivate:
        return {"model_name": arguments.deactivate, "component_name": arguments.component}
    return {
        "bundle": os.path.abspath(arguments.bundle),  # noqa: PTH100 - also runs on Pythons older than ours
        "component_name": arguments.component,
        "version": arguments.version,
    }


def connect(connection: socket.socket, path: str) -> None:
    """Connect; a path beyond what the kernel takes goes through its folder's descriptor."""
    if len(os.fsencode(path)) <= PATH_BYTES_MAX:
        connection.connect(path)
        return
    folder = os.open(os.path.dirname(path), os.O_PATH | os.O_DIRECTORY)  # noqa: PTH120 - as above
    try:
        connection.connect(f"/proc/self/fd/{folder}/{os.path.basename(path)}")  # noqa: PTH119 - as above
    finally:
        os.close(folder)


def notify_ready() -> None:
    """Tell systemd, where there is one, that the startup step has succeeded."""
    address = os.environ.get("NOTIFY_SOCKET")
    if not address:
        return
    if address.startswith("@"):
        address = "\0" + address[1:]
    try:
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as notifier:
            notifier.sendto(b"READY=1", address)
    except OSError as error:  # the model serves all the same: whether that counts without READY=1 is systemd's verdict
        print(f"edgewright: systemd could not be told on {os.environ['NOTIFY_SOCKET']}: {error}", file=sys.stderr)


if __name__ == "__main__":
    sys.exit(main())
