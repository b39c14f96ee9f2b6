"""What the runtime tells telemetry, as a port of seven methods; a sink that forgets, and a shield.

The failure this exists for: serving that depends on telemetry. The runtime is whole without it; ``telemetry/``
implements this port, and nothing behind it may delay or fail a request: :meth:`TelemetrySink.record` is called by the
connections' threads, after the answer has left wherever that is possible.
"""

import logging
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import NamedTuple, Protocol

import numpy as np
from numpy.typing import NDArray

from edge_component.contracts.activation import ActivationEvent
from edge_component.contracts.heartbeat import ModelRef, OutboxState
from edge_component.contracts.manifest import Manifest

log = logging.getLogger(__name__)

Tensors = Mapping[str, NDArray[np.generic]]


class Outcome(NamedTuple):
    """What became of one request; a tuple, since one is made for each request.

    Attributes:
        model: who answered, or should have.
        inputs, outputs: views on memory that the client will overwrite; none of a request that failed.
        latency_us: from the request's arrival to the end of the run.
        error_code: stable code of a request that failed.
        request_id: the client's, if it has one.
    """

    model: ModelRef
    inputs: Tensors
    outputs: Tensors
    latency_us: float
    error_code: str | None = None
    request_id: str = ""


Record = Callable[[Outcome], None]
"""One request was answered or failed; what is kept of its tensors is copied before it returns."""

BoundRecord = Callable[[int], None]
"""One more request was answered, in so many µs, whose tensors lie where those of the one before it lay."""


class TelemetrySink(Protocol):
    """Called from many threads at once."""

    def record(self, outcome: Outcome) -> None:
        """One request was answered or failed; copy what is kept of its arrays before returning."""

    def bound_record(self, model: ModelRef, inputs: Tensors, outputs: Tensors) -> BoundRecord:
        """:meth:`record` for answers of one model that are always in these same arrays; must cost as little as can be."""

    def model_switched(self, model: ModelRef, baseline: bytes | None, manifest: Manifest) -> None:
        """From now on this model answers for its name; ``baseline`` is its ``baseline.json``, if it has one."""

    def activation(self, event: ActivationEvent) -> None:
        """An attempt to change what is served has ended; keep the event durably."""

    def flush(self) -> int:
        """Close the current windows and queue them, and a heartbeat; returns how many windows."""

    def outbox_state(self) -> OutboxState:
        """How much waits to be sent."""

    def stop(self) -> None:
        """The runtime is stopping: keep what has not been kept, let go of files and threads."""


class NullSink:
    """Telemetry that is switched off."""

    def record(self, outcome: Outcome) -> None:
        """Forget it."""

    def bound_record(self, model: ModelRef, inputs: Tensors, outputs: Tensors) -> BoundRecord:
        """See :class:`TelemetrySink`."""
        return lambda latency_us: self.record(Outcome(model, inputs, outputs, latency_us))

    def model_switched(self, model: ModelRef, baseline: bytes | None, manifest: Manifest) -> None:
        """Forget it."""

    def activation(self, event: ActivationEvent) -> None:
        """Forget it."""

    def flush(self) -> int:
        """Nothing was kept."""
        return 0

    def outbox_state(self) -> OutboxState:
        """Nothing waits."""
        return OutboxState()

    def stop(self) -> None:
        """Nothing to let go of."""


class ShieldedSink:
    """Another sink, whose failures end here: logged, and nothing else changes.

    ``record`` is passed on as it is, without the cost of one more call; its caller shields itself, and looks it up anew
    for each request, since an observer may come and go (:meth:`observe`).
    """

    def __init__(self, sink: TelemetrySink) -> None:
        """Wrap a sink."""
        self._sink = sink
        self._observer: Record | None = None
        self.record: Record = sink.record

    def observe(self, observer: Record | None) -> None:
        """Show every request to ``observer`` too, before the sink; with ``None``, to the sink alone again.

        What :meth:`bound_record` gave before knows nothing of it: it holds for as long as ``record`` is the same object.
        """
        self._observer = observer
        kept = self._sink.record
        if observer is None:
            self.record = kept
            return

        def record(outcome: Outcome) -> None:
            observer(outcome)
            kept(outcome)

        self.record = record

    def bound_record(self, model: ModelRef, inputs: Tensors, outputs: Tensors) -> BoundRecord:
        """See :class:`TelemetrySink`, and :meth:`observe`."""
        observer, kept = self._observer, self._sink.bound_record(model, inputs, outputs)
        if observer is None:
            return kept

        def record(latency_us: int) -> None:
            observer(Outcome(model, inputs, outputs, latency_us))
            kept(latency_us)

        return record

    def model_switched(self, model: ModelRef, baseline: bytes | None, manifest: Manifest) -> None:
        """See :class:`TelemetrySink`."""
        with _logged("learn of a switch"):
            self._sink.model_switched(model, baseline, manifest)

    def activation(self, event: ActivationEvent) -> None:
        """See :class:`TelemetrySink`."""
        with _logged("keep an activation event"):
            self._sink.activation(event)

    def flush(self) -> int:
        """See :class:`TelemetrySink`."""
        try:
            return self._sink.flush()
        except Exception:  # as in _logged
            log.exception("telemetry could not flush; serving goes on")
            return 0

    def outbox_state(self) -> OutboxState:
        """See :class:`TelemetrySink`."""
        try:
            return self._sink.outbox_state()
        except Exception:  # as in _logged
            log.exception("telemetry could not tell of its outbox; serving goes on")
            return OutboxState()

    def stop(self) -> None:
        """See :class:`TelemetrySink`."""
        with _logged("stop"):
            self._sink.stop()


@contextmanager
def _logged(doing: str) -> Iterator[None]:
    try:
        yield
    except Exception:  # a defect of telemetry must never touch what is served
        log.exception("telemetry could not %s; serving goes on", doing)
