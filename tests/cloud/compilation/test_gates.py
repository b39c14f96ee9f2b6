import json
import math

import numpy as np
import pytest
from hypothesis import given, strategies as st
from hypothesis.extra.numpy import arrays

from cloud.compilation import gates
from cloud.compilation.gates import GATE_LIMITS, WORST, GateLimits
from cloud.compilation.task import Task, log_loss

EVERYTHING = st.floats(width=32)


def out(*values: float) -> dict[str, np.ndarray]:
    return {"y": np.array(values, np.float32)}


@given(arrays(np.float32, 4, elements=EVERYTHING), arrays(np.float32, 4, elements=EVERYTHING))
def test_every_verdict_can_be_written_as_json(expected: np.ndarray, got: np.ndarray) -> None:
    verdicts = [
        gates.golden_exact("fp32", {"y": expected}, {"y": got}),
        gates.golden_near("int8", {"y": expected}, {"y": got}),
        *gates.output_errors("int8", {"y": expected}, {"y": got}),
    ]
    for verdict in verdicts:
        json.dumps(verdict.to_document(), allow_nan=False)
        assert verdict.passed == (verdict.value <= verdict.limit)
    tolerance = gates.tolerance("int8", {"y": expected}, {"y": got})
    assert math.isfinite(tolerance.atol)


@given(arrays(np.float32, 5, elements=EVERYTHING))
def test_the_same_answers_pass_whatever_they_are(values: np.ndarray) -> None:
    same = {"y": values}
    assert gates.golden_exact("fp32", same, same).passed
    assert gates.golden_near("int8", same, same).passed
    assert all(verdict.passed for verdict in gates.output_errors("int8", same, same))


@given(arrays(np.float32, 6, elements=st.floats(-100, 100, width=32)), st.floats(-50, 50))
def test_a_device_that_repeats_the_int8_answers_keeps_the_tolerance(expected: np.ndarray, shift: float) -> None:
    got = (expected + np.float32(shift)).astype(np.float32)
    tolerance = gates.tolerance("int8", {"y": expected}, {"y": got})
    assert (np.abs(got - expected) <= tolerance.atol + tolerance.rtol * np.abs(expected)).all()


@pytest.mark.parametrize(
    ("expected", "got"),
    [(out(1, 2), out(1, math.nan)), (out(1, math.nan), out(1, 2)), (out(1, 2), out(1, math.inf)), (out(1, 2), out(1))],
)
def test_nan_infinity_and_other_shapes_are_beyond_measure(
    expected: dict[str, np.ndarray], got: dict[str, np.ndarray]
) -> None:
    assert gates.golden_exact("fp32", expected, got).value == WORST
    assert not gates.golden_near("int8", expected, got).passed
    assert not gates.output_errors("int8", expected, got)[0].passed


def test_texts_are_the_same_or_wrong() -> None:
    yes, no = {"y": np.array(["rain"])}, {"y": np.array(["snow"])}
    assert gates.golden_near("int8", yes, yes).passed
    assert not gates.golden_near("int8", yes, no).passed


def test_fp32_may_differ_by_rounding_alone() -> None:
    assert gates.golden_exact("fp32", out(1, 100), out(1.001, 100.1)).passed
    assert not gates.golden_exact("fp32", out(1, 100), out(1.01, 100)).passed


def test_an_outputs_error_is_measured_in_its_own_unit() -> None:
    (small,) = gates.output_errors("int8", out(1000, 2000), out(1010, 2010))
    (large,) = gates.output_errors("int8", out(0.001, 0.002), out(0.011, 0.012))
    assert small.passed
    assert small.value == pytest.approx(10 / 500)
    assert not large.passed


def test_the_task_gate_compares_losses() -> None:
    assert gates.task_loss("int8", "log_loss", 0.200, 0.209).passed
    worse = gates.task_loss("int8", "log_loss", 0.200, 0.211)
    assert not worse.passed
    assert "from 0.2000 to 0.2110" in worse.sentence
    assert gates.task_loss("int8", "log_loss", 0.2, math.nan).value == WORST
    assert gates.task_loss("int8", "log_loss", 0.2, 0.1).passed


def test_int8_that_saves_nothing_is_refused() -> None:
    assert gates.size("int8", 500, 1000).passed
    assert not gates.size("int8", 950, 1000).passed
    assert gates.size("int8", 950, 1000, GateLimits(size_ratio_max=1)).passed


def test_loading_has_a_limit() -> None:
    assert gates.loads("fp32", GATE_LIMITS.load_ms_max).passed
    assert not gates.loads("fp32", GATE_LIMITS.load_ms_max + 1).passed
    assert "ran away" in gates.does_not_run("int8", "ran away").sentence


def test_log_loss_is_the_textbooks_and_never_infinite() -> None:
    assert log_loss(np.array([0.8, 0.4]), np.array([1, 0])) == pytest.approx(-(math.log(0.8) + math.log(0.6)) / 2)
    assert math.isfinite(log_loss(np.array([0.0, 1.0]), np.array([1, 0])))


def test_a_task_reads_its_column() -> None:
    task = Task("binary_classification", "p", 1, "log_loss")
    outputs = {"p": np.array([[[0.2, 0.8]], [[0.6, 0.4]]], np.float32)}
    assert task.loss(outputs, np.array([1, 0])) == pytest.approx(0.367, abs=1e-3)
    regression = Task("regression", "y", 0, "rmse")
    assert regression.loss({"y": np.array([1.0, 3.0])}, np.array([1.0, 1.0])) == pytest.approx(np.sqrt(2)), "scalars"
    assert regression.loss({"y": np.array([[1.0], [3.0]])}, np.array([1, 1])) == pytest.approx(math.sqrt(2))
