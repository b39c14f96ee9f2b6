"""What the blocking client does beyond one request: writing in place, sharing, streams and keys, hints of overload."""

import shutil
import subprocess
import sys
import threading
from pathlib import Path

import numpy as np
import pytest
from onnx import helper

import edge_component
from edge_component.client import DeadlineExceededError, InputError, OverloadedError
from edge_component.client.client import Client
from edge_component.client.errors import error_of
from edge_component.contracts.fastpath import Failure
from edge_component.contracts.manifest import TensorSpec
from tests.edge_component.bundle_factory import serialized
from tests.edge_component.graphs import endless_model
from tests.edge_component.serving.conftest import ROW, Door, MakeDoor
from tests.edge_component.waiting import wait_until


@pytest.mark.parametrize("rows", [1, 100_000])  # two slots, one slot
def test_inputs_are_written_in_place(door: Door, rows: int) -> None:
    request = door.client().prepare("scale", {"x": np.full((rows, 3), 7, np.float32)})
    np.testing.assert_array_equal(request.infer().outputs["y"], np.full((rows, 3), 14, np.float32))
    for number in range(5):
        request.inputs["x"][...] = number
        np.testing.assert_array_equal(request.infer(copy=False).outputs["y"], np.full((rows, 3), number * 2))


def test_what_was_written_in_place_outlives_a_restart_of_the_runtime(door: Door, open_door: MakeDoor) -> None:
    request = door.client().prepare("scale", {"x": ROW})
    request.inputs["x"][...] = 5
    door.listener.stop(1.0)
    again = open_door(door.folder)
    again.scale("1.1.0", 3.0)
    np.testing.assert_array_equal(request.infer().outputs["y"], np.full((1, 3), 15, np.float32))
    request.inputs["x"][...] = 6
    np.testing.assert_array_equal(request.infer().outputs["y"], np.full((1, 3), 18, np.float32))


def test_preparing_grows_the_channel_and_refuses_what_does_not_fit(door: Door) -> None:
    client = door.client()
    client.infer("scale", {"x": ROW})
    request = client.prepare("scale", {"x": np.ones((50_000, 3), np.float32)})
    assert request.infer().outputs["y"].shape == (50_000, 3)
    with pytest.raises(InputError, match="x has shape"):
        client.prepare("scale", {"x": np.ones((2, 4), np.float32)})


def test_a_shared_client_ends_its_wait_for_others_by_its_own_deadline(door: Door) -> None:
    door.put("1.0.0", endless_model(), name="endless")
    client = door.client()
    errors: list[BaseException] = []

    def ask_endless() -> None:
        with pytest.raises(DeadlineExceededError) as caught:
            client.infer("endless", {"x": ROW}, deadline_s=1.0)
        errors.append(caught.value)

    asking = threading.Thread(target=ask_endless)
    asking.start()
    wait_until(client._lock.locked)
    with pytest.raises(DeadlineExceededError, match="other requests"):
        client.infer("scale", {"x": ROW}, deadline_s=0.05)
    assert not errors, "it waited for the other one"
    asking.join()
    assert errors
    assert client.infer("scale", {"x": ROW}).model.version == "1.0.0"


def test_key_and_sequence_are_told_with_the_channel(door: Door) -> None:
    with Client(door.path, key="customer-7", sequence="microphone") as client:
        client.infer("scale", {"x": ROW})
        (follower,) = door.router.route("scale").followers
        assert (follower.key, follower.sequence) == ("customer-7", "microphone")  # type: ignore[attr-defined]


def test_the_hint_of_an_overload_reaches_the_caller() -> None:
    error = error_of(Failure("overloaded", "16 requests are computed and 64 wait", "Ask again.", retry_after_ms=40))
    assert isinstance(error, OverloadedError)
    assert (error.retry_after_s, error.code, error.remedy) == (0.04, "overloaded", "Ask again.")


def test_an_overloaded_model_refuses_at_once_with_the_hint(door: Door) -> None:
    door.put("1.0.0", endless_model(), name="endless")
    gate = door.router.gate("endless")
    for _ in range(gate.limits.in_flight_max):
        gate.enter(1.0)
    gate._waiting_count = gate.limits.queue_max
    with pytest.raises(OverloadedError) as caught:
        door.client().infer("endless", {"x": ROW})
    assert caught.value.retry_after_s > 0
    assert door.client().infer("scale", {"x": ROW}).model.version == "1.0.0"


def test_a_request_is_prepared_for_the_inputs_that_a_swap_has_brought(door: Door) -> None:
    client = door.client()
    client.infer("scale", {"x": ROW})
    put_same(door, "int32", name="scale")
    request = client.prepare("scale", {"x": np.arange(5, dtype=np.int32)})
    np.testing.assert_array_equal(request.infer().outputs["y"], np.arange(5))
    with pytest.raises(InputError):
        client.prepare("scale", {"x": ROW})


def put_same(door: Door, dtype: str, name: str = "") -> None:
    """A model ``y = x`` of that dtype, one free axis."""
    element = helper.np_dtype_to_tensor_dtype(np.dtype(dtype))
    x, y = (helper.make_tensor_value_info(name, element, ["n"]) for name in "xy")
    graph = helper.make_graph([helper.make_node("Identity", ["x"], ["y"])], "g", [x], [y])
    inputs, outputs = (TensorSpec("x", dtype, (-1,)),), (TensorSpec("y", dtype, (-1,)),)
    door.put("1.0.0", serialized(graph), inputs, outputs, name=name or dtype)


@pytest.mark.parametrize(("dtype", "element"), [("float64", np.float32(1)), ("int64", True), ("int32", np.int8(1))])
def test_a_list_of_a_smaller_type_than_the_models_finds_room(door: Door, dtype: str, element: object) -> None:
    put_same(door, dtype)
    outputs = door.client().infer(dtype, {"x": [element] * 5_000}).outputs
    np.testing.assert_array_equal(outputs["y"], np.ones(5_000, dtype))


def test_a_list_is_never_rounded_to_whole_numbers(door: Door) -> None:
    for dtype, kept, refused in (
        ("int64", [1.0, -2], ([1.5], [float("nan")], [1e30], ["1"])),
        ("uint8", [0, 255], ([256], [-1], [0.5])),
        ("bool", [True, 0, 1.0], ([2], [0.5])),
    ):
        put_same(door, dtype)
        client = door.client()
        np.testing.assert_array_equal(client.infer(dtype, {"x": kept}).outputs["y"], np.array(kept, dtype))
        for given in refused:
            with pytest.raises(InputError) as caught:
                client.infer(dtype, {"x": given})
            assert caught.value.code == "input-dtype"


def test_an_application_needs_no_more_of_the_package_than_client_and_contracts(door: Door, tmp_path: Path) -> None:
    package, copied = Path(edge_component.__file__).parent, tmp_path / "edge_component"
    for folder in ("client", "contracts"):
        shutil.copytree(package / folder, copied / folder, ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copy(package / "__init__.py", copied)
    program = (
        "import sys, edge_component.client.aio\n"
        "from edge_component.client import Client\n"
        "with Client(sys.argv[1]) as client:\n"
        "    print(edge_component.__file__, client.infer('scale', {'x': [[1, 2, 3]]}).outputs['y'].tolist())\n"
    )
    ran = subprocess.run(
        [sys.executable, "-c", program, door.path], env={"PYTHONPATH": str(tmp_path)}, cwd="/", capture_output=True
    )
    assert ran.stdout.decode().split(maxsplit=1) == [str(copied / "__init__.py"), "[[2.0, 4.0, 6.0]]\n"], ran.stderr
