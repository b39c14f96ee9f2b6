"""The memory budget: idle and least recently used go first, what is in use stays, and what does not fit is refused."""

import gc
import logging
import weakref
from collections.abc import Sequence
from contextlib import suppress
from datetime import UTC, datetime

import pytest
from hypothesis import given, strategies as st

from edge_component.clock import ManualClock
from edge_component.contracts.heartbeat import ModelRef
from edge_component.contracts.routes import Arm, ModelRules, RouteTable
from edge_component.errors import MemoryBudgetError, StoreDamagedError, UnknownModelError
from edge_component.inference.choice import Share
from edge_component.inference.residents import RETRY_S, Resident, to_unload, trim_memory
from edge_component.inference.router import Router, RouterLimits
from edge_component.inference.versions import ActiveModel, Loaded, Version
from tests.edge_component.inference.test_session import MANIFEST

residents = st.lists(st.builds(Resident, st.integers(0, 100), st.floats(0, 100), st.booleans()), max_size=8)


@given(residents, st.integers(-10, 500))
def test_enough_is_unloaded_and_no_more_than_that(found: list[Resident], over_bytes: int) -> None:
    chosen = to_unload(found, over_bytes)
    free = [resident for resident in found if not resident.in_use]
    if chosen is None:
        assert sum(resident.size_bytes for resident in free) < over_bytes
        return
    assert sum(found[index].size_bytes for index in chosen) >= over_bytes
    assert sum(found[index].size_bytes for index in chosen[:-1]) < max(over_bytes, 1)
    assert not any(found[index].in_use for index in chosen)
    left = [r for i, r in enumerate(found) if i not in chosen and not r.in_use and r.size_bytes]
    assert all(found[index].used_s <= resident.used_s for index in chosen for resident in left)


class FakeSession:
    """What a weak reference can point at."""

    inputs = outputs = ()


class Shelf:
    """A loader over versions that are 'on the disk'."""

    def __init__(self, size_bytes: int = 40) -> None:
        self.size_bytes = size_bytes
        self.loaded: list[str] = []
        self.damaged = False

    def load(self, ref: ModelRef) -> Loaded:
        if self.damaged:
            raise StoreDamagedError("gone")
        self.loaded.append(f"{ref.name} {ref.version}")
        return Loaded(MANIFEST, FakeSession(), self.size_bytes)  # type: ignore[arg-type]

    def needed_bytes(self, ref: ModelRef) -> int:
        return self.size_bytes


def ref(version: str = "1.0.0", name: str = "m") -> ModelRef:
    return ModelRef(name, version, "0" * 64)


class Device:
    def __init__(self, budget_bytes: int = 0, size_bytes: int = 40) -> None:
        self.clock = ManualClock(datetime.now(UTC))
        self.shelf = Shelf(size_bytes)
        self.router = Router(RouterLimits(model_memory_bytes_max=budget_bytes), clock=self.clock)
        self.router.load_with(self.shelf)

    def serve(self, found: ModelRef, *others: ModelRef) -> None:
        self.router.make_room(found)
        loaded = self.shelf.load(found)
        self.router.hold(found.name, (found, *others))
        self.router.switch(found, loaded.manifest, loaded.session, loaded.size_bytes)
        self.clock.advance(1)

    def in_memory(self) -> list[str]:
        found = self.router.held()
        return sorted(f"{v.ref.name} {v.ref.version}" for name in found for v in self.router.versions(name) if v.loaded)


def test_the_least_recently_used_goes_and_comes_back_when_it_is_asked_for() -> None:
    device = Device(budget_bytes=100)
    for name in "abc":
        device.serve(ref(name=name))
    assert device.in_memory() == ["b 1.0.0", "c 1.0.0"]
    assert device.router.names() == ["a", "b", "c"]
    route = device.router.route("a")
    assert route.active is None
    woken = route.resolve()
    assert woken.ref == ref(name="a")
    assert route.active is woken
    assert device.in_memory() == ["a 1.0.0", "c 1.0.0"]
    assert device.router.resident_bytes == 80


def test_use_is_noticed_so_the_busier_one_stays() -> None:
    device = Device(budget_bytes=100)
    device.serve(ref(name="a"))
    device.serve(ref(name="b"))
    tally = device.router.open_tally(device.router.route("a"), device.router.generation("a"))
    tally.answered_count += 1
    device.router.tick()
    device.clock.advance(1)
    device.serve(ref(name="c"))
    assert device.in_memory() == ["a 1.0.0", "c 1.0.0"]


def test_what_answers_just_now_is_never_unloaded() -> None:
    device = Device(budget_bytes=50)
    device.serve(ref(name="a"))
    device.router.gate("a").enter(1)
    with pytest.raises(MemoryBudgetError, match="in use"):
        device.router.make_room(ref(name="b"))
    assert device.in_memory() == ["a 1.0.0"]
    device.router.gate("a").leave()
    device.router.make_room(ref(name="b"))
    assert device.in_memory() == []


def test_a_model_counts_until_the_last_request_that_holds_it_is_done() -> None:
    device = Device(budget_bytes=100)
    device.serve(ref(name="a"))
    held_by_a_request = device.router.active("a")
    device.router.remove("a")
    assert device.router.resident_bytes == 40
    del held_by_a_request
    gc.collect()
    assert device.router.resident_bytes == 0


def test_a_version_that_cannot_be_loaded_again_is_not_tried_for_a_while() -> None:
    device = Device(budget_bytes=50)
    device.serve(ref(name="a"))
    device.serve(ref(name="b"))
    device.shelf.damaged = True
    for _ in range(2):
        with pytest.raises(StoreDamagedError):
            device.router.route("a").resolve()
    device.shelf.damaged = False
    with pytest.raises(StoreDamagedError):
        device.router.route("a").resolve()
    device.clock.advance(RETRY_S)
    assert device.router.route("a").resolve().ref.name == "a"


def test_a_kept_version_is_loaded_when_it_is_asked_for_by_its_version_and_goes_when_it_no_longer_is() -> None:
    device = Device()
    device.serve(ref("1.0.0"))
    device.serve(ref("1.1.0"), ref("1.0.0"))
    assert device.in_memory() == ["m 1.1.0"]
    pinned = device.router.route("m@1.0.0")
    assert pinned.resolve().ref == ref("1.0.0")
    assert device.in_memory() == ["m 1.0.0", "m 1.1.0"]
    device.clock.advance(601)
    device.router.tick()
    assert device.in_memory() == ["m 1.1.0"]
    device.router.hold("m", (ref("1.1.0"),))
    with pytest.raises(UnknownModelError):
        pinned.resolve()


def test_an_arm_of_a_split_stays_in_memory() -> None:
    device = Device()
    device.serve(ref("1.0.0"))
    device.serve(ref("1.1.0"), ref("1.0.0"))
    device.router.set_table(RouteTable(models={"m": ModelRules(split=(Arm("active", 1), Arm("previous", 1)))}))
    route = device.router.route("m")
    assert {route.resolve(f"caller {number}").ref.version for number in range(50)} == {"1.0.0", "1.1.0"}
    device.clock.advance(601)
    device.router.tick()
    assert device.in_memory() == ["m 1.0.0", "m 1.1.0"]


def test_memory_is_given_back_where_the_c_library_can() -> None:
    trim_memory()


def test_a_request_that_chose_a_version_just_before_it_went_is_answered_by_what_is_there(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    device = Device()
    active, going = ref("1.1.0"), ref("1.0.0")
    device.serve(active, going)
    device.router.set_table(RouteTable(models={"m": ModelRules(split=(Arm("1.1.0", 1), Arm("1.0.0", 1)))}))
    asked = device.router.route("m")

    def goes_meanwhile(among: Sequence[Share], key: str) -> int:
        device.router.hold("m", (active,))
        return [share.ref for share in among].index(going)

    monkeypatch.setattr("edge_component.inference.route.choose_by_key", goes_meanwhile)
    before = list(device.shelf.loaded)
    assert asked.resolve("a key").ref == active
    assert device.shelf.loaded == before, "what is gone is not loaded again to find that out"


def test_a_version_that_is_gone_for_good_is_unknown_to_whoever_chose_it_just_before(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    device = Device()
    device.serve(ref("1.1.0"), ref("1.0.0"))
    asked = device.router.route("m@1.0.0")
    wake = device.router._wake

    def removed_meanwhile(version: Version) -> ActiveModel:
        device.router.remove("m")
        return wake(version)

    monkeypatch.setattr(asked, "wake", removed_meanwhile)
    with pytest.raises(UnknownModelError):
        asked.resolve()


def test_nothing_of_whoever_was_refused_is_held_on_to(monkeypatch: pytest.MonkeyPatch) -> None:
    """A kept error's traceback names every frame that it went through, and what was in it: bindings, sessions, models."""
    device = Device()
    device.serve(ref("1.1.0"), ref("1.0.0"))
    device.shelf.damaged = True
    route = device.router.route("m@1.0.0")
    monkeypatch.setattr(
        logging.getLogger("edge_component.inference.residents"), "disabled", True
    )  # pytest keeps what is logged

    def ask() -> weakref.ref[FakeSession]:
        bound = FakeSession()
        with suppress(StoreDamagedError):
            route.resolve()
        return weakref.ref(bound)

    held = [ask() for _ in range(3)]
    gc.collect()
    assert [one() for one in held] == [None] * 3
