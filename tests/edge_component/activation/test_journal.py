"""The journal: its round-trip law, what it does with damage, and the floors that it never lowers."""

from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from hypothesis import given, strategies as st

from edge_component.activation.journal import JOURNAL_FILE, Journal, State
from edge_component.activation.table import Installed, Phase, Slot
from edge_component.bundles.verification import Release
from edge_component.contracts.codec import from_bytes, to_bytes
from edge_component.contracts.heartbeat import ModelRef
from edge_component.errors import JournalDamagedError, StoreError

DIGESTS = st.integers(0, 2**256 - 1).map(lambda number: f"{number:064x}")
REFS = st.builds(ModelRef, name=st.text(max_size=8), version=st.just("1.2.3"), digest=DIGESTS)
INSTALLED = st.builds(Installed, ref=REFS, component_name=st.text(max_size=8), release=st.integers(1, 2**53))
SLOTS = st.builds(
    Slot,
    phase=st.sampled_from(Phase),
    active=st.none() | INSTALLED,
    previous=st.none() | INSTALLED,
    candidate=st.none() | INSTALLED,
    starts_count=st.integers(0, 9),
)
STATES = st.builds(
    State,
    slots=st.dictionaries(st.text(max_size=8), SLOTS, max_size=3),
    floors=st.dictionaries(st.text(max_size=8), st.builds(Release, st.integers(1, 2**53), DIGESTS), max_size=3),
    trusted_at=st.none() | st.datetimes(timezones=st.just(UTC)),
)


@given(STATES)
def test_decode_of_encode_is_the_same_state(state: State) -> None:
    assert State.read(from_bytes(to_bytes(state.to_document()), 10**6)) == state


def held(release: int) -> Installed:
    return Installed(ModelRef("m", "1.0.0", f"{release:064x}"), "com.edgewright.model.M", release)


def test_what_is_saved_is_loaded_and_nothing_is_an_empty_state(tmp_path: Path) -> None:
    journal = Journal(tmp_path)
    assert journal.load() == State()
    state = State().with_slot("m", Slot(active=held(4))).with_trusted(datetime(2026, 1, 1, tzinfo=UTC))
    journal.save(state)
    assert journal.load() == state
    assert [path.name for path in tmp_path.iterdir()] == [JOURNAL_FILE]


@pytest.mark.parametrize("content", [b"", b"{", b'{"schema": "edgewright.activation-journal/9"}', b"\xff" * 10])
def test_a_damaged_journal_is_set_aside_and_named(tmp_path: Path, content: bytes) -> None:
    (tmp_path / JOURNAL_FILE).write_bytes(content)
    with pytest.raises(JournalDamagedError, match=r"activation\.json\.damaged"):
        Journal(tmp_path).load()
    assert (tmp_path / f"{JOURNAL_FILE}.damaged").read_bytes() == content
    assert Journal(tmp_path).load() == State()


def test_a_disk_that_refuses_is_typed_and_changes_nothing(tmp_path: Path) -> None:
    journal = Journal(tmp_path / "gone")
    with pytest.raises(StoreError):
        journal.save(State())


def test_a_floor_rises_with_a_commit_and_outlives_everything() -> None:
    state = State().with_slot("m", Slot(active=held(7)))
    assert state.floors["com.edgewright.model.M"] == Release(7, f"{7:064x}")
    pending = state.with_slot("m", Slot(phase=Phase.PENDING, active=held(7), candidate=held(9)))
    assert pending.floors["com.edgewright.model.M"].number == 7
    reverted = state.with_slot("m", Slot(active=held(3), previous=held(7)))
    assert reverted.floors["com.edgewright.model.M"].number == 7
    assert state.with_slot("m", Slot()).floors["com.edgewright.model.M"].number == 7
    assert "m" not in state.with_slot("m", Slot()).slots


def test_the_trusted_time_never_goes_back() -> None:
    late = datetime(2026, 6, 1, tzinfo=UTC)
    assert State().with_trusted(late).with_trusted(late - timedelta(days=9)).trusted_at == late
