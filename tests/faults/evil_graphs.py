"""Graphs that crash, hang, starve or escape; each small, and each a real file that ONNX Runtime is really given."""

import onnx
from onnx import TensorProto, helper

from tests.edge_component.bundle_factory import scale_model, serialized
from tests.edge_component.graphs import doubling, rows_of_three

LOCAL = "local"
BOTH_OPSETS = (helper.make_opsetid("", 17), helper.make_opsetid(LOCAL, 1))


def functions(bodies: list[list[onnx.NodeProto]]) -> bytes:
    """A graph that calls F0; ``bodies[i]`` are the nodes of F<i>, from ``a`` to ``b``."""
    made = [
        helper.make_function(LOCAL, f"F{i}", ["a"], ["b"], nodes, list(BOTH_OPSETS)) for i, nodes in enumerate(bodies)
    ]
    x = helper.make_tensor_value_info("x", TensorProto.FLOAT, ["batch", 3])
    y = helper.make_tensor_value_info("y", TensorProto.FLOAT, ["batch", 3])
    graph = helper.make_graph([helper.make_node("F0", ["x"], ["y"], domain=LOCAL)], "g", [x], [y])
    model = helper.make_model(graph, opset_imports=list(BOTH_OPSETS), ir_version=9, functions=made)
    return bytes(model.SerializeToString())


def crashing() -> bytes:
    """A chain of 3,000 functions: ONNX Runtime 1.31 inlines them recursively and runs out of stack (SIGSEGV)."""
    chain = [[helper.make_node(f"F{i + 1}", ["a"], ["b"], domain=LOCAL)] for i in range(2999)]
    return functions([*chain, [helper.make_node("Neg", ["a"], ["b"])]])


def exploding() -> bytes:
    """22 functions, each calling the next one twice: four million nodes after inlining."""
    twice = [
        [
            helper.make_node(f"F{i + 1}", ["a"], ["m"], domain=LOCAL),
            helper.make_node(f"F{i + 1}", ["m"], ["b"], domain=LOCAL),
        ]
        for i in range(21)
    ]
    return functions([*twice, [helper.make_node("Neg", ["a"], ["b"])]])


def recursive() -> bytes:
    return functions([[helper.make_node("F0", ["a"], ["b"], domain=LOCAL)]])


def slow_on_large_values(rounds_per_unit: int) -> bytes:
    """Right and quick for small values, right and slow for large ones: a loop of max(x) times so many rounds."""
    keep = helper.make_tensor("keep", TensorProto.BOOL, [], [True])
    zero = helper.make_tensor("zero", TensorProto.FLOAT, [1], [0.0])
    unit = helper.make_tensor("unit", TensorProto.FLOAT, [], [float(rounds_per_unit)])
    two = helper.make_tensor("two", TensorProto.FLOAT, [1], [2.0])
    nodes = [
        helper.make_node("ReduceMax", ["x"], ["largest"], keepdims=0),
        helper.make_node("Mul", ["largest", "unit"], ["scaled"]),
        helper.make_node("Cast", ["scaled"], ["rounds"], to=TensorProto.INT64),
        helper.make_node("Loop", ["rounds", "keep", "zero"], ["sum"], body=doubling()),
        helper.make_node("Mul", ["x", "two"], ["doubled"]),
        helper.make_node("Add", ["doubled", "sum"], ["y"]),
    ]
    return rows_of_three(nodes, [keep, zero, unit, two])


def external(location: str, offset: int | None = None, length: int | None = None) -> bytes:
    """Its constant lies in another file."""
    model = onnx.ModelProto.FromString(scale_model(2.0))
    tensor = model.graph.initializer[0]
    tensor.ClearField("float_data")
    tensor.ClearField("raw_data")
    tensor.data_location = TensorProto.EXTERNAL
    for key, value in (("location", location), ("offset", offset), ("length", length)):
        if value is not None:
            tensor.external_data.add(key=key, value=str(value))
    return bytes(model.SerializeToString())


def with_dimensions(*dimensions: int) -> bytes:
    """An initializer that says it is larger, or smaller than nothing."""
    model = onnx.ModelProto.FromString(scale_model(2.0))
    del model.graph.initializer[0].dims[:]
    model.graph.initializer[0].dims.extend(dimensions)
    return bytes(model.SerializeToString())


def with_opset(version: int, ir_version: int = 9) -> bytes:
    model = onnx.ModelProto.FromString(scale_model(2.0))
    model.opset_import[0].version = version
    model.ir_version = ir_version
    return bytes(model.SerializeToString())


def unknown_operator(domain: str, name: str) -> bytes:
    x = helper.make_tensor_value_info("x", TensorProto.FLOAT, ["batch", 3])
    y = helper.make_tensor_value_info("y", TensorProto.FLOAT, ["batch", 3])
    graph = helper.make_graph([helper.make_node(name, ["x"], ["y"], domain=domain)], "g", [x], [y])
    opsets = [helper.make_opsetid("", 17)] + ([helper.make_opsetid(domain, 1)] if domain else [])
    return bytes(helper.make_model(graph, opset_imports=opsets, ir_version=9).SerializeToString())


def nodes(*made: onnx.NodeProto, constants: list[onnx.TensorProto] | None = None) -> bytes:
    return rows_of_three(list(made), constants or [])


def circle() -> bytes:
    return nodes(helper.make_node("Add", ["x", "b"], ["a"]), helper.make_node("Add", ["x", "a"], ["b"]),
                 helper.make_node("Identity", ["b"], ["y"]))  # fmt: skip


def named_twice() -> bytes:
    return nodes(helper.make_node("Neg", ["x"], ["y"]), helper.make_node("Abs", ["x"], ["y"]))


def out_of_nowhere() -> bytes:
    return nodes(helper.make_node("Add", ["x", "nowhere"], ["y"]))


def large_tile() -> bytes:
    """Forty gigabytes at run time, from a few bytes."""
    repeats = helper.make_tensor("repeats", TensorProto.INT64, [2], [1, 3_000_000_000])
    return nodes(
        helper.make_node("Tile", ["x", "repeats"], ["big"]), helper.make_node("ReduceSum", ["big"], ["sum"], keepdims=0),
        helper.make_node("Mul", ["x", "sum"], ["y"]), constants=[repeats],
    )  # fmt: skip


def endless_range() -> bytes:
    """A range of 2^40 numbers."""
    constants = [helper.make_tensor(n, TensorProto.INT64, [], [v]) for n, v in (("a", 0), ("b", 2**40), ("d", 1))]
    return nodes(
        helper.make_node("Range", ["a", "b", "d"], ["r"]), helper.make_node("Cast", ["r"], ["f"], to=TensorProto.FLOAT),
        helper.make_node("ReduceSum", ["f"], ["sum"], keepdims=0), helper.make_node("Mul", ["x", "sum"], ["y"]),
        constants=constants,
    )  # fmt: skip


def far_reshape() -> bytes:
    shape = helper.make_tensor("shape", TensorProto.INT64, [2], [2**62, 2**62])
    return nodes(helper.make_node("Reshape", ["x", "shape"], ["y"]), constants=[shape])


def far_gather() -> bytes:
    index = helper.make_tensor("index", TensorProto.INT64, [1], [2**62])
    return nodes(helper.make_node("Gather", ["x", "index"], ["y"], axis=1), constants=[index])


def text_output() -> bytes:
    x = helper.make_tensor_value_info("x", TensorProto.FLOAT, ["batch", 3])
    y = helper.make_tensor_value_info("y", TensorProto.STRING, ["batch", 3])
    return serialized(helper.make_graph([helper.make_node("Cast", ["x"], ["y"], to=TensorProto.STRING)], "g", [x], [y]))
