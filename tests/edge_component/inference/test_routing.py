"""The route table on a device: what is set holds, survives, and never leaves a name without an answer."""

from dataclasses import replace
from pathlib import Path

import pytest

from edge_component.contracts.heartbeat import ModelRef
from edge_component.contracts.routes import Arm, ModelRules, RouteTable, ShadowRule, StatePair
from edge_component.errors import RouteConflictError, RouteError, StoreError
from edge_component.inference.routing import ROUTES_FILE, Routing
from tests.edge_component.inference.test_residents import Device, ref

HALVES = ModelRules(split=(Arm("active", 1), Arm("previous", 1)))


@pytest.fixture
def device() -> Device:
    device = Device()
    device.serve(ref("1.0.0"))
    device.serve(ref("1.1.0"), ref("1.0.0"))
    return device


@pytest.fixture
def routing(device: Device, tmp_path: Path) -> Routing:
    return Routing(tmp_path, device.router)


def test_a_table_is_followed_loaded_counted_and_restored(device: Device, routing: Routing, tmp_path: Path) -> None:
    followed = routing.set(RouteTable(aliases={"best": "m"}, models={"m": HALVES}))
    assert followed.revision == 1
    assert device.in_memory() == ["m 1.0.0", "m 1.1.0"]
    again = Device()
    again.serve(ref("1.1.0"), ref("1.0.0"))
    restored = Routing(tmp_path, again.router)
    assert restored.restore() == ()
    assert restored.table == followed
    assert again.in_memory() == ["m 1.0.0", "m 1.1.0"]
    assert again.router.route("best").resolve("key").ref == device.router.route("m").resolve("key").ref


def test_a_table_made_from_another_revision_is_refused(routing: Routing) -> None:
    first = routing.set(RouteTable(models={"m": HALVES}))
    with pytest.raises(RouteConflictError, match="made from revision 0; 1 is followed"):
        routing.set(RouteTable())
    assert routing.table == first


@pytest.mark.parametrize(
    ("table", "says"),
    [
        (RouteTable(models={"n": HALVES}), "'n'"),
        (RouteTable(aliases={"best": "n"}), "'n'"),
        (RouteTable(aliases={"m": "m@1.0.0"}), "own name"),
        (RouteTable(aliases={"best": "m@9.9.9"}), "9.9.9"),
        (RouteTable(models={"m": ModelRules(split=(Arm("9.9.9", 1),))}), "9.9.9"),
        (RouteTable(models={"m": ModelRules(shadow=ShadowRule("9.9.9", 0.5))}), "9.9.9"),
    ],
)
def test_what_cannot_be_followed_here_is_refused_and_nothing_is_written(
    routing: Routing, tmp_path: Path, table: RouteTable, says: str
) -> None:
    with pytest.raises(RouteError, match=says):
        routing.set(table)
    assert routing.table == RouteTable()
    assert list(tmp_path.iterdir()) == []


def test_an_arm_that_cannot_be_loaded_is_refused(device: Device, routing: Routing) -> None:
    device.shelf.damaged = True
    with pytest.raises(RouteError, match=r"m 1\.0\.0 cannot be loaded"):
        routing.set(RouteTable(models={"m": HALVES}))
    assert routing.table == RouteTable()


def test_a_rule_that_the_model_cannot_follow_is_refused(routing: Routing) -> None:
    rules = ModelRules(states=(StatePair("state", "stateN"),))
    with pytest.raises(RouteError, match="state=stateN pairs what is not"):
        routing.set(RouteTable(models={"m": rules}))
    assert routing.table == RouteTable()


def test_a_disk_that_refuses_leaves_the_table_before(routing: Routing, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(path: Path, content: bytes) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("edge_component.inference.routing.replace_file", refuse)
    with pytest.raises(StoreError):
        routing.set(RouteTable(models={"m": HALVES}))
    assert routing.table == RouteTable()


def test_a_damaged_file_is_set_aside_and_said(routing: Routing, tmp_path: Path) -> None:
    (tmp_path / ROUTES_FILE).write_bytes(b"{")
    (problem,) = routing.restore()
    assert "routes.json.damaged" in problem
    assert (tmp_path / f"{ROUTES_FILE}.damaged").exists()
    assert routing.restore() == ()


def test_a_deployment_that_takes_an_arm_away_leaves_its_share_to_the_active_version(
    device: Device, routing: Routing
) -> None:
    routing.set(RouteTable(models={"m": ModelRules(split=(Arm("active", 1), Arm("1.0.0", 1)))}))
    device.serve(ref("1.2.0"), ref("1.1.0"))
    assert {device.router.route("m").resolve(str(key)).ref.version for key in range(40)} == {"1.2.0"}
    (sentence,) = routing.missing()
    assert "1.0.0" in sentence
    report = routing.report("m")
    assert report is not None
    assert [(arm.version, arm.share_ratio) for arm in report.arms] == [("1.2.0", 1.0)]


def test_the_words_follow_a_deployment(device: Device, routing: Routing) -> None:
    routing.set(RouteTable(models={"m": HALVES}))
    device.serve(ref("1.2.0"), ref("1.1.0"))
    assert {device.router.route("m").resolve(str(key)).ref.version for key in range(40)} == {"1.1.0", "1.2.0"}


def test_arms_are_reported_with_what_each_has_answered(device: Device, routing: Routing) -> None:
    assert routing.report("m") is None
    routing.set(RouteTable(models={"m": replace(HALVES, split=(Arm("active", 3), Arm("previous", 1)))}))
    for version in device.router.versions("m"):
        tally = device.router.open_tally(device.router.route("m"), version.generation)
        tally.answered_count, tally.failed_count = (30, 1) if version.ref.version == "1.1.0" else (10, 0)
    report = routing.report("m")
    assert report is not None
    found = [(arm.version, arm.share_ratio, arm.answered_count, arm.failed_count) for arm in report.arms]
    assert found == [("1.1.0", 0.75, 30, 1), ("1.0.0", 0.25, 10, 0)]
    assert routing.report("unknown") is None


def test_the_admin_document_names_what_is_held(routing: Routing) -> None:
    assert routing.to_document() == {
        "table": RouteTable().to_document(),
        "missing": [],
        "held": {"m": ["1.1.0", "1.0.0"]},
    }
    assert ModelRef("m", "1.0.0", "0" * 64) == ref("1.0.0")
