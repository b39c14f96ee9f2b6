"""The fault table of the swap: ``make faults``. Every row is a fault, where it struck, and what was found afterwards.

Needs root (strace attaches to other processes; file systems are mounted), strace, e2fsprogs and loop devices; a row whose
needs are not met is not run, and the end is a failure unless ``--skip-what-cannot-run`` says otherwise. Takes about four
minutes on two cores. ``--only kills --only power`` chooses rows.

Before power is cut in earnest, it is cut under a device whose fsync does nothing: a table that does not notice *that*
would prove nothing. The last line is JSON for machines.
"""

import argparse
import json
import os
import shutil
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

os.environ["ORT_DISABLE_TELEMETRY"] = os.environ["OPENBLAS_NUM_THREADS"] = "1"  # one thread: it is forked

from tests.faults.bad_models import bad_models
from tests.faults.malicious import malicious
from tests.faults.power import power_cuts
from tests.faults.strikes import Tally, kills, refusals, refusals_at_start
from tests.faults.subject import Bench

POWER_CUTS, POWER_LONGEST_S = 500, 150.0
SABOTAGED_CUTS = 60
BAD_MODELS_OF_EACH = 20
FAILURES_SHOWN_MAX = 10


@dataclass(frozen=True)
class Row:
    """``points_min``: fewer would prove less than is claimed."""

    title: str
    bar: str
    strike: Callable[[Path], Tally]
    needs: tuple[str, ...]
    points_min: int


def on_bench(strike: Callable[[Bench, Path], Tally]) -> Callable[[Path], Tally]:
    return lambda folder: strike(Bench.build(folder / "bench"), folder / "work")


def noticed(folder: Path) -> Tally:
    """One point: were cuts noticed under a device that never syncs?"""
    tally = power_cuts(folder, SABOTAGED_CUTS, POWER_LONGEST_S, sabotaged=True)
    tally.seen.clear()
    tally.seen["cuts that showed it"] = len(tally.failures)
    return Tally(1, [] if tally.failures else ["a device that never syncs passed"], tally.seen)


STRACE = ("root", "strace")
CUTS = ("root", "strace", "mkfs.ext4", "unshare", "loop devices")
ROWS: dict[str, Row] = {
    "kills": Row("kill -9 at each file-system call", "fault_kill_old_or_new", on_bench(kills), STRACE, 131),
    "errors": Row("EIO, ENOSPC at each call of a swap", "fault_io_error_old_or_new", on_bench(refusals), STRACE, 100),
    "start": Row("EIO at each call of a start", "fault_io_error_at_start", on_bench(refusals_at_start), STRACE, 20),
    "sabotage": Row("power cuts without fsync are noticed", "fault_missing_fsync_noticed", noticed, CUTS, 1),
    "power": Row(
        "power cut at each step", "fault_power_cut_old_or_new",
        lambda folder: power_cuts(folder, POWER_CUTS, POWER_LONGEST_S), CUTS, POWER_CUTS,
    ),
    "models": Row(
        "bad models", "fault_bad_models_refused", lambda folder: bad_models(folder, BAD_MODELS_OF_EACH), (),
        6 * BAD_MODELS_OF_EACH,
    ),
    "malicious": Row("malicious models and archives", "fault_malicious_contained", malicious, (), 40),
}  # fmt: skip


def lacking(need: str) -> bool:
    match need:
        case "root":
            return os.geteuid() != 0
        case "loop devices":
            return not Path("/dev/loop-control").exists()
        case program:
            return shutil.which(program, path=f"{os.environ.get('PATH', '')}:/usr/sbin:/sbin") is None


def main() -> int:
    arguments = parse_arguments()
    bars: list[dict[str, object]] = []
    not_run: list[str] = []
    print(f"| {'fault':36} | struck | held | seconds | what was found |\n|---|---|---|---|---|", flush=True)
    for name in arguments.only or ROWS:
        row = ROWS[name]
        if missing := [need for need in row.needs if lacking(need)]:
            not_run.append(f"{name} needs {', '.join(missing)}")
            print(f"| {row.title:36} | - | - | - | not run: needs {', '.join(missing)} |", flush=True)
            continue
        bars.append(run(row))
    for sentence in not_run:
        print(f"not run: {sentence}", file=sys.stderr)
    print(json.dumps({"bench": "faults", "bars": bars, "not_run": not_run}))
    held = all(bar["holds"] for bar in bars) and (not not_run or arguments.skip_what_cannot_run)
    return 0 if held else 1


def run(row: Row) -> dict[str, object]:
    """Strike, print the table's row, return the bar."""
    began_s = time.monotonic()
    with tempfile.TemporaryDirectory(prefix="faults-") as folder:
        try:
            tally = row.strike(Path(folder))
        except Exception as error:  # noqa: BLE001 - the other rows still have something to say
            tally = Tally(0, [f"could not be carried out: {error!r}"], Counter())
    held = max(tally.points - len(tally.failures), 0)
    found = ", ".join(f"{what} {count}" for what, count in tally.seen.items())
    took_s = time.monotonic() - began_s
    print(f"| {row.title:36} | {tally.points} | {held} | {took_s:.0f} | {found} |", flush=True)
    for failure in tally.failures[:FAILURES_SHOWN_MAX]:
        print(f"  FAILED {failure}", file=sys.stderr)
    ratio = held / tally.points if tally.points else 0.0
    target = f">= 1.0 of >= {row.points_min}"
    return {
        "name": row.bar, "value": round(ratio, 4), "unit": f"ratio of {tally.points}", "target": target,
        "holds": not tally.failures and tally.points >= row.points_min,
    }  # fmt: skip


def parse_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.split("\n", 1)[0])
    parser.add_argument("--only", action="append", choices=ROWS, help="this row; may be given several times")
    parser.add_argument(
        "--skip-what-cannot-run", action="store_true", help="succeed without rows whose needs are not met"
    )
    return parser.parse_args()


if __name__ == "__main__":
    sys.exit(main())
