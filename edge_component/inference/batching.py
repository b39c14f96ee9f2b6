"""Compute requests that arrive together in one run, where the model's batch axis is free.

The failure this exists for: a model that costs nearly the same for one row as for sixteen, asked by sixteen callers one
after the other. The first request of a batch leads it: it waits at most ``delay_us_max`` for others, then for a free lane
(as many runs at once as there are processors), and computes for all that have joined by then. So even without a delay, the
requests that arrive during a run are the next batch. No thread of its own is needed, and a run goes on until the last of
its callers has gone.

A batch that fails is asked again request by request, so that only the one that cannot be computed pays. Whoever's deadline
passes while it waits for the leader is told so; its rows are computed and dropped.

Any thread may call; each call belongs to one request.
"""

import logging
import os
import threading
from collections.abc import Callable
from dataclasses import dataclass, field
from time import monotonic

import numpy as np

from edge_component.contracts.manifest import Manifest, TensorSpec
from edge_component.contracts.routes import BatchRule
from edge_component.errors import DeviceError
from edge_component.inference.computing import run_session
from edge_component.inference.deadline import Leash
from edge_component.inference.errors import InputShapeError, RunDeadlineError, RunFailedError
from edge_component.inference.session import Array, Session, Tensors
from edge_component.inference.versions import Turn

log = logging.getLogger(__name__)

ERROR_CHARS_MAX = 300
_Shapes = tuple[tuple[int, ...], ...]


def is_batchable(manifest: Manifest) -> bool:
    """Every input and output has a free first axis, and is of a type that numpy can join."""
    specs = (*manifest.inputs, *manifest.outputs)
    return bool(manifest.inputs) and all(
        spec.shape and spec.shape[0] == -1 and spec.dtype not in ("string", "bfloat16") for spec in specs
    )


@dataclass(slots=True, eq=False)
class _Member:
    feed: dict[str, Array]
    rows: int
    ends_at_s: float
    leash: Leash
    outputs: Tensors = field(default_factory=dict)
    error: DeviceError | None = None


@dataclass(slots=True, eq=False)
class _Batch:
    members: list[_Member] = field(default_factory=list)
    rows: int = 0
    began_s: float = 0.0
    """When nobody waited for others any more."""
    closed: bool = False
    done: threading.Event = field(default_factory=threading.Event)


class Batcher:
    """A :class:`~edge_component.inference.versions.Detour` over one session."""

    def __init__(self, session: Session, rule: BatchRule, monotonic_s: Callable[[], float] = monotonic) -> None:
        """Nothing waits. The session's model is batchable."""
        self._session = session
        self.rule = rule
        self._monotonic_s = monotonic_s
        self._changed = threading.Condition()
        self._open: dict[_Shapes, _Batch] = {}
        self._lanes = threading.Semaphore(os.cpu_count() or 1)

    @property
    def inputs(self) -> tuple[TensorSpec, ...]:
        """The session's own."""
        return self._session.inputs

    @property
    def outputs(self) -> tuple[TensorSpec, ...]:
        """The session's own."""
        return self._session.outputs

    def run(self, inputs: Tensors, leash: Leash, allowed_s: float, turn: Turn) -> Tensors:
        """See :class:`~edge_component.inference.versions.Detour`; a turn means nothing here."""
        del turn
        feed = self._session.checked(inputs)
        joined_s = self._monotonic_s()
        member = _Member(feed, _rows(feed), joined_s + allowed_s, leash)
        if not 0 < member.rows < self.rule.rows_max:
            return run_session(self._session, feed, leash, allowed_s)
        batch = self._join(member)
        if batch.members[0] is member:
            self._lead(batch, member, leash)
        elif not batch.done.wait(allowed_s):
            raise RunDeadlineError(f"not computed within {allowed_s:g} s; the request waited for a batch")
        leash.waited_s += batch.began_s - joined_s
        if member.error is not None:
            raise member.error
        return member.outputs

    def _join(self, member: _Member) -> _Batch:
        shapes = tuple(array.shape[1:] for array in member.feed.values())
        with self._changed:
            batch = self._open.get(shapes)
            if batch is not None and batch.rows + member.rows > self.rule.rows_max:
                self._close(batch)
                batch = None
            if batch is None:
                batch = self._open[shapes] = _Batch()
            batch.members.append(member)
            batch.rows += member.rows
            if batch.rows == self.rule.rows_max:
                self._close(batch)
        return batch

    def _close(self, batch: _Batch) -> None:
        """Nobody joins any more; its leader need not wait any longer. Under the lock."""
        if not batch.closed:
            batch.closed = True
            self._open = {shapes: kept for shapes, kept in self._open.items() if kept is not batch}
            self._changed.notify_all()

    def _lead(self, batch: _Batch, leader: _Member, leash: Leash) -> None:
        delay_s = min(self.rule.delay_us_max / 1e6, max(leader.ends_at_s - self._monotonic_s(), 0.0))
        try:
            with self._changed:
                self._changed.wait_for(lambda: batch.closed, delay_s)
            with self._lanes:
                with self._changed:
                    self._close(batch)
                batch.began_s = self._monotonic_s()
                leash.company = tuple(member.leash for member in batch.members)
                self._compute(batch, leash)
        except Exception as error:  # whoever waits for this thread must be told, whatever is wrong
            log.exception("a batch of %d requests ended in an unforeseen error", len(batch.members))
            for member in batch.members:
                if not member.outputs and member.error is None:
                    member.error = RunFailedError(f"an unforeseen error: {error!r}"[:ERROR_CHARS_MAX])
        finally:
            leash.company = ()
            with self._changed:
                self._close(batch)
            batch.done.set()

    def _compute(self, batch: _Batch, leash: Leash) -> None:
        members = batch.members
        if len(members) > 1:
            try:
                self._compute_together(members, leash)
            except (RunFailedError, MemoryError):  # of joining them, perhaps
                pass
            except DeviceError as error:
                for member in members:
                    member.error = error
                return
            else:
                return
        for member in members:
            try:
                member.outputs = run_session(self._session, member.feed, leash, self._left_s(member))
            except DeviceError as error:
                member.error = error

    def _compute_together(self, members: list[_Member], leash: Leash) -> None:
        feed = {name: np.concatenate([member.feed[name] for member in members]) for name in members[0].feed}
        outputs = run_session(self._session, feed, leash, max(self._left_s(member) for member in members))
        rows = sum(member.rows for member in members)
        wrong = [name for name, array in outputs.items() if array.shape[0] != rows]
        if wrong:
            raise RunFailedError(f"output {wrong[0]} has {outputs[wrong[0]].shape[0]} rows for {rows} rows of input")
        begin = 0
        for member in members:
            end = begin + member.rows
            member.outputs = {name: array[begin:end] for name, array in outputs.items()}
            begin = end

    def _left_s(self, member: _Member) -> float:
        return max(member.ends_at_s - self._monotonic_s(), 0.0)


def _rows(feed: dict[str, Array]) -> int:
    counts = {int(array.shape[0]) for array in feed.values()}
    if len(counts) != 1:
        raise InputShapeError(f"the inputs have {sorted(counts)} rows; a batch has the same number in each")
    return counts.pop()
