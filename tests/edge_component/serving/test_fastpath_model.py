"""Any order of requests, swaps, rules, restarts and trouble: answers are ONNX Runtime's own of the version that answered.

Two doors live through the same: one whose connections take the shortest way whenever they can, one whose never do. What a
client gets of them, what is counted and what telemetry is told must be the same, to the byte.
"""

import random
import shutil
import tempfile
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, settings, strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule, run_state_machine_as_test
from onnx import TensorProto, helper

from edge_component.client import ClientError
from edge_component.contracts.heartbeat import ModelRef
from edge_component.contracts.manifest import Manifest, TensorSpec
from edge_component.contracts.routes import ACTIVE, PREVIOUS, Arm, ModelRules, RouteTable
from edge_component.errors import DeviceError
from edge_component.inference.errors import RunDeadlineError
from edge_component.inference.router import Router
from edge_component.inference.session import Array, Session
from edge_component.inference.versions import Loaded
from edge_component.serving.channel import Channel
from edge_component.serving.fastpath_server import fastpath_listener
from edge_component.serving.steady import SteadySlots
from tests.edge_component.bundle_factory import scale_model, serialized
from tests.edge_component.inference.test_session import MANIFEST
from tests.edge_component.serving.conftest import Door, MakeDoor, Recorded
from tests.edge_component.waiting import wait_until

NAMES = ("one", "two")
CLIENTS_COUNT = 3


def growing(factor: int) -> bytes:
    """``x`` times ``factor`` sevens: the output's shape depends on a value; a negative one fails."""
    x = helper.make_tensor_value_info("x", TensorProto.INT64, [1])
    y = helper.make_tensor_value_info("y", TensorProto.FLOAT, ["n"])
    by = helper.make_tensor("by", TensorProto.INT64, [1], [factor])
    seven = helper.make_tensor("value", TensorProto.FLOAT, [1], [7.0])
    nodes = [
        helper.make_node("Mul", ["x", "by"], ["size"]), helper.make_node("ConstantOfShape", ["size"], ["y"], value=seven)
    ]  # fmt: skip
    return serialized(helper.make_graph(nodes, "g", [x], [y], [by]))


@dataclass(frozen=True)
class Kind:
    """How a version is made, and what it promises."""

    model: Callable[[int], bytes]
    manifest: Manifest


def rows(width: int) -> dict[str, Any]:
    return {
        "inputs": (TensorSpec("x", "float32", (-1, width)),), "outputs": (TensorSpec("y", "float32", (-1, width)),),
    }  # fmt: skip


KINDS = {
    "scale": Kind(scale_model, MANIFEST),
    "fixed": Kind(
        lambda factor: scale_model(factor, batch=2),
        replace(MANIFEST, inputs=(TensorSpec("x", "float32", (2, 3)),), outputs=(TensorSpec("y", "float32", (2, 3)),)),
    ),
    "wide": Kind(lambda factor: scale_model(factor, width=4), replace(MANIFEST, **rows(4))),
    "strict": Kind(scale_model, replace(MANIFEST, nan_policy="refuse")),
    "growing": Kind(
        growing,
        replace(MANIFEST, inputs=(TensorSpec("x", "int64", (1,)),), outputs=(TensorSpec("y", "float32", (-1,)),)),
    ),
}
QUESTIONS: tuple[Array, ...] = (
    np.arange(6, dtype=np.float32).reshape(2, 3),
    -np.arange(6, dtype=np.float32).reshape(2, 3),
    np.ones((1, 3), np.float32),
    np.full((2, 3), np.nan, np.float32),
    np.zeros((0, 3), np.float32),
    np.ones((2_000, 3), np.float32),  # beyond the room that a channel is opened with
    np.arange(8, dtype=np.float32).reshape(2, 4),
    np.ones((2, 3)),
    np.array([5]),
    np.array([5_000]),
    np.array([-5]),
)


class Shelf:
    """Every version that was ever made."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._manifests: dict[ModelRef, Manifest] = {}

    def put(self, ref: ModelRef, manifest: Manifest, model: bytes) -> None:
        self._manifests[ref] = manifest
        (self._folder / ref.version).write_bytes(model)

    def load(self, ref: ModelRef) -> Loaded:
        manifest = self._manifests[ref]
        return Loaded(manifest, Session.load(self._folder / ref.version, manifest))

    def needed_bytes(self, ref: ModelRef) -> int:
        return 0


class Twins(RuleBasedStateMachine):
    """``doors[0]`` as it is, ``doors[1]`` without the shortest way; ``served`` is what may answer for each name."""

    open_door: MakeDoor
    plain: list[object]

    def __init__(self) -> None:
        super().__init__()
        self.folder = Path(tempfile.mkdtemp())
        self.doors: list[Door] = [
            self.open_door(self.folder / way, Router(draw=random.Random(1).random)) for way in ("any", "general")
        ]
        self.plain[:] = [self.doors[1].sink]
        self.shelf = Shelf(self.folder)
        for door in self.doors:
            door.router.load_with(self.shelf)
        self.clients = [[door.client(10.0) for door in self.doors] for _ in range(CLIENTS_COUNT)]
        self.served: dict[str, list[tuple[ModelRef, Session]]] = {}
        self.made_count = 0

    def teardown(self) -> None:
        for clients in self.clients:
            for client in clients:
                client.close()
        for door in self.doors:
            door.listener.stop(10.0)
        shutil.rmtree(self.folder)
        self.compare_what_was_told()

    @initialize()
    def begin(self) -> None:
        self.swap("one", "scale", 2, keep=False)

    @rule(
        name=st.sampled_from(NAMES), kind=st.sampled_from(sorted(KINDS)), factor=st.integers(1, 9), keep=st.booleans()
    )
    def swap(self, name: str, kind: str, factor: int, keep: bool) -> None:
        self.made_count += 1
        ref = ModelRef(name, f"1.0.{self.made_count}", f"{self.made_count:064x}")
        manifest = replace(KINDS[kind].manifest, model_name=name, version=ref.version)
        self.shelf.put(ref, manifest, KINDS[kind].model(factor))
        before = self.served.get(name, [])[:1] if keep else []
        for door in self.doors:
            held = (ref, *(known for known, _ in before))
            door.router.hold(name, held)
            door.router.switch(ref, manifest, self.shelf.load(ref).session)
            door.router.hold(name, held)
        self.served[name] = [(ref, self.shelf.load(ref).session), *before]

    @rule(name=st.sampled_from(NAMES))
    def remove(self, name: str) -> None:
        for door in self.doors:
            door.router.remove(name)
        self.served.pop(name, None)

    @rule(split=st.booleans(), in_flight_max=st.sampled_from([None, 1, 2]))
    def rules(self, split: bool, in_flight_max: int | None) -> None:
        arms = (Arm(ACTIVE, 1), Arm(PREVIOUS, 1)) if split else ()
        for door in self.doors:
            door.router.set_table(
                RouteTable(models={name: ModelRules(split=arms, in_flight_max=in_flight_max) for name in NAMES})
            )

    @rule()
    def restart(self) -> None:
        for door in self.doors:
            door.listener.stop(2.0)
            door.listener = fastpath_listener(door.folder, door.serving)
            door.listener.open()

    @rule()
    def listen(self) -> None:
        """Another listener of telemetry, as a change under way attaches one."""
        for door in self.doors:
            kept = door.sink.record
            door.sink.record = lambda outcome, kept=kept: kept(outcome)  # type: ignore[method-assign,misc]

    @rule(client=st.integers(0, CLIENTS_COUNT - 1))
    def hang_up(self, client: int) -> None:
        for one in self.clients[client]:
            one.close()

    @rule(
        client=st.integers(0, CLIENTS_COUNT - 1), name=st.sampled_from(NAMES), question=st.sampled_from(QUESTIONS),
        times=st.integers(1, 5), copy=st.booleans(),
    )  # fmt: skip
    def ask(self, client: int, name: str, question: Array, times: int, copy: bool) -> None:
        for _ in range(times):
            told = [self.told(one.infer, name, question, copy=copy) for one in self.clients[client]]
            self.judge(name, question, *told)

    @rule(client=st.integers(0, CLIENTS_COUNT - 1), name=st.sampled_from(NAMES), question=st.sampled_from(QUESTIONS))
    def write_in_place(self, client: int, name: str, question: Array) -> None:
        def prepared(one: Any) -> Callable[..., Any]:
            return lambda name, inputs: one.prepare(name, inputs).infer()

        told = [self.told(prepared(one), name, question) for one in self.clients[client]]
        self.judge(name, question, *told)

    @rule(client=st.integers(0, CLIENTS_COUNT - 1), name=st.sampled_from(NAMES), question=st.sampled_from(QUESTIONS))
    def find_all_places_taken(self, client: int, name: str, question: Array) -> None:
        gates = [door.router.gate(name) for door in self.doors]
        taken = [[gate.places.pop() for _ in range(len(gate.places))] for gate in gates]
        try:
            told = [self.told(one.infer, name, question, deadline_s=0.05) for one in self.clients[client]]
        finally:
            for gate, places in zip(gates, taken, strict=True):
                wait_until(
                    lambda gate=gate: not gate.waiting_count
                )  # else whoever gave up here is answered all the same
                gate.places.extend(places)
        assert not {who for who, _ in told} & {ref.version for ref, _ in self.served.get(name, [])}

    @staticmethod
    def told(ask: Callable[..., Any], name: str, question: Array, **how: Any) -> tuple[str, object]:
        """Who answered and what, or the error's code; arrays as what makes them equal."""
        try:
            answer = ask(name, {"x": question}, **how)
        except ClientError as error:
            return error.code, type(error).__name__
        output = answer.outputs["y"]
        return answer.model.version, (output.shape, str(output.dtype), output.tobytes())

    def judge(self, name: str, question: Array, told: tuple[str, object], twin: tuple[str, object]) -> None:
        assert told == twin
        expected: dict[str, object] = {}
        for ref, session in self.served.get(name, []):
            try:
                output = session.run({"x": question})["y"]
            except DeviceError as error:
                expected[error.code] = None
            else:
                expected[ref.version] = (output.shape, str(output.dtype), output.tobytes())
        if not expected:
            expected = {"unknown-model": None}
        assert told[0] in expected, f"{told} where {sorted(expected)} are possible"
        if expected[told[0]] is not None:
            assert told[1] == expected[told[0]]

    @invariant()
    def what_was_taken_is_given_back(self) -> None:
        for door in self.doors:
            for name in NAMES:
                gate = door.router.gate(name)
                wait_until(lambda gate=gate: gate.in_flight_count == gate.waiting_count == 0)

    def compare_what_was_told(self) -> None:
        """A connection tells of its last request after it has answered, but before it ends."""
        one, other = self.doors
        assert [one.router.totals(name) for name in NAMES] == [other.router.totals(name) for name in NAMES]
        assert seen(one.sink.records) == seen(other.sink.records)


def seen(records: list[Recorded]) -> list[object]:
    """In an order of its own: connections tell of their requests after they have answered."""

    def form(tensors: dict[str, Array]) -> str:
        return str(
            sorted((name, array.shape, str(array.dtype), hash(array.tobytes())) for name, array in tensors.items())
        )

    out_of_time = RunDeadlineError.code  # on a busy machine one of two may be
    return sorted(
        (record.version, form(record.inputs), form(record.outputs), record.code or "")
        for record in records
        if record.code != out_of_time
    )


@pytest.fixture
def twins(open_door: MakeDoor, monkeypatch: pytest.MonkeyPatch) -> type[Twins]:
    plain: list[object] = []
    keep = SteadySlots.keep

    def keep_unless_plain(slots: SteadySlots, key: int, channel: Channel, binding: Any) -> None:
        if slots._sink not in plain:
            keep(slots, key, channel, binding)

    monkeypatch.setattr(SteadySlots, "keep", keep_unless_plain)
    return type("TheseTwins", (Twins,), {"open_door": staticmethod(open_door), "plain": plain})


def test_whatever_happens_in_whatever_order(twins: type[Twins]) -> None:
    run_state_machine_as_test(
        twins,
        settings=settings(
            max_examples=40, stateful_step_count=30, deadline=None, suppress_health_check=list(HealthCheck)
        ),
    )
