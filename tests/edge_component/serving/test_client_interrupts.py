"""A client that is interrupted at any moment (Ctrl-C, a watchdog's alarm) can be used, shared and closed afterwards."""

import re
import subprocess
import sys
import threading

import pytest

from edge_component.client import DeadlineExceededError
from tests.edge_component.serving import interrupted_client
from tests.edge_component.serving.conftest import ROW, Door

INTERRUPTS_COUNT = 5_000
"""One in some hundreds used to leave the client locked for ever."""


def test_an_interrupt_at_any_moment_leaves_it_unlocked_and_in_step(door: Door) -> None:
    arguments = [sys.executable, "-m", interrupted_client.__name__, door.path, str(INTERRUPTS_COUNT)]
    ended = subprocess.run(arguments, stderr=subprocess.PIPE, text=True, check=False, timeout=60)
    assert ended.returncode == 0, ended.stderr


def test_whoever_comes_while_another_asks_waits_no_longer_than_its_own_time(door: Door) -> None:
    client = door.client()
    client.infer("scale", {"x": ROW})
    with client._lock:
        client._is_busy = True
        told = re.escape("other requests on this client took all of 0.05 s")
        with pytest.raises(DeadlineExceededError, match=told):
            client.infer("scale", {"x": ROW}, deadline_s=0.05)
        waiting = threading.Thread(target=client.infer, args=("scale", {"x": ROW}), kwargs={"deadline_s": 20})
        waiting.start()
        client._is_busy = False
    waiting.join(10)
    assert not waiting.is_alive()
    assert not client._lock.locked()
