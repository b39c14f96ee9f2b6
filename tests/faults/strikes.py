"""A swap struck at every file-system call: killed there, or refused by the disk there. Old or new serves, always.

strace counts the calls of one undisturbed run, and then strikes each of them in a run of its own. A kill comes before
the call is carried out, so the states in between are all seen. What must be found follows from the state that the journal
is in (subject.CHAINS): the exact outcomes that the next start reports, and what serves then. Beyond that:

* what the child had told as persisted is what is found, or a later state (nothing acknowledged is lost);
* the bundles in the store are those that the journal refers to, and nothing is left staged;
* a call that the disk refuses ends in ``activated`` or in ``refused`` with a store's code, and is what a restart finds.
"""

import re
import subprocess
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from edge_component.contracts.errors import ContractError
from tests.faults.subject import CHAINS, STATES, Act, Bench, Told, in_child, restart, swap_alone, swap_from_start

NO_EFFECT = ("lseek", "ioctl", "fcntl", "mmap", "fstat", "newfstatat", "statx", "access", "readlink", "fadvise64")
"""Calls that neither change a file nor wait for one; a kill before them finds what a kill at the next call finds."""
REFUSED_CODES = ("store-failed", "store-full", "store-damaged", "bundle-archive", "model-unloadable", "golden-unusable")
"""The last two: ONNX Runtime and numpy say no more of a file that they could not read."""


@dataclass(frozen=True)
class Point:
    """The ``when``-th ``call``; ``what`` is strace's fault, such as ``signal=KILL`` or ``error=EIO``."""

    call: str
    when: int
    what: str
    stays: bool = False

    def __str__(self) -> str:
        return f"{self.what} at {self.call} number {self.when}{' and all after it' if self.stays else ''}"

    def attach(self, child: int) -> "subprocess.Popen[bytes]":
        fault = f"inject={self.call}:{self.what}:when={self.when}{'+' if self.stays else ''}"
        command = ["strace", "-qq", "-o", "/dev/null", "-e", f"trace={self.call}", "-e", fault, "-p", str(child)]
        return subprocess.Popen(command, stderr=subprocess.DEVNULL)


@dataclass
class Tally:
    """Of one table row; ``failures`` are sentences."""

    points: int
    failures: list[str]
    seen: Counter[str]


def calls_of(act: Act, log: Path) -> Counter[str]:
    """How often each file-system call is made, undisturbed."""

    def attach(child: int) -> "subprocess.Popen[bytes]":
        command = ["strace", "-qq", "-o", str(log), "-e", "trace=%file,%desc", "-p", str(child)]
        return subprocess.Popen(command, stderr=subprocess.DEVNULL)

    told = in_child(act, attach)
    assert told.results, told
    counts = Counter(re.findall(r"^(\w+)\(", log.read_text(), re.MULTILINE))
    return Counter({call: count for call, count in counts.items() if call not in NO_EFFECT})


def run(tally: Tally, points: Iterator[Point], judge: Callable[[Point], str]) -> Tally:
    """Strike each; ``judge`` returns what was seen, or raises AssertionError."""
    for point in points:
        tally.points += 1
        try:
            tally.seen[judge(point)] += 1
        except (AssertionError, OSError, KeyError, ContractError) as error:
            tally.failures.append(f"{point}: {error}")
    return tally


def kills(bench: Bench, work: Path) -> Tally:
    """kill -9 at every call of a start and a swap."""
    act = partial(swap_from_start, bench, work)
    bench.fresh(work)
    counts = calls_of(act, bench.folder / "calls")
    points = (Point(call, when, "signal=KILL") for call, count in counts.items() for when in range(1, count + 1))
    furthest: dict[str, int] = {}

    def judge(point: Point) -> str:
        bench.fresh(work)
        told = in_child(act, point.attach)
        assert told.killed, "it was not reached"
        found = after_the_death(bench, work, told)
        rank = STATES.index(found)
        assert rank >= furthest.get(point.call, 0), f"{found} was found after a later state"
        furthest[point.call] = rank
        return found

    return run(Tally(0, [], Counter()), points, judge)


def after_the_death(bench: Bench, work: Path, told: Told) -> str:
    """Hold what is found against what was told and against the chain of its state; returns the state."""
    found = bench.state_of(work)
    assert found in STATES, f"the journal says {found}"
    acknowledged = max((STATES.index(state) for state in told.persisted), default=0)
    assert STATES.index(found) >= acknowledged, f"{STATES[acknowledged]} was persisted, {found} is found"
    if told.results:
        assert told.result["serves"] == "new", "it was acknowledged"
    outcomes, serves = CHAINS[found]
    result = in_child(partial(restart, bench, work)).result
    assert (result["outcomes"], result["serves"]) == (outcomes, serves), f"from {found}: {result}"
    assert_tidy(bench, work, result)
    return found


def assert_tidy(bench: Bench, work: Path, result: dict[str, object]) -> None:
    """Nothing staged, nothing stored that nobody refers to, nothing wrong to report."""
    stored, staged = ({path.name for path in (work / folder).iterdir()} for folder in ("store", "staging"))
    assert (staged, result["problems"]) == (set(), []), f"{staged}, {result}"
    assert stored == bench.referenced(work), f"stored: {stored}"


ERRORS = {
    "write": ("EIO", "ENOSPC"), "fsync": ("EIO", "ENOSPC"), "rename": ("EIO", "ENOSPC"), "mkdir": ("EIO", "ENOSPC"),
    "openat": ("EIO", "ENOSPC"), "unlinkat": ("EIO",), "rmdir": ("EIO",), "getdents64": ("EIO",), "read": ("EIO",),
}  # fmt: skip
LASTING = ("write", "fsync", "rename", "mkdir")
"""Struck a second time with a disk that refuses from then on."""


def refusals(bench: Bench, work: Path) -> Tally:
    """EIO and ENOSPC at each call of a swap, once and from then on."""
    act = partial(swap_alone, bench, work)
    bench.fresh(work)
    counts = calls_of(act, bench.folder / "calls")
    points = (
        Point(call, when, f"error={error}", stays)
        for call, errors in ERRORS.items()
        for error in errors
        for stays in ((False, True) if call in LASTING else (False,))
        for when in range(1, counts[call] + 1)
    )

    def judge(point: Point) -> str:
        bench.fresh(work)
        result = in_child(act, point.attach).result
        assert len(result["outcomes"]) == 1, result
        outcome, phase, code = result["outcomes"][0]
        if outcome == "activated":
            assert result["serves"] == "new", result
        else:
            assert (outcome, result["serves"]) == ("refused", "old"), result
            assert code in REFUSED_CODES, result
        again = in_child(partial(restart, bench, work)).result
        assert again["serves"] == result["serves"], f"{outcome}, and after a restart: {again}"
        assert_tidy(bench, work, again)
        return outcome if outcome == "activated" else f"{outcome} ({phase})"

    return run(Tally(0, [], Counter()), points, judge)


def refusals_at_start(bench: Bench, work: Path) -> Tally:
    """EIO at each call of a start: it serves what it served, or says why it cannot start; the next start is well."""
    act = partial(restart, bench, work)
    bench.fresh(work)
    counts = calls_of(act, bench.folder / "calls")
    points = (
        Point(call, when, "error=EIO") for call in counts if call in ERRORS for when in range(1, counts[call] + 1)
    )

    def judge(point: Point) -> str:
        bench.fresh(work)
        result = in_child(act, point.attach).result
        assert result["serves"] in ("old", "not started"), result
        again = in_child(act).result
        assert (again["outcomes"], again["serves"]) == CHAINS["old"], f"{result}, and then {again}"
        assert_tidy(bench, work, again)
        return f"serves {result['serves']}" if result["serves"] == "old" else "not started, and why"

    return run(Tally(0, [], Counter()), points, judge)
