"""The fast path through its real socket: answers, swaps, limits, and every typed error a client can meet."""

import itertools
import socket
import threading
import time
import weakref
from dataclasses import replace

import numpy as np
import pytest
from onnx import TensorProto, helper

from edge_component.client import (
    BusyError,
    Client,
    DeadlineExceededError,
    InputError,
    ModelFailedError,
    RefusedError,
    UnavailableError,
    UnknownModelError,
)
from edge_component.contracts.fastpath import MESSAGE_BYTES_MAX, Kind, Open, pack_control, unpack_control
from edge_component.contracts.manifest import TensorSpec
from edge_component.inference.router import Totals
from tests.contracts.test_specification import examples
from tests.edge_component.bundle_factory import scale_model, serialized
from tests.edge_component.inference.test_trial import endless_model
from tests.edge_component.serving.conftest import Door, MakeDoor

ROW = np.array([[1, 2, 3]], np.float32)
WIDER = scale_model(2.0, 4), (TensorSpec("x", "float32", (-1, 4)),), (TensorSpec("y", "float32", (-1, 4)),)


def wait_until(condition: object) -> None:
    assert callable(condition)
    ends_at_s = time.monotonic() + 10
    while not condition():
        assert time.monotonic() < ends_at_s, "not within 10 s"
        time.sleep(0.005)


def test_an_answer_says_who_gave_it(door: Door) -> None:
    answer = door.client().infer("scale", {"x": ROW})
    np.testing.assert_array_equal(answer.outputs["y"], ROW * 2)
    assert (answer.model.name, answer.model.version) == ("scale", "1.0.0")
    assert answer.run_us >= 0


def test_batches_grow_beyond_the_room_that_was_opened_first(door: Door) -> None:
    client = door.client()
    for rows in (1, 7, 5_000, 40_000, 1, 0):
        batch = np.random.default_rng(rows).random((rows, 3), np.float32)
        np.testing.assert_array_equal(client.infer("scale", {"x": batch}).outputs["y"], batch * 2)


def test_lists_any_byte_order_and_strides_are_taken(door: Door) -> None:
    client = door.client()
    for given in (ROW.tolist(), ROW.astype(">f4"), np.repeat(ROW, 2, axis=1)[:, ::2], np.asfortranarray(ROW)):
        np.testing.assert_array_equal(client.infer("scale", {"x": given}).outputs["y"], ROW * 2)


def test_views_hold_until_the_next_request_but_one(door: Door) -> None:
    client = door.client()
    view = client.infer("scale", {"x": ROW}, copy=False).outputs["y"]
    client.infer("scale", {"x": ROW * 10})
    np.testing.assert_array_equal(view, ROW * 2)
    client.infer("scale", {"x": ROW * 100})
    np.testing.assert_array_equal(view, ROW * 200)


@pytest.mark.parametrize(
    ("inputs", "code", "told"),
    [
        ({}, "input-name", "x is missing"),
        ({"x": ROW, "z": ROW}, "input-name", "no z"),
        ({"z": ROW}, "input-name", "x is missing; the model has no z"),
        ({"x": ROW.astype(np.float64)}, "input-dtype", "x has dtype float64, the model takes float32"),
        ({"x": ROW[0]}, "input-shape", "x has shape"),
        ({"x": np.zeros((1, 4), np.float32)}, "input-shape", "x has shape"),
        ({"x": [["a"]]}, "input-dtype", "x cannot become an array"),
        ({"x": [[1, 2], [3]]}, "input-dtype", "x cannot become an array"),
    ],
)
def test_input_that_does_not_fit_names_the_tensor_and_costs_nothing(
    door: Door, inputs: dict[str, object], code: str, told: str
) -> None:
    client = door.client()
    with pytest.raises(InputError, match=told) as caught:
        client.infer("scale", inputs)  # type: ignore[arg-type]
    assert caught.value.code == code
    assert caught.value.remedy
    assert client.infer("scale", {"x": ROW}).model.version == "1.0.0"


def test_nan_is_refused_where_the_manifest_says_so(door: Door) -> None:
    door.put("1.0.0", scale_model(2.0), name="strict", nan_policy="refuse")
    client = door.client()
    with pytest.raises(InputError, match="x holds NaN") as caught:
        client.infer("strict", {"x": ROW * np.nan})
    assert caught.value.code == "input-nan"
    assert door.router.totals("strict") == Totals()
    wait_until(lambda: [record.code for record in door.sink.records] == ["input-nan"])


def test_unknown_models_are_named(door: Door) -> None:
    client = door.client()
    with pytest.raises(UnknownModelError, match="'other'"):
        client.infer("other", {"x": ROW})
    client.infer("scale", {"x": ROW})
    door.router.remove("scale")
    with pytest.raises(UnknownModelError, match="'scale'"):
        client.infer("scale", {"x": ROW})
    door.scale("1.1.0", 3.0)
    assert client.infer("scale", {"x": ROW}).model.version == "1.1.0"


def test_a_swap_is_seen_by_the_next_request(door: Door) -> None:
    client = door.client()
    client.infer("scale", {"x": ROW})
    door.scale("1.1.0", 3.0)
    answer = client.infer("scale", {"x": ROW})
    np.testing.assert_array_equal(answer.outputs["y"], ROW * 3)
    assert answer.model.version == "1.1.0"


def test_a_swap_to_other_tensors_is_followed_within_the_same_request(door: Door) -> None:
    client = door.client()
    client.infer("scale", {"x": ROW})
    wide = (TensorSpec("x", "float32", (-1, 5)),)
    door.put("2.0.0", scale_model(3.0, width=5), wide, (TensorSpec("y", "float32", (-1, 5)),))
    answer = client.infer("scale", {"x": np.ones((2, 5), np.float32)})
    assert (answer.model.version, answer.outputs["y"].shape) == ("2.0.0", (2, 5))
    with pytest.raises(InputError):
        client.infer("scale", {"x": ROW})


def test_an_idle_client_does_not_keep_an_old_model_in_memory(door: Door) -> None:
    client = door.client()
    client.infer("scale", {"x": ROW})
    old = weakref.ref(door.router.route("scale").active.session)  # type: ignore[union-attr]
    door.scale("1.1.0", 3.0)
    wait_until(lambda: old() is None)
    assert client.infer("scale", {"x": ROW}).model.version == "1.1.0"


def test_fixed_shapes_are_bound_both_ways(door: Door) -> None:
    fixed = (TensorSpec("x", "float32", (2, 3)),)
    door.put("1.0.0", scale_model(2.0, batch=2), fixed, (TensorSpec("y", "float32", (2, 3)),), name="fixed")
    client = door.client()
    for number in range(5):
        rows = np.full((2, 3), number, np.float32)
        np.testing.assert_array_equal(client.infer("fixed", {"x": rows}).outputs["y"], rows * 2)
    with pytest.raises(InputError, match="x has shape"):
        client.infer("fixed", {"x": ROW})


def test_many_models_and_types_on_one_connection(door: Door) -> None:
    client = door.client()
    for name, element, dtype in (("i64", TensorProto.INT64, "int64"), ("f64", TensorProto.DOUBLE, "float64"),
                                 ("b", TensorProto.BOOL, "bool"), ("f16", TensorProto.FLOAT16, "float16")):  # fmt: skip
        x = helper.make_tensor_value_info("x", element, ["n"])
        y = helper.make_tensor_value_info("y", element, ["n"])
        model = serialized(helper.make_graph([helper.make_node("Identity", ["x"], ["y"])], "g", [x], [y]))
        spec = TensorSpec("x", dtype, (-1,))
        door.put("1.0.0", model, (spec,), (replace(spec, name="y"),), name=name)
        sent = np.array([0, 1, 3], dtype)
        got = client.infer(name, {"x": sent}).outputs["y"]
        assert got.dtype == sent.dtype
        np.testing.assert_array_equal(got, sent)
    assert client.infer("scale", {"x": ROW}).model.name == "scale"


@pytest.mark.parametrize("size", [2, "n"])
def test_an_input_that_is_an_output_too_comes_back_as_it_was_given(door: Door, size: int | str) -> None:
    """ONNX Runtime writes such an output nowhere, whatever memory was bound for it."""
    x, y = (helper.make_tensor_value_info(name, TensorProto.FLOAT, [size]) for name in "xy")
    graph = helper.make_graph([helper.make_node("Neg", ["x"], ["y"])], "g", [x], [y, x])
    specs = tuple(TensorSpec(name, "float32", (size if isinstance(size, int) else -1,)) for name in "xy")
    door.put("1.0.0", serialized(graph), specs[:1], specs[::-1], name="echo")
    client = door.client()
    for number in range(1, 6):
        given = np.array([number, -number], np.float32)
        answer = client.infer("echo", {"x": given}).outputs
        np.testing.assert_array_equal(answer["y"], -given)
        np.testing.assert_array_equal(answer["x"], given)


def test_an_output_that_outgrows_its_room_is_fetched_in_a_larger_channel(door: Door) -> None:
    x = helper.make_tensor_value_info("shape", TensorProto.INT64, [1])
    y = helper.make_tensor_value_info("y", TensorProto.FLOAT, ["n"])
    model = serialized(helper.make_graph([helper.make_node("ConstantOfShape", ["shape"], ["y"])], "g", [x], [y]))
    specs = (TensorSpec("shape", "int64", (1,)),), (TensorSpec("y", "float32", (-1,)),)
    door.put("1.0.0", model, *specs, name="grow")
    client = door.client()
    for size in (3, 100_000, 5, 1_000_000):
        assert client.infer("grow", {"shape": np.array([size])}).outputs["y"].shape == (size,)
    with pytest.raises(RefusedError, match="shared memory") as caught:
        client.infer("grow", {"shape": np.array([100_000_000])})
    assert caught.value.code == "channel-limit"
    assert client.infer("grow", {"shape": np.array([4])}).outputs["y"].shape == (4,)


def test_a_dimension_that_no_answer_can_tell_is_the_models_fault(door: Door) -> None:
    """Beside one of zero it takes no memory."""
    x = helper.make_tensor_value_info("shape", TensorProto.INT64, [2])
    y = helper.make_tensor_value_info("y", TensorProto.FLOAT, ["n", "m"])
    model = serialized(helper.make_graph([helper.make_node("ConstantOfShape", ["shape"], ["y"])], "g", [x], [y]))
    specs = (TensorSpec("shape", "int64", (2,)),), (TensorSpec("y", "float32", (-1, -1)),)
    door.put("1.0.0", model, *specs, name="grow")
    client = door.client()
    for shape in ([2, 3], [0, 2**32 - 1], [2, 3], [2, 3], [2, 3]):
        assert client.infer("grow", {"shape": np.array(shape)}).outputs["y"].shape == tuple(shape)
        with pytest.raises(ModelFailedError, match="a dimension of 5000000000"):
            client.infer("grow", {"shape": np.array([0, 5_000_000_000])})


def wide(inputs_count: int) -> tuple[bytes, tuple[TensorSpec, ...]]:
    """As a table exported with one input for each column; the answer is the first one's."""
    names = [f"column_{number}" for number in range(inputs_count)]
    columns = [helper.make_tensor_value_info(name, TensorProto.FLOAT, ["batch", 1]) for name in names]
    y = helper.make_tensor_value_info("y", TensorProto.FLOAT, ["batch", 1])
    graph = helper.make_graph([helper.make_node("Neg", names[:1], ["y"])], "g", columns, [y])
    return serialized(graph), tuple(TensorSpec(name, "float32", (-1, 1)) for name in names)


def test_a_model_of_more_tensors_than_a_message_can_tell_is_refused_by_name(door: Door) -> None:
    output = (TensorSpec("y", "float32", (-1, 1)),)
    for version, count in (("1.0.0", 500), ("1.1.0", 1_000)):
        model, inputs = wide(count)
        door.put(version, model, inputs, output, name=f"wide-{count}")
    row = np.ones((1, 1), np.float32)
    client = door.client()
    for _ in range(3):
        answer = client.infer("wide-500", {f"column_{number}": row for number in range(500)})
        np.testing.assert_array_equal(answer.outputs["y"], -row)
    with pytest.raises(RefusedError, match="1001 inputs and outputs are more") as caught:
        client.infer("wide-1000", {f"column_{number}": row for number in range(1_000)})
    assert caught.value.code == "model-unsupported-tensor"
    assert "Open Inference Protocol" in caught.value.remedy


def test_a_run_that_fails_counts_against_the_model(door: Door) -> None:
    x = helper.make_tensor_value_info("x", TensorProto.FLOAT, ["batch", 3])
    y = helper.make_tensor_value_info("y", TensorProto.FLOAT, ["rows", 3])
    shape = helper.make_tensor("shape", TensorProto.INT64, [2], [2, 3])
    node = helper.make_node("Reshape", ["x", "shape"], ["y"])
    door.put("1.0.0", serialized(helper.make_graph([node], "g", [x], [y], [shape])), name="two")
    client = door.client()
    with pytest.raises(ModelFailedError) as caught:
        client.infer("two", {"x": ROW})
    assert caught.value.code == "run-failed"
    assert client.infer("two", {"x": np.ones((2, 3), np.float32)}).outputs["y"].shape == (2, 3)
    assert door.router.totals("two") == Totals(1, 1)


def test_a_deadline_stops_the_run_and_frees_the_thread(door: Door) -> None:
    door.put("1.0.0", endless_model(), name="endless")
    client = door.client()
    with pytest.raises(DeadlineExceededError) as caught:
        client.infer("endless", {"x": ROW}, deadline_s=0.2)
    assert caught.value.code == "deadline-exceeded"
    assert client.infer("scale", {"x": ROW}).model.version == "1.0.0"
    wait_until(lambda: any(record.code == "deadline-exceeded" for record in door.sink.records))
    assert door.router.totals("endless") == Totals(), "a deadline that short says nothing about the model"
    wait_until(lambda: door.listener.connections_count() == 1)


def test_a_run_without_a_deadline_ends_at_the_servers_own(open_door: MakeDoor) -> None:
    door = open_door(run_s_max=0.2, fault_deadline_s=0.2)
    door.put("1.0.0", endless_model(), name="endless")
    with pytest.raises(DeadlineExceededError):
        door.client().infer("endless", {"x": ROW}, deadline_s=30)
    assert door.router.totals("endless") == Totals(0, 1)


def test_every_request_is_recorded_with_what_it_saw(door: Door) -> None:
    client = door.client()
    for number in range(20):
        client.infer("scale", {"x": ROW * number})
    wait_until(lambda: len(door.sink.records) == 20)
    for number, record in enumerate(door.sink.records):
        np.testing.assert_array_equal(record.inputs["x"], ROW * number)
        np.testing.assert_array_equal(record.outputs["y"], ROW * number * 2)
    assert door.router.totals("scale") == Totals(20, 0)


def test_large_tensors_are_recorded_before_the_client_may_overwrite_them(door: Door) -> None:
    client = door.client()
    for number in range(3):
        client.infer("scale", {"x": np.full((100_000, 3), number, np.float32)})
    assert [record.inputs["x"][0, 0] for record in door.sink.records] == [0, 1, 2]


def test_a_defect_in_telemetry_costs_no_answer(door: Door, caplog: pytest.LogCaptureFixture) -> None:
    door.sink.failing = True
    client = door.client()
    for _ in range(3):
        client.infer("scale", {"x": ROW})
    client.close()
    wait_until(lambda: door.listener.connections_count() == 0)
    assert sum("telemetry failed" in message for message in caplog.messages) == 1


def test_connections_beyond_the_limit_are_turned_away_at_once(open_door: MakeDoor) -> None:
    door = open_door(connections_max=2)
    door.scale("1.0.0", 2.0)
    good = [door.client() for _ in range(2)]
    for client in good:
        client.infer("scale", {"x": ROW})
    with pytest.raises(BusyError) as caught:
        door.client().infer("scale", {"x": ROW}, deadline_s=0.2)
    assert caught.value.code == "busy"
    good.pop().close()
    assert door.client().infer("scale", {"x": ROW}).model.version == "1.0.0"


def test_one_client_asks_more_models_than_a_connection_has_channels(open_door: MakeDoor) -> None:
    door = open_door(channels_max=2)
    client = door.client()
    names = ("a", "b", "c", "d")
    for factor, name in enumerate(names):
        door.put("1.0.0", scale_model(float(factor)), name=name)
    for _ in range(2):
        for factor, name in enumerate(names):
            np.testing.assert_array_equal(client.infer(name, {"x": ROW}).outputs["y"], ROW * factor)


def test_a_request_too_large_for_any_channel_is_refused_and_the_others_are_answered(open_door: MakeDoor) -> None:
    door = open_door(channel_bytes_max=1_000_000)
    client = door.client()
    door.scale("1.0.0", 2.0)
    client.infer("scale", {"x": ROW})
    door.put("1.0.0", scale_model(3.0), name="other")
    with pytest.raises(RefusedError) as caught:
        client.infer("other", {"x": np.zeros((100_000, ROW.shape[1]), np.float32)})
    assert caught.value.code == "channel-limit"
    assert client.infer("scale", {"x": ROW}).model.name == "scale"


def test_channels_beyond_the_limit_are_refused(open_door: MakeDoor) -> None:
    door = open_door(channels_max=1)
    door.scale("1.0.0", 2.0)
    with door.greeted() as raw:
        opening = pack_control(Kind.OPEN, Open("scale", {"x": ROW.nbytes}, 0, None, None).to_document())
        raw.send(opening)
        unpack_control(raw.recv(MESSAGE_BYTES_MAX), Kind.OPENED)
        raw.send(opening)
        _, refusal = unpack_control(raw.recv(MESSAGE_BYTES_MAX), Kind.REFUSED)
    assert refusal["code"] == "channel-limit"
    assert "1 channels" in str(refusal["message"])


def test_nobody_there_is_told_after_the_deadline(door: Door) -> None:
    client = Client(door.folder / "other.sock", deadline_s=0.1)
    with pytest.raises(UnavailableError, match=r"other\.sock") as caught:
        client.infer("scale", {"x": ROW})
    assert caught.value.code == "runtime-unavailable"
    assert caught.value.remedy


def test_a_new_door_is_found_within_the_deadline(door: Door, open_door: MakeDoor) -> None:
    client = door.client()
    client.infer("scale", {"x": ROW})
    door.listener.stop(1.0)
    assert not door.path.exists()
    again: list[Door] = []

    def reopen() -> None:
        door_again = open_door(door.folder)
        again.append(door_again)
        door_again.scale("1.1.0", 3.0)

    threading.Timer(0.3, reopen).start()
    for _ in range(50):
        try:
            assert client.infer("scale", {"x": ROW}).model.version == "1.1.0"
        except UnknownModelError:
            continue  # this test's door opens before its model is there; the runtime restores first
        break
    assert again


def test_a_socket_path_longer_than_the_kernel_takes(open_door: MakeDoor, door: Door) -> None:
    deep = door.folder / ("d" * 60) / ("e" * 60)
    long_door = open_door(deep)
    long_door.scale("1.0.0", 2.0)
    assert len(str(long_door.path)) > 107
    assert long_door.client().infer("scale", {"x": ROW}).model.version == "1.0.0"


def test_clients_in_parallel_see_whole_versions_through_swaps(door: Door) -> None:
    """Every answer is exactly one version's: the factor in its numbers is the version in its name."""
    stop, failures, counts = threading.Event(), [], [0, 0, 0]

    def ask(index: int) -> None:
        client = door.client()
        rng = np.random.default_rng(index)
        try:
            while not stop.is_set():
                rows = rng.random((int(rng.integers(1, 4)), 3)).astype(np.float32)
                answer = client.infer("scale", {"x": rows})
                factor = np.float32(answer.model.version.split(".")[1])
                np.testing.assert_array_equal(answer.outputs["y"], rows * factor)
                counts[index] += 1
        except BaseException as error:  # noqa: BLE001 - told to the test's own thread
            failures.append(error)

    door.scale("1.1.0", 1.0)
    threads = [threading.Thread(target=ask, args=(index,)) for index in range(3)]
    for thread in threads:
        thread.start()
    for number in range(2, 42):
        door.scale(f"1.{number}.0", float(number))
        before = sum(counts)
        wait_until(lambda before=before: failures or sum(counts) > before + 5)
    stop.set()
    for thread in threads:
        thread.join()
    assert not failures
    assert door.router.totals("scale").answered_count == sum(counts)


def test_the_specification_s_example_is_a_conversation_with_this_runtime(door: Door) -> None:
    """Its client's messages, and before each request what it tells of; the answers are of the kinds it shows."""
    swaps = iter((lambda: None, lambda: door.scale("1.1.0", 2.0), lambda: door.put("2.0.0", *WIDER)))
    connection = door.raw()
    spoken = examples()
    for (_, shown), (name, expected) in itertools.pairwise(spoken):
        if shown[0] not in (Kind.HELLO, Kind.OPEN, Kind.REQUEST, Kind.CLOSE):
            continue
        if shown[0] == Kind.REQUEST:
            next(swaps)()
        asked = shown[:2] + bytes(2) + shown[4:] if shown[0] == Kind.REQUEST else shown.replace(b'l":3}', b'l":0}')
        connection.send(asked)  # the first channel of a connection has the number 0
        answer, descriptors, _, _ = socket.recv_fds(connection, MESSAGE_BYTES_MAX, 1)
        assert (Kind(answer[0]).name, len(descriptors)) == (name, int(name == "OPENED"))
        if name == "ANSWER":
            assert (answer[1], answer[4:8], answer[16:24]) == (expected[1], expected[4:8], expected[16:24])
            assert len(answer) == len(expected)
        for descriptor in descriptors:
            socket.close(descriptor)
    connection.close()
