"""The fast path's shortest way does what the general way does, and whatever leaves the ordinary leaves it."""

import weakref

import numpy as np
import pytest
from onnx import TensorProto, helper

from edge_component.client import Client, InputError, ModelFailedError
from edge_component.client.errors import DeadlineExceededError, OverloadedError
from edge_component.contracts.manifest import TensorSpec
from edge_component.inference.admission import Gate
from edge_component.inference.errors import OverloadedError as OverloadedHereError
from edge_component.inference.router import Totals
from edge_component.serving.channel import Channel
from edge_component.serving.fastpath_connection import FastpathConnection
from tests.edge_component.bundle_factory import scale_model, serialized
from tests.edge_component.serving.conftest import ROW, Door, MakeDoor
from tests.edge_component.waiting import wait_until


@pytest.fixture
def general(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """One entry for each request that went the general way."""
    taken: list[int] = []
    answer = FastpathConnection._answer

    def counted(connection: FastpathConnection, size: int, *rest: object) -> None:
        taken.append(size)
        answer(connection, size, *rest)  # type: ignore[arg-type]

    monkeypatch.setattr(FastpathConnection, "_answer", counted)
    return taken


def steady(client: Client, model: str = "scale", count: int = 6) -> None:
    for number in range(count):
        np.testing.assert_array_equal(client.infer(model, {"x": ROW * number}).outputs["y"], ROW * number * 2)


def test_each_slot_goes_the_general_way_twice(door: Door, general: list[int]) -> None:
    client = door.client()
    steady(client, count=20)
    assert len(general) == 4
    client.infer("scale", {"x": np.ones((2, 3), np.float32)})
    assert len(general) == 5, "other shapes are not what was steady"
    assert door.router.totals("scale") == Totals(21, 0)


def test_a_switch_is_seen_at_once_and_nothing_holds_what_served_before(door: Door) -> None:
    client = door.client()
    steady(client)
    old = weakref.ref(door.router.route("scale").active.session)  # type: ignore[union-attr]
    door.scale("1.1.0", 3.0)
    wait_until(lambda: old() is None)
    for _ in range(4):
        answer = client.infer("scale", {"x": ROW})
        np.testing.assert_array_equal(answer.outputs["y"], ROW * 3)
        assert answer.model.version == "1.1.0"


def test_a_switch_while_a_model_is_bound_leaves_nothing_of_it_with_an_idle_client(
    door: Door, monkeypatch: pytest.MonkeyPatch
) -> None:
    old, bind = weakref.ref(door.router.route("scale").active.session), Channel.bind  # type: ignore[union-attr]

    def switched_meanwhile(channel: Channel, *asked: object) -> object:
        door.scale("1.1.0", 3.0)
        return bind(channel, *asked)  # type: ignore[arg-type]

    with monkeypatch.context() as racing:
        racing.setattr(Channel, "bind", switched_meanwhile)
        assert door.client().infer("scale", {"x": ROW}).model.version == "1.0.0"
    wait_until(lambda: old() is None)


def test_nan_is_refused_there_too_and_the_next_request_is_answered(door: Door, general: list[int]) -> None:
    door.put("1.0.0", scale_model(2.0), name="strict", nan_policy="refuse")
    client = door.client()
    steady(client, "strict")
    for _ in range(3):
        with pytest.raises(InputError, match="NaN") as caught:
            client.infer("strict", {"x": ROW * np.nan})
        assert caught.value.code == "input-nan"
    general.clear()
    steady(client, "strict")
    assert len(general) <= 2
    assert door.router.route("strict").active.gate.in_flight_count == 0  # type: ignore[union-attr]


def growing() -> bytes:
    """As many zeros as the input says: the output's shape depends on a value, and a negative one fails."""
    x = helper.make_tensor_value_info("x", TensorProto.INT64, [1])
    y = helper.make_tensor_value_info("y", TensorProto.FLOAT, ["n"])
    node = helper.make_node("ConstantOfShape", ["x"], ["y"])
    return serialized(helper.make_graph([node], "g", [x], [y]))


def test_outputs_whose_shape_depends_on_values_leave_it_and_are_right(door: Door) -> None:
    specs = (TensorSpec("x", "int64", (1,)),), (TensorSpec("y", "float32", (-1,)),)
    door.put("1.0.0", growing(), *specs, name="grow")
    client = door.client()
    for size in (3, 3, 3, 3, 5, 5, 3, 4, 4, 4, 3, 0, 2):
        assert client.infer("grow", {"x": np.array([size])}).outputs["y"].shape == (size,)
    with pytest.raises(ModelFailedError):
        client.infer("grow", {"x": np.array([-1])})
    assert client.infer("grow", {"x": np.array([2])}).outputs["y"].shape == (2,)
    assert door.router.totals("grow") == Totals(14, 1)
    assert door.router.route("grow").active.gate.in_flight_count == 0  # type: ignore[union-attr]


def test_a_run_that_is_stopped_leaves_it_in_order(door: Door) -> None:
    """``Loop`` as often as the input says: steady for small numbers, stopped by its deadline for a huge one."""
    body = helper.make_graph(
        [helper.make_node("Identity", ["going"], ["goes_on"]), helper.make_node("Identity", ["before"], ["after"])],
        "body",
        [helper.make_tensor_value_info("turn", TensorProto.INT64, []),
         helper.make_tensor_value_info("going", TensorProto.BOOL, []),
         helper.make_tensor_value_info("before", TensorProto.INT64, [1])],
        [helper.make_tensor_value_info("goes_on", TensorProto.BOOL, []),
         helper.make_tensor_value_info("after", TensorProto.INT64, [1])],
    )  # fmt: skip
    true = helper.make_tensor("true", TensorProto.BOOL, [], [True])
    nodes = [helper.make_node("Squeeze", ["x"], ["count"]),
             helper.make_node("Loop", ["count", "true", "x"], ["y"], body=body)]  # fmt: skip
    x = helper.make_tensor_value_info("x", TensorProto.INT64, [1])
    y = helper.make_tensor_value_info("y", TensorProto.INT64, [1])
    spec = TensorSpec("x", "int64", (1,))
    door.put("1.0.0", serialized(helper.make_graph(nodes, "g", [x], [y], [true])), (spec,),
             (TensorSpec("y", "int64", (1,)),), name="turns")  # fmt: skip
    client = door.client()
    for number in (1, 2, 3, 4):
        assert client.infer("turns", {"x": np.array([number])}).outputs["y"].tolist() == [number]
    with pytest.raises(DeadlineExceededError):
        client.infer("turns", {"x": np.array([2**62])}, deadline_s=0.2)
    gate = door.router.route("turns").active.gate  # type: ignore[union-attr]
    wait_until(lambda: gate.in_flight_count == 0)
    for number in (5, 6, 7):
        assert client.infer("turns", {"x": np.array([number])}).outputs["y"].tolist() == [number]


def test_where_all_places_are_taken_it_waits_or_is_refused_as_ever(open_door: MakeDoor) -> None:
    door = open_door()
    door.scale("1.0.0", 2.0)
    client = door.client()
    steady(client)
    gate = door.router.route("scale").active.gate  # type: ignore[union-attr]
    held = [gate.places.pop() for _ in range(len(gate.places))]
    with pytest.raises((DeadlineExceededError, OverloadedError)):
        client.infer("scale", {"x": ROW}, deadline_s=0.1)
    gate.places.extend(held)
    steady(client)


def test_a_run_that_failed_and_was_then_refused_leaves_no_deadline_behind(
    open_door: MakeDoor, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its deadline would stop the next request's run, of whatever model."""
    door = open_door(run_s_max=0.2)
    door.scale("1.0.0", 2.0)
    specs = (TensorSpec("x", "int64", (1,)),), (TensorSpec("y", "float32", (-1,)),)
    door.put("1.0.0", growing(), *specs, name="grow")
    client = door.client()
    steady(client)
    for _ in range(6):
        client.infer("grow", {"x": np.array([3])})

    def full(_gate: Gate, _allowed_s: float) -> float:
        raise OverloadedHereError("others took the place", 1)

    with monkeypatch.context() as busy:
        busy.setattr(Gate, "enter", full)
        with pytest.raises(OverloadedError):
            client.infer("grow", {"x": np.array([4])})
    later = door.serving.watch.leash()
    later.start(0.3)
    wait_until(lambda: later.options.terminate)
    steady(client)
    assert client.infer("grow", {"x": np.array([4])}).outputs["y"].shape == (4,)


def test_who_listens_to_telemetry_may_change(door: Door, general: list[int]) -> None:
    client = door.client()
    steady(client)
    wait_until(lambda: len(door.sink.records) == 6)
    heard: list[object] = []
    kept = door.sink.record
    door.sink.record = lambda *told: heard.append(told) or kept(*told)  # type: ignore[method-assign]
    general.clear()
    steady(client)
    assert len(general) == 2
    wait_until(lambda: len(heard) == 6)
    assert len(door.sink.records) == 12


@pytest.mark.parametrize("rows", [2, 200_000])
def test_arrays_of_every_layout_arrive_as_they_are(door: Door, rows: int) -> None:
    """The second size is beyond what is written as mere bytes."""
    client = door.client()
    whole = np.arange(rows * 6, dtype=np.float32).reshape(rows * 2, 3)
    shapes = (whole[::2], whole[:rows], np.asfortranarray(whole[:rows]), whole[::-2], whole[:rows][:, ::-1])
    for _ in range(2):
        for given in (*shapes, shapes[0].astype(">f4"), np.ma.masked_array(shapes[1]), shapes[1].tolist()):
            answer = client.infer("scale", {"x": given})
            np.testing.assert_array_equal(answer.outputs["y"], np.asarray(given, np.float32) * 2)
