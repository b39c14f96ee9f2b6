"""``edgewright-sim`` from the outside: an installation that stays up, and a device that is looked at and disturbed."""

import json
import os
import shlex
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.simulator.nucleus.test_real_ports import until

SIM = [sys.executable, "-m", "simulator.cli"]
WAIT_S = 30


def sourced(env_file: Path) -> dict[str, str]:
    """What a shell has after sourcing a file."""
    shell = subprocess.run(
        ["/bin/sh", "-c", f". {shlex.quote(str(env_file))}; env -0"], capture_output=True, check=True, timeout=WAIT_S
    )
    return dict(entry.split("=", 1) for entry in shell.stdout.decode().split("\0") if entry)


class Up:
    """A running ``edgewright-sim up``."""

    def __init__(self, folder: Path) -> None:
        self.process = subprocess.Popen([*SIM, "up", "--folder", str(folder)], stdout=subprocess.PIPE)
        assert self.process.stdout is not None
        self.line = json.loads(self.process.stdout.readline())
        self.environment = sourced(Path(self.line["env"]))

    def stop(self) -> int:
        self.process.terminate()
        assert self.process.stdout is not None
        self.process.stdout.close()
        return self.process.wait(WAIT_S)


@pytest.fixture
def up() -> Iterator[Up]:
    with tempfile.TemporaryDirectory(prefix="gg ") as folder:  # a space, as in many a user's folder
        running = Up(Path(folder))
        try:
            yield running
        finally:
            running.stop()


def test_a_second_one_in_the_folder_is_refused_and_takes_nothing_away(up: Up) -> None:
    env_file = Path(up.line["env"])
    before = env_file.read_text()
    second = sim("up", "--folder", str(env_file.parent))
    assert (second.returncode, second.stdout) == (5, "")
    assert f"a local cloud is up in {env_file.parent}" in second.stderr
    assert env_file.read_text() == before


def test_a_local_cloud_that_dies_ends_it_with_its_last_words() -> None:
    """Else it sits there as if all were well, while every command finds no answer."""
    with tempfile.TemporaryDirectory() as folder:
        up = subprocess.Popen(
            [*SIM, "up", "--folder", folder], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
        )
        assert up.stdout is not None
        up.stdout.readline()
        children = Path(f"/proc/{up.pid}/task/{up.pid}/children").read_text().split()
        (cloud,) = (int(each) for each in children if b"simulator.aws" in Path(f"/proc/{each}/cmdline").read_bytes())
        os.kill(cloud, signal.SIGKILL)
        _, said = up.communicate(timeout=WAIT_S)
    assert up.returncode == 5
    assert "local-cloud ended with exit code -9" in said


def sim(*arguments: str, environment: dict[str, str] | None = None) -> "subprocess.CompletedProcess[str]":
    return subprocess.run(
        [*SIM, *arguments], capture_output=True, text=True, env=environment or dict(os.environ), timeout=WAIT_S
    )


def status(root: Path) -> dict[str, Any]:
    done = sim("device", "status", "--root", str(root), "--json")
    return json.loads(done.stdout) if done.returncode == 0 else {}


def test_up_stays_up_and_carries_a_device(up: Up) -> None:
    assert up.environment["AWS_ENDPOINT_URL"] == up.line["url"]
    root = Path(up.line["env"]).parent / "d"
    command = [*SIM, "device", "run", "station-1", "--root", str(root), "--broker", up.line["broker"]]
    device = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, env=up.environment)
    try:
        assert device.stdout is not None
        assert json.loads(device.stdout.readline())["thing_name"] == "station-1"
        until(lambda: status(root).get("connected"), "the device is connected")
        second = sim(*command[len(SIM) :], environment=up.environment)
        assert (second.returncode, f"a device is running in {root}" in second.stderr) == (5, True), second.stderr
        assert status(root)["connected"] is True
        delay = sim("device", "surprise", "--root", str(root), "--start-delay", "com.example.A=1.5",
                    "--daemon-dies-after", "record")  # fmt: skip
        assert json.loads(delay.stdout) == {"start_delay_s": {"com.example.A": 1.5}, "daemon_dies_after": "record"}
        ipc = root / "gg-ipc.socket"
        assert (sim("device", "stop-ipc", "--root", str(root)).returncode, ipc.exists()) == (0, False)
        assert (sim("device", "start-ipc", "--root", str(root)).returncode, ipc.is_socket()) == (0, True)
        assert sim("device", "power-off", "--root", str(root)).returncode == 0
        assert status(root)["running"] is False
        assert "station-1 (lite): without power" in sim("device", "status", "--root", str(root)).stdout
        assert sim("device", "power-on", "--root", str(root)).returncode == 0
        until(lambda: status(root).get("connected"), "it is back")
        assert sim("device", "restart", "--root", str(root)).returncode == 0
        assert sim("device", "kill", "com.example.A", "--root", str(root)).returncode == 2
        device.send_signal(signal.SIGTERM)
        assert device.wait(WAIT_S) == 0
        assert up.stop() == 0
    finally:
        device.kill()
        device.wait()
        assert device.stdout is not None
        device.stdout.close()


@pytest.mark.parametrize(
    ("arguments", "words", "code"),
    [
        (["device", "status", "--root", "/nowhere"], "no device answers", 5),
        (["device", "run", "x", "--root", "/tmp/gg-x", "--broker", "/nowhere"], "not a broker address", 5),
        (["device", "run", "x", "--root", "/tmp/gg-x", "--broker", "/nowhere", "--profile", "rust"], "rust", 2),
        (["device", "surprise", "--root", "/nowhere", "--start-delay", "soon"], "soon", 2),
        (["up", "--broker", "rabbit"], "rabbit", 2),
        (["up", "--folder", "/proc/nowhere"], "/proc/nowhere: No such file", 5),
    ],
)
def test_what_cannot_be_is_said_in_one_line(arguments: list[str], words: str, code: int) -> None:
    done = sim(*arguments, environment={**os.environ, "AWS_ENDPOINT_URL": "http://127.0.0.1:9", "COLUMNS": "200"})
    assert (done.returncode, "Traceback" in done.stderr) == (code, False), done.stderr
    assert words in done.stderr
