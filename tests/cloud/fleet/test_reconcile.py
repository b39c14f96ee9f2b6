"""A deployment reported SUCCEEDED whose activation never ran is found, repaired, and given up after bounded tries."""

import threading
from collections.abc import Iterable, Mapping
from dataclasses import replace
from datetime import datetime, timedelta

import pytest

from cloud.errors import DeniedError, EdgewrightError, UnavailableError
from cloud.fleet.database import Database
from cloud.fleet.desired import DeploymentRecord, MemoryControlPlane, MemoryPublications, Publication
from cloud.fleet.facts import DeploymentStatusFact
from cloud.fleet.ledger import Ledger
from cloud.fleet.reconcile import ReconcileLimits, Reconciler
from cloud.fleet.repair import GiveUp, Repair, RepairKey
from cloud.fleet.store import SqliteFactSink
from tests.cloud.fleet.samples import DIGEST, T0, heartbeat_fact

COMPONENT = "com.edgewright.model.Weather"
TARGET = "arn:aws:iot:us-east-1:123456789012:thinggroup/stations"


class World:
    """A fleet of two under one group, and a clock that the test turns."""

    def __init__(self, database: Database) -> None:
        self.now = T0
        self.control_plane = MemoryControlPlane(
            deployments={"d1": DeploymentRecord("d1", TARGET, "weather", {COMPONENT: "1.1.0"}, "ACTIVE", T0)},
            groups={"stations": ("EWR", "JFK")},
            claims={"EWR": {COMPONENT: "1.1.0"}},
        )
        publication = Publication(COMPONENT, "weather", "1.1.0", {"linux/x86_64": DIGEST})
        self.database, self.sink = database, SqliteFactSink(database)
        self.reconciler = Reconciler(
            self.control_plane,
            MemoryPublications({(COMPONENT, "1.1.0"): publication}),
            Ledger(database),
            lambda: self.now,
        )

    def at(self, seconds: float) -> datetime:
        self.now = T0 + timedelta(seconds=seconds)
        return self.now

    def beat(self, second: int, thing: str, version: str) -> None:
        self.sink.commit([heartbeat_fact(second, version, thing=thing)])

    def claim(self, deployment_id: str, thing: str, second: int, status: str = "SUCCEEDED") -> None:
        event_id = f"{deployment_id}/{thing}/{second}"
        fact = DeploymentStatusFact(event_id, thing, deployment_id, status, "", (), (), self.at(second))
        self.sink.commit([fact])

    def statuses(self) -> dict[str, str]:
        return self.pairs("SELECT thing_name, status FROM device")

    def pairs(self, query: str) -> dict[str, str]:
        with self.database.read() as connection:
            return {row[0]: row[1] for row in connection.execute(query)}


@pytest.fixture
def world(database: Database) -> World:
    return World(database)


def test_things_of_a_target_are_known_before_they_speak(world: World) -> None:
    world.reconciler.pass_once()
    assert world.statuses() == {"EWR": "unheard", "JFK": "unheard"}


def test_a_false_success_is_found_repaired_and_ends_well(world: World) -> None:
    world.beat(1, "EWR", "1.0.0")
    world.beat(1, "JFK", "1.1.0")
    world.at(2)
    world.reconciler.pass_once()
    assert world.statuses() == {"EWR": "changing", "JFK": "ok"}
    world.claim("d1", "EWR", 10)
    world.beat(20, "EWR", "1.0.0")
    world.at(21)
    done = world.reconciler.pass_once()
    assert world.statuses()["EWR"] == "diverged"
    assert len(done.repaired) == 1
    ((deployment_id, component, _),) = world.control_plane.nonces
    assert (deployment_id, component) == ("d1", COMPONENT)
    assert world.pairs("SELECT thing_name, version FROM installed") == {"EWR": "1.1.0"}
    world.beat(30, "EWR", "1.1.0")
    world.at(31)
    world.reconciler.pass_once()
    assert world.statuses()["EWR"] == "ok"
    kinds = world.pairs("SELECT dedupe_key, kind || ' ' || outcome FROM event WHERE thing_name = 'EWR'").values()
    assert {"repair redeployed", "status diverged", "status ok"} <= set(kinds)


class Overtaken(MemoryControlPlane):
    """Somebody deploys while a pass is under way: after it has looked, before it repairs."""

    __slots__ = ()

    def installed(self, thing_name: str) -> Mapping[str, str]:
        later = DeploymentRecord("d2", TARGET, "weather", {COMPONENT: "1.2.0"}, "ACTIVE", T0 + timedelta(seconds=20))
        self.deployments.update(d1=replace(self.deployments["d1"], is_latest=False), d2=later)
        return MemoryControlPlane.installed(self, thing_name)


def test_a_repair_never_undoes_a_deployment_that_was_made_meanwhile(world: World, database: Database) -> None:
    plane = Overtaken(world.control_plane.deployments, world.control_plane.groups)
    reconciler = Reconciler(plane, MemoryPublications(), Ledger(database), lambda: world.now)
    world.beat(1, "EWR", "1.0.0")
    world.claim("d1", "EWR", 2)
    world.beat(20, "EWR", "1.0.0")
    world.at(21)
    assert reconciler.pass_once().repaired == ()
    assert "repair" not in world.pairs("SELECT kind, kind FROM event"), "nor is one told of"
    assert [one.components for one in plane.latest_deployments()] == [{COMPONENT: "1.2.0"}]


def test_what_was_configured_and_what_is_reported_meet_in_the_device_s_sentence(world: World) -> None:
    record = world.control_plane.deployments["d1"]
    components = {COMPONENT: "1.1.0", "com.edgewright.Runtime": "0.1.0"}
    world.control_plane.deployments["d1"] = replace(record, components=components, configured={"/heartbeat_s": "aa"})
    for second, (thing, configuration) in enumerate({"EWR": {"/heartbeat_s": "aa"}, "JFK": {}}.items(), start=1):
        fact = heartbeat_fact(second, "1.1.0", thing=thing)
        world.sink.commit([replace(fact, heartbeat=replace(fact.heartbeat, configuration=configuration))])
    world.at(3)
    world.reconciler.pass_once()
    world.reconciler.pass_once()
    sentences = world.pairs("SELECT thing_name, status_sentence FROM device")
    assert sentences["EWR"] == "Serves what is wanted."
    assert "not what was set for it: /heartbeat_s." in sentences["JFK"]


def test_tries_end(world: World) -> None:
    world.beat(1, "EWR", "1.0.0")
    given_up: tuple[str, ...] = ()
    for turn in range(6):
        latest = next(one.deployment_id for one in world.control_plane.latest_deployments())
        world.claim(latest, "EWR", 100 * turn + 10)
        world.beat(100 * turn + 20, "EWR", "1.0.0")
        world.at(100 * turn + 21)
        given_up += world.reconciler.pass_once().given_up
    assert len(world.control_plane.nonces) == 3
    assert given_up
    assert "given-up" in world.pairs("SELECT outcome, outcome FROM event WHERE kind = 'repair'")


def test_a_try_is_counted_before_it_is_made(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    def gone(*_: object) -> str:
        raise UnavailableError("Greengrass is away")

    world.beat(1, "EWR", "1.0.0")
    world.claim("d1", "EWR", 10)
    world.reconciler.pass_once()
    world.beat(20, "EWR", "1.0.0")
    monkeypatch.setattr(MemoryControlPlane, "redeploy", gone)
    for turn in range(1, 6):
        world.at(100 * turn)
        world.beat(100 * turn, "EWR", "1.0.0")
        try:
            world.reconciler.pass_once()
        except UnavailableError:
            continue
        break
    with world.database.read() as connection:
        assert connection.execute("SELECT try_count FROM repair").fetchone()[0] == 3


def test_a_service_that_may_not_deploy_spends_no_try(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its credentials are mended an hour later: then it repairs, instead of having given up on what it never did."""

    def denied(*_: object) -> str:
        raise DeniedError("greengrass:CreateDeployment")

    world.beat(1, "EWR", "1.0.0")
    world.claim("d1", "EWR", 10)
    truly = MemoryControlPlane.redeploy
    monkeypatch.setattr(MemoryControlPlane, "redeploy", denied)
    for turn in range(1, 6):
        world.at(100 * turn)
        world.beat(100 * turn, "EWR", "1.0.0")
        with pytest.raises(DeniedError):
            world.reconciler.pass_once()
    assert "repair" not in world.pairs("SELECT kind, kind FROM event"), "nothing was deployed, and nobody was told so"
    monkeypatch.setattr(MemoryControlPlane, "redeploy", truly)
    world.at(600)
    world.beat(600, "EWR", "1.0.0")
    assert len(world.reconciler.pass_once().repaired) == 1
    assert "repair" in world.pairs("SELECT kind, kind FROM event")


def test_a_quiet_fleet_writes_no_rows(world: World) -> None:
    world.beat(1, "EWR", "1.1.0")
    world.at(2)
    world.reconciler.pass_once()
    with world.database.read() as connection:
        before = connection.execute("SELECT max(event_id) FROM event").fetchone()[0]
    assert world.reconciler.pass_once().changed_count == 0
    with world.database.read() as connection:
        assert connection.execute("SELECT max(event_id) FROM event").fetchone()[0] == before


def test_run_goes_on_after_a_failure_and_reports_it_once(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    stop, reports, calls = threading.Event(), list[EdgewrightError | None](), []

    def flaky(self: MemoryControlPlane) -> Iterable[DeploymentRecord]:
        calls.append(1)
        if len(calls) > 2:
            stop.set()
            return []
        raise UnavailableError("away")

    monkeypatch.setattr(MemoryControlPlane, "latest_deployments", flaky)
    reconciler = Reconciler(
        world.control_plane, MemoryPublications(), Ledger(world.database), lambda: T0, ReconcileLimits(interval_s=0.001)
    )
    reconciler.run(stop, reports.append)
    assert [str(error) for error in reports] == ["away", "None"]


def test_what_a_deployment_leaves_behind_is_known_of_its_devices_and_told_once(world: World) -> None:
    for number in (2, 3):
        record = DeploymentRecord(
            f"d{number}", TARGET, "other", {COMPONENT: "1.0.0"}, "ACTIVE", T0, refused={COMPONENT: "1.1.0"}
        )
        world.control_plane.deployments = {record.deployment_id: record}
        world.beat(number, "EWR", "1.0.0")
        world.at(number + 1)
        world.reconciler.pass_once()
    assert world.pairs("SELECT thing_name, version || ' for ' || refused_version FROM wanted") == {
        "EWR": "1.0.0 for 1.1.0", "JFK": "1.0.0 for 1.1.0"
    }  # fmt: skip
    assert world.statuses()["EWR"] == "ok", "it serves what is wanted now"
    assert world.pairs("SELECT sentence, outcome FROM event WHERE kind = 'deployment'") == {
        f"{COMPONENT} 1.1.0 failed on every device of stations that tried it; deployments carry 1.0.0 in its place.": "refused"
    }


class Counting:
    """A source that knows nothing, and what it was asked."""

    def __init__(self) -> None:
        self.asked: list[tuple[str, str]] = []

    def find(self, component_name: str, version: str) -> Publication | None:
        self.asked.append((component_name, version))
        return None


def test_what_nobody_published_is_looked_for_once_in_a_pass_and_others_components_never(database: Database) -> None:
    components = {COMPONENT: "1.1.0", "aws.greengrass.Cli": "2.0.0", "com.acme.Camera": "1.0.0"}
    control_plane = MemoryControlPlane(
        {"d1": DeploymentRecord("d1", TARGET, "weather", components, "ACTIVE", T0)},
        {"stations": tuple(f"T{n}" for n in range(50))},
    )
    source = Counting()
    reconciler = Reconciler(control_plane, source, Ledger(database), lambda: T0)
    for _ in range(2):
        reconciler.pass_once()
    assert source.asked == [(COMPONENT, "1.1.0")] * 2, "S3 is asked for each GET, and paid"


@pytest.mark.parametrize("thing_count", [1, 5, 6, 5_000])
def test_a_sentence_names_some_of_many_since_every_one_of_them_gets_it(thing_count: int) -> None:
    """Ten thousand devices in the events of ten thousand devices are a gigabyte, in one transaction."""
    things = tuple(f"station-{number}" for number in range(thing_count))
    key = RepairKey(TARGET, COMPONENT, "1.1.0")
    named = ", ".join(things[:5]) + (f" and {thing_count - 5} more" if thing_count > 5 else "")
    assert f"because it does not serve on {named}." in Repair(key, "d1", "nonce", 1, things).sentence
    assert GiveUp(key, things, T0).sentence.startswith(f"{named} still does not serve {COMPONENT} 1.1.0")
