"""Files that know whether they are as they were written: the round trip, and every single bit that may flip."""

import json
from datetime import UTC, datetime

import pytest
from hypothesis import given, strategies as st

from edge_component.activation.journal import State
from edge_component.activation.table import Installed, Slot
from edge_component.contracts.errors import ContractError
from edge_component.contracts.heartbeat import ModelRef
from edge_component.sealed import CHECKSUM, seal, unseal

BYTES_MAX = 1_000_000


def held(version: str, release: int) -> Installed:
    return Installed(ModelRef("scale", version, f"{release:064x}"), "com.edgewright.model.Scale", release)


@given(st.dictionaries(st.text(), st.none() | st.booleans() | st.integers(-(2**53), 2**53) | st.floats(-1e9, 1e9)))
def test_what_was_sealed_is_what_is_read(document: dict[str, object]) -> None:
    document.pop(CHECKSUM, None)
    assert unseal(seal(document), BYTES_MAX) == document


def test_a_journal_with_any_bit_flipped_is_the_same_or_is_refused() -> None:
    slot = Slot(active=held("1.1.0", 10_101), previous=held("1.0.0", 10_001))
    state = State().with_slot("scale", slot).with_trusted(datetime(2026, 1, 1, tzinfo=UTC))
    written = seal(state.to_document())
    refused_count = 0
    for bit in range(len(written) * 8):
        damaged = bytearray(written)
        damaged[bit // 8] ^= 1 << bit % 8
        try:
            found = State.read(unseal(bytes(damaged), BYTES_MAX))
        except ContractError:
            refused_count += 1
        else:  # the checksum's own name: it is then a field that nobody knows, beside a whole journal
            assert (found.slots, found.floors, found.trusted_at) == (state.slots, state.floors, state.trusted_at)
    assert refused_count > len(written) * 7


def test_a_file_of_a_runtime_that_did_not_seal_is_read() -> None:
    assert unseal(b'{"a":1}', BYTES_MAX) == {"a": 1}


@pytest.mark.parametrize("content", [b"", b"[]", b'{"a":1,"crc32":"00000000"}', b'{"a":1,"crc32":7}'])
def test_what_is_not_as_written_is_refused(content: bytes) -> None:
    with pytest.raises(ContractError):
        unseal(content, BYTES_MAX)


def test_the_checksum_is_a_field_that_anybody_can_read() -> None:
    assert json.loads(seal({"b": 1, "a": 2})) == {
        "a": 2,
        "b": 1,
        CHECKSUM: json.loads(seal({"a": 2, "b": 1}))[CHECKSUM],
    }
