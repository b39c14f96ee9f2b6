"""The power fails at every step of a start and a swap, on a real ext4: what was not synced is gone.

``kill -9`` alone never shows a missing fsync, since the page cache survives it. So the child is killed at a call, and the
file system is shut down there and then without writing anything back, unmounted and mounted again. What is found is held
against what the child had told as persisted, as in strikes.py. The two ways of cut_disk.py take turns.

:func:`power_cuts` runs this module in a mount namespace of its own, which prints the tally as one JSON object.
"""

import json
import os
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterator
from functools import partial
from itertools import cycle
from pathlib import Path

from tests.edge_component.cut_disk import APART, LOG_FLUSHED, LOG_LOST, CutDisk
from tests.faults.strikes import Point, Tally, after_the_death, calls_of, run as strike_all
from tests.faults.subject import Bench, in_child, swap_from_start

STEPS = ("mkdir", "openat", "write", "fsync", "rename", "unlink", "unlinkat", "rmdir", "close")
"""Calls between which the disk differs; ``close`` comes just after a write or a sync."""


def power_cuts(folder: Path, cuts_count: int, longest_s: float, *, sabotaged: bool = False) -> Tally:
    """Cut as often as asked, walking all steps again and again, or for so long; sabotaged: under an fsync without effect."""
    script = [sys.executable, "-m", __name__, str(folder), str(cuts_count), str(longest_s), str(int(sabotaged))]
    run = subprocess.run([*APART, *script], capture_output=True, text=True, timeout=longest_s + 60)
    if run.returncode:
        raise RuntimeError(f"power could not be cut: {run.stderr[-2000:]}")
    told = json.loads(run.stdout)
    return Tally(told["points"], told["failures"], Counter(told["seen"]))


def walk(bench: Bench, disk: CutDisk, cuts_count: int, longest_s: float) -> Tally:
    work = disk.mount_point / "work"
    act = partial(swap_from_start, bench, work)
    bench.fresh(work)
    counts = calls_of(act, bench.folder / "calls")
    logs = cycle((LOG_LOST, LOG_FLUSHED))
    ends_at_s = time.monotonic() + longest_s

    def points() -> Iterator[Point]:
        left_count = cuts_count
        for _ in range(cuts_count):
            for call in STEPS:
                for when in range(1, counts[call] + 1):
                    if not left_count or time.monotonic() > ends_at_s:
                        return
                    left_count -= 1
                    yield Point(call, when, "signal=KILL")

    def judge(point: Point) -> str:
        bench.fresh(work)
        subprocess.run(["sync", "-f", str(work)], check=True)
        told = in_child(act, point.attach)
        disk.cut(next(logs))
        disk.unmount()
        disk.mount()
        assert told.killed, "it was not reached"
        return after_the_death(bench, work, told)

    return strike_all(Tally(0, [], Counter()), points(), judge)


def main(folder: Path, cuts_count: int, longest_s: float) -> None:
    (folder / "power").mkdir()
    bench = Bench.build(folder / "power" / "bench")
    disk = CutDisk(folder / "power")
    try:
        tally = walk(bench, disk, cuts_count, longest_s)
    finally:
        disk.unmount()
    print(json.dumps({"points": tally.points, "failures": tally.failures, "seen": tally.seen}))


if __name__ == "__main__":
    if sys.argv[4] == "1":
        os.fsync = lambda descriptor: None
        STEPS = ("rename", "openat")
    main(Path(sys.argv[1]), int(sys.argv[2]), float(sys.argv[3]))
