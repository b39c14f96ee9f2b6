"""The session: exactly what the manifest promises goes in, and nothing silently wrong."""

import os
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import pytest
from onnx import TensorProto, helper

from edge_component.contracts.manifest import GoldenTest, Manifest, TensorSpec
from edge_component.errors import SignatureMismatchError, UnloadableModelError, UnsupportedTensorError
from edge_component.inference.errors import (
    InputNameError,
    InputNanError,
    InputShapeError,
    InputTypeError,
    RequestError,
    RunFailedError,
)
from edge_component.inference.session import Session, widened
from tests.edge_component.bundle_factory import scale_model, serialized

MANIFEST = Manifest(
    component_name="com.edgewright.model.Scale",
    model_name="scale",
    version="1.0.0",
    release=1,
    platform="linux/x86_64",
    created_at=datetime(2026, 1, 1, tzinfo=UTC),
    expires_at=datetime(2036, 1, 1, tzinfo=UTC),
    precision="fp32",
    opsets={"": 17},
    inputs=(TensorSpec("x", "float32", (-1, 3)),),
    outputs=(TensorSpec("y", "float32", (-1, 3)),),
    files={},
    golden=GoldenTest(1e-5, 1e-6),
)
ROW = np.array([[1, 2, 3]], np.float32)


def load(tmp_path: Path, manifest: Manifest = MANIFEST, model: bytes | None = None) -> Session:
    path = tmp_path / "model.onnx"
    path.write_bytes(scale_model(2.0) if model is None else model)
    return Session.load(path, manifest)


def test_it_computes_and_telemetry_of_onnx_runtime_is_off(tmp_path: Path) -> None:
    np.testing.assert_array_equal(load(tmp_path).run({"x": ROW})["y"], ROW * 2)
    assert os.environ["ORT_DISABLE_TELEMETRY"] == "1"


def test_big_endian_and_strided_arrays_are_read_for_what_they_say(tmp_path: Path) -> None:
    session = load(tmp_path)
    np.testing.assert_array_equal(session.run({"x": ROW.astype(">f4")})["y"], ROW * 2)
    strided = np.repeat(ROW, 2, axis=1)[:, ::2]
    np.testing.assert_array_equal(session.run({"x": strided})["y"], ROW * 2)


REFUSED: list[tuple[dict[str, np.ndarray], type[RequestError], str]] = [
    ({}, InputNameError, "takes"),
    ({"z": ROW}, InputNameError, "z"),
    ({"x": ROW, "z": ROW}, InputNameError, "z"),
    ({"x": ROW.astype(np.float64)}, InputTypeError, "x has dtype float64"),
    ({"x": ROW.astype(np.int32)}, InputTypeError, "x has dtype int32"),
    ({"x": ROW[0]}, InputShapeError, "x has shape"),
    ({"x": np.zeros((1, 4), np.float32)}, InputShapeError, "x has shape"),
]


@pytest.mark.parametrize(("inputs", "error", "told"), REFUSED)
def test_input_that_does_not_fit_names_the_tensor(
    tmp_path: Path, inputs: dict[str, np.ndarray], error: type[RequestError], told: str
) -> None:
    with pytest.raises(error, match=told) as caught:
        load(tmp_path).run(inputs)
    assert caught.value.remedy


def test_nan_follows_the_manifest_policy(tmp_path: Path) -> None:
    nan = np.full((1, 3), np.nan, np.float32)
    assert np.isnan(load(tmp_path).run({"x": nan})["y"]).all()
    with pytest.raises(InputNanError, match="x holds NaN"):
        load(tmp_path, replace(MANIFEST, nan_policy="refuse")).run({"x": nan})


@pytest.mark.parametrize("model", [b"", b"not onnx", scale_model(2.0)[:-20]])
def test_what_is_no_model_is_refused_with_one_line(tmp_path: Path, model: bytes) -> None:
    with pytest.raises(UnloadableModelError) as caught:
        load(tmp_path, model=model)
    assert "\n" not in str(caught.value)


def test_an_operator_that_onnx_runtime_lacks_is_refused(tmp_path: Path) -> None:
    x = helper.make_tensor_value_info("x", TensorProto.FLOAT, ["batch", 3])
    y = helper.make_tensor_value_info("y", TensorProto.FLOAT, ["batch", 3])
    node = helper.make_node("Teleport", ["x"], ["y"], domain="com.example")
    with pytest.raises(UnloadableModelError):
        load(tmp_path, model=serialized(helper.make_graph([node], "g", [x], [y])))


@pytest.mark.parametrize(
    "promised",
    [
        replace(MANIFEST, inputs=(TensorSpec("other", "float32", (-1, 3)),)),
        replace(MANIFEST, inputs=(TensorSpec("x", "float64", (-1, 3)),)),
        replace(MANIFEST, inputs=(TensorSpec("x", "float32", (-1, 4)),)),
        replace(MANIFEST, inputs=(TensorSpec("x", "float32", (3,)),)),
        replace(MANIFEST, outputs=(TensorSpec("y", "int64", (-1, 3)),)),
        replace(MANIFEST, outputs=()),
    ],
)
def test_a_graph_that_is_not_what_the_manifest_promises(tmp_path: Path, promised: Manifest) -> None:
    with pytest.raises(SignatureMismatchError):
        load(tmp_path, promised)


def test_an_outputs_shape_is_what_comes_out_and_not_what_the_file_declares(tmp_path: Path) -> None:
    """LightGBM's exporter declares its labels as [1], CatBoost's its predictions as [N], and the answers are [N, 1]."""
    x = helper.make_tensor_value_info("x", TensorProto.FLOAT, ["n", 3])
    y = helper.make_tensor_value_info("y", TensorProto.FLOAT, [1])
    tree = helper.make_node(
        "TreeEnsembleRegressor", ["x"], ["y"], domain="ai.onnx.ml", n_targets=1, nodes_treeids=[0], nodes_nodeids=[0],
        nodes_featureids=[0], nodes_modes=["LEAF"], nodes_values=[0.0], nodes_truenodeids=[0], nodes_falsenodeids=[0],
        target_treeids=[0], target_nodeids=[0], target_ids=[0], target_weights=[7.0],
    )  # fmt: skip
    imports = [helper.make_opsetid("ai.onnx.ml", 3)]
    model = helper.make_model(helper.make_graph([tree], "g", [x], [y]), opset_imports=imports, ir_version=9)
    promised = replace(MANIFEST, outputs=(TensorSpec("y", "float32", (-1, 1)),))
    session = load(tmp_path, promised, bytes(model.SerializeToString()))
    np.testing.assert_array_equal(session.run({"x": np.zeros((5, 3), np.float32)})["y"], np.full((5, 1), 7))


def test_an_output_that_is_listed_twice_is_refused(tmp_path: Path) -> None:
    """It ended the fast path's connections."""
    x, y = (helper.make_tensor_value_info(name, TensorProto.FLOAT, ["n", 3]) for name in "xy")
    model = serialized(helper.make_graph([helper.make_node("Neg", ["x"], ["y"])], "g", [x], [y, y]))
    with pytest.raises(UnsupportedTensorError, match="lists an output twice"):
        load(tmp_path, replace(MANIFEST, outputs=MANIFEST.outputs * 2), model)


def identity(element_type: int) -> bytes:
    x = helper.make_tensor_value_info("x", element_type, ["n"])
    y = helper.make_tensor_value_info("y", element_type, ["n"])
    return serialized(helper.make_graph([helper.make_node("Identity", ["x"], ["y"])], "g", [x], [y]))


def one_typed(dtype: str, nan_policy: str = "accept") -> Manifest:
    inputs, outputs = (TensorSpec("x", dtype, (-1,)),), (TensorSpec("y", dtype, (-1,)),)
    return replace(MANIFEST, inputs=inputs, outputs=outputs, nan_policy=nan_policy)


def test_strings_and_bfloat16_beside_each_other_are_refused(tmp_path: Path) -> None:
    with pytest.raises(UnsupportedTensorError, match="both string and bfloat16"):
        load(tmp_path, replace(one_typed("string"), outputs=(TensorSpec("y", "bfloat16", (-1,)),)))


def test_strings_go_in_and_out_as_text(tmp_path: Path) -> None:
    session = load(tmp_path, one_typed("string"), identity(TensorProto.STRING))
    texts = np.array(["a", "", "héé\0"], object)
    assert session.run({"x": texts})["y"].tolist() == texts.tolist()
    assert session.run({"x": np.array(["ab", "c"])})["y"].tolist() == ["ab", "c"]


@pytest.mark.parametrize("wrong", [np.array([b"a"], object), np.array([b"a"]), np.array([1.0]), np.array([None])])
def test_what_is_not_text_is_not_made_text(tmp_path: Path, wrong: np.ndarray) -> None:
    session = load(tmp_path, one_typed("string"), identity(TensorProto.STRING))
    with pytest.raises(InputTypeError, match="x must hold str"):
        session.run({"x": wrong})


@pytest.mark.parametrize("bits", [[], [0], [0x3F80, 0x8000, 0x7F80, 0xFFFF]])
def test_bfloat16_goes_in_and_out_as_bits(tmp_path: Path, bits: list[int]) -> None:
    session = load(tmp_path, one_typed("bfloat16"), identity(TensorProto.BFLOAT16))
    assert session.run({"x": np.array(bits, np.uint16)})["y"].tolist() == bits


def test_bfloat16_bits_are_the_upper_half_of_a_float(tmp_path: Path) -> None:
    assert widened(np.array([0x3F80, 0xC000, 0x7F80], np.uint16)).tolist() == [1.0, -2.0, float("inf")]
    session = load(tmp_path, one_typed("bfloat16", "refuse"), identity(TensorProto.BFLOAT16))
    with pytest.raises(InputNanError):
        session.run({"x": np.array([0x7FC0], np.uint16)})


def test_a_run_that_fails_is_the_models_fault(tmp_path: Path) -> None:
    x = helper.make_tensor_value_info("x", TensorProto.FLOAT, ["batch", 3])
    y = helper.make_tensor_value_info("y", TensorProto.FLOAT, ["rows", 3])
    shape = helper.make_tensor("shape", TensorProto.INT64, [2], [2, 3])
    model = serialized(helper.make_graph([helper.make_node("Reshape", ["x", "shape"], ["y"])], "g", [x], [y], [shape]))
    session = load(tmp_path, model=model)
    assert session.run({"x": np.zeros((2, 3), np.float32)})["y"].shape == (2, 3)
    with pytest.raises(RunFailedError):
        session.run({"x": ROW})
