"""Topics: the short form that rules see, the long form that devices publish to, and names that cannot bend them."""

import pytest
from hypothesis import given, strategies as st

from edge_component.contracts.errors import MalformedError
from edge_component.contracts.topics import Address, basic_ingest_topic, parse_topic, topic
from tests.contracts.strategies import addresses


@given(addresses)
def test_a_topic_round_trips(address: Address) -> None:
    assert parse_topic(topic(address)) == address


@given(addresses)
def test_basic_ingest_puts_the_rule_before_the_short_topic(address: Address) -> None:
    assert basic_ingest_topic(address, "rule") == f"$aws/rules/rule/{topic(address)}"


@pytest.mark.parametrize("thing_name", ["", "a/b", "+", "#", "a b", "a" * 129, "station-1\n"])
def test_what_aws_calls_no_thing_name_makes_no_topic(thing_name: str) -> None:
    with pytest.raises(MalformedError, match="is not a thing name"):
        topic(Address(thing_name, "heartbeat"))


def test_a_kind_that_nobody_reads_makes_no_topic() -> None:
    with pytest.raises(MalformedError, match="is none of heartbeat, window, activation"):
        topic(Address("station-1", "gossip"))


@given(st.text())
def test_any_text_is_ours_or_refused(text: str) -> None:
    try:
        address = parse_topic(text)
    except MalformedError:
        return
    assert topic(address) == text
