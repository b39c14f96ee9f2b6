"""Framing: whole records are found among any bytes, and damage costs only what it touches."""

import pytest
from hypothesis import given, strategies as st

from edge_component.telemetry.records import HEADER_BYTES, MAGIC, Record, frame, scan

BYTES_MAX = 200
payloads = st.binary(max_size=60) | st.binary(max_size=20).map(lambda noise: noise + MAGIC + noise)
logs = st.lists(payloads, max_size=8).map(
    lambda contents: [Record(number + 1, content) for number, content in enumerate(contents)]
)


def file_of(records: list[Record]) -> bytes:
    return b"".join(frame(record) for record in records)


@given(logs)
def test_what_was_framed_is_found(records: list[Record]) -> None:
    content = file_of(records)
    found = scan(content, BYTES_MAX)
    assert list(found.records) == records
    assert (found.damaged_ranges_count, found.whole_bytes, found.is_torn) == (0, len(content), False)


@given(logs.filter(bool), st.data())
def test_a_cut_anywhere_keeps_every_record_before_it_and_is_torn(records: list[Record], data: st.DataObject) -> None:
    content = file_of(records)
    cut = data.draw(st.integers(0, len(content)))
    found = scan(content[:cut], BYTES_MAX)
    whole = [record for index, record in enumerate(records) if len(file_of(records[: index + 1])) <= cut]
    assert list(found.records) == whole
    assert found.damaged_ranges_count == 0
    assert found.is_torn == (found.whole_bytes < cut)


@given(logs.filter(bool), st.data())
def test_a_damaged_byte_costs_its_own_record_only(records: list[Record], data: st.DataObject) -> None:
    content = bytearray(file_of(records))
    place = data.draw(st.integers(0, len(content) - 1))
    content[place] ^= data.draw(st.integers(1, 255))
    hit = next(i for i in range(len(records)) if place < len(file_of(records[: i + 1])))
    found = scan(bytes(content), BYTES_MAX)
    assert list(found.records) == records[:hit] + records[hit + 1 :]
    assert found.damaged_ranges_count == (0 if found.is_torn else 1)


@given(logs, st.binary(max_size=80), logs)
def test_records_are_found_around_any_noise(before: list[Record], noise: bytes, after: list[Record]) -> None:
    found = scan(file_of(before) + noise + file_of(after), BYTES_MAX)
    wanted = before + after
    if MAGIC not in noise and not noise.endswith((MAGIC[:1], MAGIC[:2], MAGIC[:3])):
        assert list(found.records) == wanted
    assert len(found.records) >= len(before)


@given(st.binary(max_size=400))
def test_noise_never_raises(noise: bytes) -> None:
    found = scan(noise, BYTES_MAX)
    assert found.whole_bytes <= len(noise)


def test_a_length_beyond_the_limit_is_damage_not_an_allocation() -> None:
    huge = frame(Record(1, b"x" * (BYTES_MAX + 1)))
    found = scan(huge + frame(Record(2, b"y")), BYTES_MAX)
    assert [record.sequence for record in found.records] == [2]
    assert found.damaged_ranges_count == 1
    assert not scan(huge[: HEADER_BYTES + 3], BYTES_MAX).is_torn


@pytest.mark.parametrize("tail", [b"\0" * 64, b"junk", MAGIC + b"\xff" * 40])
def test_a_tail_that_no_append_leaves_is_damage(tail: bytes) -> None:
    found = scan(frame(Record(1, b"x")) + tail, BYTES_MAX)
    assert not found.is_torn
    assert found.damaged_ranges_count == 1
