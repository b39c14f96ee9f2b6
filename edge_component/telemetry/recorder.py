"""The recorder: what a request costs for being counted, and the thread that counts it.

The failure this exists for: observability that is felt. A request's thread copies the bytes of the few watched tensors
and appends one tuple, without a lock; a worker counts in batches. When the worker cannot keep up, records are lost and
counted as lost; a request never waits, and a model switch does not either. (Letting the worker give the interpreter away
after each column was tried: it made p99 of a saturated loop three times worse, and p99.9 no better.)

A window of one exact model opens with its first record. It is closed on the interval, on :meth:`Recorder.flush` and on
:meth:`Recorder.model_switched`, split into parts that fit a publish, and given to the sink. A sink that fails (a full
disk) is given the same parts again later; what does not fit the bounded memory is counted as lost in the next window.

Counting itself is ``columns`` and ``histogram``, closing is ``window``. Any thread may call anything.
"""

import logging
import threading
import uuid
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, NamedTuple, Protocol

from edge_component.clock import Clock
from edge_component.contracts.codec import Document
from edge_component.contracts.errors import ContractError
from edge_component.contracts.heartbeat import ModelRef
from edge_component.contracts.telemetry import TelemetryWindow
from edge_component.telemetry.captures import Kept, WatchedArrays, count_captures
from edge_component.telemetry.columns import Tensors, WatchPlan
from edge_component.telemetry.errors import TelemetryError
from edge_component.telemetry.window import Span, WindowCounts, close_window, count_service, split_window
from edge_component.telemetry_sink import Outcome

logger = logging.getLogger(__name__)

VERSIONS_MAX = 3
"""Of one model that a device holds, any of which may answer: active, previous, candidate (activation/table.py)."""

Sink = Callable[[str, Document], object]
"""``Outbox.append``: takes a kind and a body, durably, or raises a ``TelemetryError``."""


class Observer(Protocol):
    """Is told what was counted, by the thread that counts; must be quick, and must not raise."""

    def counted(
        self, model: ModelRef, latencies_us: Sequence[float], error_codes: Sequence[str], request_ids: Sequence[str]
    ) -> None:
        """Some requests of one exact model; all three have one entry for each, ``""`` for no error and for no id."""

    def lost(self, model: ModelRef, count: int) -> None:
        """Requests of which nothing but their number is known."""


@dataclass(frozen=True, slots=True)
class RecorderLimits:
    """Bounds of the recorder's memory and of its attention.

    Attributes:
        window_s: after which a window is closed.
        ring_records_max: what may wait to be counted; beyond it, records are lost. (Threads that append in the same
            instant may pass it by one each.)
        large_record_bytes: up to here the number of records is bound enough; the tensors of larger ones are added up.
        ring_bytes_max: all large records that wait to be counted; beyond it, large ones are lost.
        wake_records_count: how many waiting records wake the worker before its time.
        tick_s: how often the worker looks on its own.
        batch_records_count: how many records are counted at once.
        unsent_parts_max: parts of closed windows kept in memory while the sink fails.
    """

    window_s: float = 300.0
    ring_records_max: int = 16_384
    large_record_bytes: int = 512
    ring_bytes_max: int = 16_000_000
    wake_records_count: int = 1_024
    tick_s: float = 0.5
    batch_records_count: int = 1_024
    unsent_parts_max: int = 64


class _Record(NamedTuple):
    """One request. ``captured`` is ``None`` where tensors should have been kept and could not be."""

    model: ModelRef
    captured: list[Kept] | None
    size_bytes: int
    latency_us: float
    error_code: str | None
    request_id: str


@dataclass(slots=True)
class _OpenWindow:
    """A window under way; guarded by the counting lock."""

    plan: WatchPlan
    started_s: float
    counts: WindowCounts = field(default_factory=WindowCounts)


class Recorder:
    """See the module's docstring. :meth:`start` runs the worker; without it, :meth:`flush` counts in its caller."""

    def __init__(
        self,
        sink: Sink,
        clock: Clock,
        body_bytes_max: int,
        limits: RecorderLimits | None = None,
        new_window_id: Callable[[], str] = lambda: uuid.uuid4().hex,
        observers: Sequence[Observer] = (),
    ) -> None:
        """``body_bytes_max`` is how large a window's document may be: ``Outbox.body_bytes_max``."""
        self._observers = observers
        self._sink = sink
        self._clock = clock
        self._body_bytes_max = body_bytes_max
        self._limits = limits or RecorderLimits()
        self._new_window_id = new_window_id
        self._ring: deque[tuple[Any, ...] | WatchPlan] = deque()
        self._ring_lock = threading.Lock()  # for all that is rare: large records, losses, switches
        self._large_bytes = 0
        self._lost: dict[ModelRef, int] = {}
        self._plans: Mapping[str, WatchPlan] = {}
        self._counting = threading.Lock()
        self._windows: dict[str, _OpenWindow] = {}
        self._unsent: deque[TelemetryWindow] = deque()
        self._is_sink_failing = False
        self._counted_s = clock.monotonic_s()
        self._wake = threading.Event()
        self._stopping = threading.Event()
        self._worker = threading.Thread(target=self._run, name="recorder", daemon=True)

    # -- the hot path --------------------------------------------------------------------------------------------------

    def record(self, outcome: Outcome) -> None:
        """Keep one request for counting; the watched arrays are copied before this returns.

        The tensors of a request that failed are not looked at. Never raises, never waits for anything but another thread's
        append.
        """
        model, inputs, outputs, latency_us, error_code, request_id = outcome
        ring, limits = self._ring, self._limits
        waiting_count = len(ring)
        if waiting_count >= limits.ring_records_max:
            self._lose(model)
            return
        plan = self._plans.get(model.digest)
        kept: list[Kept] = []
        captured: list[Kept] | None = kept
        size_bytes = 0
        if plan is not None and not error_code:
            try:
                for name in plan.input_names:
                    tensor = inputs[name]
                    content = tensor.tobytes()
                    size_bytes += len(content)
                    kept.append((content, tensor.dtype, tensor.shape))
                for name in plan.output_names:
                    tensor = outputs[name]
                    content = tensor.tobytes()
                    size_bytes += len(content)
                    kept.append((content, tensor.dtype, tensor.shape))
            except Exception:  # noqa: BLE001 - whatever a tensor may be: no request fails for being counted
                captured, size_bytes = None, 0
            if size_bytes > limits.large_record_bytes and not self._reserve(model, size_bytes):
                return
        ring.append((model, captured, size_bytes, latency_us, error_code, request_id))
        if waiting_count >= limits.wake_records_count and not self._wake.is_set():
            self._wake.set()

    def bound_record(self, model: ModelRef, inputs: Tensors, outputs: Tensors) -> Callable[[float], None]:
        """:meth:`record` for answers whose tensors always lie in these same arrays: what to copy is found out once."""
        ring, wake, limits = self._ring, self._wake, self._limits
        ring_records_max, wake_records_count = limits.ring_records_max, limits.wake_records_count
        plans: Mapping[str, WatchPlan] | None = None
        watched: WatchedArrays | None = None

        def record(latency_us: float) -> None:
            nonlocal plans, watched
            waiting_count = len(ring)
            if plans is not self._plans:  # a switch has told what to watch
                plans = self._plans
                watched = WatchedArrays.of(plans.get(model.digest), inputs, outputs)
            if waiting_count >= ring_records_max or watched is None or watched.size_bytes > limits.large_record_bytes:
                self.record(Outcome(model, inputs, outputs, latency_us))
                return
            kept = []
            try:
                for take, dtype, shape in watched.taken:  # a loop: a comprehension would cost a call
                    kept.append((take(), dtype, shape))
            except Exception:  # noqa: BLE001 - as in record, which counts it
                self.record(Outcome(model, inputs, outputs, latency_us))
                return
            ring.append((model, kept, watched.size_bytes, latency_us, None, ""))
            if waiting_count >= wake_records_count and not wake.is_set():
                wake.set()

        return record

    def _lose(self, model: ModelRef, count: int = 1) -> None:
        with self._ring_lock:
            self._lost[model] = self._lost.get(model, 0) + count

    def _reserve(self, model: ModelRef, size_bytes: int) -> bool:
        with self._ring_lock:
            fits = self._large_bytes + size_bytes <= self._limits.ring_bytes_max
            if fits:
                self._large_bytes += size_bytes
        if not fits:
            self._lose(model)
        return fits

    # -- the rest ------------------------------------------------------------------------------------------------------

    def start(self) -> None:
        """Begin to count in the background."""
        self._worker.start()

    def model_switched(self, plan: WatchPlan) -> None:
        """From now on ``plan.model`` answers for its name; the windows of other versions are closed.

        What those still answer, under way or by a split or a pin, is counted in one more window of their own.
        """
        if plan.left_out:
            logger.warning("recorder: %s is not watched in full: %s", plan.model.name, "; ".join(plan.left_out))
        with self._ring_lock:
            others = {digest: known for digest, known in self._plans.items() if known.model.name != plan.model.name}
            before = [known for known in self._plans.values() if known.model.name == plan.model.name]
            held = {known.model.digest: known for known in before if known.model.digest != plan.model.digest}
            self._plans = {**others, **dict(list(held.items())[1 - VERSIONS_MAX :]), plan.model.digest: plan}
            self._ring.append(plan)
        self._wake.set()

    def set_window_s(self, window_s: float) -> None:
        """Another interval from now on; open windows are closed by it too."""
        self._limits = replace(self._limits, window_s=window_s)

    def flush(self) -> int:
        """Count what waits, close every window and give it to the sink; returns how many windows were closed."""
        with self._counting:
            closed_count = self._count_waiting()
            closed_count += sum(self._close(digest) for digest in list(self._windows))
            self._deliver()
            return closed_count

    def stop(self, timeout_s: float = 5.0) -> None:
        """Stop the worker, then flush."""
        self._stopping.set()
        self._wake.set()
        if self._worker.is_alive():
            self._worker.join(timeout_s)
        self.flush()

    @property
    def unsent_parts_count(self) -> int:
        """Parts of closed windows that the sink has not taken yet."""
        return len(self._unsent)

    def _run(self) -> None:
        while not self._stopping.is_set():
            self._wake.wait(self._limits.tick_s)
            self._wake.clear()
            try:
                self._tick()
            except Exception:  # the last line: telemetry may fail, the worker may not die
                logger.exception("recorder: a window could not be counted")

    def _tick(self) -> None:
        with self._counting:
            self._count_waiting()
            due_s = self._clock.monotonic_s() - self._limits.window_s
            for digest in [digest for digest, window in self._windows.items() if window.started_s <= due_s]:
                self._close(digest)
            self._deliver()

    # -- under the counting lock ---------------------------------------------------------------------------------------

    def _count_waiting(self) -> int:
        """Count what waits in the ring; returns how many windows a switch has closed on the way."""
        closed_count = 0
        batch: list[_Record] = []
        for _ in range(len(self._ring)):
            entry = self._ring.popleft()
            if isinstance(entry, WatchPlan):
                self._count_batch(batch)
                batch = []
                closed_count += self._switch(entry)
                continue
            batch.append(_Record._make(entry))
            if len(batch) >= self._limits.batch_records_count:
                self._count_batch(batch)
                batch = []
        self._count_batch(batch)
        with self._ring_lock:
            lost, self._lost = self._lost, {}
        for model, lost_count in lost.items():
            self._add(model, WindowCounts(lost_count=lost_count))
            for observer in self._observers:
                observer.lost(model, lost_count)
        self._counted_s = self._clock.monotonic_s()
        return closed_count

    def _count_batch(self, batch: Sequence[_Record]) -> None:
        groups: dict[str, list[_Record]] = {}
        for record in batch:
            groups.setdefault(record.model.digest, []).append(record)
        large_bytes = sum(r.size_bytes for r in batch if r.size_bytes > self._limits.large_record_bytes)
        if large_bytes:
            with self._ring_lock:
                self._large_bytes -= large_bytes
        for records in groups.values():
            try:
                self._count_group(records)
            except Exception:  # a defect may cost these records, counted; it may not cost the windows of other models
                logger.exception("recorder: %d records could not be counted", len(records))
                self._lose(records[0].model, len(records))

    def _count_group(self, records: Sequence[_Record]) -> None:
        model = records[0].model
        latencies_us = [record.latency_us for record in records]
        error_codes = [record.error_code or "" for record in records]
        service = count_service(latencies_us, error_codes)
        lost_count = sum(record.captured is None for record in records)
        kept = [record.captured for record in records if record.captured]
        self._add(model, WindowCounts(service=service, lost_count=lost_count))
        self._add(model, count_captures(self._window(model).plan, kept))
        for observer in self._observers:
            observer.counted(model, latencies_us, error_codes, [record.request_id for record in records])

    def _switch(self, plan: WatchPlan) -> int:
        gone = [
            digest
            for digest, window in self._windows.items()
            if window.plan.model.name == plan.model.name and window.plan is not plan
        ]
        return sum(self._close(digest) for digest in gone)

    def _window(self, model: ModelRef) -> _OpenWindow:
        window = self._windows.get(model.digest)
        if window is None:
            plan = self._plans.get(model.digest, WatchPlan(model))
            window = self._windows[model.digest] = _OpenWindow(plan, self._counted_s)
        return window

    def _add(self, model: ModelRef, counts: WindowCounts) -> None:
        window = self._window(model)
        window.counts += counts

    def _close(self, digest: str) -> bool:
        window = self._windows.pop(digest)
        if window.counts.is_empty:
            return False
        duration_ms = max(round((self._clock.monotonic_s() - window.started_s) * 1000), 0)
        span = Span(self._clock.now(), duration_ms)
        closed = close_window(window.plan, window.counts, span, self._new_window_id())
        self._unsent.extend(split_window(closed, self._body_bytes_max))
        return True

    def _deliver(self) -> None:
        while self._unsent:
            try:
                self._sink("window", self._unsent[0].to_document())
            except TelemetryError as error:
                self._note_failure(error)
                break
            except ContractError:
                logger.exception("recorder: a part of a window does not fit its contract; it is lost")
            self._unsent.popleft()
            self._is_sink_failing = False
        while len(self._unsent) > self._limits.unsent_parts_max:
            self._lose_part(self._unsent.popleft())

    def _note_failure(self, error: TelemetryError) -> None:
        if not self._is_sink_failing:
            logger.warning("recorder: windows are kept in memory until the outbox takes them: %s", error)
        self._is_sink_failing = True

    def _lose_part(self, part: TelemetryWindow) -> None:
        if part.service is not None:  # the first part counts for the whole window
            self._lose(part.model, part.service.answered_count + part.service.failed_count + part.lost_count)
