"""The journal: its round-trip law, what it does with damage, and the floors that it never lowers."""

from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from hypothesis import given, strategies as st

from edge_component.activation.journal import COMMITTED_FILE, JOURNAL_FILE, READS_MAX, Found, Journal, State
from edge_component.activation.table import Installed, Phase, Slot
from edge_component.bundles.verification import Release
from edge_component.contracts.codec import from_bytes, to_bytes
from edge_component.contracts.heartbeat import ModelRef
from edge_component.errors import StoreError

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
    assert journal.load() == Found(State())
    state = State().with_slot("m", Slot(active=held(4))).with_trusted(datetime(2026, 1, 1, tzinfo=UTC))
    journal.save(state)
    assert journal.load() == Found(state)
    names = {name for file in (JOURNAL_FILE, COMMITTED_FILE) for name in (file, f"{file}.reserve")}
    assert {path.name for path in tmp_path.iterdir()} == names


DAMAGES = (b"", b"{", b'{"schema": "edgewright.activation-journal/9"}', b"\xff" * 10)


@pytest.mark.parametrize("content", DAMAGES)
def test_a_damaged_journal_is_set_aside_and_what_was_committed_stands_in(tmp_path: Path, content: bytes) -> None:
    journal = Journal(tmp_path)
    committed = State().with_slot("m", Slot(active=held(4), previous=held(3))).with_slot("n", Slot(active=held(7)))
    journal.save(committed)
    journal.save(
        committed.with_slot("m", Slot(Phase.PENDING, active=held(4), candidate=held(5))).with_slot("n", Slot())
    )
    (tmp_path / JOURNAL_FILE).write_bytes(content)
    found = Journal(tmp_path).load()
    assert f"{JOURNAL_FILE} cannot be read" in found.problem
    assert f"{JOURNAL_FILE}.damaged" in found.problem
    assert found.state.slots == {"m": Slot(active=held(4))}, "no candidate, and nothing that was removed"
    assert found.state.floors["com.edgewright.model.M"] == Release(7, f"{7:064x}")
    assert (tmp_path / f"{JOURNAL_FILE}.damaged").read_bytes() == content
    assert Journal(tmp_path).load() == Found(found.state), "the next start has a journal again"


@pytest.mark.parametrize("content", DAMAGES)
def test_a_damaged_copy_costs_nothing_and_is_made_good(tmp_path: Path, content: bytes) -> None:
    state = State().with_slot("m", Slot(active=held(4)))
    Journal(tmp_path).save(state)
    (tmp_path / COMMITTED_FILE).write_bytes(content)
    journal = Journal(tmp_path)
    assert journal.load() == Found(state)
    (tmp_path / JOURNAL_FILE).unlink()
    found = Journal(tmp_path).load()
    assert found.state == state
    assert "is gone" in found.problem


def test_with_both_damaged_it_says_what_is_lost(tmp_path: Path) -> None:
    for name in (JOURNAL_FILE, COMMITTED_FILE):
        (tmp_path / name).write_bytes(b"{")
    found = Journal(tmp_path).load()
    assert found.state == State()
    assert "older ones could be" in found.problem


def failing_reads(monkeypatch: pytest.MonkeyPatch, name: str, failures_count: int) -> list[float]:
    """EIO for the first reads of a file; returns the list that the pauses between attempts are put into."""
    read, left = Path.read_bytes, [failures_count]

    def reading(path: Path) -> bytes:
        if path.name == name and left[0]:
            left[0] -= 1
            raise OSError(5, "Input/output error")
        return read(path)

    monkeypatch.setattr(Path, "read_bytes", reading)
    return []


@pytest.mark.parametrize("name", [JOURNAL_FILE, COMMITTED_FILE])
def test_an_input_error_that_passes_changes_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    state = State().with_slot("m", Slot(Phase.PENDING, active=held(4), candidate=held(5)))
    Journal(tmp_path).save(state)
    pauses = failing_reads(monkeypatch, name, READS_MAX - 1)
    assert Journal(tmp_path, pauses.append).load() == Found(state)
    assert len(pauses) == READS_MAX - 1


def test_an_input_error_that_stays_costs_the_candidate_at_most(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    state = State().with_slot("m", Slot(Phase.PENDING, active=held(4), candidate=held(5)))
    Journal(tmp_path).save(state)
    pauses = failing_reads(monkeypatch, JOURNAL_FILE, READS_MAX)
    assert Journal(tmp_path, pauses.append).load().state == state.committed()


def test_a_journal_that_can_be_neither_read_nor_moved_stops_the_start(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / JOURNAL_FILE).write_bytes(b"{")

    def refusing(path: Path, target: Path) -> None:
        raise OSError(30, "Read-only file system")

    monkeypatch.setattr(Path, "replace", refusing)
    with pytest.raises(StoreError, match="neither read nor set aside"):
        Journal(tmp_path).load()


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
