"""A weather station's application as the demo drives it: a separate process, one JSON command and one answer a line.

The application itself is ``models/weather/station.py``; it runs under the device's own Python and knows nothing of the
demo. Commands are answered in order by a reader thread, so that several stations can play at once.
"""

import json
import queue
import subprocess
import sys
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from simulator.errors import SimulatorError
from simulator.processes import ProcessDiedError, last_lines


class StationFailedError(SimulatorError):
    """The application answered a command with an error."""


class StationApplication:
    """One station's application. ``ask`` and ``answer`` may be called by one thread; the reader is its own."""

    def __init__(self, name: str, command: list[str], environment: Mapping[str, str], log_folder: Path) -> None:
        """Start it at once."""
        self.name = name
        self._log_path = log_folder / f"{name}.log"
        self._log = self._log_path.open("ab")
        self._process = subprocess.Popen(
            command,
            env=dict(environment),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._log,
            start_new_session=True,
        )
        self._answers: queue.Queue[dict[str, Any] | None] = queue.Queue()
        threading.Thread(target=self._read, name=f"{name}-answers", daemon=True).start()

    def ask(self, command: Mapping[str, Any]) -> None:
        """Send one command; its answer is the next one that :meth:`answer` returns."""
        assert self._process.stdin is not None
        try:
            self._process.stdin.write(json.dumps(command).encode() + b"\n")
            self._process.stdin.flush()
        except BrokenPipeError as error:
            raise self._died() from error

    def answer(self, timeout_s: float) -> dict[str, Any]:
        """The next answer.

        Raises:
            ProcessDiedError: it ended, or did not answer in time.
            StationFailedError: it answered with an error.
        """
        try:
            found = self._answers.get(timeout=timeout_s)
        except queue.Empty:
            raise ProcessDiedError(f"{self.name} did not answer within {timeout_s:g} s") from None
        if found is None:
            raise self._died()
        if "error" in found:
            raise StationFailedError(f"{self.name}: {found['error']}")
        return found

    def stop(self) -> None:
        """Close its standard input, which ends it, and wait."""
        assert self._process.stdin is not None
        self._process.stdin.close()
        try:
            self._process.wait(5)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        self._log.close()

    def _read(self) -> None:
        assert self._process.stdout is not None
        for line in self._process.stdout:
            self._answers.put(json.loads(line))
        self._answers.put(None)

    def _died(self) -> ProcessDiedError:
        return ProcessDiedError(f"{self.name} ended:\n{last_lines(self._log_path)}", f"See {self._log_path}.")


@contextmanager
def running_station(
    station: str, work: Path, observations: Path, script: Path, environment: Mapping[str, str], log_folder: Path
) -> Iterator[StationApplication]:
    """Run a station's application beside the runtime whose work path is given, until the block ends."""
    command = [
        sys.executable, str(script), "--socket", str(work / "infer.sock"), "--observations", str(observations),
    ]  # fmt: skip
    application = StationApplication(f"application-{station}", command, environment, log_folder)
    try:
        yield application
    finally:
        application.stop()
