import pytest
from hypothesis import given, strategies as st

from simulator.mqtt.topics import from_wire, matches, to_wire

levels = st.lists(
    st.text(st.characters(codec="ascii", exclude_characters="/+#\x00"), min_size=1), min_size=1, max_size=5
)


@given(levels, st.sampled_from(["$", "_"]))
def test_the_prefix_on_the_wire_round_trips(parts, prefix):
    topic = "$aws/" + "/".join(parts)
    assert from_wire(to_wire(topic, prefix), prefix) == topic


@given(levels)
def test_a_topic_matches_itself_and_its_wildcards(parts):
    topic = "/".join(["edgewright", *parts])
    assert matches(topic, topic)
    assert matches("edgewright/#", topic)
    assert matches("/".join(["edgewright"] + ["+"] * len(parts)), topic)
    assert not matches("/".join(["edgewright"] + ["+"] * (len(parts) + 1)), topic)


@pytest.mark.parametrize(
    ("topic_filter", "topic", "covered"),
    [
        ("a/#", "a", True),
        ("a/+", "a", False),
        ("a/b", "a", False),
        ("a/+/c", "a/b/c", True),
        ("#", "a/b", True),
        ("+/b", "a/b", True),
        ("#", "$aws/x", False),
        ("+/x", "$aws/x", False),
        ("$aws/#", "$aws/x/y", True),
        ("a/b", "a/b/c", False),
        ("edgewright/v1/+/+", "edgewright/v1/thing/window", True),
    ],
)
def test_matching_as_mqtt_3_1_1_says(topic_filter, topic, covered):
    assert matches(topic_filter, topic) is covered
