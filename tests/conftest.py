"""What every test may ask for: programs that pip cannot install, real models out of packages, free ports."""

import importlib.util
import os
import random
import shutil
import signal
import socket
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings

os.environ["ORT_DISABLE_TELEMETRY"] = "1"
signal.signal(signal.SIGINT, signal.default_int_handler)
"""Ctrl-C is ignored, and by each child too, where a shell has started the tests behind ``&``; some send it to theirs."""

settings.register_profile("edgewright", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("edgewright")  # no example is judged by the clock: the machine may be busy with something else

PROGRAMS = {
    "mosquitto": "mosquitto",
    "bwrap": "bubblewrap",
    "mkfs.ext4": "e2fsprogs",
    "strace": "strace",
    "chromium": "chromium",
}
"""Program to the Debian package that brings it; `.ci/run` installs them all."""


@pytest.fixture
def needs_program() -> Callable[[str], str]:
    """The path of a program, or a skip that says what to install. In CI a missing program is a failure."""

    def path_of(program: str) -> str:
        found = shutil.which(program) or shutil.which(program, path="/usr/sbin:/sbin")
        if found is None:
            sentence = f"{program} is not installed: apt install {PROGRAMS[program]}"
            if os.environ.get("CI"):
                pytest.fail(sentence)
            pytest.skip(sentence)
        return found

    return path_of


@pytest.fixture
def free_port() -> int:
    """See :func:`find_free_port`."""
    return find_free_port()


def find_free_port() -> int:
    """A TCP port that was free a moment ago, below those that the kernel gives to connections (32,768 and up).

    So no client of another test can have taken it by the time somebody listens on it.
    """
    for port in random.sample(range(20_000, 32_000), 100):
        with socket.socket() as listener:
            try:
                listener.bind(("", port))
            except OSError:
                continue
        return port
    raise AssertionError("a hundred ports are all taken")


@pytest.fixture(scope="session")
def silero_vad_onnx() -> Path:
    """Silero VAD's model (MIT) inside its PyPI wheel; the package itself is not imported, since it needs PyTorch."""
    spec = importlib.util.find_spec("silero_vad")
    assert spec is not None, "silero-vad is not installed: make test installs it"
    assert spec.submodule_search_locations is not None
    path = Path(spec.submodule_search_locations[0]) / "data" / "silero_vad_16k_op15.onnx"
    assert path.is_file()
    return path
