"""The fast path through its real socket: who answers, through swaps and restarts of the door, and what is counted."""

import itertools
import socket
import threading
import weakref

import numpy as np
import pytest
from onnx import TensorProto, helper

from edge_component.client import Client, InputError, ModelFailedError, UnavailableError, UnknownModelError
from edge_component.contracts.fastpath import MESSAGE_BYTES_MAX, Kind
from edge_component.contracts.manifest import TensorSpec
from edge_component.inference.router import Totals
from tests.contracts.test_specification import examples
from tests.edge_component.bundle_factory import scale_model, serialized
from tests.edge_component.serving.conftest import ROW, Door, MakeDoor
from tests.edge_component.waiting import wait_until

WIDER = scale_model(2.0, 4), (TensorSpec("x", "float32", (-1, 4)),), (TensorSpec("y", "float32", (-1, 4)),)


def test_an_answer_says_who_gave_it(door: Door) -> None:
    answer = door.client().infer("scale", {"x": ROW})
    np.testing.assert_array_equal(answer.outputs["y"], ROW * 2)
    assert (answer.model.name, answer.model.version) == ("scale", "1.0.0")
    assert answer.run_us >= 0


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
