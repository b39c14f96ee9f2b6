"""The device that is struck: a real activator over real files, in a forked child that can be killed at any system call.

The parent never makes an ONNX Runtime session and starts no thread, so forking it is safe and costs a millisecond where
starting Python and ONNX Runtime would cost half a second. The model's trial is left out (bad_models.py has it, in the
real runtime): what is under test here is what the disk holds.

A swap passes through five states of the journal, in this order: ``old trial shadow pending new``. The child tells each
on a socket after it was persisted, so that the parent knows what must be found.
"""

import json
import logging
import os
import shutil
import socket
import subprocess
import time
import traceback
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from edge_component.activation.activator import Activator, ActivatorParts
from edge_component.activation.intake import Intake
from edge_component.activation.journal import JOURNAL_BYTES_MAX, JOURNAL_FILE, Journal, State
from edge_component.activation.live import LiveRequests
from edge_component.activation.slots import SlotParts
from edge_component.activation.table import Phase
from edge_component.bundles.signature import load_trust
from edge_component.bundles.store import Store
from edge_component.bundles.verification import Asked
from edge_component.clock import SystemClock
from edge_component.config import RuntimeConfig
from edge_component.contracts.activation import ActivationEvent
from edge_component.errors import DeviceError
from edge_component.inference.router import Router
from edge_component.platform_name import platform_name
from edge_component.sealed import unseal
from edge_component.telemetry_sink import NullSink, ShieldedSink
from tests.edge_component.bundle_factory import Bundle, BundleFactory, new_key

ROW = np.array([[1, 2, 3]], np.float32)
STATES = ("old", "trial", "shadow", "pending", "new")
CONFIG = RuntimeConfig(probation_s=0.0, shadow_s=0.001)
"""Commits at once, so that a swap has all its steps; nobody asks, so that the comparison is over at once."""

Outcome = tuple[str, str, str]
RESTORED: Outcome = ("restored", "restore", "")
INTERRUPTED: Outcome = ("refused", "restore", "activation-interrupted")
CHAINS: dict[str, tuple[list[Outcome], str]] = {
    "old": ([RESTORED], "old"),
    "trial": ([INTERRUPTED], "old"),
    "shadow": ([INTERRUPTED], "old"),
    "pending": ([RESTORED], "new"),
    "new": ([RESTORED], "new"),
}
"""State that the journal is found in, to what the next start reports and what serves from then on."""


@dataclass(frozen=True)
class Bench:
    """Bundles, the key that signed them, and a work folder in which ``old`` is committed and ``older`` is kept."""

    folder: Path
    trust: Path
    old: Bundle
    new: Bundle
    template: Path

    @classmethod
    def build(cls, folder: Path) -> "Bench":
        (folder / "trust").mkdir(parents=True)
        factory = BundleFactory(new_key(), folder)
        factory.write_public_key(folder / "trust" / "test.pem")
        older, old, new = (factory.scale(f"1.{minor}.0", minor + 1.0) for minor in range(3))
        bench = cls(folder, folder / "trust", old, new, folder / "template")

        def fill(tell: Tell, begin: Begin) -> None:
            begin()
            for bundle in (older, old):
                _swap(Device(bench, bench.template), bundle, tell)

        told = in_child(fill)
        assert [each["outcomes"] for each in told.results] == [[("activated", "switch", "")]] * 2, told
        return bench

    def fresh(self, work: Path) -> Path:
        """A work folder as before the swap."""
        shutil.rmtree(work, ignore_errors=True)
        shutil.copytree(self.template, work)
        return work

    def referenced(self, work: Path) -> frozenset[str]:
        """Digests that the journal names."""
        return State.read(unseal((work / JOURNAL_FILE).read_bytes(), JOURNAL_BYTES_MAX)).referenced()

    def state_of(self, work: Path) -> str:
        """Where the journal stands: one of :data:`STATES`, or what it says instead."""
        slot = State.read(unseal((work / JOURNAL_FILE).read_bytes(), JOURNAL_BYTES_MAX)).slot("scale")
        if slot.phase is not Phase.IDLE:
            return slot.phase.value
        names = {self.old.digest: "old", self.new.digest: "new"}
        return names.get(slot.active.ref.digest, "neither") if slot.active is not None else "nothing"


class TellingJournal(Journal):
    """Tells each state that was persisted."""

    def __init__(self, work: Path, told: Callable[[State], None]) -> None:
        super().__init__(work)
        self._told = told

    def save(self, state: State, *, is_way_back: bool = False) -> None:
        super().save(state, is_way_back=is_way_back)
        self._told(state)


class EventSink(NullSink):
    def __init__(self) -> None:
        self.outcomes: list[Outcome] = []

    def activation(self, event: ActivationEvent) -> None:
        self.outcomes.append((event.outcome, event.phase, event.code))


class Device:
    """The parts of a runtime that change what is served."""

    def __init__(self, bench: Bench, work: Path, told: Callable[[State], None] = lambda state: None) -> None:
        self.work, self.sink, self.router, self.store = work, EventSink(), Router(), Store(work)
        sink = ShieldedSink(self.sink)
        journal = TellingJournal(work, told)
        live = LiveRequests(sink.observe)
        slots = SlotParts(self.store, journal, self.router, sink, SystemClock(), CONFIG, live)
        intake = Intake(self.store, load_trust(bench.trust))
        self.activator = Activator(
            ActivatorParts(slots, intake, lambda folder, manifest, allowed_s: None, platform_name())
        )
        self.problems = self.activator.restore()

    def report(self) -> dict[str, Any]:
        active = self.router.active("scale")
        factor = None if active is None else float(active.session.run({"x": ROW})["y"][0, 0])
        return {
            "outcomes": self.sink.outcomes,
            "serves": {2.0: "old", 3.0: "new", None: "nothing"}.get(factor, "neither"),
            "problems": list(self.problems),
        }


Tell = Callable[[dict[str, Any]], None]
Begin = Callable[[], None]
Act = Callable[[Tell, Begin], object]
"""What a child does; the fault may strike from its ``begin()`` on."""


def swap_from_start(bench: Bench, work: Path, tell: Tell, begin: Begin) -> None:
    """Start, hand ``new`` over, and tell what came of it; all of it may be struck."""
    begin()
    _swap(Device(bench, work, _teller(bench, tell)), bench.new, tell)


def swap_alone(bench: Bench, work: Path, tell: Tell, begin: Begin) -> None:
    """The same; only the hand-over may be struck."""
    device = Device(bench, work, _teller(bench, tell))
    begin()
    _swap(device, bench.new, tell)


def restart(bench: Bench, work: Path, tell: Tell, begin: Begin) -> None:
    """Start over what is there."""
    begin()
    try:
        device = Device(bench, work)
    except (DeviceError, OSError) as error:
        tell({"result": {"outcomes": [], "serves": "not started", "error": repr(error)}})
    else:
        tell({"result": device.report()})


def _swap(device: Device, bundle: Bundle, tell: Tell) -> None:
    device.sink.outcomes.clear()
    with suppress(DeviceError):
        device.activator.activate(bundle.archive, Asked(bundle.component, bundle.version), 60.0)
    tell({"result": device.report()})


def _teller(bench: Bench, tell: Tell) -> Callable[[State], None]:
    names = {bench.old.digest: "old", bench.new.digest: "new"}

    def told(state: State) -> None:
        slot = state.slot("scale")
        held = names.get(slot.active.ref.digest, "?") if slot.active is not None else "?"
        tell({"persisted": held if slot.phase is Phase.IDLE else slot.phase.value})

    return told


@dataclass
class Told:
    """What a child told before it ended; ``killed`` if it did not end by itself."""

    persisted: list[str] = field(default_factory=list)
    results: list[dict[str, Any]] = field(default_factory=list)
    killed: bool = False

    @property
    def result(self) -> dict[str, Any]:
        assert len(self.results) == 1, self
        return self.results[0]


def in_child(act: Act, strike: "Callable[[int], subprocess.Popen[bytes]] | None" = None) -> Told:
    """Run ``act`` in a forked child; ``strike`` attaches to it where it says that it begins."""
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    child = os.fork()
    if child == 0:
        _be_child(act, theirs)
    theirs.close()
    tracer, told = None, Told()
    with ours:
        while message := ours.recv(65_536):
            said = json.loads(message)
            if "ready" in said:
                tracer = strike(child) if strike is not None else None
                if tracer is not None:
                    _wait_until_traced(child, tracer)
                ours.send(b"go")
            elif "persisted" in said:
                told.persisted.append(said["persisted"])
            else:
                said["result"]["outcomes"] = [tuple(outcome) for outcome in said["result"]["outcomes"]]
                told.results.append(said["result"])
    _, status = os.waitpid(child, 0)
    told.killed = os.WIFSIGNALED(status)
    if tracer is not None:
        tracer.wait(30)
    assert told.killed or os.WEXITSTATUS(status) == 0, "a child died of a defect; its traceback is above"
    return told


def _be_child(act: Act, channel: socket.socket) -> None:
    logging.disable()  # its lines would be writes, too, and be counted

    def tell(said: dict[str, Any]) -> None:
        channel.send(json.dumps(said).encode())  # a sendto, not a write

    def begin() -> None:
        tell({"ready": True})
        channel.recv(16)

    code = 1
    try:
        act(tell, begin)
        code = 0
    except BaseException:  # noqa: BLE001 - told to the parent by the exit code
        traceback.print_exc()
    finally:
        os._exit(code)


def _wait_until_traced(child: int, tracer: "subprocess.Popen[bytes]") -> None:
    ends_at_s = time.monotonic() + 20
    status = Path(f"/proc/{child}/status")
    while "TracerPid:\t0" in status.read_text():
        if tracer.poll() is not None or time.monotonic() > ends_at_s:
            raise RuntimeError("strace could not attach: this needs root, or kernel.yama.ptrace_scope=0")
        time.sleep(0.001)
