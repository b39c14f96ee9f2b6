"""The demo's view of one device from inside: the runtime's admin socket, spoken through the contract alone."""

import socket
import uuid
from pathlib import Path

from edge_component.contracts.admin import SOCKET_NAME, Acknowledgement, Command
from edge_component.contracts.heartbeat import Heartbeat
from simulator.errors import SimulatorError

TIMEOUT_S = 20.0


class AdminRefusedError(SimulatorError):
    """The runtime did not do what the command asked."""


def status(work: Path) -> Heartbeat:
    """What the runtime says of itself now."""
    return Heartbeat.read(_ask(work, "status").result)


def flush(work: Path) -> int:
    """Close the telemetry windows now and queue them for upload; returns how many were closed."""
    return int(_ask(work, "flush").result["window_count"])


def _ask(work: Path, name: str) -> Acknowledgement:
    command = Command(name=name, request_id=uuid.uuid4().hex, deadline_ms=int(TIMEOUT_S * 1000))
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as connection:
        connection.settimeout(TIMEOUT_S)
        connection.connect(str(work / SOCKET_NAME))
        connection.sendall(command.to_line())
        with connection.makefile("rb") as lines:
            answer = Acknowledgement.from_line(lines.readline())
    if not answer.ok:
        raise AdminRefusedError(f"{name}: {answer.message} ({answer.code})", answer.remedy)
    return answer
