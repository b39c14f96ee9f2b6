"""The watch over deadlines: what is late is stopped, what is not is left alone, and nobody is woken for nothing."""

import threading
import time
from collections.abc import Iterator
from datetime import UTC, datetime

import pytest

from edge_component.clock import ManualClock, SystemClock
from edge_component.inference.deadline import BEAT_S, LINGER_S, NEVER_S, TICK_S, DeadlineWatch, Leash
from tests.edge_component.waiting import wait_until


class CountingWatch(DeadlineWatch):
    """Counts how often it looked."""

    looked_count = 0

    def _look(self, *, lingers: bool) -> float | None:
        self.looked_count += 1
        return super()._look(lingers=lingers)


@pytest.fixture
def watch() -> Iterator[CountingWatch]:
    watch = CountingWatch(SystemClock())
    watch.start()
    yield watch
    watch.stop()


def test_a_run_that_is_late_is_stopped_and_the_next_one_is_not(watch: CountingWatch) -> None:
    leash = watch.leash()
    leash.start(0.02)
    wait_until(lambda: leash.options.terminate)
    assert leash.end()
    leash.start(30)
    assert not leash.options.terminate
    assert not leash.end()


def test_a_short_run_among_long_ones_is_stopped_in_its_own_time(watch: CountingWatch) -> None:
    long, short = watch.leash(), watch.leash()
    long.start(60)
    wait_until(lambda: watch.wakes_before_s < NEVER_S)
    short.start(0.02)
    wait_until(lambda: short.options.terminate)
    assert not long.options.terminate
    assert short.end()
    assert not long.end()


def test_ordinary_requests_wake_nobody_and_an_idle_watch_sleeps(watch: CountingWatch) -> None:
    leash = watch.leash()
    leash.start(60)
    wait_until(lambda: watch.wakes_before_s < NEVER_S)
    looked_count = watch.looked_count + 1  # one look more if the run began during the first
    for _ in range(10_000):
        leash.start(60)
        leash.end()
    time.sleep(0.2)
    assert watch.looked_count <= looked_count


def test_short_runs_of_callers_who_may_go_away_wake_it_once_in_a_while(watch: CountingWatch) -> None:
    leash = watch.leash()
    leash.is_wanted = lambda: True
    began_s = time.monotonic()
    for _ in range(2_000):
        leash.start(60)
        leash.end()
        time.sleep(0.0001)
    ticks = (time.monotonic() - began_s) / TICK_S
    assert watch.looked_count <= 4 * ticks + 10
    looked_count = watch.looked_count
    wait_until(lambda: watch.wakes_before_s == NEVER_S)
    time.sleep(4 * TICK_S)
    assert watch.looked_count <= looked_count + 3, "an idle watch sleeps"


def test_runs_of_connections_that_may_break_wake_nobody_and_are_found_all_the_same(watch: CountingWatch) -> None:
    """Also while the watch is asleep until another's run is late."""
    other = watch.leash()
    other.start(60)
    wait_until(lambda: watch.wakes_before_s < NEVER_S)
    asked_count = 0

    def is_there() -> bool:
        nonlocal asked_count
        asked_count += 1
        return asked_count < 3

    leash = watch.leash(is_there)
    wait_until(lambda: not watch._woken.is_set() and watch.wakes_before_s < NEVER_S)
    began_s, looked_count = time.monotonic(), watch.looked_count
    for _ in range(10_000):
        leash.start(60)
        leash.end()
    beats = (time.monotonic() - began_s) / TICK_S  # a look in which one of them was under way is followed by a tick
    assert watch.looked_count <= looked_count + beats + 2
    asked_count = 0
    leash.start(60)
    wait_until(lambda: leash.options.terminate)
    assert leash.end()
    assert not other.options.terminate


def test_it_looks_up_by_itself_until_the_fast_path_has_long_not_been_used() -> None:
    clock = ManualClock(datetime(2026, 3, 1, tzinfo=UTC))
    watch = DeadlineWatch(clock)
    assert watch._look(lingers=False) is None
    leash = watch.leash(lambda: True)
    assert watch._woken.is_set(), "that there is one now"
    assert [watch._look(lingers=True), watch._look(lingers=False)] == [TICK_S, BEAT_S]
    clock.advance(LINGER_S - 1)
    leash.start(600)
    assert watch._look(lingers=False) == pytest.approx(TICK_S)
    leash.end()
    clock.advance(LINGER_S - 1)
    assert watch._look(lingers=False) == pytest.approx(BEAT_S)
    clock.advance(1)
    assert watch._look(lingers=False) is None


@pytest.mark.parametrize(("allowed_s", "wakes"), [(0.005, True), (TICK_S, False), (60, False)])
def test_a_caller_who_may_go_away_keeps_a_short_deadline(allowed_s: float, wakes: bool) -> None:
    clock = ManualClock(datetime(2026, 3, 1, tzinfo=UTC))
    asleep = DeadlineWatch(clock)
    leash = asleep.leash()
    leash.is_wanted = lambda: True
    asleep.wakes_before_s = clock.monotonic_s() + TICK_S
    leash.start(allowed_s)
    assert asleep._woken.is_set() is wakes


def test_hundreds_of_runs_with_their_own_deadlines_are_each_stopped_or_not(watch: CountingWatch) -> None:
    def use(leash: Leash, stopped: list[bool]) -> None:
        for number in range(20):
            is_late = number % 2 == 0
            leash.start(0.005 if is_late else 30)
            if is_late:
                wait_until(lambda: leash.options.terminate)
            stopped.append(leash.end() is is_late)

    results: list[bool] = []
    threads = [threading.Thread(target=use, args=(watch.leash(), results)) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert results == [True] * 160


def test_a_want_of_memory_does_not_end_the_watch(watch: CountingWatch) -> None:
    """Under memory_bytes_max Python lives below the same bound as the run that is to be ended."""
    asked_count = 0

    def is_there() -> bool:
        nonlocal asked_count
        asked_count += 1
        if asked_count == 1:
            raise MemoryError
        return False

    leash = watch.leash(is_there)
    leash.start(60)
    wait_until(lambda: leash.options.terminate)
    assert leash.end()


def test_it_ends_while_a_run_is_under_way() -> None:
    watch = CountingWatch(SystemClock())
    watch.start()
    leash = watch.leash()
    leash.start(3600)
    watch.stop()
    assert not watch._thread.is_alive()


class RacedEvent(threading.Event):
    """Its next clearing comes just after somebody has asked the watch to stop."""

    def __init__(self, watch: DeadlineWatch) -> None:
        super().__init__()
        self._watch = watch
        self.raced = False

    def clear(self) -> None:
        if not self.raced:
            self.raced = True
            self._watch._stopping = True
            self.set()
        super().clear()


def test_a_stop_that_comes_between_two_looks_is_not_slept_through() -> None:
    watch = DeadlineWatch(SystemClock())
    watch._woken = RacedEvent(watch)
    watch.start()
    watch._thread.join(10)
    assert not watch._thread.is_alive()
