"""Carry a model's state from one request of a sequence to the next, so that the caller need not.

The failures this exists for: every client of a stateful model (Silero VAD: 131 kB of state for each second of audio) that
sends the state back and forth and mixes it up between its streams; and a server that remembers streams for ever.

A rule, or the bundle's manifest (``"states": [{"input": "state", "output": "stateN"}]``), pairs outputs with the inputs
that they become. A sequence begins with zeros at its first request, or when a request says that it begins; a dynamic
dimension of a state is as large as the request's first dynamic dimension, else 1. A request without a sequence begins and
ends one of its own. A request that fails leaves the state as it was. A swap begins every sequence anew: another version's
state means something else.

Requests of one sequence are computed one after the other, those of different ones at once.
"""

import threading
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from time import monotonic

import numpy as np

from edge_component.contracts.codec import Fields
from edge_component.contracts.errors import ContractError
from edge_component.contracts.manifest import Manifest
from edge_component.contracts.routes import ModelRules, StatePair
from edge_component.inference.computing import run_session
from edge_component.inference.deadline import Leash
from edge_component.inference.errors import InputNameError, RunDeadlineError, SequenceLimitError
from edge_component.inference.session import Array, Session, Tensors, tensor_dtype
from edge_component.inference.versions import Turn

STATES_FIELD = "states"


@dataclass(frozen=True, slots=True)
class SequenceLimits:
    """``count_max`` sequences of one model at once; one that is idle for ``idle_s`` is forgotten."""

    count_max: int = 256
    idle_s: float = 300.0


def state_pairs(manifest: Manifest, rules: ModelRules) -> tuple[StatePair, ...]:
    """The rule's pairs, else those that the manifest names; none if the manifest's cannot be read."""
    if rules.states:
        return rules.states
    if STATES_FIELD not in manifest.extra:
        return ()
    try:
        return Fields(manifest.extra).items(STATES_FIELD, StatePair.read)
    except ContractError:
        return ()


def states_problem(manifest: Manifest, pairs: Iterable[StatePair]) -> str:
    """One sentence on why these cannot be carried, or an empty string."""
    inputs = {spec.name: spec for spec in manifest.inputs}
    outputs = {spec.name: spec for spec in manifest.outputs}
    for pair in pairs:
        taken, given = inputs.pop(pair.input, None), outputs.pop(pair.output, None)
        if taken is None or given is None:
            return f"{pair.input}={pair.output} pairs what is not an input and an output, or twice"
        fits = len(taken.shape) == len(given.shape) and all(
            -1 in sizes or sizes[0] == sizes[1] for sizes in zip(taken.shape, given.shape, strict=True)
        )
        if taken.dtype != given.dtype or not fits or taken.dtype in ("string", "bfloat16"):
            return f"output {pair.output} cannot become input {pair.input}: their types or shapes differ"
    return ""


@dataclass(slots=True, eq=False)
class _Kept:
    """One sequence. ``state`` is empty until its first request is answered."""

    state: dict[str, Array] = field(default_factory=dict)
    used_s: float = 0.0
    turn: threading.Lock = field(default_factory=threading.Lock)


class Sequences:
    """A :class:`~edge_component.inference.versions.Detour` over one session."""

    def __init__(
        self,
        session: Session,
        pairs: tuple[StatePair, ...],
        limits: SequenceLimits | None = None,
        monotonic_s: Callable[[], float] = monotonic,
    ) -> None:
        """No sequences. The pairs fit the session's model: see :func:`states_problem`."""
        self._session = session
        self._becomes = {pair.output: pair.input for pair in pairs}
        carried = set(self._becomes.values())
        self._carried = [spec for spec in session.inputs if spec.name in carried]
        self.inputs = tuple(spec for spec in session.inputs if spec.name not in carried)
        self.outputs = tuple(spec for spec in session.outputs if spec.name not in self._becomes)
        self.limits = limits or SequenceLimits()
        self._monotonic_s = monotonic_s
        self._lock = threading.Lock()
        self._kept: dict[str, _Kept] = {}

    @property
    def count(self) -> int:
        """Sequences that are remembered now."""
        return len(self._kept)

    def run(self, inputs: Tensors, leash: Leash, allowed_s: float, turn: Turn) -> Tensors:
        """See :class:`~edge_component.inference.versions.Detour`.

        Raises:
            SequenceLimitError: it would be one sequence too many.
        """
        given = {name for name in inputs if name in self._becomes.values()}
        if given:
            raise InputNameError(f"{sorted(given)} is carried by the runtime", "Leave it out, and name the sequence.")
        if not turn.sequence:
            return self._step(_Kept(), inputs, leash, allowed_s)
        kept = self._find(turn)
        began_s = self._monotonic_s()
        if not kept.turn.acquire(timeout=min(allowed_s, threading.TIMEOUT_MAX)):
            raise RunDeadlineError(f"the request before it in sequence {turn.sequence} took all of {allowed_s:g} s")
        try:
            if turn.starts:
                kept.state = {}
            waited_s = self._monotonic_s() - began_s
            leash.waited_s += waited_s
            return self._step(kept, inputs, leash, max(allowed_s - waited_s, 0.0))
        finally:
            kept.used_s = self._monotonic_s()
            kept.turn.release()
            if turn.ends:
                with self._lock:
                    self._kept.pop(turn.sequence, None)

    def _step(self, kept: _Kept, inputs: Tensors, leash: Leash, allowed_s: float) -> Tensors:
        state = kept.state or self._zeros(inputs)
        outputs = dict(run_session(self._session, {**inputs, **state}, leash, allowed_s))
        kept.state = {taken: outputs.pop(given) for given, taken in self._becomes.items()}
        return outputs

    def _zeros(self, inputs: Tensors) -> dict[str, Array]:
        rows = next(
            (
                array.shape[axis]
                for spec in self.inputs
                if (array := inputs.get(spec.name)) is not None and array.ndim == len(spec.shape)
                for axis, size in enumerate(spec.shape)
                if size == -1
            ),
            1,
        )
        return {
            spec.name: np.zeros([rows if size == -1 else size for size in spec.shape], tensor_dtype(spec.dtype))
            for spec in self._carried
        }

    def _find(self, turn: Turn) -> _Kept:
        now_s = self._monotonic_s()
        with self._lock:
            kept = self._kept.get(turn.sequence)
            if kept is not None and (now_s - kept.used_s < self.limits.idle_s or kept.turn.locked()):
                return kept
            if kept is None and len(self._kept) >= self.limits.count_max:
                self._forget_idle(now_s)
            if kept is None and len(self._kept) >= self.limits.count_max:
                raise SequenceLimitError(f"{self.limits.count_max} sequences are under way")
            kept = self._kept[turn.sequence] = _Kept(used_s=now_s)
            return kept

    def _forget_idle(self, now_s: float) -> None:
        self._kept = {
            name: kept
            for name, kept in self._kept.items()
            if now_s - kept.used_s < self.limits.idle_s or kept.turn.locked()
        }
