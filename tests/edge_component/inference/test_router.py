"""The router: one reference is what a switch changes, and counts add up whoever keeps them."""

import threading
from typing import Any

import pytest

from edge_component.contracts.heartbeat import ModelRef
from edge_component.contracts.routes import Arm, ModelRules, RouteTable
from edge_component.errors import UnknownModelError, UnknownVersionError
from edge_component.inference.admission import AdmissionLimits
from edge_component.inference.router import Router, RouterLimits, Totals


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


def test_names_that_stand_for_others() -> None:
    router = Router()
    router.hold("m", (ref("1.1.0"), ref("1.0.0")))
    active = router.switch(ref("1.1.0"), ANY, ANY)
    router.set_table(RouteTable(aliases={"best": "m", "old": "m@1.0.0", "lost": "n"}))
    assert router.route("best").active is active
    assert router.route("m@1.1.0").active is active
    with pytest.raises(UnknownVersionError, match=r"9\.9\.9.*1\.1\.0"):
        router.route("m@9.9.9")
    with pytest.raises(
        UnknownVersionError, match=r"'m@' asks for a version and names none; there are \['1\.1\.0', '1\.0\.0'\]"
    ):
        router.route("m@")
    for nobody in ("best@", "n@", "@", "@1.0.0", ""):
        with pytest.raises(UnknownModelError, match=f"no model named '{nobody}'"):
            router.route(nobody)
    with pytest.raises(UnknownModelError, match="'lost'"):
        router.route("lost")
    best = router.route("best")
    router.set_table(RouteTable())
    assert best.active is None
    with pytest.raises(UnknownModelError):
        best.resolve()
    with pytest.raises(UnknownModelError):
        router.route("best")


def test_an_alias_follows_a_switch_and_a_change_of_the_table() -> None:
    router = Router()
    router.switch(ref("1.0.0"), ANY, ANY)
    router.set_table(RouteTable(aliases={"best": "m"}))
    best = router.route("best")
    second = router.switch(ref("1.1.0"), ANY, ANY)
    assert best.active is second
    other = router.switch(ref("2.0.0", "n"), ANY, ANY)
    router.set_table(RouteTable(aliases={"best": "n"}))
    assert router.route("best") is best
    assert best.active is other


def test_a_split_leaves_the_choice_to_the_key_and_a_table_without_one_takes_it_back() -> None:
    router = Router(draw=lambda: 0.99)
    old = router.switch(ref("1.0.0"), ANY, ANY)
    router.hold("m", (ref("1.1.0"), ref("1.0.0")))
    router.set_table(RouteTable(models={"m": ModelRules(split=(Arm("1.1.0", 1), Arm("1.0.0", 1)))}))
    route = router.route("m")
    new = router.switch(ref("1.1.0"), ANY, ANY)
    assert route.active is None
    assert route.resolve() is old  # still in memory, since a rule names it
    assert {route.resolve(str(key)).ref.version for key in range(50)} == {"1.0.0", "1.1.0"}
    assert route.resolve("a") is route.resolve("a")
    router.set_table(RouteTable())
    assert route.active is new


def test_followers_are_told_of_what_concerns_them_only() -> None:
    router = Router()
    router.switch(ref("1.0.0"), ANY, ANY)
    router.switch(ref("1.0.0", "n"), ANY, ANY)

    class Counting:
        count = 0

        def let_go(self) -> None:
            self.count += 1

    follower = Counting()
    router.follow(router.route("m"), follower)
    router.switch(ref("1.1.0", "n"), ANY, ANY)
    assert follower.count == 0
    router.switch(ref("1.1.0"), ANY, ANY)
    assert follower.count == 1


def test_limits_of_one_model_come_from_its_rules() -> None:
    router = Router(RouterLimits(AdmissionLimits(4, 5)))
    active = router.switch(ref("1.0.0"), ANY, ANY)
    assert active.gate.limits == AdmissionLimits(4, 5)
    router.set_table(RouteTable(models={"m": ModelRules(in_flight_max=1, queue_max=0)}))
    route = router.route("m")
    assert route.active is not None
    assert route.active.gate.limits == AdmissionLimits(1, 0)
    assert route.active.generation == active.generation
