"""Precedence by time, and the state file's round trip."""

from typing import Any

from hypothesis import given, strategies as st

from simulator.nucleus.configuration import Configuration, parse_pointer

SCALARS = st.one_of(
    st.none(), st.booleans(), st.integers(-5, 5), st.text(max_size=3), st.lists(st.integers(), max_size=2)
)
LEVELS = st.dictionaries(st.sampled_from("abc"), SCALARS, max_size=2)
TREES = st.dictionaries(st.sampled_from("abc"), st.one_of(SCALARS, LEVELS), max_size=3)
WRITES = st.lists(st.tuples(TREES, st.integers(0, 4)), max_size=6)


def after(writes: list[tuple[dict[str, Any], int]]) -> Configuration:
    configuration = Configuration()
    for tree, at_ms in writes:
        configuration, _ = configuration.merge((), tree, at_ms)
    return configuration


@given(WRITES)
def test_the_state_file_keeps_values_and_times(writes: list[tuple[dict[str, Any], int]]) -> None:
    configuration = after(writes)
    assert Configuration.read(configuration.to_document()) == configuration


@given(WRITES, TREES)
def test_a_newest_write_is_what_stands(writes: list[tuple[dict[str, Any], int]], tree: dict[str, Any]) -> None:
    configuration, _ = after(writes).merge((), tree, 5)
    for key, value in tree.items():
        stands = configuration.value((key,))
        assert stands == value if not isinstance(value, dict) else isinstance(stands, dict)


@given(WRITES, TREES)
def test_unchanged_values_are_not_announced(writes: list[tuple[dict[str, Any], int]], tree: dict[str, Any]) -> None:
    once, _ = after(writes).merge((), tree, 5)
    _, changed = once.merge((), tree, 5)
    assert changed == ()


def test_defaults_fill_gaps_and_replace_defaults_only() -> None:
    configuration = after([({"kept": "deployment"}, 7), ({"kept": "default", "new": 1}, 0), ({"new": 2}, 0)])
    assert configuration.value() == {"kept": "deployment", "new": 2}


def test_an_object_does_not_bury_a_newer_value() -> None:
    configuration = after([({"a": {"b": 1}}, 7), ({"a": "scalar"}, 3), ({"a": {"b": {"c": 1}}}, 3)])
    assert configuration.value() == {"a": {"b": 1}}
    configuration, changed = configuration.merge((), {"a": "scalar"}, 9)
    assert (configuration.value(), changed) == ({"a": "scalar"}, (("a",),))


def test_reset_forgets_by_pointer() -> None:
    configuration = after([({"a": {"b": 1, "c/d": 2}, "e": 3}, 1)])
    assert configuration.reset(["/a/c~1d", "/none/at/all"]).value() == {"a": {"b": 1}, "e": 3}
    assert configuration.reset([""]).value() == {}
    assert parse_pointer("/a/c~1d") == ("a", "c/d")
