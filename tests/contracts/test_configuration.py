"""Digests of a configuration: the same for what means the same, and a merge of digests is the digests of the merge."""

from typing import Any

from hypothesis import given, strategies as st

from edge_component.contracts.configuration import merged, value_digest, value_digests, without

keys = st.sampled_from(["a", "b", "c/d", "e~f", "accessControl"])
scalars = st.none() | st.booleans() | st.integers(-(2**70), 2**70) | st.floats() | st.text(max_size=6)
documents = st.dictionaries(
    keys,
    st.recursive(scalars | st.lists(scalars, max_size=3), lambda below: st.dictionaries(keys, below, max_size=3)),
    max_size=4,
)


def deep_merge(old: dict[str, Any], new: dict[str, Any]) -> dict[str, Any]:
    """As a nucleus merges: objects key by key, everything else as a whole."""
    whole = dict(old)
    for key, value in new.items():
        before = whole.get(key)
        is_nested = isinstance(value, dict) and isinstance(before, dict)
        whole[key] = deep_merge(before, value) if is_nested else value
    return whole


def without_empty(document: dict[str, Any]) -> bool:
    return all(value != {} and (not isinstance(value, dict) or without_empty(value)) for value in document.values())


@given(documents.filter(without_empty), documents.filter(without_empty))
def test_merging_digests_is_digesting_the_merge(old: dict[str, Any], new: dict[str, Any]) -> None:
    assert merged(value_digests(old), new) == value_digests(deep_merge(old, new))


def test_values_are_named_by_pointer_and_access_control_is_nobodys_business() -> None:
    found = value_digests({"heartbeat_s": 5, "streams": {"a/b": {"source": [1, 2]}}, "accessControl": {"x": 1}})
    assert set(found) == {"/heartbeat_s", "/streams/a~1b/source"}
    assert all(len(digest) == 8 for digest in found.values())


def test_what_reads_the_same_is_the_same() -> None:
    for alike in ([5, 5.0, "5", "5.0"], [True, "true"], [[1, "x"], ["1", "x"]], ["abc"], [None]):
        assert len({value_digest(value) for value in alike}) == 1, alike
    assert len({value_digest(value) for value in (0, False, None, "", "none", [], 1)}) == 7


def test_a_reset_takes_a_value_and_what_lies_below_it() -> None:
    known = value_digests({"a": {"b": 1, "c": 2}, "ab": 3})
    assert set(without(known, "/a")) == {"/ab"}
    assert set(without(known, "/a/b")) == {"/a/c", "/ab"}
    assert without(known, "") == {}
