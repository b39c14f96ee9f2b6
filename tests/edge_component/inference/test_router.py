"""The router: one reference is what a switch changes, and counts add up whoever keeps them."""

import threading
from typing import Any

import pytest

from edge_component.contracts.heartbeat import ModelRef
from edge_component.errors import UnknownModelError
from edge_component.inference.router import Router, Totals


def ref(version: str, name: str = "m") -> ModelRef:
    return ModelRef(name, version, "0" * 64)


ANY: Any = object()


def test_a_switch_is_seen_by_the_next_look_and_keeps_the_route() -> None:
    router = Router()
    first = router.switch(ref("1.0.0"), ANY, ANY)
    route = router.route("m")
    assert route.active is first
    second = router.switch(ref("1.1.0"), ANY, ANY)
    assert router.route("m") is route
    assert route.active is second
    assert second.generation > first.generation


def test_what_does_not_serve_is_unknown() -> None:
    router = Router()
    with pytest.raises(UnknownModelError, match="'m'"):
        router.route("m")
    router.switch(ref("1.0.0"), ANY, ANY)
    router.remove("m")
    router.remove("never there")
    with pytest.raises(UnknownModelError):
        router.route("m")
    assert router.names() == []


def test_counts_add_up_over_threads_and_generations() -> None:
    router = Router()
    one = router.switch(ref("1.0.0"), ANY, ANY)
    route = router.route("m")

    def work(generation: int, keep_open: bool) -> None:
        tally = router.open_tally(route, generation)
        for _ in range(1000):
            tally.answered_count += 1
        tally.failed_count += 1
        if not keep_open:
            router.close_tally(route, tally)

    two = router.switch(ref("1.1.0"), ANY, ANY)
    threads = [threading.Thread(target=work, args=(g.generation, keep)) for g in (one, two) for keep in (True, False)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert router.totals("m") == Totals(4000, 4)
    assert router.totals("m", two.generation) == Totals(2000, 2)
    assert router.totals("unknown") == Totals()
