"""Every door answers as ONNX Runtime does: operators out of onnx's own tests, of every kind of tensor that models have.

The graphs are made by the ``onnx`` package; each is asked as it is, and with every size that it fixes left free. A door
that cannot carry a tensor (text on the fast path, NaN in JSON) must say so by its own error; else values, types and shapes
are ONNX Runtime's own, the second time too, when a binding has settled.
"""

import json
import os
import warnings
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import ml_dtypes
import numpy as np
import onnx
import pytest
import tritonclient.grpc
import tritonclient.http

os.environ["ORT_DISABLE_TELEMETRY"] = "1"
import onnxruntime as ort

from edge_component.client import RefusedError
from edge_component.clock import SystemClock
from edge_component.config import RuntimeConfig
from edge_component.contracts.manifest import TensorSpec
from edge_component.core import Inference
from edge_component.in_process import Runtime
from edge_component.inference.session import STAND_INS
from edge_component.serving.oip_codec import DATATYPES
from edge_component.telemetry_sink import NullSink, ShieldedSink
from tests.edge_component.serving.oip.conftest import Doors, MakeDoors

Arrays = dict[str, Any]
BFLOAT16 = np.dtype(ml_dtypes.bfloat16)

OPSET_MAX = 22  # some of onnx's graphs import a newer one than ONNX Runtime has, without needing it
DTYPES = {
    onnx.TensorProto.FLOAT: "float32", onnx.TensorProto.DOUBLE: "float64", onnx.TensorProto.FLOAT16: "float16",
    onnx.TensorProto.BFLOAT16: "bfloat16", onnx.TensorProto.STRING: "string", onnx.TensorProto.BOOL: "bool",
    onnx.TensorProto.INT8: "int8", onnx.TensorProto.INT16: "int16", onnx.TensorProto.INT32: "int32",
    onnx.TensorProto.INT64: "int64", onnx.TensorProto.UINT8: "uint8", onnx.TensorProto.UINT16: "uint16",
    onnx.TensorProto.UINT32: "uint32", onnx.TensorProto.UINT64: "uint64",
}  # fmt: skip

NODES = """
    range_int32_type_negative_delta range_float_type_positive_delta cumsum_1d clip onehot_with_axis size shape det_2d
    reduce_sum_default_axes_keepdims_random reduce_sum_do_not_keepdims_random string_concat_zero_dimensional
    reduce_sum_empty_set reduce_log_sum_empty_set reshape_allowzero_reordered nonzero_example compress_0
    split_zero_size_splits_opset18 slice_start_out_of_bounds constantofshape_int_shape_zero string_split_empty_tensor
    add_uint8 add_uint16 add_uint32 add_uint64 add_int8 add_int16 and2d mod_int64_fmod bitwise_and_ui64_bcast_3v1d
    cast_FLOAT_to_FLOAT16 cast_FLOAT16_to_FLOAT cast_FLOAT_to_BFLOAT16 cast_BFLOAT16_to_FLOAT min_float16 max_float64
    equal_string string_concat_empty_string regex_full_match_basic string_split_basic isnan isinf where_long_example
    ai_onnx_ml_label_encoder_string_int ai_onnx_ml_tree_ensemble_single_tree ai_onnx_ml_binarizer
    ai_onnx_ml_array_feature_extractor tfidfvectorizer_tf_batch_onlybigrams_skip0 eyelike_with_dtype identity
    if loop11 scan9_sum split_equal_parts_1d_opset18 split_variable_parts_2d_opset18 top_k unique_sorted_with_axis_3d
    unique_not_sorted_without_axis lstm_with_initial_bias gru_seq_length batchnorm_example dropout_default_mask
    maxpool_with_argmax_2d_precomputed_pads layer_normalization_2d_axis1 nonmaxsuppression_two_classes
    qlinearmatmul_2D_uint8_float32 qlinearconv quantizelinear dynamicquantizelinear dequantizelinear matmulinteger
    basic_conv_with_padding convtranspose einsum_transpose gridsample resize_upsample_scales_nearest dft stft
    gelu_default_1_expanded softmax_axis_1_expanded expand_dim_changed tile scatternd gathernd_example_int32 col2im
    argmax_default_axis_example gather_negative_indices reversesequence_time affine_grid_2d bitshift_left_uint64
""".split()  # noqa: SIM905 - as a list of literals it would be a page


@dataclass(frozen=True)
class Node:
    """A graph, a request, and what ONNX Runtime answers to it."""

    model: bytes
    inputs: tuple[TensorSpec, ...]
    outputs: tuple[TensorSpec, ...]
    request: Arrays
    answer: Arrays

    @property
    def specs(self) -> tuple[TensorSpec, ...]:
        return (*self.inputs, *self.outputs)

    def fits_json(self) -> bool:
        numbers = (array for array in self.answer.values() if array.dtype.kind == "f")
        return all(spec.dtype != "bfloat16" for spec in self.specs) and all(np.isfinite(a).all() for a in numbers)


@pytest.fixture(scope="module")
def cases() -> Mapping[str, Any]:
    from onnx.backend.test.case.node import collect_testcases  # here, since it takes seconds

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return {case.name.removeprefix("test_"): case for case in collect_testcases()}


def node_of(case: Any, *, free: bool) -> Node:
    model = onnx.ModelProto.FromString(case.model.SerializeToString())
    model.ir_version = min(model.ir_version, 11)
    for entry in model.opset_import:
        entry.version = min(entry.version, OPSET_MAX)
    if free:
        for index, value in enumerate((*model.graph.input, *model.graph.output)):
            for axis, dimension in enumerate(value.type.tensor_type.shape.dim):
                dimension.dim_param = f"free_{index}_{axis}"
    given, _ = case.data_sets[0]
    request = {value.name: as_array(tensor) for value, tensor in zip(model.graph.input, given, strict=True)}
    answer = answer_of(model, request)
    inputs = tuple(spec_of(value, request[value.name].shape, free=free) for value in model.graph.input)
    outputs = tuple(spec_of(value, answer[value.name].shape, free=free) for value in model.graph.output)
    return Node(model.SerializeToString(), inputs, outputs, request, answer)


def as_array(tensor: Any) -> Any:
    array = np.asarray(onnx.numpy_helper.to_array(tensor) if isinstance(tensor, onnx.TensorProto) else tensor)
    if array.dtype.name == "bfloat16":
        return array.view(np.uint16)
    return array.astype(object) if array.dtype.kind in "US" else array


def answer_of(model: onnx.ModelProto, request: Arrays) -> Arrays:
    """ONNX Runtime's own; the numbers of bfloat16, by casts that it makes itself."""
    session = ort.InferenceSession(model.SerializeToString())
    names = [value.name for value in model.graph.output]
    kinds = {value.name: value.type.tensor_type.elem_type for value in (*model.graph.input, *model.graph.output)}
    if onnx.TensorProto.BFLOAT16 not in kinds.values():
        return dict(zip(names, map(np.asarray, session.run(names, request)), strict=True))
    made = {
        name: ort.OrtValue.ortvalue_from_numpy_with_onnx_type(array, kinds[name]) for name, array in request.items()
    }
    values = session.run_with_ort_values(names, made)
    return {name: numbers_of(value) for name, value in zip(names, values, strict=True)}


def numbers_of(value: Any) -> Any:
    if value.data_type() != "tensor(bfloat16)":
        return np.asarray(value.numpy())
    x = onnx.helper.make_tensor_value_info("x", onnx.TensorProto.BFLOAT16, None)
    y = onnx.helper.make_tensor_value_info("y", onnx.TensorProto.FLOAT, None)
    graph = onnx.helper.make_graph([onnx.helper.make_node("Cast", ["x"], ["y"], to=1)], "g", [x], [y])
    cast = onnx.helper.make_model(graph, opset_imports=[onnx.helper.make_opsetid("", 17)], ir_version=9)
    (made,) = ort.InferenceSession(cast.SerializeToString()).run_with_ort_values(["y"], {"x": value})
    return np.asarray(made.numpy())


def spec_of(value: Any, shape: tuple[int, ...], *, free: bool) -> TensorSpec:
    return TensorSpec(value.name, DTYPES[value.type.tensor_type.elem_type], (-1,) * len(shape) if free else shape)


def through_triton(module: Any, client: Any, name: str, node: Node, **form: Any) -> Arrays:
    asked = []
    for spec in node.inputs:
        given = module.InferInput(spec.name, list(node.request[spec.name].shape), DATATYPES[spec.dtype])
        bits = spec.dtype == "bfloat16"
        given.set_data_from_numpy(node.request[spec.name].view(BFLOAT16) if bits else node.request[spec.name], **form)
        asked.append(given)
    wanted = [module.InferRequestedOutput(spec.name, **form) for spec in node.outputs]
    answer = client.infer(name, asked, outputs=wanted)
    return {spec.name: answer.as_numpy(spec.name) for spec in node.outputs}


def through_plain_json(doors: Doors, name: str, node: Node) -> Arrays:
    inputs = [
        {"name": spec.name, "datatype": DATATYPES[spec.dtype], "shape": list(array.shape), "data": array.reshape(-1).tolist()}
        for spec in node.inputs
        for array in [node.request[spec.name]]
    ]  # fmt: skip
    status, body = doors.ask("POST", f"/v2/models/{name}/infer", json.dumps({"inputs": inputs}).encode())
    assert status == 200, body
    found = {output["name"]: output for output in json.loads(body)["outputs"]}
    return {
        spec.name: np.array(found[spec.name]["data"], STAND_INS.get(spec.dtype, spec.dtype)).reshape(
            found[spec.name]["shape"]
        )
        for spec in node.outputs
    }


@pytest.fixture
def everywhere(open_doors: MakeDoors) -> Iterator[tuple[Doors, Runtime]]:
    """All doors and the in-process runtime, over one router."""
    config = RuntimeConfig()
    inference = Inference(config, SystemClock())
    inference.watch.start()
    yield open_doors(router=inference.router), Runtime(inference, config, ShieldedSink(NullSink()))
    inference.stop()


def ways(doors: Doors, runtime: Runtime, name: str, node: Node) -> Iterator[Callable[[], Arrays]]:
    """How the graph can be asked; whoever refuses it has been seen to do so."""
    http = tritonclient.http.InferenceServerClient(f"127.0.0.1:{doors.rest.port}")
    grpc = tritonclient.grpc.InferenceServerClient(f"127.0.0.1:{doors.grpc.port}")
    client = doors.fastpath.client()
    yield lambda: dict(runtime.infer(name, node.request).outputs)
    if any(spec.dtype in STAND_INS for spec in node.specs):
        with pytest.raises(RefusedError, match="the fast path does not carry"):
            client.infer(name, node.request)
    else:
        yield lambda: dict(client.infer(name, node.request).outputs)
    yield lambda: through_triton(tritonclient.http, http, name, node, binary_data=True)
    yield lambda: through_triton(tritonclient.grpc, grpc, name, node)
    if node.fits_json():
        yield lambda: through_triton(tritonclient.http, http, name, node, binary_data=False)
        yield lambda: through_plain_json(doors, name, node)
    http.close()
    grpc.close()


def require_same(node: Node, found: Arrays) -> None:
    assert set(found) == set(node.answer)
    for spec in node.outputs:
        expected, got = node.answer[spec.name], found[spec.name]
        if spec.dtype == "bfloat16":  # some give its bits, some its numbers
            got = (got.view(BFLOAT16) if got.dtype == np.uint16 else got).astype(np.float32)
        if spec.dtype == "string":
            texts = [text.decode() if isinstance(text, bytes) else text for text in got.reshape(-1)]
            assert (texts, got.shape) == (expected.reshape(-1).tolist(), expected.shape)
            continue
        assert (got.dtype, got.shape) == (expected.dtype, expected.shape), spec
        np.testing.assert_allclose(got, expected, rtol=1e-5, atol=1e-6)  # alignment moves the last digits of sums


@pytest.mark.parametrize("free", [False, True], ids=["as-it-is", "all-sizes-free"])
@pytest.mark.parametrize("name", NODES)
def test_every_door_answers_as_onnx_runtime_does(
    cases: Mapping[str, Any], everywhere: tuple[Doors, Runtime], name: str, *, free: bool
) -> None:
    node = node_of(cases[name], free=free)
    doors, runtime = everywhere
    doors.fastpath.put("1.0.0", node.model, node.inputs, node.outputs, name="node")
    for ask in ways(doors, runtime, "node", node):
        require_same(node, ask())
        require_same(node, ask())
