"""The fast path and tensors of every kind: batches that grow, types, fixed and free shapes, inputs that do not fit."""

from dataclasses import replace

import numpy as np
import pytest
from onnx import TensorProto, helper

from edge_component.client import InputError, ModelFailedError, RefusedError
from edge_component.contracts.manifest import TensorSpec
from tests.edge_component.bundle_factory import scale_model, serialized
from tests.edge_component.serving.conftest import ROW, Door


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
