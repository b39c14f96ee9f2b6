"""Waiting for what nothing announces."""

import time
from collections.abc import Callable

WAIT_S = 30.0
POLL_S = 0.005


def wait_until(is_so: Callable[[], object]) -> None:
    ends_at_s = time.monotonic() + WAIT_S
    while not is_so():
        assert time.monotonic() < ends_at_s, f"not within {WAIT_S:g} s"
        time.sleep(POLL_S)
