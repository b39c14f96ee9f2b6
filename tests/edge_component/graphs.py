"""Small real graphs that several tests, and the fault harness, give to ONNX Runtime."""

from collections.abc import Sequence

import onnx
from onnx import TensorProto, helper

from tests.edge_component.bundle_factory import serialized


def rows_of_three(nodes: Sequence[onnx.NodeProto], constants: Sequence[onnx.TensorProto] = ()) -> bytes:
    """A model from ``x`` to ``y``, both float32 of ``[batch, 3]``."""
    x = helper.make_tensor_value_info("x", TensorProto.FLOAT, ["batch", 3])
    y = helper.make_tensor_value_info("y", TensorProto.FLOAT, ["batch", 3])
    return serialized(helper.make_graph(nodes, "g", [x], [y], constants))


def doubling() -> onnx.GraphProto:
    """The body of a ``Loop``: its one value, ``[1]``, is doubled with each round."""
    return helper.make_graph(
        [helper.make_node("Identity", ["c"], ["c2"]), helper.make_node("Add", ["v", "v"], ["v2"])],
        "body",
        [
            helper.make_tensor_value_info("i", TensorProto.INT64, []),
            helper.make_tensor_value_info("c", TensorProto.BOOL, []),
            helper.make_tensor_value_info("v", TensorProto.FLOAT, [1]),
        ],
        [
            helper.make_tensor_value_info("c2", TensorProto.BOOL, []),
            helper.make_tensor_value_info("v2", TensorProto.FLOAT, [1]),
        ],
    )


def endless_model() -> bytes:
    """A loop of 2^62 rounds."""
    rounds = helper.make_tensor("rounds", TensorProto.INT64, [], [2**62])
    keep = helper.make_tensor("keep", TensorProto.BOOL, [], [True])
    zero = helper.make_tensor("zero", TensorProto.FLOAT, [1], [0.0])
    nodes = [
        helper.make_node("Loop", ["rounds", "keep", "zero"], ["sum"], body=doubling()),
        helper.make_node("Add", ["x", "sum"], ["y"]),
    ]
    return rows_of_three(nodes, [rounds, keep, zero])


def rounds_model() -> bytes:
    """``y`` is ``x`` (float32 of ``[1]``) doubled as often as ``k`` (int64) says: as long a run as one likes."""
    keep = helper.make_tensor("keep", TensorProto.BOOL, [], [True])
    inputs = [
        helper.make_tensor_value_info("k", TensorProto.INT64, []),
        helper.make_tensor_value_info("x", TensorProto.FLOAT, [1]),
    ]
    outputs = [helper.make_tensor_value_info("y", TensorProto.FLOAT, [1])]
    loop = helper.make_node("Loop", ["k", "keep", "x"], ["y"], body=doubling())
    return serialized(helper.make_graph([loop], "rounds", inputs, outputs, [keep]))


def hungry_model() -> bytes:
    """Four gigabytes in the middle of the graph."""
    shape = helper.make_tensor("shape", TensorProto.INT64, [1], [1_000_000_000])
    one = helper.make_tensor("value", TensorProto.FLOAT, [1], [1.0])
    nodes = [
        helper.make_node("ConstantOfShape", ["shape"], ["big"], value=one),
        helper.make_node("ReduceSum", ["big"], ["sum"], keepdims=0),
        helper.make_node("Mul", ["x", "sum"], ["y"]),
    ]
    return rows_of_three(nodes, [shape])
