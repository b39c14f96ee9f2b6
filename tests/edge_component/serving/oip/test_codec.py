"""The codec's laws: what goes out in either form comes in again, and what is not exactly a tensor is refused by name."""

import json
import struct
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import pytest
from hypothesis import given, strategies as st
from hypothesis.extra import numpy as arrays

from edge_component.inference.session import tensor_dtype
from edge_component.serving.oip_codec import (
    DIMENSIONS_MAX,
    DTYPES,
    binary_bytes,
    checked_shape,
    from_binary,
    from_values,
    known_datatype,
    object_array,
    to_binary,
    to_values,
)
from edge_component.serving.oip_errors import OipTensorError, OipUnsupportedError

SHAPES = arrays.array_shapes(min_dims=0, max_dims=4, min_side=0, max_side=4)


@st.composite
def tensors(draw: st.DrawFn, datatypes: Sequence[str] = tuple(sorted(DTYPES))) -> tuple[str, np.ndarray]:
    datatype, shape = draw(st.sampled_from(list(datatypes))), draw(SHAPES)
    if datatype == "BYTES":
        count = int(np.prod(shape))
        texts = draw(st.lists(st.text(max_size=5), min_size=count, max_size=count))
        return datatype, object_array(texts, shape)
    return datatype, draw(arrays.arrays(tensor_dtype(DTYPES[datatype]), shape))


def same(one: np.ndarray, other: np.ndarray) -> bool:
    if one.dtype != other.dtype or one.shape != other.shape:
        return False
    return one.tolist() == other.tolist() if one.dtype == object else one.tobytes() == other.tobytes()


@given(tensors())
def test_binary_round_trip(tensor: tuple[str, np.ndarray]) -> None:
    datatype, array = tensor
    data = to_binary(datatype, array)
    assert same(from_binary("x", datatype, array.shape, data), array)
    assert binary_bytes(datatype, array.shape) in (None, len(data))


@given(tensors())
def test_binary_of_other_byte_orders_and_strides_is_the_same(tensor: tuple[str, np.ndarray]) -> None:
    datatype, array = tensor
    swapped = array.astype(array.dtype.newbyteorder(">")) if array.dtype != object else array
    strided = np.asfortranarray(swapped)
    assert bytes(to_binary(datatype, strided)) == bytes(to_binary(datatype, array))


@given(tensors([name for name in sorted(DTYPES) if name != "BF16"]), st.booleans())
def test_values_round_trip_through_json(tensor: tuple[str, np.ndarray], nested: bool) -> None:
    datatype, array = tensor
    if array.dtype.kind == "f" and not np.isfinite(array).all():
        with pytest.raises(OipUnsupportedError, match="NaN or infinity"):
            to_values("y", datatype, array)
        return
    values = array.tolist() if nested and array.ndim else to_values("y", datatype, array)
    back = from_values("x", datatype, array.shape, json.loads(json.dumps(values)))
    assert same(back, array)


@given(tensors([name for name in sorted(DTYPES) if name != "BYTES"]), st.integers(-8, 8).filter(bool))
def test_a_size_that_is_off_by_anything_is_refused(tensor: tuple[str, np.ndarray], off: int) -> None:
    datatype, array = tensor
    data = bytes(to_binary(datatype, array))
    wrong = data[:off] if off < 0 else data + bytes(off)
    if len(wrong) == len(data):
        return
    with pytest.raises(OipTensorError, match=r"^x: \d+ bytes of data"):
        from_binary("x", datatype, array.shape, wrong)


def told_or_read(read: Callable[[], np.ndarray]) -> np.ndarray | None:
    """What was read, or nothing after an error that names the tensor."""
    try:
        return read()
    except (OipTensorError, OipUnsupportedError) as error:
        sentence = str(error)
    assert sentence.startswith("x: ")
    return None


@given(st.binary(max_size=64), st.sampled_from(sorted(DTYPES)), SHAPES)
def test_any_bytes_are_a_tensor_or_a_named_error(data: bytes, datatype: str, shape: tuple[int, ...]) -> None:
    array = told_or_read(lambda: from_binary("x", datatype, shape, data))
    assert array is None or bytes(to_binary(datatype, array)) == data


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=3) | st.just("\ud800"),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=2), inner, max_size=2),
    max_leaves=12,
)


@given(JSON, st.sampled_from(sorted(DTYPES)), SHAPES)
def test_any_json_is_a_tensor_or_a_named_error(values: Any, datatype: str, shape: tuple[int, ...]) -> None:
    array = told_or_read(lambda: from_values("x", datatype, shape, values))
    assert array is None or (array.shape == shape and array.dtype == tensor_dtype(DTYPES[datatype]))


@pytest.mark.parametrize("order", ["<", ">"])
def test_a_big_endian_length_is_told_as_such(order: str) -> None:
    data = struct.pack(f"{order}I", 2) + b"ab"
    if order == "<":
        assert from_binary("x", "BYTES", (1,), data).tolist() == ["ab"]
        return
    with pytest.raises(OipTensorError, match=r"says it has 33554432 bytes.*little-endian"):
        from_binary("x", "BYTES", (1,), data)


def test_views_where_they_lie_and_copies_where_they_lie_crooked() -> None:
    memory = np.zeros(64, np.uint8)
    straight = from_binary("x", "FP32", (2,), memoryview(memory)[16:24])
    assert np.shares_memory(straight, memory)
    crooked = from_binary("x", "FP32", (2,), memoryview(memory)[17:25])
    assert crooked.flags.aligned
    assert not np.shares_memory(crooked, memory)


@pytest.mark.parametrize(
    ("datatype", "shape", "values", "told"),
    [
        ("INT8", (1,), [128], "beyond INT8"),
        ("UINT64", (1,), [-1], "beyond UINT64"),
        ("INT64", (1,), [2**63], "beyond INT64"),
        ("FP32", (1,), [1e39], "beyond FP32"),
        ("FP16", (1,), [70000], "beyond FP16"),
        ("FP64", (1,), [10**400], "beyond FP64"),
        ("INT32", (1,), [1.5], "INT32 is written in JSON as int, not as float"),
        ("INT32", (1,), [True], "INT32 is written in JSON as int, not as bool"),
        ("BOOL", (1,), [1], "BOOL is written in JSON as bool, not as int"),
        ("FP32", (1,), ["1"], "FP32 is written in JSON as float or int, not as str"),
        ("FP32", (2,), [1.0, None], "not as NoneType"),
        ("BYTES", (1,), [b"a"], "not as bytes"),
        ("BYTES", (1,), ["\udc00"], "element 0 is not Unicode text"),
        ("FP32", (2,), [1.0], "1 values; shape"),
        ("FP32", (2, 2), [[1.0, 2.0], [3.0]], "nested in another way"),
        ("FP32", (2, 2), [[1.0, 2.0], 3.0, 4.0], "nested in another way"),
        ("FP32", (4,), [[1.0, 2.0], [3.0, 4.0]], "2 values"),
        ("FP32", (1,), 1.0, "must be a JSON array"),
        ("FP32", (1,), {"a": 1}, "must be a JSON array"),
    ],
)
def test_values_that_do_not_fit(datatype: str, shape: tuple[int, ...], values: Any, told: str) -> None:
    with pytest.raises(OipTensorError, match=told) as refusal:
        from_values("x", datatype, shape, values)
    assert refusal.value.remedy


def test_nan_comes_in_but_never_out_as_json() -> None:
    array = from_values("x", "FP32", (2,), json.loads("[NaN, 1]"))
    assert np.isnan(array[0])
    with pytest.raises(OipUnsupportedError, match="output y holds NaN") as refusal:
        to_values("y", "FP32", array)
    assert "binary_data" in refusal.value.remedy


@pytest.mark.parametrize("data", [b"\x02", b"\xff"])
def test_a_bool_is_zero_or_one(data: bytes) -> None:
    with pytest.raises(OipTensorError, match="x: a BOOL is one byte"):
        from_binary("x", "BOOL", (1,), data)


@pytest.mark.parametrize("shape", [[-1], [1.0], [True], ["1"], [2**31], [None], [1] * (DIMENSIONS_MAX + 1)])
def test_impossible_shapes(shape: list[Any]) -> None:
    with pytest.raises(OipTensorError, match=r"^x"):
        checked_shape("x", shape)


def test_a_product_that_no_memory_holds_is_only_a_number() -> None:
    with pytest.raises(OipTensorError, match="8 bytes of data"):
        from_binary("x", "FP64", checked_shape("x", [2**31 - 1] * DIMENSIONS_MAX), b"12345678")


def test_unknown_datatypes() -> None:
    assert known_datatype("x", "FP32") == "FP32"
    with pytest.raises(OipTensorError, match="x: datatype 'FP8' is none of"):
        known_datatype("x", "FP8")
