from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest
from graphs import FLOAT, classifier, doubler, model, tensor
from onnx import TensorProto, helper

from cloud.compilation import inference
from cloud.compilation.errors import (
    CompilationRefusedError,
    GateError,
    InvalidGraphError,
    ModelTooLargeError,
    NotOnnxError,
    SamplesError,
    UnsupportedDomainError,
)
from cloud.compilation.own_model import OwnModel, compile_own_model, golden_count
from cloud.compilation.result import Compilation
from cloud.compilation.samples import read_samples
from cloud.errors import InvalidInputError
from edge_component.contracts.baseline import Baseline


def own(tmp_path: Path, graph=None, name: str = "mine", **arrays: np.ndarray) -> OwnModel:
    (tmp_path / "m.onnx").write_bytes((graph or doubler()).SerializeToString())
    if arrays:
        np.savez(tmp_path / "s.npz", **arrays)
    return OwnModel(tmp_path / "m.onnx", tmp_path / "s.npz", name)


def test_silero_vad_becomes_a_compilation(tmp_path: Path, silero_vad_onnx: Path) -> None:
    random = np.random.default_rng(3)
    requests = {
        "input": (random.normal(size=(20, 1, 576)) / 10).astype(np.float32),
        "state": np.zeros((20, 2, 1, 128), np.float32),
        "sr": np.full(20, 16_000, np.int64),
    }
    np.savez(tmp_path / "s.npz", **requests)
    compile_own_model(OwnModel(silero_vad_onnx, tmp_path / "s.npz", "silero-vad"), tmp_path / "out")
    compilation = Compilation.load(tmp_path / "out")
    assert compilation.component_name == "com.edgewright.model.SileroVad"
    assert (compilation.features, (tmp_path / "out" / "baseline.json").exists()) == ((), False)
    golden = read_samples(tmp_path / "out" / "golden.npz")
    raw = onnxruntime.InferenceSession(str(silero_vad_onnx))
    for index in range(golden.count):
        speech, state = raw.run(None, {name: np.asarray(array[index]) for name, array in requests.items()})
        np.testing.assert_allclose(golden.outputs["output"][index], speech, atol=1e-6)
        np.testing.assert_allclose(golden.outputs["stateN"][index], state, atol=1e-6)


def test_one_request_is_enough_for_fp32(tmp_path: Path) -> None:
    compile_own_model(own(tmp_path, x=np.ones((5, 3), np.float32)), tmp_path / "out")
    golden = read_samples(tmp_path / "out" / "golden.npz")
    assert golden.inputs["x"].shape == (1, 5, 3)
    np.testing.assert_array_equal(golden.outputs["y"], np.full((1, 5, 3), 2))
    assert "no calibration samples" in Compilation.load(tmp_path / "out").variants[0].reason


def test_many_requests_give_a_baseline_and_int8(tmp_path: Path) -> None:
    requests = np.random.default_rng(0).normal(size=(800, 1, 8)).astype(np.float32)
    compile_own_model(own(tmp_path, classifier(), **{"input:x": requests}), tmp_path / "out")
    compilation = Compilation.load(tmp_path / "out")
    baseline = Baseline.from_bytes((tmp_path / "out" / "baseline.json").read_bytes())
    assert [feature.name for feature in compilation.features] == [f"x_{index}" for index in range(8)]
    assert [output.kind for output in compilation.watched_outputs] == ["value"]
    assert baseline.sample_count == 800
    assert max(baseline.features[0].counts) - min(baseline.features[0].counts) <= 1
    assert {variant.precision for variant in compilation.variants} == {"int8"}
    assert read_samples(tmp_path / "out" / "golden.npz").count == 64


def test_expected_outputs_are_held_against_the_model(tmp_path: Path) -> None:
    requests, right = np.ones((4, 1, 3), np.float32), np.full((4, 1, 3), 2, np.float32)
    compile_own_model(own(tmp_path, x=requests, **{"output:y": right}), tmp_path / "out")
    with pytest.raises(CompilationRefusedError, match="the golden outputs differ by"):
        compile_own_model(own(tmp_path, x=requests, **{"output:y": right + 1}), tmp_path / "out")


def test_a_model_without_samples_is_refused(tmp_path: Path) -> None:
    with pytest.raises(SamplesError, match=r"s\.npz is missing"):
        compile_own_model(own(tmp_path), tmp_path / "out")


def test_samples_of_another_model_are_refused(tmp_path: Path) -> None:
    with pytest.raises(SamplesError, match="holds pixels; the model has x"):
        compile_own_model(own(tmp_path, pixels=np.ones((1, 1, 3), np.float32)), tmp_path / "out")


def test_what_is_not_onnx_is_refused(tmp_path: Path) -> None:
    given = own(tmp_path, x=np.ones((1, 3), np.float32))
    given.onnx_path.write_text("hello")
    with pytest.raises(NotOnnxError):
        compile_own_model(given, tmp_path / "out")
    with pytest.raises(NotOnnxError, match="is not a file"):
        compile_own_model(OwnModel(tmp_path / "none.onnx", given.samples_path, "mine"), tmp_path / "out")


def test_an_unknown_domain_is_refused(tmp_path: Path) -> None:
    graph = doubler()
    graph.graph.node[0].domain = "com.acme"
    graph.opset_import.add(domain="com.acme", version=1)
    with pytest.raises(UnsupportedDomainError):
        compile_own_model(own(tmp_path, graph, x=np.ones((1, 3), np.float32)), tmp_path / "out")


@pytest.mark.parametrize("name", ["", "Mine", "my model", "../up", "a" * 40, "runtime"])
def test_a_name_that_no_model_can_have_is_refused(tmp_path: Path, name: str) -> None:
    with pytest.raises(InvalidInputError, match="cannot be a model's name"):
        compile_own_model(own(tmp_path, name=name, x=np.ones((1, 3), np.float32)), tmp_path / "out")


def test_a_refusal_begins_with_the_file_that_was_given(tmp_path: Path) -> None:
    (tmp_path / "m.onnx").write_bytes(b"no model")
    with pytest.raises(NotOnnxError, match=r"^m\.onnx: the file is not an ONNX model"):
        compile_own_model(OwnModel(tmp_path / "m.onnx", tmp_path / "s.npz", "mine"), tmp_path / "out")


def one_node(kind_in: int, kind_out: int, operator: str, shape_out: list, **attributes: object) -> onnx.ModelProto:
    node = helper.make_node(operator, ["x"], ["y"], **attributes)
    imports = [helper.make_opsetid("", 17), helper.make_opsetid("ai.onnx.ml", 5)]
    return model([node], [tensor("x", ["n"], kind_in)], [tensor("y", shape_out, kind_out)], [], opsets=imports)


def test_text_in_and_out_is_kept_as_text(tmp_path: Path) -> None:
    labels = {"keys_int64s": [0, 1], "values_strings": ["klar", "trüb"], "default_string": "?"}
    graph = one_node(TensorProto.INT64, TensorProto.STRING, "LabelEncoder", ["n"], domain="ai.onnx.ml", **labels)
    report = compile_own_model(own(tmp_path, graph, x=np.array([0, 1, 7])), tmp_path / "out")
    assert any("Open Inference Protocol" in line and "(y)" in line for line in report.lines())
    golden = read_samples(tmp_path / "out" / "golden.npz")
    assert golden.outputs["y"].tolist() == [["klar", "trüb", "?"]]


def test_bfloat16_goes_in_and_out_as_its_bits(tmp_path: Path) -> None:
    bits = np.array([0x3F80, 0xC040], np.uint16)  # 1.0, -3.0
    graph = one_node(TensorProto.BFLOAT16, FLOAT, "Cast", ["n"], to=TensorProto.FLOAT)
    compile_own_model(own(tmp_path, graph, x=bits), tmp_path / "in")
    assert read_samples(tmp_path / "in" / "golden.npz").outputs["y"].tolist() == [[1.0, -3.0]]
    graph = one_node(FLOAT, TensorProto.BFLOAT16, "Cast", ["n"], to=TensorProto.BFLOAT16)
    compile_own_model(own(tmp_path, graph, x=np.array([1, -3], np.float32)), tmp_path / "out")
    assert read_samples(tmp_path / "out" / "golden.npz").outputs["y"].tolist() == [bits.tolist()]


def test_expected_bfloat16_is_compared_as_numbers_and_not_as_bits(tmp_path: Path) -> None:
    """Ten units in the last place are eight percent, and would be within the tolerance of the bits."""
    graph = one_node(FLOAT, TensorProto.BFLOAT16, "Cast", ["n"], to=TensorProto.BFLOAT16)
    arrays = {"input:x": np.ones((1, 1), np.float32), "output:y": np.array([[0x3F80 + 10]], np.uint16)}
    with pytest.raises(CompilationRefusedError, match="the golden outputs differ by"):
        compile_own_model(own(tmp_path, graph, **arrays), tmp_path / "out")


def test_an_output_that_is_not_as_declared_is_promised_as_it_comes_out(tmp_path: Path) -> None:
    node = helper.make_node("Reshape", ["x", "shape"], ["y"])
    graph = model(
        [node], [tensor("x", [6]), tensor("shape", [2], TensorProto.INT64)], [tensor("y", [6, 1])], []
    )  # fmt: skip
    report = compile_own_model(own(tmp_path, graph, x=np.ones(6, np.float32), shape=np.array([2, 3])), tmp_path / "out")
    assert Compilation.load(tmp_path / "out").outputs[0].shape == (-1, -1)
    assert any("output y is declared as (6, 1) and answers otherwise" in line for line in report.lines())


def leaf(declared: list, width: int = 1) -> onnx.ModelProto:
    """A tree of one leaf for each of ``width`` targets, its output declared as some exporter would."""
    counted, nothing = list(range(width)), [0] * width
    node = helper.make_node(
        "TreeEnsembleRegressor", ["x"], ["y"], domain="ai.onnx.ml", n_targets=width, nodes_treeids=counted,
        nodes_nodeids=nothing, nodes_featureids=nothing, nodes_modes=["LEAF"] * width, nodes_values=[0.0] * width,
        nodes_truenodeids=nothing, nodes_falsenodeids=nothing, target_treeids=counted, target_nodeids=nothing,
        target_ids=counted, target_weights=[7.0] * width,
    )  # fmt: skip
    imports = [helper.make_opsetid("", 17), helper.make_opsetid("ai.onnx.ml", 3)]
    return model([node], [tensor("x", ["n", 3])], [tensor("y", declared)], [], opsets=imports)


@pytest.mark.parametrize(
    ("declared", "promised"),
    [([1, 1], (-1, 1)), (["n"], (-1, -1)), (["n", 2], (-1, -1)), (["n", 1], (-1, 1)), ([4, 1, 1], (-1, -1))],
)
@pytest.mark.parametrize("rows", [1, 5])
def test_a_batch_is_promised_whatever_the_exporter_declared(
    tmp_path: Path, declared: list, promised: tuple, rows: int
) -> None:
    """Also where the one sample is a single row, which fits a declared [1, 1] by luck."""
    requests = {"x": np.ones((rows, 3), np.float32), "output:y": np.full((rows, 1), 7, np.float32)}
    compile_own_model(own(tmp_path, leaf(declared), **requests), tmp_path / "out")
    assert Compilation.load(tmp_path / "out").outputs[0].shape == promised


def test_what_takes_no_second_row_keeps_its_declared_shape(tmp_path: Path) -> None:
    reshape = helper.make_node("Reshape", ["x", "shape"], ["y"])
    shape = helper.make_tensor("shape", TensorProto.INT64, [2], [1, 3])
    graph = model([reshape], [tensor("x", ["n", 3])], [tensor("y", [1, 3])], [shape])
    compile_own_model(own(tmp_path, graph, x=np.ones((1, 3), np.float32)), tmp_path / "out")
    assert Compilation.load(tmp_path / "out").outputs[0].shape == (1, 3)


def test_a_model_that_answers_by_chance_is_refused_before_a_device_does(tmp_path: Path) -> None:
    graph = one_node(FLOAT, FLOAT, "RandomNormalLike", ["n"])
    with pytest.raises(GateError, match=r"m\.onnx: output 'y' differs when the same request is asked again"):
        compile_own_model(own(tmp_path, graph, x=np.ones(3, np.float32)), tmp_path / "out")


def test_a_scalar_of_bfloat16_stays_a_scalar(tmp_path: Path) -> None:
    node = helper.make_node("Cast", ["x"], ["y"], to=FLOAT)
    graph = model([node], [tensor("x", [], TensorProto.BFLOAT16)], [tensor("y", [])], [])
    compile_own_model(own(tmp_path, graph, x=np.array(0xC040, np.uint16)), tmp_path / "out")
    assert read_samples(tmp_path / "out" / "golden.npz").outputs["y"].tolist() == [-3.0]


def test_what_answers_by_chance_only_later_is_refused_too(tmp_path: Path) -> None:
    """ONNX Runtime's dropout in training mode gives the same answer twice before it differs."""
    ratio, training = helper.make_tensor("r", FLOAT, [], [0.5]), helper.make_tensor("t", TensorProto.BOOL, [], [True])
    node = helper.make_node("Dropout", ["x", "r", "t"], ["y"], seed=0)
    graph = model([node], [tensor("x", [60])], [tensor("y", [60])], [ratio, training])
    with pytest.raises(GateError, match="output 'y' differs when the same request is asked again"):
        compile_own_model(own(tmp_path, graph, x=np.ones(60, np.float32)), tmp_path / "out")


def test_types_that_contradict_each_other_are_refused_by_onnx_runtime(tmp_path: Path) -> None:
    node = helper.make_node("Add", ["x", "x"], ["y"])
    graph = model([node], [tensor("x", [3])], [tensor("y", [3], TensorProto.DOUBLE)], [])
    told = r"^m\.onnx: ONNX Runtime does not load the model: .*tensor\(double\)"
    with pytest.raises(InvalidGraphError, match=told) as caught:
        compile_own_model(own(tmp_path, graph, x=np.ones(3, np.float32)), tmp_path / "out")
    assert "float32 inputs" in caught.value.remedy


def test_a_file_beyond_all_memory_is_refused_unread(tmp_path: Path) -> None:
    given = own(tmp_path, x=np.ones(3, np.float32))
    with given.onnx_path.open("r+b") as stream:
        stream.truncate(2**42)
    with pytest.raises(ModelTooLargeError, match=r"^m\.onnx: the model has 4398046511104 bytes"):
        compile_own_model(given, tmp_path / "out")


@pytest.mark.parametrize(
    ("operator", "told", "remedy"),
    [
        ({"op_type": "StringNormalizer", "case_change_action": "LOWER", "locale": "xx_XX"}, "xx_XX", "locale 'C'"),
        ({"op_type": "Mul"}, "NOT_IMPLEMENTED", "in float32"),
    ],
)
def test_what_onnx_runtime_does_not_load_comes_with_what_helps(
    tmp_path: Path, operator: dict, told: str, remedy: str
) -> None:
    kind = TensorProto.STRING if "locale" in operator else TensorProto.BFLOAT16
    node = helper.make_node(**operator, inputs=["x"] if "locale" in operator else ["x", "x"], outputs=["y"])
    graph = model([node], [tensor("x", [1], kind)], [tensor("y", [1], kind)], [])
    given = np.array(["a"]) if "locale" in operator else np.zeros(1, np.uint16)
    with pytest.raises(InvalidGraphError, match=told) as caught:
        compile_own_model(own(tmp_path, graph, x=given), tmp_path / "out")
    assert remedy in caught.value.remedy


@pytest.mark.parametrize(
    ("settings", "told"),
    [
        ({"case_change_action": "LOWER", "locale": "C.UTF-8"}, ["C.UTF-8"]),
        ({"locale": "C.UTF-8"}, ["C.UTF-8"]),  # is_case_sensitive is 0 by default
        ({"case_change_action": "LOWER", "locale": "C"}, []),
        ({"is_case_sensitive": 1}, []),
    ],
)
def test_a_locale_that_a_device_may_lack_is_told_of(tmp_path: Path, settings: dict, told: list[str]) -> None:
    graph = one_node(TensorProto.STRING, TensorProto.STRING, "StringNormalizer", ["n"], **settings)
    report = compile_own_model(own(tmp_path, graph, x=np.array(["Pumpe"])), tmp_path / "out")
    found = [line.partition("the locale ")[2].partition(",")[0] for line in report.lines() if "the locale " in line]
    assert found == told


def test_a_model_that_takes_no_second_row_leaves_no_error_on_the_terminal(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    test_what_takes_no_second_row_keeps_its_declared_shape(tmp_path)
    assert capfd.readouterr() == ("", "")


@pytest.mark.parametrize(
    ("samples", "answered_s", "kept"), [(1, 60.0, 1), (800, 0.0, 64), (800, 8.0, 64), (100, 50.0, 10), (5, 100.0, 1)]
)
def test_a_slow_model_is_given_no_more_golden_samples_than_a_device_has_time_for(
    samples: int, answered_s: float, kept: int
) -> None:
    assert golden_count(samples, answered_s) == kept


def test_a_model_that_never_ends_is_stopped(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(inference, "RUN_S_MAX", 0.2)
    body = helper.make_graph(
        [helper.make_node("Identity", ["on"], ["still"]), helper.make_node("Neg", ["v"], ["w"])], "body",
        [tensor("i", [], TensorProto.INT64), tensor("on", [], TensorProto.BOOL), tensor("v", [1])],
        [tensor("still", [], TensorProto.BOOL), tensor("w", [1])],
    )  # fmt: skip
    loop = helper.make_node("Loop", ["times", "", "x"], ["y"], body=body)
    graph = model([loop], [tensor("times", [], TensorProto.INT64), tensor("x", [1])], [tensor("y", [1])], [])
    endless = own(tmp_path, graph, times=np.array(2**62), x=np.ones(1, np.float32))
    with pytest.raises(InvalidGraphError, match=r"m\.onnx: the model takes longer than 0\.2 s for sample 0"):
        compile_own_model(endless, tmp_path / "out")
