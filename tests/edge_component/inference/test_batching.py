"""Batches: every caller gets its own rows, whoever computed them; a bad request costs only itself."""

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from threading import Barrier

import numpy as np
import pytest

from edge_component.contracts.manifest import TensorSpec
from edge_component.contracts.routes import BatchRule
from edge_component.inference.batching import Batcher, is_batchable
from edge_component.inference.deadline import DeadlineWatch
from edge_component.inference.errors import InputShapeError, InputTypeError, RunDeadlineError, RunFailedError
from edge_component.inference.session import Session
from edge_component.inference.versions import NO_TURN
from tests.edge_component.inference.test_session import MANIFEST, ROW

Load = Callable[[str], Session]


class Counting:
    """A session that counts its runs and fails where it is told to."""

    def __init__(self, session: Session) -> None:
        self.session = session
        self.inputs, self.outputs = session.inputs, session.outputs
        self.checked = session.checked
        self.sizes: list[int] = []
        self.poison: float | None = None

    def run(self, inputs: dict, options: object) -> dict:
        self.sizes.append(len(inputs["x"]))
        if self.poison is not None and (inputs["x"] == self.poison).any():
            raise RunFailedError("poisoned")
        return self.session.run(inputs, options)


def ask_all(batcher: Batcher, watch: DeadlineWatch, rows: list[np.ndarray], allowed_s: float = 30.0) -> list:
    together = Barrier(len(rows))

    def ask(row: np.ndarray) -> object:
        leash = watch.leash()
        together.wait()
        try:
            return batcher.run({"x": row}, leash, allowed_s, NO_TURN)["y"]
        except RunFailedError as error:
            return error

    with ThreadPoolExecutor(len(rows)) as pool:
        return list(pool.map(ask, rows))


def test_each_gets_its_own_rows_out_of_fewer_runs(session: Load, watch: DeadlineWatch) -> None:
    counting = Counting(session("double"))
    batcher = Batcher(counting, BatchRule(64, 300_000))
    rows = [np.full((number % 3 + 1, 3), number, np.float32) for number in range(12)]
    for row, answer in zip(rows, ask_all(batcher, watch, rows), strict=True):
        np.testing.assert_array_equal(answer, row * 2)
    assert sum(counting.sizes) == sum(len(row) for row in rows)
    assert len(counting.sizes) < len(rows)


def test_a_batch_is_never_larger_than_it_may_be(session: Load, watch: DeadlineWatch) -> None:
    counting = Counting(session("double"))
    rows = [np.full((2, 3), number, np.float32) for number in range(10)]
    ask_all(Batcher(counting, BatchRule(5, 100_000)), watch, rows)
    assert max(counting.sizes) <= 5
    assert sum(counting.sizes) == 20


def test_a_full_batch_does_not_wait_for_its_delay(session: Load, watch: DeadlineWatch) -> None:
    batcher = Batcher(session("double"), BatchRule(4, 1_000_000))
    batcher.run({"x": np.ones((4, 3), np.float32)}, watch.leash(), 30, NO_TURN)  # as many rows as a batch: alone
    answers = ask_all(batcher, watch, [ROW] * 4, allowed_s=30)
    assert len(answers) == 4


def test_only_the_request_that_cannot_be_computed_fails(session: Load, watch: DeadlineWatch) -> None:
    counting = Counting(session("double"))
    counting.poison = 3.0
    rows = [np.full((1, 3), number, np.float32) for number in range(6)]
    answers = ask_all(Batcher(counting, BatchRule(6, 1_000_000)), watch, rows)
    assert isinstance(answers[3], RunFailedError)
    for number in (0, 1, 2, 4, 5):
        np.testing.assert_array_equal(answers[number], rows[number] * 2)


@pytest.mark.parametrize(("error", "is_answered"), [(MemoryError(), True), (ValueError("a defect"), False)])
def test_whatever_is_wrong_with_a_batch_nobody_gets_an_empty_answer(
    session: Load, watch: DeadlineWatch, monkeypatch: pytest.MonkeyPatch, error: Exception, is_answered: bool
) -> None:
    def fail(_: object) -> None:
        raise error

    monkeypatch.setattr("edge_component.inference.batching.np.concatenate", fail)
    rows = [np.full((1, 3), number, np.float32) for number in range(4)]
    answers = ask_all(Batcher(session("double"), BatchRule(4, 10_000_000)), watch, rows)
    for row, answer in zip(rows, answers, strict=True):
        if is_answered:
            np.testing.assert_array_equal(answer, row * 2)
        else:
            assert isinstance(answer, RunFailedError)


def test_a_wrong_input_never_joins_a_batch(session: Load, watch: DeadlineWatch) -> None:
    batcher = Batcher(session("double"), BatchRule(4, 0))
    with pytest.raises(InputTypeError):
        batcher.run({"x": ROW.astype(np.float64)}, watch.leash(), 1, NO_TURN)
    np.testing.assert_array_equal(batcher.run({"x": ROW}, watch.leash(), 1, NO_TURN)["y"], ROW * 2)
    empty = batcher.run({"x": np.empty((0, 3), np.float32)}, watch.leash(), 1, NO_TURN)["y"]
    assert empty.shape == (0, 3)


def test_inputs_of_one_request_have_the_same_rows(session: Load, watch: DeadlineWatch) -> None:
    batcher = Batcher(session("sum"), BatchRule(4, 0))
    with pytest.raises(InputShapeError, match="rows"):
        batcher.run({"x": ROW, "total": np.zeros((2, 3), np.float32)}, watch.leash(), 1, NO_TURN)


def test_a_run_without_end_is_stopped_for_everybody_in_the_batch(session: Load, watch: DeadlineWatch) -> None:
    batcher = Batcher(session("endless"), BatchRule(2, 1_000_000))
    together = Barrier(2)

    def ask(_: int) -> str:
        together.wait()
        with pytest.raises(RunDeadlineError):
            batcher.run({"x": ROW}, watch.leash(), 0.3, NO_TURN)
        return "stopped"

    with ThreadPoolExecutor(2) as pool:
        assert list(pool.map(ask, range(2))) == ["stopped", "stopped"]


def test_only_free_first_axes_of_numbers_can_be_joined() -> None:
    assert is_batchable(MANIFEST)
    assert not is_batchable(replace(MANIFEST, inputs=(TensorSpec("x", "float32", (1, 3)),)))
    assert not is_batchable(replace(MANIFEST, outputs=(TensorSpec("y", "float32", ()),)))
    assert not is_batchable(replace(MANIFEST, inputs=(TensorSpec("x", "string", (-1, 3)),)))
