"""A process of its own whose client is interrupted at random moments: ``python -m … SOCKET COUNT``; see the test."""

import random
import signal
import sys

import numpy as np

from edge_component.client import Client

ROW = np.array([[1, 2, 3]], np.float32)


class Alarm(Exception):  # noqa: N818 - it is none
    """What the handler raises, wherever the program is."""


def interrupt(*_: object) -> None:
    """As a watchdog does, or Ctrl-C."""
    raise Alarm


def ask_until_interrupted(client: Client, after_s: float, number: int) -> None:
    """Ask, and compare, until the alarm; or until it is clear that it was raised where exceptions are lost."""
    signal.setitimer(signal.ITIMER_REAL, after_s)
    for _ in range(1_000):
        answer = client.infer("scale", {"x": ROW * number})
        assert (answer.outputs["y"] == ROW * number * 2).all(), "the answer to another request"
        number += 1
    signal.setitimer(signal.ITIMER_REAL, 0)


def main() -> None:
    """Interrupted so often, and in order every time."""
    client, draw = Client(sys.argv[1]), random.Random(7)
    signal.signal(signal.SIGALRM, interrupt)
    for count in range(int(sys.argv[2])):
        try:
            ask_until_interrupted(client, draw.uniform(1e-5, 5e-4), count)
        except Alarm:
            assert not client._lock.locked(), f"locked for ever by interrupt {count}"
    client.close()


if __name__ == "__main__":
    main()
