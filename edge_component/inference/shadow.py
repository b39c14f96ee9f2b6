"""Show a sample of the requests to another version, and count how far the two agree, at nobody's cost.

The failure this exists for: a trial in production that slows production down. A sampled request is copied into a bounded
queue by the thread that has answered it, and computed by one worker of lower priority. A full queue drops the sample
before anything is copied, and counts it. The worker takes no place of the model's admission: it is bounded by being one.

What is compared, and how, is agreement.py's. The counts live as long as the rule: another rule begins anew.
"""

import logging
import os
import threading
from collections import deque
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass

import numpy as np

from edge_component.contracts.manifest import Manifest
from edge_component.contracts.routes import ShadowReport, ShadowRule
from edge_component.cores import run_anywhere
from edge_component.errors import DeviceError
from edge_component.inference.agreement import Agreement, compare
from edge_component.inference.deadline import DeadlineWatch
from edge_component.inference.session import Array, Tensors
from edge_component.inference.versions import ActiveModel, Version, Wake

log = logging.getLogger(__name__)

WORKER_NICENESS = 10


@dataclass(frozen=True, slots=True)
class ShadowLimits:
    """``queue_bytes_max``: tensors that wait to be compared; ``run_s_max``: after which a shadow's run is stopped."""

    queue_bytes_max: int = 8_000_000
    run_s_max: float = 5.0


@dataclass(frozen=True, slots=True)
class _Sample:
    mirror: "ShadowMirror"
    inputs: dict[str, Array]
    outputs: dict[str, Array]
    size_bytes: int


class Shadowing:
    """The queue and its worker, which starts with the first sample. Any thread may offer."""

    def __init__(self, watch: DeadlineWatch, limits: ShadowLimits | None = None) -> None:
        """Nothing waits."""
        self._limits = limits or ShadowLimits()
        self._watch = watch
        self._waiting: deque[_Sample] = deque()
        self._waiting_bytes = 0
        self._changed = threading.Condition()
        self._stopping = False
        self._busy = False
        self._thread: threading.Thread | None = None

    def put(self, mirror: "ShadowMirror", inputs: Tensors, outputs: Tensors) -> bool:
        """Copy one sample into the queue; whether there was room, memory, and a thread to compare it."""
        size_bytes = sum(array.nbytes for tensors in (inputs, outputs) for array in tensors.values())
        with self._changed:
            if self._stopping or self._waiting_bytes + size_bytes > self._limits.queue_bytes_max:
                return False
            self._waiting_bytes += size_bytes
        try:
            sample = _Sample(mirror, _copied(inputs), _copied(outputs), size_bytes)
            with self._changed:
                self._start_worker()
                self._waiting.append(sample)
                self._changed.notify()
        except (MemoryError, RuntimeError):  # RuntimeError: no thread
            with self._changed:
                self._waiting_bytes -= size_bytes
            return False
        return True

    def settle(self, timeout_s: float) -> bool:
        """Wait until nothing waits any more; whether that came in time."""
        with self._changed:
            return self._changed.wait_for(lambda: not self._waiting and not self._busy, timeout_s)

    def stop(self) -> None:
        """Drop what waits and end the worker."""
        with self._changed:
            self._stopping = True
            self._waiting.clear()
            self._changed.notify_all()
        if self._thread is not None:
            self._thread.join()

    def _start_worker(self) -> None:
        if self._thread is None:
            thread = threading.Thread(target=self._work, name="shadow", daemon=True)
            thread.start()
            self._thread = thread

    def _work(self) -> None:
        with suppress(OSError):  # not to be had everywhere, and only a courtesy
            os.setpriority(os.PRIO_PROCESS, threading.get_native_id(), WORKER_NICENESS)
        run_anywhere()  # whose sample came first may be served on its client's core alone
        leash = self._watch.leash()
        while (sample := self._take()) is not None:
            leash.start(self._limits.run_s_max)
            try:
                sample.mirror.compare(sample.inputs, sample.outputs, leash.options)
            except Exception:  # a defect costs this sample, not the comparison
                log.exception("a shadowed request could not be compared")
            finally:
                leash.end()
                self._done(sample)

    def _take(self) -> _Sample | None:
        with self._changed:
            self._changed.wait_for(lambda: self._waiting or self._stopping)
            if self._stopping:
                return None
            self._busy = True
            return self._waiting.popleft()

    def _done(self, sample: _Sample) -> None:
        with self._changed:
            self._busy = False
            self._waiting_bytes -= sample.size_bytes
            self._changed.notify_all()


class ShadowMirror:
    """A :class:`~edge_component.inference.versions.Mirror`: one rule's way from the answering version to another."""

    def __init__(
        self,
        rule: ShadowRule,
        shadow: Version,
        manifest: Manifest,
        shadowing: Shadowing,
        wake: Wake,
        draw: Callable[[], float],
    ) -> None:
        """Nothing compared yet. ``draw`` gives numbers in [0, 1)."""
        self._ratio = rule.sample_ratio
        self._shadow = shadow
        self._manifest = manifest
        self._shadowing = shadowing
        self._wake = wake
        self._draw = draw
        self._lock = threading.Lock()
        self._agreement = Agreement()
        self._dropped_count = 0
        self._failed_count = 0

    def offer(self, inputs: Tensors, outputs: Tensors) -> None:
        """See :class:`~edge_component.inference.versions.Mirror`."""
        if self._draw() >= self._ratio:
            return
        if not self._shadowing.put(self, inputs, outputs):
            with self._lock:
                self._dropped_count += 1

    def compare(self, inputs: dict[str, Array], outputs: dict[str, Array], options: object) -> None:
        """Ask the shadow, and count; in the worker's thread."""
        try:
            shadow: ActiveModel = self._shadow.loaded or self._wake(self._shadow)
            found = compare(outputs, shadow.session.run(inputs, options), self._manifest)
        except DeviceError as error:
            with self._lock:
                first = not self._failed_count
                self._failed_count += 1
            if first:
                log.warning("the shadow %s did not answer: %s", self._shadow.ref.version, error)
            return
        with self._lock:
            self._agreement = self._agreement.plus(found)

    def report(self) -> ShadowReport:
        """See :class:`~edge_component.inference.versions.Mirror`."""
        with self._lock:
            return ShadowReport(
                self._shadow.ref.version,
                self._shadow.ref.digest,
                self._agreement.compared_count,
                self._agreement.agreed_count,
                self._dropped_count,
                self._failed_count,
                self._agreement.difference_max,
            )


def _copied(tensors: Tensors) -> dict[str, Array]:
    return {name: np.array(array) for name, array in tensors.items()}
