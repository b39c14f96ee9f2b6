"""Shadows: compared beside the answer, sampled, bounded, and dropped rather than waited for."""

import os
import threading
from collections.abc import Callable, Iterator

import numpy as np
import pytest

from edge_component.contracts.heartbeat import ModelRef
from edge_component.contracts.routes import ModelRules, RouteTable, ShadowRule
from edge_component.inference.deadline import DeadlineWatch
from edge_component.inference.equipment import RuledEquipment
from edge_component.inference.router import Router
from edge_component.inference.sequences import SequenceLimits
from edge_component.inference.session import Session
from edge_component.inference.shadow import Shadowing, ShadowLimits, ShadowMirror
from edge_component.inference.versions import Version
from tests.edge_component.inference.conftest import Serve
from tests.edge_component.inference.test_session import MANIFEST, ROW

RULE = ShadowRule("previous", 1.0)


@pytest.fixture
def shadowing(watch: DeadlineWatch) -> Iterator[Shadowing]:
    shadowing = Shadowing(watch, ShadowLimits(queue_bytes_max=1_000, run_s_max=0.2))
    yield shadowing
    shadowing.stop()


def mirror_of(
    serve: Serve, name: str, shadowing: Shadowing, rule: ShadowRule = RULE, draw: float = 0.0
) -> ShadowMirror:
    shadow = serve(name)
    version = Version(shadow.ref, 2, shadow)

    def wake(asked: Version) -> object:
        raise AssertionError("it is loaded")

    return ShadowMirror(rule, version, MANIFEST, shadowing, wake, lambda: draw)  # type: ignore[arg-type]


def test_what_is_offered_is_compared(serve: Serve, shadowing: Shadowing) -> None:
    mirror = mirror_of(serve, "triple", shadowing)
    for _ in range(5):
        mirror.offer({"x": ROW}, {"y": ROW * 2})
        assert shadowing.settle(10)
    report = mirror.report()
    assert (report.compared_count, report.agreed_count, report.dropped_count, report.failed_count) == (5, 5, 0, 0)
    assert report.difference_max == 3.0  # 3 * 3 against 2 * 3; the largest entry is the same one


def test_only_the_sample_is_taken(serve: Serve, shadowing: Shadowing) -> None:
    draws = iter([0.1, 0.3, 0.25, 0.24])
    mirror = mirror_of(serve, "double", shadowing, ShadowRule("previous", 0.25))
    mirror._draw = lambda: next(draws)
    for _ in range(4):
        mirror.offer({"x": ROW}, {"y": ROW * 2})
    assert shadowing.settle(10)
    assert mirror.report().compared_count == 2


def test_the_worker_is_not_bound_to_the_core_of_whoever_offered_first(serve: Serve, shadowing: Shadowing) -> None:
    """A connection's thread may be, to its client's: the worker would compete with just those two for ever."""
    mirror = mirror_of(serve, "double", shadowing)
    everywhere = os.sched_getaffinity(0)

    def offer() -> None:
        os.sched_setaffinity(0, {min(everywhere)})
        mirror.offer({"x": ROW}, {"y": ROW * 2})

    offering = threading.Thread(target=offer)
    offering.start()
    offering.join()
    assert shadowing.settle(10)
    assert shadowing._thread is not None
    assert os.sched_getaffinity(shadowing._thread.native_id or 0) == everywhere


def test_a_client_may_overwrite_its_memory_at_once(serve: Serve, shadowing: Shadowing) -> None:
    mirror = mirror_of(serve, "double", shadowing)
    inputs, outputs = ROW.copy(), ROW * 2
    mirror.offer({"x": inputs}, {"y": outputs})
    inputs[:], outputs[:] = -1, 99
    assert shadowing.settle(10)
    assert mirror.report().difference_max == 0


def test_a_full_queue_drops_and_counts_and_never_waits(serve: Serve, shadowing: Shadowing) -> None:
    mirror = mirror_of(serve, "endless", shadowing)
    mirror.offer({"x": ROW}, {"y": ROW})  # is stopped after 0.2 s; meanwhile the queue fills up
    big = np.zeros((40, 3), np.float32)
    for _ in range(10):
        mirror.offer({"x": big}, {"y": big})
    assert mirror.report().dropped_count >= 9
    assert shadowing.settle(20)
    report = mirror.report()
    assert report.failed_count + report.dropped_count == 11
    assert report.compared_count == 0


@pytest.mark.parametrize(
    ("door", "error"),
    [("edge_component.inference.shadow._copied", MemoryError()), ("threading.Thread.start", RuntimeError("no thread"))],
)
def test_without_memory_or_a_thread_samples_are_dropped_and_the_queue_stays_as_long_as_it_was(
    serve: Serve, shadowing: Shadowing, monkeypatch: pytest.MonkeyPatch, door: str, error: Exception
) -> None:
    """As under memory_bytes_max: whoever was answered must not pay for it, and comparing goes on when there is room again."""

    def refuse(*_: object) -> None:
        raise error

    mirror = mirror_of(serve, "double", shadowing)
    with monkeypatch.context() as patched:
        patched.setattr(door, refuse)
        for _ in range(100):
            mirror.offer({"x": ROW}, {"y": ROW * 2})
    assert mirror.report().dropped_count == 100
    mirror.offer({"x": ROW}, {"y": ROW * 2})
    assert shadowing.settle(10)
    assert mirror.report().compared_count == 1


def test_an_offer_after_the_end_is_dropped(serve: Serve, shadowing: Shadowing) -> None:
    shadowing.stop()
    mirror = mirror_of(serve, "double", shadowing)
    mirror.offer({"x": ROW}, {"y": ROW})
    assert mirror.report().dropped_count == 1


def test_the_router_gives_the_answering_version_its_mirror_and_keeps_its_counts(
    session: Callable[[str], Session], shadowing: Shadowing
) -> None:
    router = Router(equipment=RuledEquipment(shadowing, SequenceLimits()))
    old, new = ModelRef("m", "1.0.0", "0" * 64), ModelRef("m", "1.1.0", "1" * 64)
    router.switch(old, MANIFEST, session("double"))
    router.set_table(RouteTable(models={"m": ModelRules(shadow=RULE)}))
    router.hold("m", (new, old))
    router.switch(new, MANIFEST, session("triple"))
    active = router.active("m")
    assert active is not None
    assert active.mirror is not None
    active.mirror.offer({"x": ROW}, {"y": ROW * 3})
    assert shadowing.settle(10)
    report = router.shadow_report("m")
    assert report is not None
    assert (report.version, report.compared_count) == ("1.0.0", 1)
    router.set_table(RouteTable(1, {"alias": "m"}, {"m": ModelRules(shadow=RULE, queue_max=3)}))
    assert router.shadow_report("m") == report
    router.set_table(RouteTable())
    assert router.shadow_report("m") is None
    assert threading.active_count() < 20
