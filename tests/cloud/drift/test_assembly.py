"""Windows are added until there is enough to judge; nothing is judged twice and nothing is lost."""

from datetime import UTC, datetime, timedelta

from hypothesis import given, strategies as st

from cloud.drift.assembly import WholeWindow, batches, observed
from edge_component.contracts.heartbeat import ModelRef
from edge_component.contracts.telemetry import ColumnCounts, TelemetryWindow

T0 = datetime(2026, 1, 1, tzinfo=UTC)


def whole(index: int, count: int) -> WholeWindow:
    starts_at, ends_at = T0 + timedelta(minutes=index), T0 + timedelta(minutes=index + 1)
    return WholeWindow("EWR", f"w{index}", starts_at, ends_at, count)


def part_of(whole: WholeWindow) -> TelemetryWindow:
    return TelemetryWindow(
        ModelRef("weather", "1.0.0", "a" * 64), "b" * 64, whole.window_id, whole.starts_at, whole.ends_at, 60_000,
        whole.record_count, {"f0": ColumnCounts((whole.record_count,), nan_count=1)},
    )  # fmt: skip


@given(st.lists(st.integers(0, 300), max_size=12), st.randoms())
def test_batches_are_full_in_order_and_disjoint(counts: list[int], random: object) -> None:
    windows = [whole(index, count) for index, count in enumerate(counts)]
    shuffled = list(windows)
    random.shuffle(shuffled)  # type: ignore[attr-defined]
    done = batches(shuffled, 200)
    used = [window for batch in done for window in batch.windows]
    assert used == windows[: len(used)]
    assert all(sum(window.record_count for window in batch.windows) >= 200 for batch in done)
    assert all(sum(window.record_count for window in batch.windows[:-1]) < 200 for batch in done)
    assert sum(window.record_count for window in windows[len(used) :]) < 200


def test_a_batch_is_the_sum_of_its_windows() -> None:
    (batch,) = batches([whole(0, 150), whole(1, 60)], 200)
    assert (batch.starts_at, batch.ends_at) == (T0, T0 + timedelta(minutes=2))
    merged = observed(batch.windows, [part_of(window) for window in batch.windows])
    assert merged.record_count == 210
    assert merged.features["f0"] == ColumnCounts((210,), nan_count=2)
