"""What a target's next deployment leaves behind, as a table of what became of the ones before."""

from collections.abc import Sequence
from dataclasses import replace

import pytest
from hypothesis import given, strategies as st

from cloud.names import MODEL_PREFIX
from cloud.publishing.refused import (
    TAG_COUNT_MAX,
    Past,
    Refused,
    doubt_about,
    doubt_about_going_back,
    past_of,
    refused_in,
    refused_tags,
    refused_versions,
)

RUNTIME, X, Y = "com.edgewright.Runtime", f"{MODEL_PREFIX}X", f"{MODEL_PREFIX}Y"
OK, BAD, SOME, AT_IT, UNSEEN = (3, 0, 0), (0, 3, 0), (1, 2, 0), (0, 2, 1), (0, 0, 0)


def past(said: tuple[int, int, int], x: str = "", y: str = "", runtime: str = "0.1", camera: str = "") -> Past:
    given = {RUNTIME: runtime, X: x, Y: y, "com.acme.Camera": camera}
    return Past("d", {name: version for name, version in given.items() if version}, *said)


LEFT_X = [(X, "1.1", "1.0")]
CASES: dict[str, tuple[Sequence[Past], list[tuple[str, str, str]]]] = {  # newest first
    "never deployed to": ([], []),
    "all is well": ([past(OK, "1.0")], []),
    "nobody has begun": ([past(UNSEEN, "1.1"), past(OK, "1.0")], []),
    "a first model is refused, and there is no base": ([past(BAD, "1.0")], []),
    "a new version is refused": ([past(BAD, "1.1", "1.0"), past(OK, "1.0", "1.0")], LEFT_X),
    "a model that is new on the target is refused": ([past(BAD, "1.1", "1.0"), past(OK, "", "1.0")], [(X, "1.1", "")]),
    "only some refused it": ([past(SOME, "1.1"), past(OK, "1.0")], []),
    "some are still at it": ([past(AT_IT, "1.1"), past(OK, "1.0")], []),
    "refused twice": ([past(BAD, "1.1"), past(BAD, "1.1"), past(OK, "1.0")], LEFT_X),
    "two versions one after the other": ([past(BAD, "1.2"), past(BAD, "1.1"), past(OK, "1.0")], [(X, "1.2", "1.0")]),
    "it was left behind already": ([past(UNSEEN, "1.0", "1.1"), past(BAD, "1.1", "1.0"), past(OK, "1.0", "1.0")], []),
    "carried on with another, which it failed": (
        [past(BAD, "1.1", "1.1"), past(BAD, "1.1", "1.0"), past(OK, "1.0", "1.0")],
        LEFT_X,
    ),
    "carried on with another, and nobody has begun": (
        [past(UNSEEN, "1.1", "1.1"), past(BAD, "1.1", "1.0"), past(OK, "1.0", "1.0")],
        LEFT_X,
    ),
    "one after the other was left behind": (
        [past(BAD, "1.0", "1.1"), past(BAD, "1.1", "1.0"), past(OK, "1.0", "1.0")],
        [(Y, "1.1", "1.0")],
    ),
    "mended by the next": ([past(OK, "1.2"), past(BAD, "1.1"), past(OK, "1.0")], []),
    "tried again and taken": ([past(OK, "1.1"), past(BAD, "1.1"), past(OK, "1.0")], []),
    "taken once, failed later for another reason": ([past(BAD, "1.1"), past(OK, "1.1"), past(OK, "1.0")], []),
    "two models changed at once": ([past(BAD, "1.1", "1.1"), past(OK, "1.0", "1.0")], []),
    "the runtime changed beside it": ([past(BAD, "1.1", runtime="0.2"), past(OK, "1.0")], []),
    "the runtime alone": ([past(BAD, "1.0", runtime="0.2"), past(OK, "1.0")], []),
    "another's component alone": ([past(BAD, "1.0", camera="2"), past(OK, "1.0", camera="1")], []),
    "a component went": ([past(BAD, "1.0"), past(OK, "1.0", camera="1")], []),
    "the model went": ([past(BAD, "", "1.0"), past(OK, "1.0", "1.0")], []),
    "a retirement failed": ([past(BAD, "0.0.1"), past(OK, "1.0")], []),
    "a model came back from retirement and is refused": ([past(BAD, "1.1"), past(OK, "0.0.1")], [(X, "1.1", "0.0.1")]),
    "what lies beyond the base is no matter": ([past(OK, "1.0", "1.0"), past(BAD, "1.1", "0.9"), past(OK, "1.0")], []),
}


@pytest.mark.parametrize(("history", "left"), CASES.values(), ids=CASES)
def test_what_is_left_behind(history: Sequence[Past], left: list[tuple[str, str, str]]) -> None:
    refused = refused_versions(history)
    assert [(one.component_name, one.version, one.carried_version) for one in refused] == left
    assert all(one.version in one.sentence for one in refused)


def test_a_configuration_that_was_set_beside_a_model_may_be_to_blame_too() -> None:
    entry = {"componentVersion": "0.1", "configurationUpdate": {"merge": "{}"}}
    components = {RUNTIME: entry, X: {"componentVersion": "1.1", "configurationUpdate": {"merge": "{}"}}}
    both = past_of("d2", components, ["FAILED"])
    assert both.configured == {RUNTIME}, "a model's is a nonce"
    assert refused_versions([both, past(OK, "1.0")]) == ()
    assert refused_versions([replace(both, configured=frozenset()), past(OK, "1.0")])


def test_devices_are_counted_by_what_they_say() -> None:
    statuses = ["SUCCEEDED", "COMPLETED", "FAILED", "REJECTED", "IN_PROGRESS", "QUEUED", "TIMED_OUT", "CANCELED"]
    counted = past_of("d", {X: {"componentVersion": "1.0"}}, statuses)
    assert (counted.succeeded_count, counted.failed_count, counted.active_count) == (2, 2, 1)


VERSIONS = st.sampled_from(["", "0.0.1", "1.0", "1.1", "1.2"])
PASTS = st.builds(
    past, st.sampled_from([OK, BAD, SOME, AT_IT, UNSEEN]), VERSIONS, VERSIONS, st.sampled_from(["0.1", "0.2"])
)


@given(st.lists(PASTS, max_size=8))
def test_what_somebody_took_since_the_base_is_never_left_behind_and_what_comes_instead_was_taken(
    history: list[Past],
) -> None:
    refused = refused_versions(history)
    taken = [one.components for one in history if one.succeeded_count]
    for one in refused:
        assert history[0].components[one.component_name] == one.version
        assert taken[0].get(one.component_name, "") == one.carried_version != one.version
        since = history[: next(i for i, each in enumerate(history) if each.succeeded_count)]
        assert any(each.failed_count and each.components.get(one.component_name) == one.version for each in since)
    if refused:
        assert doubt_about(history) == ""


@pytest.mark.parametrize("said", [SOME, AT_IT, BAD])
def test_what_the_rule_leaves_alone_is_said(said: tuple[int, int, int]) -> None:
    doubt = doubt_about([past(said, "1.1")])
    assert f"{X} 1.1" in doubt
    assert "undeploy" in doubt
    assert doubt_about([past(OK, "1.1")]) == doubt_about([past(UNSEEN, "1.1")]) == doubt_about([]) == ""


def test_tags_remember_until_the_model_is_asked_for_again() -> None:
    first = refused_tags({"owner": "me"}, [Refused(X, "1.1", "1.0")], Y)
    assert refused_in(first) == {X: "1.1"}
    assert refused_in(refused_tags(first, [], Y)) == {X: "1.1"}
    assert refused_in(refused_tags(first, [Refused(Y, "2", "")], "")) == {X: "1.1", Y: "2"}
    assert refused_in(refused_tags(first, [], X)) == {}
    many = [Refused(f"{MODEL_PREFIX}M{n}", "1", "") for n in range(20)] + [Refused("x" * 200, "1", "")]
    assert len(refused_tags({}, many, "")) == TAG_COUNT_MAX


@pytest.mark.parametrize(
    ("wished", "history", "is_told"),
    [
        ("1.0.0", [past(OK, "1.2.0")], True),
        ("1.0.0", [past(BAD, "1.1.0"), past(SOME, "1.2.0")], True),
        ("1.0.0", [past(BAD, "1.2.0"), past(OK, "1.0.0")], False),
        ("1.2.0", [past(OK, "1.2.0")], False),
        ("1.3.0", [past(OK, "1.2.0")], False),
        ("1.0.0", [past(UNSEEN, "1.2.0")], False),
        ("1.0.0", [past(OK, "", "1.2.0")], False),
        ("1.0.0", [past(OK, "0.0.3")], False),
        ("0.0.4", [past(OK, "1.2.0")], False),
        ("1.0.0", [], False),
    ],
)
def test_an_older_version_than_devices_have_taken_is_deployed_with_a_word(
    wished: str, history: list[Past], is_told: bool
) -> None:
    doubt = doubt_about_going_back(X, wished, history)
    assert ("publish the compilation" in doubt) == is_told
    assert (f"{X} 1.2.0" in doubt) == is_told
