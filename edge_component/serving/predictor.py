"""Predictions for callers without shared memory of their own: streams, and the Edge Manager's door.

The failure this exists for: a side door that bypasses what the fast path has: one exact model a request, the model's
places and deadline, failures that count on probation, shadows, telemetry. Computing is inference/computing.py's; this
asks, counts and tells.

One :class:`Predictor` belongs to one thread.
"""

import logging
import time
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from numpy.typing import NDArray

from edge_component.contracts.heartbeat import ModelRef
from edge_component.contracts.manifest import TensorSpec
from edge_component.errors import DeviceError
from edge_component.inference.computing import compute
from edge_component.inference.router import ActiveModel, Route, Tally
from edge_component.serving.failures import speaks_against_the_model
from edge_component.serving.serving import NO_TENSORS, Serving
from edge_component.telemetry_sink import Outcome, Tensors

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Prediction:
    """Outputs by name, by whom, and how long that took."""

    model: ModelRef
    outputs: Mapping[str, NDArray[Any]]
    run_us: int


class Predictor:
    """One thread's way to the models: its leash, its counters. Close it when the thread ends."""

    def __init__(self, serving: Serving) -> None:
        """Nothing is asked."""
        self._serving = serving
        self._leash = serving.watch.leash()
        self._tallies: dict[str, tuple[Route, Tally]] = {}
        self._sink_failed = False

    def close(self) -> None:
        """Fold the counters in."""
        for route, tally in self._tallies.values():
            self._serving.router.close_tally(route, tally)
        self._tallies.clear()

    def inputs(self, model: str) -> tuple[TensorSpec, ...]:
        """What the model that answers for this name takes.

        Raises:
            DeviceError: it does not serve, or could not be loaded.
        """
        return self._find(model)[1].inputs

    def predict(
        self, model: str, inputs: Mapping[str, NDArray[Any]], deadline_s: float = 0.0, request_id: str = ""
    ) -> Prediction:
        """Ask; ``deadline_s`` 0 leaves it to the runtime's own limit. ``request_id`` is what the caller calls it.

        Raises:
            DeviceError: it was not answered; counted and recorded where it concerns a model.
        """
        began_ns = time.perf_counter_ns()
        longest_s = self._serving.config.run_s_max
        allowed_s = min(deadline_s, longest_s) if deadline_s > 0 else longest_s
        route, active = self._find(model)
        try:
            outputs = compute(active, inputs, self._leash, allowed_s)
        except DeviceError as failure:
            if speaks_against_the_model(failure, allowed_s, self._serving.config):
                self._tally(route, active).failed_count += 1
            self._record(active, NO_TENSORS, NO_TENSORS, _us_since(began_ns), failure.code, request_id)
            raise
        run_us = _us_since(began_ns)
        self._tally(route, active).answered_count += 1
        if active.mirror is not None:
            active.mirror.offer(inputs, outputs)
        self._record(active, inputs, outputs, run_us, None, request_id)
        return Prediction(active.ref, outputs, run_us)

    def _find(self, model: str) -> tuple[Route, ActiveModel]:
        route = self._serving.router.route(model)
        return route, route.active or route.resolve()

    def _record(
        self, active: ActiveModel, inputs: Tensors, outputs: Tensors, run_us: int, code: str | None, request_id: str
    ) -> None:
        try:
            self._serving.sink.record(Outcome(active.ref, inputs, outputs, run_us, code, request_id))
        except Exception:  # telemetry must never cost an answer, whatever is wrong with it
            if not self._sink_failed:
                log.exception("telemetry failed; serving goes on, and this caller will not say so again")
            self._sink_failed = True

    def _tally(self, route: Route, active: ActiveModel) -> Tally:
        known = self._tallies.get(route.name)
        if known is not None and known[1].generation == active.generation:
            return known[1]
        if known is not None:
            self._serving.router.close_tally(*known)
        tally = self._serving.router.open_tally(route, active.generation)
        self._tallies[route.name] = route, tally
        return tally


def _us_since(began_ns: int) -> int:
    return (time.perf_counter_ns() - began_ns) // 1000
