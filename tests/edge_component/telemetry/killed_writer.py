"""A child of test_kill.py: appends to an outbox from three threads for ever, and says each number once it is told it.

Run as ``python killed_writer.py DIRECTORY BYTES_MAX``; prints ``epoch sequence`` lines, and is killed by its parent.
"""

import os
import sys
import threading
from pathlib import Path

from edge_component.clock import SystemClock
from edge_component.telemetry.outbox import Outbox
from edge_component.telemetry.segment_log import LogLimits

outbox = Outbox(Path(sys.argv[1]), "station-jfk", SystemClock(), LogLimits(bytes_max=int(sys.argv[2])))


def write(name: int) -> None:
    number = 0
    while True:
        number += 1
        sequence = outbox.append("heartbeat", {"writer": name, "number": number, "pad": "x" * (number % 300)})
        os.write(1, f"{name} {number} {sequence}\n".encode())


def drain() -> None:
    while True:
        batch = outbox.oldest(3)
        if batch:
            os.write(1, b"".join(b"sent " + queued.payload + b"\n" for queued in batch))
            outbox.acknowledge(batch[-1])


if len(sys.argv) > 3:
    threading.Thread(target=drain).start()
for name in range(3):
    threading.Thread(target=write, args=(name,)).start()
