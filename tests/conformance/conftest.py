"""A nucleus's IPC in both profiles; what it is made of is in ``ipc_nucleus.py``."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from simulator.nucleus.profile import JAVA, LITE
from tests.conformance.ipc_nucleus import Nucleus


@pytest.fixture(params=[LITE, JAVA], ids=lambda profile: profile.name)
def nucleus(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Nucleus]:
    running = Nucleus(tmp_path, request.param)
    try:
        yield running
    finally:
        running.close()
