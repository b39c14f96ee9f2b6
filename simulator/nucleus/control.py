"""A running device's control socket: what a person or a scenario asks of a device in another process.

One JSON object per line each way: ``{"command": …, …}`` is answered by ``{"ok": true, "result": …}`` or
``{"ok": false, "error": …, "remedy": …}``. The socket is the user's own (mode 0600). It is no part of Greengrass.

Commands: ``status``; ``kill-component`` {name, signal}; ``restart-nucleus``; ``kill-daemon``; ``stop-ipc``
and ``start-ipc``; ``power-off`` and ``power-on``; ``surprise`` {start_delay_s?, daemon_dies_after?}.
"""

import asyncio
import contextlib
import json
import signal
import socket
from collections.abc import Awaitable, Callable, Mapping
from pathlib import Path
from typing import Any

from simulator.nucleus.core_device import CoreDevice
from simulator.nucleus.deployment import Phase
from simulator.nucleus.errors import ControlError

SOCKET_NAME = "control.sock"
TIMEOUT_S = 60.0

Command = Callable[[Mapping[str, Any]], Awaitable[Any]]


class ControlServer:
    """Answers commands for one device; belongs to the device's event loop."""

    def __init__(self, device: CoreDevice) -> None:
        """Nothing listens yet."""
        self._device = device
        self.path = device.options.root / SOCKET_NAME
        self._server: asyncio.Server | None = None
        self._commands: dict[str, Command] = {
            "status": self._status,
            "kill-component": self._kill_component,
            "restart-nucleus": lambda _: device.restart_nucleus(),
            "kill-daemon": lambda _: device.kill_deployment_daemon(),
            "stop-ipc": lambda _: device.stop_ipc(),
            "start-ipc": self._start_ipc,
            "power-off": lambda _: device.power_off(),
            "power-on": self._power_on,
            "surprise": self._surprise,
        }
        self._changing = asyncio.Lock()

    async def start(self) -> None:
        """Listen."""
        self.path.unlink(missing_ok=True)
        self._server = await asyncio.start_unix_server(self._serve, str(self.path))
        self.path.chmod(0o600)

    async def close(self) -> None:
        """Stop listening."""
        if self._server is not None:
            self._server.close()
        self.path.unlink(missing_ok=True)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(ConnectionError):
            async for line in reader:
                writer.write(json.dumps(await self._answer(line)).encode() + b"\n")
                await writer.drain()
        writer.close()

    async def _answer(self, line: bytes) -> Mapping[str, Any]:
        try:
            request = json.loads(line)
            name = request["command"]
            command = self._commands[name]
        except (ValueError, KeyError, TypeError) as error:
            return {"ok": False, "error": f"not a command of this device: {error!r}"}
        try:
            if name == "status":
                return {"ok": True, "result": await command(request)}
            async with self._changing:
                self._check_power(name)
                return {"ok": True, "result": await command(request)}
        except ControlError as error:
            return {"ok": False, "error": str(error), "remedy": error.remedy}
        except Exception as error:  # noqa: BLE001 - told to whoever asked; the device lives on
            return {"ok": False, "error": f"{type(error).__name__}: {error}"}

    def _check_power(self, command: str) -> None:
        """A device that is off can be told of surprises and be switched on; it does nothing else."""
        if not self._device.running and command not in {"power-on", "surprise"}:
            raise ControlError("the device has no power", "Switch it on with edgewright-sim device power-on.")

    async def _power_on(self, _: Mapping[str, Any]) -> None:
        if self._device.running:
            raise ControlError("the device has power already")
        await self._device.start()

    async def _start_ipc(self, _: Mapping[str, Any]) -> None:
        if self._device.serves_ipc:
            raise ControlError("the IPC daemon runs already")
        await self._device.start_ipc()

    async def _status(self, _: Mapping[str, Any]) -> Mapping[str, Any]:
        return self._device.status()

    async def _kill_component(self, request: Mapping[str, Any]) -> Mapping[str, Any]:
        name = str(request.get("signal", "SIGKILL"))
        if name not in signal.Signals.__members__:
            raise ControlError(f"there is no signal {name}", "Name one as kill -l does, such as SIGKILL or SIGSTOP.")
        return {"killed": self._device.kill_component(str(request["name"]), signal.Signals[name])}

    async def _surprise(self, request: Mapping[str, Any]) -> Mapping[str, Any]:
        surprises, phase = self._device.surprises, request.get("daemon_dies_after")
        if phase is not None and phase not in set(Phase):
            raise ControlError(f"a deployment has no phase {phase!r}", f"Its phases are {', '.join(Phase)}.")
        for name, delay_s in dict(request.get("start_delay_s", {})).items():
            surprises.start_delay_s[str(name)] = float(delay_s)
        if phase is not None:
            surprises.daemon_dies_after = Phase(phase).value
        return {"start_delay_s": surprises.start_delay_s, "daemon_dies_after": surprises.daemon_dies_after}


def ask_device(root: Path, command: str, timeout_s: float = TIMEOUT_S, **arguments: object) -> Any:  # noqa: ANN401 - JSON
    """Send one command to the device that runs in ``root``; blocks.

    Raises:
        ControlError: no device runs there, or it refused.
    """
    line = json.dumps({"command": command, **arguments}).encode() + b"\n"
    try:
        with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as connection:
            connection.settimeout(timeout_s)
            connection.connect(str(root / SOCKET_NAME))
            connection.sendall(line)
            with connection.makefile("rb") as lines:
                answer = json.loads(lines.readline())
    except (OSError, ValueError) as error:
        raise ControlError(
            f"no device answers in {root} ({error})", "Start it with edgewright-sim device run."
        ) from error
    if not answer["ok"]:
        raise ControlError(f"{command}: {answer['error']}", answer.get("remedy", ""))
    return answer["result"]
