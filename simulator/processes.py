"""Child processes of a world: started with their output in a file, told apart when they die, stopped in order.

The failure this exists for: a run that hangs because a server died at its start and nobody read its last words.
"""

import json
import os
import signal
import subprocess
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import IO, Any

from simulator.errors import SimulatorError

POLL_S = 0.05
STOP_TIMEOUT_S = 10.0
LAST_LINES = 12


class ProcessDiedError(SimulatorError):
    """A server or a device application ended although nobody asked it to."""


class CommandFailedError(SimulatorError):
    """A command line ended with an exit code other than 0; its own words are in the message."""

    def __init__(self, message: str, exit_code: int) -> None:
        """Keep the exit code, so that an expected refusal can be told from the rest."""
        super().__init__(message, "The full output is in the log folder.")
        self.exit_code = exit_code


class Server:
    """One long-running child with its log file. Not thread-safe; owned by the world."""

    def __init__(self, name: str, command: Sequence[str], environment: Mapping[str, str], log_folder: Path) -> None:
        """Start it at once, in a session of its own, so that a Ctrl-C reaches the demo alone and the order is ours."""
        self.name = name
        self.log_path = log_folder / f"{name}.log"
        self._log: IO[bytes] = self.log_path.open("wb")  # anew: what an earlier life said is no sign of this one
        self.process = subprocess.Popen(
            list(command),
            env=dict(environment),
            stdin=subprocess.DEVNULL,
            stdout=self._log,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )

    def check(self) -> None:
        """Raise if it died.

        Raises:
            ProcessDiedError: with its last lines.
        """
        code = self.process.poll()
        if code is not None:
            raise ProcessDiedError(
                f"{self.name} ended with exit code {code}:\n{last_lines(self.log_path)}", f"See {self.log_path}."
            )

    def wait_for_line(self, start: str, timeout_s: float) -> str:
        """The first log line that begins with ``start``.

        Raises:
            ProcessDiedError: it died, or did not say so in time.
        """
        deadline = time.monotonic() + timeout_s
        while time.monotonic() < deadline:
            for line in self.log_path.read_text(errors="replace").splitlines():
                if line.startswith(start):
                    return line
            self.check()
            time.sleep(POLL_S)
        raise ProcessDiedError(
            f"{self.name} was not ready within {timeout_s:g} s:\n{last_lines(self.log_path)}", f"See {self.log_path}."
        )

    def stop(self) -> None:
        """SIGTERM to its session, SIGKILL if it does not go in time."""
        if self.process.poll() is None:
            self._signal(signal.SIGTERM)
            try:
                self.process.wait(STOP_TIMEOUT_S)
            except subprocess.TimeoutExpired:
                self._signal(signal.SIGKILL)
                self.process.wait()
        self._log.close()

    def _signal(self, number: signal.Signals) -> None:
        try:
            os.killpg(self.process.pid, number)
        except ProcessLookupError:
            return


def run_json(command: Sequence[str], environment: Mapping[str, str], log_path: Path, timeout_s: float) -> Any:  # noqa: ANN401 - JSON
    """Run a command to its end and decode what it printed; its progress goes to the log.

    Raises:
        CommandFailedError: another exit code than 0, or no JSON.
    """
    with log_path.open("ab") as log:
        log.write(f"$ {' '.join(command)}\n".encode())
        log.flush()
        done = subprocess.run(
            list(command),
            env=dict(environment),
            stdin=subprocess.DEVNULL,
            capture_output=True,
            timeout=timeout_s,
            check=False,
        )
        log.write(done.stderr + done.stdout)
    if done.returncode != 0:
        words = done.stderr.decode(errors="replace").strip() or done.stdout.decode(errors="replace").strip()
        shown = " ".join(command[2:]) if command[1:2] == ["-m"] else " ".join(command)
        raise CommandFailedError(f"{shown} ended with exit code {done.returncode}:\n{words}", done.returncode)
    try:
        return json.loads(done.stdout or b"null")
    except json.JSONDecodeError as error:
        raise CommandFailedError(f"{' '.join(command)} printed no JSON: {done.stdout[:300]!r}", 0) from error


def last_lines(path: Path) -> str:
    """The end of a log file, indented."""
    lines = path.read_text(errors="replace").splitlines()[-LAST_LINES:]
    return "\n".join(f"    {line}" for line in lines) or "    (it said nothing)"
