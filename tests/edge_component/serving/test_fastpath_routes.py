"""Names, versions, splits and limits, asked through the real door."""

import json
import mmap
import os
import socket
import struct
import threading
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np
import pytest

from edge_component.client import ClientError
from edge_component.clock import SystemClock
from edge_component.contracts.fastpath import REQUEST_HEAD, Failure, Kind, Open, Opened, pack_control, unpack_control
from edge_component.contracts.heartbeat import ModelRef
from edge_component.contracts.routes import Arm, BatchRule, ModelRules, RouteTable, ShadowReport, ShadowRule, StatePair
from edge_component.inference.deadline import DeadlineWatch
from edge_component.inference.equipment import RuledEquipment
from edge_component.inference.router import Router, Totals
from edge_component.inference.sequences import SequenceLimits
from edge_component.inference.shadow import Shadowing
from tests.edge_component.inference.conftest import MODELS
from tests.edge_component.serving.conftest import Door, MakeDoor
from tests.edge_component.waiting import wait_until

ROW = np.array([[1, 2, 3]], np.float32)


@pytest.fixture
def two(door: Door) -> Door:
    """``scale`` 1.0.0 doubles and is kept; 1.10.0 triples and is active."""
    old = ModelRef("scale", "1.0.0", f"{5:064x}")
    door.router.set_table(RouteTable(models={"scale": ModelRules(split=(Arm("active", 1), Arm("1.0.0", 1)))}))
    door.router.hold("scale", (ModelRef("scale", "1.10.0", f"{6:064x}"), old))
    door.scale("1.10.0", 3.0)
    return door


def factor_of(door: Door, name: str) -> float:
    return float(door.client().infer(name, {"x": ROW}).outputs["y"][0, 0])


def test_exact_versions_and_aliases_answer(two: Door) -> None:
    two.router.set_table(RouteTable(aliases={"stable": "scale@1.0.0"}, models=two.router.table.models))
    assert factor_of(two, "scale@1.0.0") == factor_of(two, "stable") == 2
    assert factor_of(two, "scale@1.10.0") == 3
    for nowhere in ("scale@9.0.0", "scale@"):
        with pytest.raises(ClientError) as refusal:
            factor_of(two, nowhere)
        assert refusal.value.code == "unknown-version"


@pytest.mark.parametrize("alias", ["気" * 80, "\U0001f600" * 200, "a\0b", "x" * 5_000])
def test_an_alias_of_any_letters_answers(two: Door, alias: str) -> None:
    two.router.set_table(RouteTable(aliases={alias: "scale@1.0.0"}, models=two.router.table.models))
    assert factor_of(two, alias) == 2


def test_a_split_without_keys_is_drawn_per_request_and_each_answer_names_its_version(two: Door) -> None:
    client = two.client()
    answered: Counter[str] = Counter()
    for _ in range(40):
        answer = client.infer("scale", {"x": ROW})
        expected = {"1.0.0": 2.0, "1.10.0": 3.0}[answer.model.version]
        np.testing.assert_array_equal(answer.outputs["y"], ROW * expected)
        answered[answer.model.version] += 1
    assert {record.version for record in two.sink.records} == {"1.0.0", "1.10.0"}
    for version in two.router.versions("scale"):
        assert two.router.totals("scale", version.generation) == Totals(answered[version.ref.version], 0)


def test_a_key_is_always_answered_by_the_same_version(two: Door) -> None:
    versions = set()
    for key in ("a", "b", "c", "d", "e", "f", "g"):
        opened = Opened.read(open_channel(two, Open("scale", {"x": 12}, key=key)))
        assert opened.model == Opened.read(open_channel(two, Open("scale", {"x": 12}, key=key))).model
        versions.add(opened.model.version)
    assert versions == {"1.0.0", "1.10.0"}


def test_a_change_of_the_split_needs_no_new_channel(two: Door) -> None:
    client = two.client()
    client.infer("scale", {"x": ROW})
    for version, factor in (("1.0.0", 2.0), ("1.10.0", 3.0)):
        two.router.set_table(RouteTable(models={"scale": ModelRules(split=(Arm(version, 1),))}))
        assert client.infer("scale", {"x": ROW}).outputs["y"][0, 0] == factor


def test_what_finds_no_place_is_refused_with_a_hint_and_the_next_one_answered(open_door: MakeDoor) -> None:
    door = open_door()
    door.scale("1.0.0", 2.0)
    door.router.set_table(RouteTable(models={"scale": ModelRules(in_flight_max=1, queue_max=0)}))
    connection = door.greeted()
    connection.send(pack_control(Kind.OPEN, Open("scale", {"x": 12}).to_document()))
    connection.recv(65_536)
    request = REQUEST_HEAD.pack(Kind.REQUEST, 0, 0, 1, 0) + (1).to_bytes(4, "little") + (3).to_bytes(4, "little")
    gate = door.router.gate("scale")
    gate.enter(1)
    connection.send(request)
    message = connection.recv(65_536)
    assert message[0] == Kind.FAILED
    failure = Failure.read(json.loads(message[8:]))
    assert failure.code == "overloaded"
    assert failure.retry_after_ms is not None
    gate.leave()
    connection.send(request)
    assert connection.recv(65_536)[0] == Kind.ANSWER
    connection.close()
    assert gate.in_flight_count == 0
    assert door.router.totals("scale").failed_count == 0


def test_waiting_for_a_place_counts_towards_the_deadline(open_door: MakeDoor) -> None:
    door = open_door()
    door.scale("1.0.0", 2.0)
    door.router.set_table(RouteTable(models={"scale": ModelRules(in_flight_max=1)}))
    client = door.client()
    client.infer("scale", {"x": ROW})
    gate = door.router.gate("scale")
    gate.enter(1)
    with pytest.raises(ClientError):
        client.infer("scale", {"x": ROW}, deadline_s=0.05)
    threading.Timer(0.05, gate.leave).start()
    assert client.infer("scale", {"x": ROW}, deadline_s=30).outputs["y"][0, 0] == 2


def open_channel(door: Door, asked: Open) -> object:
    connection = door.greeted()
    connection.send(pack_control(Kind.OPEN, asked.to_document()))
    message = connection.recv(65_536)
    connection.close()
    return unpack_control(message, Kind.OPENED)[1]


def test_batches_and_carried_state_through_shared_memory(open_door: MakeDoor) -> None:
    with closing_shadows() as equipment:
        door = open_door(router=Router(equipment=equipment))
        model, manifest = MODELS["sum"]
        door.put("1.0.0", model, manifest.inputs, manifest.outputs, name="sum")
        door.scale("1.0.0", 2.0)
        door.router.set_table(
            RouteTable(
                models={
                    "sum": ModelRules(states=(StatePair("total", "sum"),)),
                    "scale": ModelRules(batch=BatchRule(8, 1000)),
                }
            )
        )
        batch = np.arange(6, dtype=np.float32).reshape(2, 3)
        np.testing.assert_array_equal(door.client().infer("scale", {"x": batch}).outputs["y"], batch * 2)

        connection = door.greeted()
        connection.send(pack_control(Kind.OPEN, Open("sum", {"x": 12}, sequence="gust-1").to_document()))
        message, descriptors, _, _ = socket.recv_fds(connection, 65_536, 1)
        opened = Opened.read(unpack_control(message, Kind.OPENED)[1])
        assert [region.spec.name for region in opened.inputs] == ["x"]
        assert [region.spec.name for region in opened.outputs] == ["y"]
        memory = mmap.mmap(descriptors[0], opened.size_bytes)
        os.close(descriptors[0])
        for count in (1, 2, 3):
            memory[0:12] = ROW.tobytes()
            connection.send(REQUEST_HEAD.pack(Kind.REQUEST, 0, 0, count, 0) + struct.pack("<2I", 1, 3))
            assert connection.recv(65_536)[0] == Kind.ANSWER
            found = np.frombuffer(memory[:], np.float32, 3, opened.outputs[0].offset)
            np.testing.assert_array_equal(found, ROW[0] * count)
        connection.close()


def test_a_shadow_sees_what_was_answered_through_shared_memory(open_door: MakeDoor) -> None:
    with closing_shadows() as equipment:
        door = open_door(router=Router(equipment=equipment))
        door.scale("1.0.0", 2.0)
        door.router.set_table(RouteTable(models={"scale": ModelRules(shadow=ShadowRule("previous", 1.0))}))
        refs = (ModelRef("scale", "1.10.0", f"{6:064x}"), ModelRef("scale", "1.0.0", f"{5:064x}"))
        door.router.hold("scale", refs)
        door.scale("1.10.0", 3.0)
        client = door.client()
        for _ in range(20):
            assert client.infer("scale", {"x": ROW}).outputs["y"][0, 0] == 3

        def report() -> ShadowReport:
            found = door.router.shadow_report("scale")
            assert found is not None
            return found

        wait_until(lambda: report().compared_count == 20)  # a sample is offered when its answer has left
        assert (report().dropped_count, report().failed_count, report().difference_max) == (0, 0, 3)


@contextmanager
def closing_shadows() -> Iterator[RuledEquipment]:
    watch = DeadlineWatch(SystemClock())
    watch.start()
    shadowing = Shadowing(watch)
    yield RuledEquipment(shadowing, SequenceLimits())
    shadowing.stop()
    watch.stop()
