import base64
import json

import pytest
from hypothesis import given, strategies as st

from simulator.aws.iot_sql import Incoming, SqlError, SqlNotRealError
from simulator.aws.iot_sql_parser import parse, parse_template

INGEST = (
    "SELECT encode(*, 'base64') AS payload_b64, topic(3) AS thing_name, topic(4) AS kind, "
    "timestamp() AS received_at_ms FROM 'edgewright/v1/+/+'"
)


def message(payload: bytes = b"{}", topic: str = "edgewright/v1/thing-a/window") -> Incoming:
    return Incoming(topic, payload, 1_700_000_000_123)


def run(sql: str, document: object, topic: str = "a/b/c") -> object:
    result = parse(sql).evaluate(message(json.dumps(document).encode(), topic))
    return None if result is None else json.loads(result)


@given(st.binary(max_size=200))
def test_the_ingest_rule_carries_any_bytes_whole(payload):
    statement = parse(INGEST)
    assert statement.topic_filter == "edgewright/v1/+/+"
    result = json.loads(statement.evaluate(message(payload)))
    assert base64.b64decode(result.pop("payload_b64")) == payload
    assert result == {"thing_name": "thing-a", "kind": "window", "received_at_ms": 1_700_000_000_123}


def test_select_all_alone_hands_on_the_bytes_json_or_not():
    assert parse("select * from '#'").evaluate(message(b"\xff not json")) == b"\xff not json"


@pytest.mark.parametrize(
    ("sql", "document", "expected"),
    [
        ("SELECT *, topic(1) AS first FROM 'x'", {"a": 1}, {"a": 1, "first": "a"}),
        ("SELECT a.b[1].c FROM 'x'", {"a": {"b": [0, {"c": 5}]}}, {"c": 5}),
        ("SELECT a AS x.y, b AS x.z FROM 'x'", {"a": 1, "b": None}, {"x": {"y": 1, "z": None}}),
        ("SELECT missing, a[7], topic(9) AS nine, a FROM 'x'", {"a": [1]}, {"a": [1]}),
        ("SELECT 'it''s' AS t, -1.5 AS n, true AS b, null AS e", {}, {"t": "it's", "n": -1.5, "b": True, "e": None}),
        ("SELECT concat(upper(a), '-', 3) AS c FROM 'x'", {"a": "k"}, {"c": "K-3"}),
        ("SELECT topic() FROM 'x'", {}, {"topic": "a/b/c"}),
        ("SELECT isUndefined(q) AS u, isNull(a) AS n FROM 'x'", {"a": None}, {"u": True, "n": True}),
        ("SELECT encode(a, 'base64') AS e FROM 'x'", {"a": "hi"}, {"e": "aGk="}),
    ],
)
def test_selecting(sql, document, expected):
    assert run(sql, document) == expected


@pytest.mark.parametrize(
    ("condition", "holds"),
    [
        ("temperature > 20 AND NOT (kind = 'test')", True),
        ("temperature <= 20 OR kind <> 'window'", False),
        ("missing = 1", False),
        ("missing <> 1", False),
        ("kind > 3", False),
        ("startswith(topic(), 'a/b')", True),
        ("temperature", False),
    ],
)
def test_where(condition, holds):
    got = run(f"SELECT kind FROM 'a/#' WHERE {condition}", {"temperature": 21.5, "kind": "window"})
    assert (got is not None) is holds


@pytest.mark.parametrize(
    ("sql", "piece"),
    [
        ("SELECT clientid() FROM 'a'", "clientid"),
        ("SELECT a + 1 FROM 'a'", "'\\+'"),
        ("SELECT a FROM a", "FROM 'a'"),
        ("SELECT (SELECT x FROM y) FROM 'a'", "SELECT"),
        ("SELECT a FROM 'a' GROUP BY b", "GROUP"),
        ("SELECT get_thing_shadow('t', 'r') FROM 'a'", "get_thing_shadow"),
    ],
)
def test_what_is_outside_the_subset_is_named(sql, piece):
    with pytest.raises(SqlNotRealError, match=piece):
        parse(sql)


@pytest.mark.parametrize(
    ("sql", "problem"),
    [
        ("", "expected SELECT"),
        ("UPDATE x", "expected SELECT, found 'UPDATE'"),
        ("SELECT a AS FROM", "expected a name, found 'FROM'"),
        ("SELECT a[x] FROM 'b'", "expected an index"),
        ("SELECT topic(1, 2) FROM 'a'", "takes 0 to 1"),
        ("SELECT a FROM 'a", "cannot read"),
        ("SELECT topic(1 FROM 'a'", "expected"),
    ],
)
def test_what_is_malformed_says_where(sql, problem):
    with pytest.raises(SqlError, match=problem):
        parse(sql)


def test_a_template_is_filled_from_the_message():
    fill = parse_template("raw/${topic(3)}/${site.name}-${timestamp()}.json")
    assert fill(message(b'{"site": {"name": "EWR"}}')) == "raw/thing-a/EWR-1700000000123.json"
    assert parse_template("plain")(message()) == "plain"
