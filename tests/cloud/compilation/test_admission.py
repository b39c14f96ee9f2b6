from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest
from graphs import FLOAT, classifier, doubler, model, tensor, weight
from onnx import TensorProto, helper

from cloud.compilation.admission import IR_VERSION_MAX, AdmissionLimits, admit
from cloud.compilation.errors import (
    ExternalDataError,
    InvalidGraphError,
    ModelTooLargeError,
    NotOnnxError,
    SignatureError,
    UnsupportedDomainError,
    UnsupportedOpsetError,
)
from cloud.errors import ModelRefusedError


def refused(graph: onnx.ModelProto) -> ModelRefusedError:
    with pytest.raises(ModelRefusedError) as caught:
        admit(graph.SerializeToString())
    return caught.value


def test_a_good_model_comes_with_its_signature() -> None:
    admitted = admit(classifier().SerializeToString())
    assert dict(admitted.opsets) == {"": 17}
    assert [(spec.name, spec.dtype, spec.shape) for spec in admitted.inputs] == [("x", "float32", (-1, 8))]
    assert [(spec.name, spec.dtype, spec.shape) for spec in admitted.outputs] == [("p", "float32", (-1, 1))]


def test_a_real_model_with_state_and_a_scalar_is_admitted(silero_vad_onnx: Path) -> None:
    admitted = admit(silero_vad_onnx.read_bytes())
    assert {spec.name: spec.shape for spec in admitted.inputs} == {"input": (-1, -1), "state": (2, -1, 128), "sr": ()}
    assert {spec.name: spec.dtype for spec in admitted.inputs}["sr"] == "int64"


@pytest.mark.parametrize("data", [b"", b"hello", b"PK\x03\x04" * 100, b"\x08\x08", bytes(1000)])
def test_what_is_no_model_is_refused_as_such(data: bytes) -> None:
    with pytest.raises(NotOnnxError, match="not an ONNX model"):
        admit(data)


def test_a_truncated_model_is_no_model() -> None:
    with pytest.raises(NotOnnxError):
        admit(classifier().SerializeToString()[:-100])


def test_too_many_bytes_are_not_even_parsed() -> None:
    with pytest.raises(ModelTooLargeError, match="10 are admitted") as caught:
        admit(b"x" * 11, AdmissionLimits(model_bytes_max=10))
    assert caught.value.remedy


@pytest.mark.parametrize(("domain", "version"), [("", 6), ("", 99), ("ai.onnx.ml", 9)])
def test_an_operator_set_out_of_range_is_named(domain: str, version: int) -> None:
    node = helper.make_node("Scaler" if domain else "Add", ["x"] if domain else ["x", "x"], ["y"], domain=domain)
    imports = [helper.make_opsetid(domain, version)]
    graph = model([node], [tensor("x", [1])], [tensor("y", [1])], [], opsets=imports)
    error = refused(graph)
    assert isinstance(error, UnsupportedOpsetError)
    assert str(version) in str(error)
    assert error.remedy


def test_a_file_of_a_newer_format_is_refused_with_what_to_set() -> None:
    graph = doubler()
    graph.ir_version = IR_VERSION_MAX + 1
    error = refused(graph)
    assert isinstance(error, UnsupportedOpsetError)
    assert f"IR version {IR_VERSION_MAX + 1}" in str(error)
    assert f"model.ir_version = {IR_VERSION_MAX}" in error.remedy


def test_operators_that_only_a_function_imports_are_admitted() -> None:
    body = [helper.make_node("Add", ["a", "a"], ["b"])]
    function = helper.make_function("com.acme", "Blend", ["a"], ["b"], body, [helper.make_opsetid("", 17)])
    imports = [helper.make_opsetid("com.acme", 1)]
    graph = model([custom()], [tensor("x", [1])], [tensor("y", [1])], [], opsets=imports, functions=[function])
    assert dict(admit(graph.SerializeToString()).opsets) == {"": 17}


def custom(domain: str = "com.acme") -> onnx.NodeProto:
    return helper.make_node("Blend", ["x"], ["y"], domain=domain)


def test_a_custom_operator_is_refused_by_its_domain() -> None:
    imports = [helper.make_opsetid("", 17), helper.make_opsetid("com.acme", 1)]
    error = refused(model([custom()], [tensor("x", [1])], [tensor("y", [1])], [], opsets=imports))
    assert isinstance(error, UnsupportedDomainError)
    assert "'Blend'" in str(error)
    assert "'com.acme'" in str(error)


def test_a_custom_operator_hidden_in_a_branch_is_found() -> None:
    branch = helper.make_graph([custom()], "branch", [], [tensor("y", [1])])
    other = helper.make_graph([helper.make_node("Identity", ["x"], ["y"])], "other", [], [tensor("y", [1])])
    node = helper.make_node("If", ["c"], ["z"], then_branch=branch, else_branch=other)
    imports = [helper.make_opsetid("", 17), helper.make_opsetid("com.acme", 1)]
    inputs = [tensor("x", [1]), tensor("c", [1], TensorProto.BOOL)]
    assert isinstance(refused(model([node], inputs, [tensor("z", [1])], [], opsets=imports)), UnsupportedDomainError)


def test_a_domain_that_the_model_defines_itself_is_admitted() -> None:
    body = [helper.make_node("Add", ["a", "a"], ["b"])]
    function = helper.make_function("com.acme", "Blend", ["a"], ["b"], body, [helper.make_opsetid("", 17)])
    imports = [helper.make_opsetid("", 17), helper.make_opsetid("com.acme", 1)]
    graph = model([custom()], [tensor("x", [1])], [tensor("y", [1])], [], opsets=imports, functions=[function])
    assert set(admit(graph.SerializeToString()).opsets) == {""}


def test_weights_outside_of_the_file_are_refused(tmp_path: Path) -> None:
    graph = classifier()
    onnx.save(graph, tmp_path / "m.onnx", save_as_external_data=True, size_threshold=0)
    with pytest.raises(ExternalDataError, match="outside of the file"):
        admit((tmp_path / "m.onnx").read_bytes())
    onnx.save(onnx.load(tmp_path / "m.onnx"), tmp_path / "one.onnx")  # as the remedy says
    assert admit((tmp_path / "one.onnx").read_bytes()).inputs


def test_a_graph_that_breaks_the_rules_is_refused_in_one_line() -> None:
    node = helper.make_node("Add", ["x", "missing"], ["y"])
    error = refused(model([node], [tensor("x", [1])], [tensor("y", [1])], []))
    assert isinstance(error, InvalidGraphError)
    assert "\n" not in str(error)


def test_an_operator_that_does_not_exist_is_refused() -> None:
    node = helper.make_node("Wish", ["x"], ["y"])
    assert isinstance(refused(model([node], [tensor("x", [1])], [tensor("y", [1])], [])), InvalidGraphError)


@pytest.mark.parametrize("operator", ["Add", "MeanVarianceNormalization"])
def test_a_shape_that_is_only_declared_or_inferred_wrongly_refuses_nothing(operator: str) -> None:
    node = helper.make_node(operator, ["x"] * (2 if operator == "Add" else 1), ["y"])
    graph = model([node], [tensor("x", ["n", 3, 2, 2])], [tensor("y", ["n", 5, 2, 2])], [])
    onnxruntime.InferenceSession(graph.SerializeToString())
    with pytest.raises(onnx.shape_inference.InferenceError):
        onnx.checker.check_model(graph, full_check=True)
    assert admit(graph.SerializeToString()).inputs[0].shape == (-1, 3, 2, 2)


def test_a_sequence_is_no_tensor() -> None:
    made = helper.make_tensor_sequence_value_info("y", FLOAT, None)
    node = helper.make_node("SequenceConstruct", ["x"], ["y"])
    error = refused(model([node], [tensor("x", [1])], [made], []))
    assert isinstance(error, SignatureError)
    assert "'y' is sequence_type" in str(error)


@pytest.mark.parametrize("side", ["input", "output"])
def test_a_tensor_without_rank_is_refused_by_its_name(side: str) -> None:
    rankless = helper.make_tensor_value_info("free", FLOAT, None)
    given, made = (rankless, tensor("y", [1])) if side == "input" else (tensor("x", [1]), rankless)
    node = helper.make_node("Identity", [given.name], [made.name])
    error = refused(model([node], [given], [made], []))
    assert isinstance(error, SignatureError)
    assert f"{side} 'free' has no declared rank" in str(error)
    assert error.remedy


def test_a_complex_number_cannot_be_sent() -> None:
    kind = TensorProto.COMPLEX64
    node = helper.make_node("Identity", ["x"], ["y"])
    error = refused(model([node], [tensor("x", [1], kind)], [tensor("y", [1], kind)], []))
    assert isinstance(error, SignatureError)
    assert "of type complex64" in str(error)


def test_old_graphs_that_list_weights_as_inputs_keep_them_out_of_the_signature() -> None:
    node = helper.make_node("Add", ["x", "w"], ["y"])
    graph = model([node], [tensor("x", [2]), tensor("w", [2])], [tensor("y", [2])], [weight("w", np.ones(2))])
    assert [spec.name for spec in admit(graph.SerializeToString()).inputs] == ["x"]


def test_too_many_tensors_are_refused() -> None:
    with pytest.raises(SignatureError, match="1 to 0 are admitted") as caught:
        admit(doubler().SerializeToString(), AdmissionLimits(tensors_max=0))
    assert caught.value.remedy


def test_a_table_of_many_columns_has_an_input_for_each() -> None:
    names = [f"column {index}" for index in range(256)]
    graph = model(
        [helper.make_node("Sum", names, ["y"])], [tensor(name, ["n", 1]) for name in names], [tensor("y", ["n", 1])], []
    )
    assert [spec.name for spec in admit(graph.SerializeToString()).inputs] == names


def test_a_graph_without_inputs_is_refused_with_what_to_do() -> None:
    constant = helper.make_node("Constant", [], ["y"], value=weight("v", np.ones(2)))
    error = refused(model([constant], [], [tensor("y", [2])], []))
    assert isinstance(error, SignatureError)
    assert "the graph has 0 inputs" in str(error)
    assert "asked as an input" in error.remedy


def test_an_output_that_is_listed_twice_is_refused() -> None:
    twice = [tensor("y", ["n", 3])] * 2
    error = refused(model([helper.make_node("Neg", ["x"], ["y"])], [tensor("x", ["n", 3])], twice, []))
    assert isinstance(error, SignatureError)
    assert "output 'y' is listed twice" in str(error)
    assert error.remedy


def test_text_beside_bfloat16_is_refused_before_a_device_does() -> None:
    nodes = [helper.make_node("Identity", [name], [f"{name}_out"]) for name in ("a", "b")]
    kinds = (("a", TensorProto.STRING), ("b", TensorProto.BFLOAT16))
    graph = model(
        nodes, [tensor(name, [1], kind) for name, kind in kinds], [tensor(f"{name}_out", [1], kind) for name, kind in kinds], []
    )  # fmt: skip
    error = refused(graph)
    assert isinstance(error, SignatureError)
    assert "'a_out' is text and 'b_out' is bfloat16" in str(error)


def zipped(*, typed: bool) -> onnx.ModelProto:
    """As CatBoost (which writes types down) and skl2onnx (which does not) export a classifier."""
    tree = helper.make_node(
        "LinearClassifier", ["x"], ["label", "scores"], domain="ai.onnx.ml", coefficients=[1.0, -1.0],
        classlabels_ints=[0, 1], post_transform="SOFTMAX",
    )  # fmt: skip
    names = helper.make_node("ZipMap", ["even"], ["p"], domain="ai.onnx.ml", classlabels_int64s=[0, 1])
    value = helper.make_map_type_proto(TensorProto.INT64, helper.make_tensor_type_proto(FLOAT, []))
    made = helper.make_value_info("p", helper.make_sequence_type_proto(value))
    imports = [helper.make_opsetid("ai.onnx.ml", 1), helper.make_opsetid("", 17)]
    label = tensor("label", ["n"], TensorProto.INT64)
    even = helper.make_node("Normalizer", ["scores"], ["even"], domain="ai.onnx.ml", norm="L1")
    graph = model([tree, even, names], [tensor("x", ["n", 1])], [label, made], [], opsets=imports)
    if typed:
        graph.graph.value_info.append(tensor("even", ["n", 2]))
    return graph


def test_a_zipmap_is_refused_with_what_takes_it_out(tmp_path: Path) -> None:
    error = refused(zipped(typed=True))
    assert "'p' is sequence_type" in str(error)
    assert "options={'zipmap': False}" in error.remedy
    assert "onnx.utils.extract_model(path, new_path, ['x'], ['label', 'even'])" in error.remedy
    onnx.save(zipped(typed=True), tmp_path / "zipped.onnx")
    onnx.utils.extract_model(str(tmp_path / "zipped.onnx"), str(tmp_path / "cut.onnx"), ["x"], ["label", "even"])
    assert [spec.name for spec in admit((tmp_path / "cut.onnx").read_bytes()).outputs] == ["label", "even"]


def test_a_zipmap_that_cannot_be_cut_off_is_refused_without_that_advice() -> None:
    assert "extract_model" not in refused(zipped(typed=False)).remedy
