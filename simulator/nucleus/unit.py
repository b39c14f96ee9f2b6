"""One step's process: spawns what ``lifecycle.py`` decides, hears its announcements, keeps its output.

The failure it exists for: a process that outlives its nucleus. Every child leads a session of its own, its whole group
is killed when it ends, and its id is on disk, so that a nucleus that was itself killed finds it again and ends it
(:func:`end_survivors`), as a reboot would.

It differs from systemd in one thing: what a startup script leaves behind it in the background ends with the script.

Concurrency: belongs to the device's event loop; the process is a child of the loop's own process.
"""

import asyncio
import contextlib
import json
import os
import signal
import socket
import sys
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from io import FileIO
from pathlib import Path

from simulator.nucleus.errors import ComponentNotReadyError, NucleusError
from simulator.nucleus.lifecycle import HAS_PROCESS, Action, Event, Kind, Limits, State, Unit, step
from simulator.nucleus.profile import Profile

LOG_BYTES_MAX = 10_000_000
"""A log that is larger when its step starts is moved to ``.1``."""

SHELL = "/bin/sh"
NO_EXIT_CODE = 255


@dataclass(frozen=True, slots=True)
class Launch:
    """How a step's script is run.

    Attributes:
        script: for ``sh -c``, without ``set -e``, its variables already replaced.
        environment: all of it; NOTIFY_SOCKET is added for a startup.
        folder: where it runs; made if it does not exist.
        timeout_s: until its goal must be reached.
    """

    script: str
    environment: Mapping[str, str]
    folder: Path
    timeout_s: float


class UnitProcess:
    """One unit and its process. Every change of state is told to ``on_change``, on the loop."""

    def __init__(
        self,
        name: str,
        kind: Kind,
        launch: Callable[[], Launch],
        profile: Profile,
        run_folder: Path,
        log_file: Path,
        on_change: Callable[[State], None] = lambda _state: None,
    ) -> None:
        """``launch`` is asked at every start, and may raise a NucleusError: that start has then failed."""
        self.name = name
        self.unit = Unit(kind, Limits(profile.tries, profile.tries_window_s), needs_notice=profile.uses_systemd)
        self.process_id: int | None = None
        self.last_exit = ""
        self._launch = launch
        self._profile = profile
        self._run_folder = run_folder
        self._log_file = log_file
        self._on_change = on_change
        self._changed = asyncio.Event()
        self._life: asyncio.Task[None] | None = None
        self._retry: asyncio.TimerHandle | None = None
        self._overdue: asyncio.TimerHandle | None = None

    @property
    def state(self) -> State:
        """Where it stands."""
        return self.unit.state

    def start(self) -> None:
        """Want it active; nothing happens if it is."""
        self._apply(Event.START)

    def forgive(self) -> None:
        """Forget its failures."""
        self._apply(Event.FORGIVE)

    def announce(self, event: Event) -> None:
        """It says READY or LEAVING of itself."""
        self._apply(event)

    def ask_to_stop(self) -> None:
        """Want it gone, without waiting for it."""
        self._apply(Event.STOP)

    async def stop(self) -> None:
        """Want it gone; returns when it is."""
        self.ask_to_stop()
        if self._life is not None:
            await asyncio.wait({self._life})

    def kill(self, number: int = signal.SIGKILL) -> None:
        """Send a signal to its whole group; what follows is the table's affair."""
        if self.process_id is not None:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(self.process_id, number)

    async def power_off(self) -> None:
        """End at once, without a grace and without another try."""
        self._cancel_timers()
        self.unit = replace(self.unit, asked_to_stop=True)
        self.kill()
        if self._life is not None:
            await asyncio.wait({self._life})
        self._cancel_timers()

    async def wait_for(self, states: frozenset[State], timeout_s: float) -> State:
        """The first of these states to be seen.

        Raises:
            ComponentNotReadyError: none was within the time.
        """
        try:
            async with asyncio.timeout(timeout_s):
                while self.state not in states:
                    self._changed.clear()
                    await self._changed.wait()
        except TimeoutError as error:
            raise ComponentNotReadyError(
                f"{self.name} is still {self.state} after {timeout_s:g} s", f"Read {self._log_file}."
            ) from error
        return self.state

    def _apply(self, event: Event) -> None:
        before = self.state
        self.unit, action = step(self.unit, event, time.monotonic())
        loop = asyncio.get_running_loop()
        if self.state is not State.STARTING or action is Action.KILL:
            self._cancel_timers()
        if action is Action.SPAWN:
            self._life = loop.create_task(self._live())
        elif action is Action.KILL:
            self.kill(signal.SIGTERM)
            self._overdue = loop.call_later(self._profile.stop_grace_s, self.kill)
        elif action is Action.RETRY_LATER:
            self._retry = loop.call_later(self._profile.restart_delay_s, self._apply, Event.RETRY)
        if self.state is not before:
            self._changed.set()
            self._on_change(self.state)

    def _cancel_timers(self) -> None:
        for timer in (self._retry, self._overdue):
            if timer is not None:
                timer.cancel()
        self._retry = self._overdue = None

    async def _live(self) -> None:
        """One process from birth to its exit's meaning."""
        notices = _Notices(self._run_folder, self.announce) if self.unit.kind is Kind.STARTUP else None
        try:
            code = await self._run(notices)
        finally:
            if notices is not None:
                notices.close()
        self.last_exit = f"exit code {code}" if code >= 0 else f"signal {signal.Signals(-code).name}"
        self._life = None
        self._apply(Event.EXITED_BADLY if code else Event.EXITED_WELL)

    async def _run(self, notices: "_Notices | None") -> int:
        with _open_log(self._log_file) as log:
            try:
                launch = self._launch()
            except NucleusError as error:
                log.write(f"nucleus: {error} {error.remedy}\n".encode())
                return NO_EXIT_CODE
            launch.folder.mkdir(parents=True, exist_ok=True)
            environment = dict(launch.environment)
            if notices is not None:
                environment["NOTIFY_SOCKET"] = str(notices.path)
            try:
                process = await asyncio.create_subprocess_exec(
                    SHELL, "-c", launch.script,
                    stdin=asyncio.subprocess.DEVNULL, stdout=log, stderr=log,
                    cwd=launch.folder, env=environment, start_new_session=True,
                )  # fmt: skip
            except (OSError, ValueError) as error:  # too long for the kernel, or a NUL in it
                log.write(f"nucleus: the script cannot be started: {error}\n".encode())
                return NO_EXIT_CODE
        self.process_id = process.pid
        record = _record(self._run_folder, process.pid)
        if self.state is State.STARTING:
            self._overdue = asyncio.get_running_loop().call_later(launch.timeout_s, self._apply, Event.OVERDUE)
        elif self.state is State.STOPPING:  # asked for while it was being born
            self.kill(signal.SIGTERM)
        code = await process.wait()
        self.kill()  # whatever it left in its group
        self.process_id = None
        record.unlink(missing_ok=True)
        return code

    def is_alive(self) -> bool:
        """Whether a process of it runs."""
        return self.state in HAS_PROCESS


class _Notices:
    """The socket that ``systemd-notify`` and ``activate.py --notify`` write to."""

    def __init__(self, folder: Path, announce: Callable[[Event], None]) -> None:
        self.path = folder / f"notify-{os.urandom(4).hex()}"
        self._announce = announce
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_NONBLOCK)
        self._socket.bind(str(self.path))
        asyncio.get_running_loop().add_reader(self._socket, self._read)

    def close(self) -> None:
        """Hear what is still waiting, before its sender's exit is judged."""
        self._read()
        asyncio.get_running_loop().remove_reader(self._socket)
        self._socket.close()
        self.path.unlink(missing_ok=True)

    def _read(self) -> None:
        with contextlib.suppress(BlockingIOError):
            while True:
                lines = self._socket.recv(4096).decode(errors="replace").splitlines()
                for line, event in (("READY=1", Event.READY), ("STOPPING=1", Event.LEAVING)):
                    if line in lines:
                        self._announce(event)


def end_survivors(run_folder: Path) -> int:
    """Kill what an earlier nucleus of this root left running; returns how many groups. Blocks for no one."""
    count = 0
    for record in run_folder.glob("process-*.json"):
        with contextlib.suppress(OSError, ValueError, KeyError):
            document = json.loads(record.read_text())
            if _started_at(document["process_id"]) == document["started_at"]:
                os.killpg(document["process_id"], signal.SIGKILL)
                count += 1
        record.unlink(missing_ok=True)
    for leftover in run_folder.glob("notify-*"):
        leftover.unlink(missing_ok=True)
    return count


def _record(folder: Path, process_id: int) -> Path:
    path = folder / f"process-{process_id}.json"
    path.write_text(json.dumps({"process_id": process_id, "started_at": _started_at(process_id)}))
    return path


def _started_at(process_id: int) -> str:
    """The kernel's start time of a process, in ticks; tells a process from a later one with its number."""
    try:
        stat = Path(f"/proc/{process_id}/stat").read_text()
    except OSError:
        return ""
    return stat.rpartition(")")[2].split()[19]


def _open_log(path: Path) -> FileIO:
    path.parent.mkdir(parents=True, exist_ok=True)
    with contextlib.suppress(FileNotFoundError):
        if path.stat().st_size > LOG_BYTES_MAX:
            path.replace(path.with_suffix(".log.1"))
    return FileIO(path, "ab")


def base_python_folder() -> Path:
    """The folder of a real ``python3`` (never a virtual environment's), which recipes call by that name."""
    return Path(getattr(sys, "_base_executable", sys.executable)).resolve().parent
