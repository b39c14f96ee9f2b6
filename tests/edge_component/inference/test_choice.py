"""Who answers: shares as set, the same caller always the same, and nobody left without an answer."""

import random

import pytest
from hypothesis import given, settings, strategies as st

from edge_component.contracts.heartbeat import ModelRef
from edge_component.contracts.routes import Arm, ModelRules, RouteTable, ShadowRule
from edge_component.inference.choice import (
    Held,
    Share,
    choose_by_draw,
    choose_by_key,
    missing,
    real_name,
    shares,
)


def ref(version: str) -> ModelRef:
    return ModelRef("m", version, "0" * 64)


weights = st.lists(st.integers(1, 1000), min_size=1, max_size=6)
KEYS = [f"caller-{number}" for number in range(4_000)]


def weighted(found: list[int]) -> tuple[Share, ...]:
    return tuple(Share(ref(f"1.0.{index}"), weight) for index, weight in enumerate(found))


@settings(max_examples=30, deadline=None)
@given(weights)
def test_callers_are_shared_out_by_weight(found: list[int]) -> None:
    among = weighted(found)
    chosen = [choose_by_key(among, key) for key in KEYS]
    for index, weight in enumerate(found):
        expected = weight / sum(found)
        spread = 5 * (expected * (1 - expected) / len(KEYS)) ** 0.5  # five standard deviations of a binomial share
        assert abs(chosen.count(index) / len(KEYS) - expected) <= spread + 1 / len(KEYS)


@settings(max_examples=30, deadline=None)
@given(weights, st.integers())
def test_requests_without_a_key_are_shared_out_by_weight(found: list[int], seed: int) -> None:
    among, draw = weighted(found), random.Random(seed)
    chosen = [choose_by_draw(among, draw.random()) for _ in range(4_000)]
    for index, weight in enumerate(found):
        expected = weight / sum(found)
        spread = 5 * (expected * (1 - expected) / 4_000) ** 0.5
        assert abs(chosen.count(index) / 4_000 - expected) <= spread + 1 / 4_000


@given(weights, st.text())
def test_a_caller_stays_whatever_the_order_of_the_arms(found: list[int], key: str) -> None:
    among = weighted(found)
    backwards = tuple(reversed(among))
    assert among[choose_by_key(among, key)] == backwards[choose_by_key(backwards, key)]


@settings(max_examples=30, deadline=None)
@given(weights, st.data())
def test_a_heavier_arm_only_draws_callers_to_itself(found: list[int], data: st.DataObject) -> None:
    heavier = data.draw(st.integers(0, len(found) - 1))
    among = weighted(found)
    after = weighted([weight * 3 if index == heavier else weight for index, weight in enumerate(found)])
    for key in KEYS[:300]:
        moved_to = choose_by_key(after, key)
        assert moved_to in (choose_by_key(among, key), heavier)


@given(weights, st.floats(0, 1, exclude_max=True))
def test_every_draw_falls_on_some_arm(found: list[int], draw: float) -> None:
    assert 0 <= choose_by_draw(weighted(found), draw) < len(found)


def test_words_and_versions_find_what_is_held() -> None:
    held = Held(ref("1.2.0"), (ref("1.1.0"), ref("1.0.0")))
    assert held.find("active") == ref("1.2.0")
    assert held.find("previous") == ref("1.1.0")
    assert held.find("1.0.0") == ref("1.0.0")
    assert held.find("9.9.9") is None
    assert Held(ref("1.2.0")).find("previous") is None


@given(st.lists(st.tuples(st.sampled_from(["active", "previous", "1.0.0", "1.1.0", "7.0.0"]), st.integers(0, 9))))
def test_somebody_always_answers_and_only_what_is_held(pairs: list[tuple[str, int]]) -> None:
    held = Held(ref("1.1.0"), (ref("1.0.0"),))
    among = shares([Arm(version, weight) for version, weight in pairs], held)
    assert among
    assert {share.ref for share in among} <= {held.active, *held.others}
    assert all(share.weight > 0 for share in among)
    if any(weight for _, weight in pairs):
        assert sum(share.weight for share in among) == sum(weight for _, weight in pairs)


def test_the_share_of_a_version_that_is_not_here_goes_to_the_active_one() -> None:
    found = shares([Arm("9.9.9", 30), Arm("active", 70)], Held(ref("1.0.0")))
    assert found == (Share(ref("1.0.0"), 100),)


@pytest.mark.parametrize(
    ("asked", "found"),
    [("m", ("m", "")), ("m@1.0.0", ("m", "1.0.0")), ("stable", ("m", "1.0.0")), ("other", ("n", ""))],
)
def test_names_lead_to_a_model_and_a_version(asked: str, found: tuple[str, str]) -> None:
    assert real_name(asked, {"stable": "m@1.0.0", "other": "n"}) == found


def test_what_cannot_be_followed_here_is_said() -> None:
    rules = ModelRules(split=(Arm("active", 1), Arm("9.9.9", 1)), shadow=ShadowRule("previous", 0.5))
    table = RouteTable(models={"m": rules, "not here": rules})
    sentences = missing(table, {"m": Held(ref("1.0.0"))})
    assert len(sentences) == 2
    assert "9.9.9" in sentences[0]
    assert "previous" in sentences[1]
    assert missing(table, {"m": Held(ref("1.0.0"), (ref("9.9.9"),))}) == ()
