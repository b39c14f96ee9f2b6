"""One stream at work: a thread that reads its source, a queue, and a thread that asks the model and feeds the sink.

The failures this exists for: a pipeline that dies of its first strange file, or that loses what it has because its sink
or its model is away for a minute. A sample that is unfit is counted and put aside; whatever else fails holds the stream,
with a growing wait, while the queue in front of it fills and its drop policy decides what is given up. Every sample ends
in exactly one counter. A change of state is logged once, not each attempt.

Each counter is written by one thread only. Nothing here touches a request of anybody else.
"""

import logging
import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime
from typing import Any, Protocol, TypeVar

import numpy as np
from numpy.typing import NDArray

from edge_component.backoff import Backoff
from edge_component.contracts.codec import Document, format_moment, schema_name, to_bytes
from edge_component.contracts.heartbeat import ModelRef
from edge_component.contracts.manifest import TensorSpec
from edge_component.errors import DeviceError, UnknownModelError, sentence_of
from edge_component.inference.errors import OverloadedError
from edge_component.streams.bounded_queue import BoundedQueue
from edge_component.streams.config import StreamConfig
from edge_component.streams.errors import HeldError, SampleError
from edge_component.streams.samples import Inputs, Outcome, Sample
from edge_component.streams.sinks import Sink
from edge_component.streams.source_port import Source

log = logging.getLogger(__name__)

HELD_ERRORS = (HeldError, UnknownModelError, OverloadedError)
"""What passes by itself: the model may come with the next deployment."""
STUCK_COUNT = 8
"""Failures in a row (25 s or more, with the waits between them) after which a hold has not passed by itself."""
Done = TypeVar("Done")


class Prediction(Protocol):
    """Outputs by name, by whom, and how long that took; serving/predictor.py's."""

    @property
    def model(self) -> ModelRef: ...  # noqa: D102 - see the class

    @property
    def outputs(self) -> Mapping[str, NDArray[Any]]: ...  # noqa: D102 - see the class

    @property
    def run_us(self) -> int: ...  # noqa: D102 - see the class


class Predictor(Protocol):
    """The way to the models; one for each stream, used by one thread."""

    def inputs(self, model: str) -> tuple[TensorSpec, ...]:
        """What the model takes.

        Raises:
            DeviceError: it does not serve, or not now.
        """

    def predict(self, model: str, inputs: Inputs, deadline_s: float, request_id: str) -> Prediction:
        """Ask; ``request_id`` is what logs call it.

        Raises:
            DeviceError: it was not answered.
        """

    def close(self) -> None:
        """No more questions."""


@dataclass(slots=True)
class StreamCounts:
    """Samples since the stream began: each that was read ends in one of the others, or waits."""

    read_count: int = 0
    delivered_count: int = 0
    failed_count: int = 0
    dropped_count: int = 0


@dataclass(frozen=True, slots=True)
class StreamParts:
    """What a stream is made of; ``random`` gives a float in [0, 1) for the waits."""

    config: StreamConfig
    source: Source
    sink: Sink
    predictor: Predictor
    now: Callable[[], datetime]
    random: Callable[[], float]
    backoff: Backoff = field(default_factory=lambda: Backoff(0.2, 30.0))


class Stream:
    """See the module's text."""

    def __init__(self, parts: StreamParts) -> None:
        """Nothing runs before :meth:`start`."""
        self._parts = parts
        self._counts = StreamCounts()
        self._queue: BoundedQueue[Sample] = BoundedQueue(parts.config.queue_max, parts.config.drop)
        self._stopping = threading.Event()
        self._held: dict[str, str] = {}
        self._stuck: dict[str, str] = {}
        name = parts.config.name
        self._threads = (
            threading.Thread(target=self._read, name=f"read-{name}", daemon=True),
            threading.Thread(target=self._answer, name=f"stream-{name}", daemon=True),
        )

    @property
    def counts(self) -> StreamCounts:
        """A copy."""
        return replace(self._counts)

    @property
    def held_by(self) -> str:
        """Why it waits; empty while it runs."""
        return "; ".join(self._held.copy().values())

    @property
    def stuck_by(self) -> str:
        """What has held it for so long that somebody should look; empty otherwise."""
        return "; ".join(f"its {step} is held: {reason}" for step, reason in self._stuck.copy().items())

    @property
    def waiting_count(self) -> int:
        """Samples in the queue."""
        return len(self._queue)

    def start(self) -> None:
        """Begin."""
        for thread in self._threads:
            thread.start()

    def stop(self, wait_s: float) -> None:
        """End: the sample under way is finished if that takes no longer than ``wait_s``; what waits is left unsettled."""
        self._stopping.set()
        self._queue.close()
        for thread in self._threads:
            if thread.ident is not None:
                thread.join(wait_s)

    def _read(self) -> None:
        failures_count = 0
        while not self._stopping.is_set():
            count_before = self._counts.read_count
            try:
                self._parts.source.run(self._offer, self._stopping)
            except DeviceError as error:
                failures_count = 1 if self._counts.read_count > count_before else failures_count + 1
                self._hold("source", error, failures_count)
                self._stuck.pop("source", None)  # one that is well again may have nothing to read yet
            except Exception:  # a defect of ours, or of a package: said, and tried on
                failures_count += 1
                log.exception("stream %s: its source ended in an unforeseen error", self._parts.config.name)
                self._stopping.wait(self._parts.backoff.wait_s(failures_count, self._parts.random))

    def _offer(self, sample: Sample) -> None:
        self._counts.read_count += 1
        self._release("source")
        dropped = self._queue.offer(sample)
        if dropped is not None:
            self._counts.dropped_count += 1
            dropped.settle(Outcome.DROPPED)

    def _answer(self) -> None:
        try:
            while (sample := self._queue.take()) is not None:
                self._treat(sample)
        finally:
            self._parts.predictor.close()
            self._parts.sink.close()

    def _treat(self, sample: Sample) -> None:
        try:
            result = self._insist("model", lambda: self._result(sample))
            if result is None or self._insist("sink", lambda: self._put(result)) is None:
                return  # stopping: it is taken again after the next start, if its source can
        except DeviceError as error:
            self._failed(sample, sentence_of(error))
        except Exception as error:  # a defect may cost this sample, not the stream
            log.exception("stream %s: %s ended in an unforeseen error", self._parts.config.name, sample.origin)
            self._failed(sample, repr(error))
        else:
            self._counts.delivered_count += 1
            sample.settle(Outcome.DELIVERED)

    def _failed(self, sample: Sample, reason: str) -> None:
        self._counts.failed_count += 1
        if self._counts.failed_count & (self._counts.failed_count - 1) == 0:  # the 1st, 2nd, 4th, 8th …
            log.warning(
                "stream %s: %s is the %d. sample that failed: %s",
                self._parts.config.name,
                sample.origin,
                self._counts.failed_count,
                reason,
            )
        sample.settle(Outcome.FAILED)

    def _put(self, result: bytes) -> bool:
        self._parts.sink.put(result)
        return True

    def _result(self, sample: Sample) -> bytes:
        config, predictor = self._parts.config, self._parts.predictor
        inputs = sample.load(predictor.inputs(config.model))
        prediction = predictor.predict(config.model, inputs, config.deadline_s, f"{config.name}/{sample.origin}")
        return to_bytes(result_document(config, sample.origin, prediction, self._parts.now()))

    def _insist(self, step: str, act: Callable[[], Done]) -> Done | None:
        """Do it, again and again while it is held; ``None`` when the stream is stopping."""
        failures_count = 0
        while not self._stopping.is_set():
            try:
                done = act()
            except HELD_ERRORS as error:
                failures_count += 1
                self._hold(step, error, failures_count)
            else:
                self._release(step)
                return done
        return None

    def _hold(self, step: str, error: DeviceError, failures_count: int) -> None:
        reason = sentence_of(error)
        if self._held.get(step) is None:
            log.warning("stream %s: its %s is held: %s", self._parts.config.name, step, reason)
        self._held[step] = reason
        if failures_count >= STUCK_COUNT:
            self._stuck[step] = reason
        self._stopping.wait(self._parts.backoff.wait_s(failures_count, self._parts.random))

    def _release(self, step: str) -> None:
        self._stuck.pop(step, None)
        if self._held.pop(step, None) is not None:
            log.info("stream %s: its %s goes on", self._parts.config.name, step)


def result_document(config: StreamConfig, origin: str, prediction: Prediction, at: datetime) -> Document:
    """A result as sinks get it; numbers that JSON has not (NaN, infinity) are null.

    Raises:
        SampleError: an output that the stream names is not the model's.
    """
    names = config.output_names or tuple(prediction.outputs)
    missing = [name for name in names if name not in prediction.outputs]
    if missing:
        raise SampleError(f"the model has no output {missing[0]!r}; it gives {sorted(prediction.outputs)}")
    return {
        "schema": schema_name("stream-result", 1),
        "stream": config.name,
        "origin": origin.encode(errors="backslashreplace").decode(),  # a file's name is bytes, JSON is UTF-8
        "at": format_moment(at),
        "model": prediction.model.to_document(),
        "run_us": prediction.run_us,
        "outputs": {name: listed(prediction.outputs[name]) for name in names},
    }


def listed(array: NDArray[Any]) -> object:
    """An array as nested lists that JSON can hold."""
    if array.dtype.kind != "f" or np.isfinite(array).all():
        return array.tolist()
    sayable = array.astype(object)
    sayable[~np.isfinite(array)] = None
    return sayable.tolist()
