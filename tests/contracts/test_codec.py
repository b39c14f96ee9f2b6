"""What the codec lets in, and what it can write: size limits, JSON's corners, numbers, texts and times."""

import math
from datetime import UTC, datetime, timedelta, timezone

import pytest
from hypothesis import given, strategies as st

from edge_component.contracts.admin import Acknowledgement, Command
from edge_component.contracts.baseline import Baseline
from edge_component.contracts.codec import Fields, format_moment, from_bytes, parse_moment, to_bytes
from edge_component.contracts.envelope import Envelope
from edge_component.contracts.errors import MalformedError, TooLargeError
from edge_component.contracts.heartbeat import ModelRef
from edge_component.contracts.limits import LIMITS
from edge_component.contracts.manifest import Manifest
from tests.contracts.strategies import json_values, moments

NOON = datetime(2026, 1, 2, 12, tzinfo=UTC)


@pytest.mark.parametrize(
    ("text", "says"),
    [
        (b"", "is not JSON"),
        (b"{", "is not JSON"),
        (b"[]", "must be an object, not a list"),
        (b"\xff\xfe{\x00}\x00", "is not JSON"),  # UTF-16: JSON once, not ours
        (b"\xef\xbb\xbf{}", "is not JSON"),  # a byte order mark
        (b'{"a": NaN}', "NaN is not a JSON number"),
        (b'{"a": -Infinity}', "-Infinity is not a JSON number"),
        (b'{"a": 1e999}', "beyond the range"),
        (b'{"a": ' + b"9" * 5_000 + b"}", "is not JSON"),
        (b'{"a": 1, "b": {"c": 1, "c": 2}}', "'c' is given twice"),
        (b'{"a": "\\ud800"}', "cannot be written as JSON"),
        (b'{"\\udfff": 1}', "cannot be written as JSON"),
        (b'{"a":' * 40 + b"1" + b"}" * 40, "nested deeper than 32 levels"),
        (b'{"a":' + b"[" * 5_000 + b"]" * 5_000 + b"}", "is not JSON|nested deeper"),
    ],
)
def test_what_cannot_be_written_again_is_not_read(text: bytes, says: str) -> None:
    with pytest.raises(MalformedError, match=says):
        from_bytes(text, 100_000)


def test_a_whole_surrogate_pair_is_one_character() -> None:
    assert from_bytes(b'{"a": "\\ud83d\\ude00"}', 100) == {"a": "\U0001f600"}


@given(st.dictionaries(st.text("abc"), json_values))
def test_canonical_bytes_are_a_fixed_point(document: dict) -> None:
    once = to_bytes(document)
    assert to_bytes(from_bytes(once, len(once))) == once


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf, b"bytes", {1, 2}, "\ud800", {("a",): 1}])
def test_what_json_cannot_hold_is_not_written(value: object) -> None:
    with pytest.raises(MalformedError, match="cannot be written as JSON"):
        to_bytes({"a": value})


def test_size_limits_are_inclusive_and_checked_before_parsing() -> None:
    assert from_bytes(b"{}", 2) == {}
    with pytest.raises(TooLargeError, match="3 bytes; at most 2"):
        from_bytes(b"{{{", 2)


@pytest.mark.parametrize(
    ("read", "size_bytes_max"),
    [
        (Envelope.from_bytes, LIMITS.publish_bytes_max),
        (Command.from_line, LIMITS.admin_line_bytes_max),
        (Acknowledgement.from_line, LIMITS.admin_line_bytes_max),
        (Manifest.from_bytes, LIMITS.manifest_bytes_max),
        (Baseline.from_bytes, LIMITS.baseline_bytes_max),
    ],
)
def test_every_reader_has_its_limit(read, size_bytes_max: int) -> None:
    with pytest.raises(TooLargeError):
        read(b" " * (size_bytes_max + 1))
    with pytest.raises(MalformedError):
        read(b" " * size_bytes_max)


def test_a_publish_holds_its_limit_and_not_a_byte_more() -> None:
    def envelope(padding: int) -> Envelope:
        return Envelope("heartbeat", "station-1", "e", 1, NOON, {"pad": "x" * padding})

    padding = LIMITS.publish_bytes_max - len(envelope(0).to_bytes())
    assert len(envelope(padding).to_bytes()) == LIMITS.publish_bytes_max
    with pytest.raises(TooLargeError, match="a publish holds at most"):
        envelope(padding + 1).to_bytes()


def test_an_admin_line_ends_once_and_within_its_limit() -> None:
    line = Command("status", "id\nwith\nlines").to_line()
    assert line.index(b"\n") == len(line) - 1
    assert Command.from_line(line).request_id == "id\nwith\nlines"
    with pytest.raises(TooLargeError, match="admin line"):
        Acknowledgement("1", ok=True, result={"pad": "x" * LIMITS.admin_line_bytes_max}).to_line()


@pytest.mark.parametrize("epoch", ["e" * 65])
def test_an_epoch_is_short(epoch: str) -> None:
    document = Envelope("heartbeat", "station-1", epoch, 1, NOON, {}).to_document()
    with pytest.raises(MalformedError, match="epoch: has 65 characters") as refusal:
        Envelope.read(document)
    assert refusal.value.field == "epoch"


@pytest.mark.parametrize("value", [math.nan, math.inf, 10**400, True, "1", None])
def test_a_number_is_finite(value: object) -> None:
    with pytest.raises(MalformedError) as refusal:
        Fields({"x": value}, "there").number("x")
    assert refusal.value.field == "there.x"


@pytest.mark.parametrize("value", [-1, 2**63, 1.0, True, "1", None])
def test_a_whole_number_is_within_its_bounds(value: object) -> None:
    with pytest.raises(MalformedError, match=r"there\.x"):
        Fields({"x": value}, "there").integer("x")


@pytest.mark.parametrize(
    ("version", "digest"),
    [("1.0.0\n", "a" * 64), ("1.0.0", "a" * 64 + "\n"), ("01.0.0", "a" * 64), ("\u0661.0.0", "a" * 64)],
)
def test_a_pattern_holds_from_end_to_end(version: str, digest: str) -> None:
    with pytest.raises(MalformedError, match="does not match"):
        ModelRef.read({"name": "weather", "version": version, "digest": digest}, "model")


@given(moments)
def test_a_moment_round_trips_to_the_microsecond(at: datetime) -> None:
    assert parse_moment(format_moment(at)) == at
    assert len(format_moment(at)) == len("2026-01-02T12:00:00.000000Z")


@given(moments, st.integers(-14 * 60, 14 * 60))
def test_a_moment_in_any_zone_is_the_same_moment(at: datetime, offset_min: int) -> None:
    zone = timezone(timedelta(minutes=offset_min))
    try:
        local = at.astimezone(zone)
    except OverflowError:
        return
    assert parse_moment(local.isoformat()) == at


@pytest.mark.parametrize(
    "text",
    [
        "",
        "yesterday",
        "2026-13-01T00:00:00Z",
        "2026-01-02T12:00:00",
        "0001-01-01T00:00:00+14:00",
        "9999-12-31T23:00:00-14:00",
    ],
)
def test_a_moment_names_its_zone_and_exists(text: str) -> None:
    with pytest.raises(MalformedError, match="at: "):
        Fields({"at": text}).moment("at")


def test_a_naive_time_is_never_written() -> None:
    with pytest.raises(ValueError, match="without a zone"):
        format_moment(datetime(2026, 1, 1))  # noqa: DTZ001 - the point


def test_null_for_an_optional_field_reads_as_absent() -> None:
    fields = Fields({"x": None, "y": 1})
    assert fields.optional("x", fields.text) is None
    assert fields.optional("z", fields.text) is None
    assert fields.rest() == {"y": 1}


def test_a_name_given_twice_is_found_among_as_many_as_any_document_may_have() -> None:
    """One by one, each against all others, that took hours, on behalf of whoever may send or sign a document."""
    fields = b",".join(b'"%d":0' % number for number in range(400_000))
    with pytest.raises(MalformedError, match="'399999' is given twice"):
        from_bytes(b"{" + fields + b',"399999":0}', LIMITS.baseline_bytes_max)


def test_a_long_name_given_twice_is_told_in_part() -> None:
    with pytest.raises(MalformedError) as caught:
        from_bytes(b'{"%s":0,"%s":1}' % ((b"n" * 100_000,) * 2), LIMITS.baseline_bytes_max)
    assert len(str(caught.value)) < 200
