"""Power cuts on a real ext4 under the running writer: what kill -9 cannot show, since the page cache survives it.

Run as root, in a mount namespace of its own (else a container that starts meanwhile keeps the mount alive):
``unshare --mount --propagation private python power_cuts.py FOLDER CUTS``. The file system lives in a file and is shut
down without flushing its journal (EXT4_IOC_SHUTDOWN): what was not synced is gone. Only what the writer had said *before*
the cut counts as acknowledged. Prints one JSON object: {"acknowledged", "lost", "numbered_twice", "kept", "epochs"}.
"""

import json
import random
import signal
import subprocess
import sys
from collections import Counter
from pathlib import Path

from edge_component.clock import SystemClock
from edge_component.contracts.envelope import Envelope
from edge_component.telemetry.outbox import Outbox
from edge_component.telemetry.segment_log import LogLimits
from tests.edge_component.cut_disk import CutDisk

WRITER = Path(__file__).with_name("killed_writer.py")
BYTES_MAX = 4_000_000


def write_until_the_cut(disk: CutDisk, lines_before: int) -> list[str]:
    """Run the writer until it has acknowledged so many messages, and cut; returns those."""
    arguments = [sys.executable, str(WRITER), str(disk.mount_point / "outbox"), str(BYTES_MAX)]
    with subprocess.Popen(arguments, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL) as child:
        assert child.stdout is not None
        lines = [child.stdout.readline().decode() for _ in range(lines_before)]
        disk.cut()
        child.send_signal(signal.SIGKILL)
    return lines


def drain(directory: Path) -> list[Envelope]:
    outbox = Outbox(directory, "station-jfk", SystemClock(), LogLimits(bytes_max=BYTES_MAX))
    seen: list[Envelope] = []
    while batch := outbox.oldest(100):
        seen += [Envelope.from_bytes(queued.payload) for queued in batch]
        outbox.acknowledge(batch[-1])
    outbox.close()
    return seen


def main(folder: Path, cuts: int) -> None:
    chance = random.Random(3)
    disk = CutDisk(folder)
    acknowledged: Counter[tuple[int, int]] = Counter()
    kept: Counter[tuple[int, int]] = Counter()
    bodies: dict[tuple[str, int], set[tuple[int, int]]] = {}
    for turn in range(cuts):
        for line in write_until_the_cut(disk, chance.randint(1, 40)):
            writer, number, _ = map(int, line.split())
            acknowledged[writer, number] += 1
        disk.unmount()
        disk.mount()
        if turn % 2 and turn != cuts - 1:
            continue  # the next writer recovers over what is there
        for message in drain(disk.mount_point / "outbox"):
            body = (message.body["writer"], message.body["number"])
            kept[body] += 1
            bodies.setdefault((message.epoch, message.sequence), set()).add(body)
    disk.unmount()
    print(
        json.dumps(
            {
                "acknowledged": acknowledged.total(),
                "lost": (acknowledged - kept).total(),
                "numbered_twice": sum(len(each) > 1 for each in bodies.values()),
                "kept": kept.total(),
                "epochs": len({epoch for epoch, _ in bodies}),
            }
        )
    )


main(Path(sys.argv[1]), int(sys.argv[2]))
