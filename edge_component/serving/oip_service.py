"""What both doors of the Open Inference Protocol do behind their transports: ask the router, run, count, tell telemetry.

The failures this exists for: two doors that answer differently, or that bypass what the fast path has (one generation a
request, deadlines that stop ONNX Runtime, failures that count on probation, telemetry). REST and gRPC only carry; this
answers. Tensors arrive decoded (oip_codec.py), with the datatype that the client declared, since bytes alone do not tell
BF16 from UINT16.

What a request is made of is a named tuple rather than a frozen dataclass: made in a third of the time, several times a
request. One :class:`Asker` belongs to one thread. :class:`OipService` may be used from any.
"""

import logging
import threading
import time
from collections.abc import Callable, Mapping
from typing import NamedTuple

from edge_component.clock import Clock, SystemClock
from edge_component.errors import DeviceError
from edge_component.inference.computing import compute
from edge_component.inference.deadline import TICK_S
from edge_component.inference.errors import InputTypeError, RunCancelledError, RunDeadlineError
from edge_component.inference.router import ActiveModel, Route, Tally
from edge_component.inference.session import Array, Session, widened
from edge_component.inference.versions import NO_TURN, Turn
from edge_component.serving.failures import speaks_against_the_model
from edge_component.serving.oip_codec import DATATYPES
from edge_component.serving.oip_statistics import Figures, Spent, Statistics
from edge_component.serving.serving import NO_TENSORS, Serving
from edge_component.telemetry_sink import Outcome

log = logging.getLogger(__name__)

REQUEST_ID_CHARS_MAX = 128
TALLIES_MAX = 32
"""Generations that one thread counts apart at once."""


class InputTensor(NamedTuple):
    """An input, decoded, and the datatype that the client declared."""

    datatype: str
    array: Array


class Question(NamedTuple):
    """One request for a prediction.

    Attributes:
        model_name, model_version: whom; an empty version is whichever serves.
        inputs: by name.
        deadline_s: how long the run may take; 0 leaves it to the runtime's own limit.
        key: requests with the same one meet the same version where a name is split.
        turn: whose state is carried, for models that have any.
        began_ns: ``perf_counter_ns`` when the request had arrived.
        request_id: what the client calls it, for logs; at most ``REQUEST_ID_CHARS_MAX`` of it.
    """

    model_name: str
    model_version: str
    inputs: Mapping[str, InputTensor]
    deadline_s: float
    began_ns: int
    key: str = ""
    turn: Turn = NO_TURN
    request_id: str = ""


class Answered(NamedTuple):
    """The outputs by name, and by whom; hand it to :meth:`Asker.settle` when the answer has been sent."""

    active: ActiveModel
    inputs: Mapping[str, Array]
    outputs: Mapping[str, Array]
    spent: Spent
    request_id: str = ""


class OipService:
    """What the askers share."""

    def __init__(self, serving: Serving, clock: Clock | None = None) -> None:
        """Nothing is opened."""
        self.serving = serving
        self.statistics = Statistics(clock or SystemClock())
        self._telemetry_failed = threading.Event()

    def find(self, name: str, version: str, key: str = "") -> tuple[Route, ActiveModel]:
        """The model that answers for a name, or in exactly this version; ``key`` makes a split stick.

        A version is what its manifest says (``1.2.0``), or its release number (``3``): Triton's versions are whole numbers,
        and some of its clients take no others. Numbers are known of what is in memory.

        Raises:
            UnknownModelError, UnknownVersionError: it does not serve.
            DeviceError: it was asleep and could not be loaded.
        """
        route = self.route(name, version)
        return route, route.active or route.resolve(key)

    def route(self, name: str, version: str) -> Route:
        """Where a name leads; nothing is loaded for that.

        Raises:
            UnknownModelError, UnknownVersionError: nowhere.
        """
        if version.isdecimal():
            version = self._version_of_release(name, version)
        return self.serving.router.route(f"{name}@{version}" if version else name)

    def answering(self, name: str) -> list[ActiveModel]:
        """Every version that may answer for a name and is in memory; where none is, the one that is loaded now.

        Raises:
            UnknownModelError: it does not serve.
            DeviceError: it was asleep and could not be loaded.
        """
        plan = self.serving.router.route(name).plan
        found = [version.loaded for version in plan.versions if version.loaded is not None] if plan is not None else []
        return found or [self.find(name, "")[1]]

    def _version_of_release(self, name: str, number: str) -> str:
        """The version of that number; the number itself if there is none, for the router to say so."""
        plan = self.serving.router.route(name).plan
        for version in self.serving.router.versions(plan.versions[0].ref.name) if plan is not None else ():
            if version.loaded is not None and str(version.loaded.manifest.release) == number:
                return version.ref.version
        return number

    def record(self, active: ActiveModel, inputs: Mapping[str, Array], outputs: Mapping[str, Array],
               run_us: int, code: str | None, request_id: str) -> None:  # fmt: skip
        """Tell telemetry, whatever is wrong with it."""
        if active.mirror is not None and code is None:
            active.mirror.offer(inputs, outputs)
        if active.session.has_bfloat16:
            inputs, outputs = _as_numbers(active.session, inputs), _as_numbers(active.session, outputs)
        try:
            self.serving.sink.record(Outcome(active.ref, inputs, outputs, run_us, code, request_id))
        except Exception:  # telemetry must never cost an answer
            if not self._telemetry_failed.is_set():
                log.exception("telemetry failed; serving goes on, and this door will not say so again")
            self._telemetry_failed.set()


class Asker:
    """One thread's way to the models: its leash, its counters.

    Attributes:
        is_wanted: whether the client still waits; a run whose client has gone is stopped. ``None`` where nobody can tell.
    """

    def __init__(self, service: OipService, is_wanted: Callable[[], bool] | None = None) -> None:
        """Close it when the thread ends."""
        self.is_wanted = is_wanted
        self._service = service
        self._serving = service.serving
        self._leash = self._serving.watch.leash()
        self._ledger = service.statistics.open()
        self._tallies: dict[int, tuple[Route, Tally]] = {}

    def close(self) -> None:
        """Fold the counters in."""
        for route, tally in self._tallies.values():
            self._serving.router.close_tally(route, tally)
        self._tallies.clear()
        self._service.statistics.close(self._ledger)

    def ask(self, question: Question) -> Answered:
        """Run the model.

        Raises:
            DeviceError: not answered; it has been counted and recorded where it concerns a model.
        """
        asked_ns = time.perf_counter_ns()
        self._leash.runs_count = 0
        route, active = self._service.find(question.model_name, question.model_version, question.key)
        inputs = NO_TENSORS
        run_began_ns = time.perf_counter_ns()
        try:
            inputs = _declared_rightly(active, question.inputs)
            self._leash.is_wanted = self.is_wanted
            outputs = compute(active, inputs, self._leash, self._allowed_s(question.deadline_s), question.turn)
        except DeviceError as error:
            failure = self._as_cancelled(question) if isinstance(error, RunDeadlineError) else None
            self._failed(route, active, question, inputs, failure or error)
            if failure is not None:
                raise failure from error
            raise
        ended_ns = time.perf_counter_ns()
        self._tally(route, active).answered_count += 1
        leash = self._leash
        waited_ns = min(int(leash.waited_s * 1e9), ended_ns - run_began_ns)  # of two clocks
        spent = Spent(
            asked_ns - question.began_ns,
            run_began_ns - asked_ns + waited_ns,
            ended_ns - run_began_ns - waited_ns,
            leash.runs_count,
        )
        return Answered(active, inputs, outputs, spent, question.request_id)

    def settle(self, answered: Answered, output_ns: int) -> None:
        """The answer is encoded and, where the transport allows it, sent: count the time, tell telemetry."""
        active, spent = answered.active, answered.spent
        self._figures(active).answered(_rows(answered.inputs), spent, output_ns)
        run_us = (spent.input_ns + spent.queue_ns + spent.run_ns) // 1000
        self._service.record(active, answered.inputs, answered.outputs, run_us, None, answered.request_id)

    def _as_cancelled(self, question: Question) -> RunCancelledError | None:
        """What a stopped run is if it was stopped well before its deadline: no failure of the model."""
        took_s = (time.perf_counter_ns() - question.began_ns) / 1e9
        if took_s > self._allowed_s(question.deadline_s) - TICK_S or self.is_wanted is None or self.is_wanted():
            return None
        return RunCancelledError("the client did not wait for the answer")

    def _allowed_s(self, deadline_s: float) -> float:
        longest_s = self._serving.config.run_s_max
        return min(deadline_s, longest_s) if deadline_s > 0 else longest_s

    def _failed(
        self, route: Route, active: ActiveModel, question: Question, inputs: Mapping[str, Array], failure: DeviceError
    ) -> None:
        took_ns = time.perf_counter_ns() - question.began_ns
        self._figures(active).failed(took_ns, self._leash.runs_count)
        if speaks_against_the_model(failure, self._allowed_s(question.deadline_s), self._serving.config):
            self._tally(route, active).failed_count += 1
        self._service.record(active, inputs, NO_TENSORS, took_ns // 1000, failure.code, question.request_id)

    def _tally(self, route: Route, active: ActiveModel) -> Tally:
        known = self._tallies.get(active.generation)
        if known is not None:
            return known[1]
        while len(self._tallies) >= TALLIES_MAX:  # generations that have long been swapped for others
            self._serving.router.close_tally(*self._tallies.pop(next(iter(self._tallies))))
        tally = self._serving.router.open_tally(route, active.generation)
        self._tallies[active.generation] = route, tally
        return tally

    def _figures(self, active: ActiveModel) -> Figures:
        key = active.ref.name, active.ref.version
        figures = self._ledger.get(key)
        if figures is None:
            figures = self._ledger[key] = Figures()
        return figures


def _declared_rightly(active: ActiveModel, inputs: Mapping[str, InputTensor]) -> dict[str, Array]:
    """The arrays, once their declared datatypes are the model's; names are the session's to check.

    Raises:
        InputTypeError: naming the input.
    """
    for spec in active.inputs:
        tensor = inputs.get(spec.name)
        if tensor is not None and tensor.datatype != DATATYPES[spec.dtype]:
            raise InputTypeError(
                f"{spec.name} is sent as {tensor.datatype}, the model takes {DATATYPES[spec.dtype]}",
                "Send the datatype that the model's metadata names; nothing is cast silently.",
            )
    return {name: tensor.array for name, tensor in inputs.items()}


def _rows(inputs: Mapping[str, Array]) -> int:
    for array in inputs.values():
        return int(array.shape[0]) if array.ndim else 1
    return 1


def _as_numbers(session: Session, tensors: Mapping[str, Array]) -> dict[str, Array]:
    """Telemetry bins numbers; bfloat16 bits are none."""
    bits = {spec.name for spec in (*session.inputs, *session.outputs) if spec.dtype == "bfloat16"}
    return {name: widened(array) if name in bits else array for name, array in tensors.items()}
