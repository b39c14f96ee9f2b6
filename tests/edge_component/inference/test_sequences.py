"""Carried state: each sequence its own, from zeros on, bounded, and unharmed by a request that fails."""

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings, strategies as st

from edge_component.contracts.codec import Table
from edge_component.contracts.manifest import TensorSpec
from edge_component.contracts.routes import NO_RULES, BatchRule, ModelRules, ShadowRule, StatePair
from edge_component.inference.deadline import DeadlineWatch
from edge_component.inference.equipment import problem
from edge_component.inference.errors import InputNameError, InputShapeError, SequenceLimitError
from edge_component.inference.sequences import SequenceLimits, Sequences, state_pairs, states_problem
from edge_component.inference.session import Session
from edge_component.inference.versions import NO_TURN, Turn
from tests.edge_component.inference.conftest import SUMMING
from tests.edge_component.inference.test_session import MANIFEST, ROW

PAIRS = (StatePair("total", "sum"),)


@dataclass
class Stream:
    sequences: Sequences
    watch: DeadlineWatch
    now_s: float = 0.0

    def say(self, sequence: str, value: float = 1.0, *, starts: bool = False, ends: bool = False) -> float:
        turn = Turn(sequence, starts, ends)
        return float(self.sequences.run({"x": ROW * value}, self.watch.leash(), 10, turn)["y"][0, 0])


@pytest.fixture
def stream(session: Callable[[str], Session], watch: DeadlineWatch) -> Stream:
    stream = Stream.__new__(Stream)
    sequences = Sequences(session("sum"), PAIRS, SequenceLimits(3, 60.0), lambda: stream.now_s)
    stream.__init__(sequences, watch)
    return stream


def test_the_caller_gives_and_gets_only_its_own_tensors(stream: Stream) -> None:
    assert [spec.name for spec in stream.sequences.inputs] == ["x"]
    assert [spec.name for spec in stream.sequences.outputs] == ["y"]
    answer = stream.sequences.run({"x": ROW}, stream.watch.leash(), 10, NO_TURN)
    assert set(answer) == {"y"}
    with pytest.raises(InputNameError, match="total"):
        stream.sequences.run({"x": ROW, "total": ROW}, stream.watch.leash(), 10, NO_TURN)


def test_sequences_do_not_mix_and_begin_when_told(stream: Stream) -> None:
    assert [stream.say("a"), stream.say("a"), stream.say("b", 10), stream.say("a")] == [1, 2, 10, 3]
    assert stream.say("a", starts=True) == 1
    assert stream.say("a", ends=True) == 2
    assert stream.say("a") == 1
    assert stream.say("") == stream.say("") == 1


@settings(max_examples=30, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.lists(st.tuples(st.sampled_from("abc"), st.integers(-9, 9), st.booleans(), st.booleans()), max_size=20))
def test_it_is_what_a_careful_client_would_have_computed(stream: Stream, turns: list) -> None:
    for name in "abc":
        stream.say(name, ends=True)
    totals: dict[str, float] = {}
    for name, value, starts, ends in turns:
        totals[name] = (0 if starts else totals.get(name, 0)) + value
        assert stream.say(name, value, starts=starts, ends=ends) == totals[name]
        if ends:
            del totals[name]


def test_one_too_many_is_refused_until_one_is_idle_or_ended(stream: Stream) -> None:
    for name in "abc":
        stream.say(name)
    with pytest.raises(SequenceLimitError, match="3 sequences"):
        stream.say("d")
    stream.say("a", ends=True)
    stream.say("d")
    stream.now_s = 59
    stream.say("d")
    stream.now_s = 61
    assert stream.say("e") == 1
    assert stream.sequences.count == 2
    assert stream.say("d") == 3


def test_an_idle_sequence_is_forgotten(stream: Stream) -> None:
    stream.say("a")
    stream.now_s = 60
    assert stream.say("a") == 1


def test_a_request_that_fails_leaves_the_state(stream: Stream) -> None:
    stream.say("a")
    with pytest.raises(InputShapeError):
        stream.sequences.run({"x": ROW[:, :2]}, stream.watch.leash(), 10, Turn("a"))
    assert stream.say("a") == 2


def test_requests_of_one_sequence_at_once_are_taken_one_after_the_other(stream: Stream) -> None:
    with ThreadPoolExecutor(8) as pool:
        answers = list(pool.map(lambda _: stream.say("a"), range(40)))
    assert sorted(answers) == list(range(1, 41))


def test_a_batch_has_a_state_for_each_row(stream: Stream) -> None:
    rows = np.ones((4, 3), np.float32)
    leash = stream.watch.leash()
    stream.sequences.run({"x": rows}, leash, 10, Turn("a"))
    np.testing.assert_array_equal(stream.sequences.run({"x": rows}, leash, 10, Turn("a"))["y"], rows * 2)


def test_pairs_come_from_the_rules_or_from_the_manifest() -> None:
    declared = replace(SUMMING, extra=Table({"states": [{"input": "total", "output": "sum"}]}))
    assert state_pairs(declared, NO_RULES) == PAIRS
    assert state_pairs(SUMMING, ModelRules(states=PAIRS)) == PAIRS
    assert state_pairs(SUMMING, NO_RULES) == ()
    assert state_pairs(replace(SUMMING, extra=Table({"states": "no list"})), NO_RULES) == ()


@pytest.mark.parametrize(
    ("rules", "says"),
    [
        (ModelRules(states=(StatePair("nothing", "sum"),)), "pairs what is not"),
        (ModelRules(states=(StatePair("total", "sum"), StatePair("total", "y"))), "twice"),
        (ModelRules(states=PAIRS, batch=BatchRule(4, 0)), "batched"),
        (ModelRules(states=PAIRS, shadow=ShadowRule("active", 1)), "shadowed"),
        (ModelRules(states=PAIRS), ""),
        (ModelRules(batch=BatchRule(4, 0)), ""),
    ],
)
def test_what_a_model_cannot_do_is_said(rules: ModelRules, says: str) -> None:
    found = problem(SUMMING, rules)
    assert says in found
    assert bool(found) == bool(says)


def test_what_differs_cannot_be_carried_and_a_fixed_batch_not_be_joined() -> None:
    other = replace(SUMMING, outputs=(SUMMING.outputs[0], TensorSpec("sum", "float64", (-1, 3))))
    assert "differ" in states_problem(other, PAIRS)
    fixed = replace(MANIFEST, inputs=(TensorSpec("x", "float32", (1, 3)),))
    assert "free first axis" in problem(fixed, ModelRules(batch=BatchRule(4, 0)))
