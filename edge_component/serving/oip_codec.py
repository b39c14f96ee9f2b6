"""Tensors as the Open Inference Protocol carries them: datatypes, the binary form and the JSON form, both directions.

The failure this exists for: bytes that are read as another tensor than the one that was sent. Sizes must match datatype
and shape exactly, integers must fit, nothing is rounded to integers or guessed; each error names the tensor.

Two forms, each with its law:

- *binary* (the binary tensor extension, gRPC's ``raw_*_contents``, shared memory): row-major and little-endian; BYTES
  elements each follow their own length as a 32-bit number. ``from_binary(to_binary(x)) == x`` for every datatype.
- *values* (JSON, gRPC's typed contents): row-major, flat or nested as the shape is. ``from_values(to_values(x)) == x``
  wherever JSON can say it: BF16, NaN and infinities need the binary form, and BYTES must be UTF-8.

In this process a BYTES tensor is an object array of ``str``, since ONNX strings are UTF-8 text, and a BF16 tensor is a
uint16 array of its bits, since numpy has no such type. Pure: no I/O, no state.
"""

import struct
import sys
from collections.abc import Sequence
from itertools import chain
from math import prod
from typing import cast

import numpy as np

from edge_component.inference.session import Array, tensor_dtype
from edge_component.serving.oip_errors import OipTensorError, OipUnsupportedError

Buffer = bytes | bytearray | memoryview

DTYPES = {
    "BOOL": "bool", "BYTES": "string", "BF16": "bfloat16", "FP16": "float16", "FP32": "float32", "FP64": "float64",
    "INT8": "int8", "INT16": "int16", "INT32": "int32", "INT64": "int64",
    "UINT8": "uint8", "UINT16": "uint16", "UINT32": "uint32", "UINT64": "uint64",
}  # fmt: skip
"""The protocol's datatypes, and the manifest's dtype of each."""

DATATYPES = {dtype: datatype for datatype, dtype in DTYPES.items()}
"""The other way round."""

DIMENSIONS_MAX = 32
DIMENSION_MAX = 2**31 - 1
ELEMENTS_MAX = 2**40
"""Of a shape, its zeros left out: numpy makes no array of a larger one, however empty."""

_NUMPY = {datatype: tensor_dtype(dtype) for datatype, dtype in DTYPES.items()}
_ITEM_BYTES = {datatype: 0 if datatype == "BYTES" else dtype.itemsize for datatype, dtype in _NUMPY.items()}
_JSON_TYPES: dict[str, frozenset[type]] = {"b": frozenset({bool}), "O": frozenset({str})}
_JSON_INTEGERS = frozenset({int})
_JSON_NUMBERS = frozenset({int, float})
_LENGTH = struct.Struct("<I")

assert sys.byteorder == "little", "the binary form is little-endian, and is used without swapping"


def checked_shape(name: str, shape: Sequence[object]) -> tuple[int, ...]:
    """A tensor's shape as the request says it.

    Raises:
        OipTensorError: not whole numbers from 0 to ``DIMENSION_MAX``, more than ``DIMENSIONS_MAX`` of them, or more than
            ``ELEMENTS_MAX`` together.
    """
    if len(shape) > DIMENSIONS_MAX:
        raise OipTensorError(f"{name} has {len(shape)} dimensions; at most {DIMENSIONS_MAX} are allowed")
    for size in shape:
        if type(size) is not int or size < 0 or size > DIMENSION_MAX:
            raise OipTensorError(f"{name}: shape must hold whole numbers from 0 to {DIMENSION_MAX}, not {size!r:.40}")
    sizes: tuple[int, ...] = tuple(shape)  # type: ignore[arg-type] # each was just checked
    if 0 in sizes and prod(size or 1 for size in sizes) > ELEMENTS_MAX:
        raise OipTensorError(f"{name}: shape {list(sizes)} is beyond {ELEMENTS_MAX} elements, but for being empty")
    return sizes


def known_datatype(name: str, datatype: str) -> str:
    """The datatype, if the protocol has it.

    Raises:
        OipTensorError: it has not.
    """
    if datatype not in DTYPES:
        raise OipTensorError(f"{name}: datatype {datatype!r:.40} is none of {', '.join(sorted(DTYPES))}")
    return datatype


def binary_bytes(datatype: str, shape: Sequence[int]) -> int | None:
    """What the binary form of such a tensor takes; ``None`` for BYTES, which depends on the elements."""
    return None if datatype == "BYTES" else prod(shape) * _ITEM_BYTES[datatype]


def from_binary(name: str, datatype: str, shape: tuple[int, ...], data: Buffer) -> Array:
    """The tensor in ``data``; a view on it, unless it lies unaligned there or is BYTES.

    Raises:
        OipTensorError: not exactly the bytes that datatype and shape call for, or a BYTES element is not UTF-8.
    """
    if datatype == "BYTES":
        return _from_elements(name, shape, data)
    dtype = _NUMPY[datatype]
    count = prod(shape)
    if len(data) != count * dtype.itemsize:
        raise OipTensorError(
            f"{name}: {len(data)} bytes of data; {datatype} of shape {list(shape)} takes {count * dtype.itemsize}"
        )
    if datatype == "BOOL" and not _are_bools(data):
        raise OipTensorError(f"{name}: a BOOL is one byte, 0 or 1")
    flat: Array = np.frombuffer(data, dtype) if count else np.empty(0, dtype)
    return (flat if flat.flags.aligned else flat.copy()).reshape(shape)


def to_binary(datatype: str, array: Array) -> Buffer:
    """The binary form; a view on the array wherever it is contiguous already.

    Raises:
        OipTensorError: a BYTES element is 4 GiB or longer.
    """
    if datatype == "BYTES":
        return b"".join(_length_and_text(text) for text in array.flat)
    dtype = _NUMPY[datatype]
    contiguous = np.ascontiguousarray(array, dtype)  # little-endian from here on
    return contiguous.reshape(-1).view(np.uint8).data if contiguous.size else b""


def from_values(name: str, datatype: str, shape: tuple[int, ...], values: object) -> Array:
    """The tensor that a JSON array holds, flat or nested.

    NaN and infinities are taken for floating-point datatypes, although JSON cannot say them: Python's encoder does, and
    missing values are ordinary input here.

    Raises:
        OipTensorError: another number of elements, a ragged array, an element of another type or beyond the datatype.
        OipUnsupportedError: BF16, which has no JSON form.
    """
    if datatype == "BF16":
        raise OipUnsupportedError(f"{name}: BF16 has no JSON form", "Send it with the binary tensor extension.")
    flat = _flattened(name, shape, values)
    if len(flat) != prod(shape):
        raise OipTensorError(f"{name}: {len(flat)} values; shape {list(shape)} takes {prod(shape)}")
    dtype = _NUMPY[datatype]
    allowed = _JSON_TYPES.get(dtype.kind) or (_JSON_NUMBERS if dtype.kind == "f" else _JSON_INTEGERS)
    found = set(map(type, flat)) - allowed
    if found:
        kinds = sorted(kind.__name__ for kind in found)
        raise OipTensorError(f"{name}: {datatype} is written in JSON as {_spoken(allowed)}, not as {', '.join(kinds)}")
    if datatype == "BYTES":
        _refuse_lone_surrogates(name, flat)
        return object_array(cast("list[str]", flat), shape)
    try:
        with np.errstate(over="raise"):
            return np.array(flat, dtype).reshape(shape)
    except (OverflowError, FloatingPointError) as error:
        raise OipTensorError(f"{name}: a value is beyond {datatype}: {error}") from error


def to_values(name: str, datatype: str, array: Array) -> list[object]:
    """The flat JSON form.

    Raises:
        OipUnsupportedError: JSON cannot say it: BF16, NaN, infinity.
    """
    remedy = 'Ask for it in binary: "parameters": {"binary_data": true}.'
    if datatype == "BF16":
        raise OipUnsupportedError(f"output {name}: BF16 has no JSON form", remedy)
    if array.dtype.kind == "f" and not np.isfinite(array).all():
        raise OipUnsupportedError(f"output {name} holds NaN or infinity, which JSON cannot say", remedy)
    values: list[object] = array.reshape(-1).tolist()
    return values


def _are_bools(data: Buffer) -> bool:
    return not data or int(np.frombuffer(data, np.uint8).max()) <= 1


def _from_elements(name: str, shape: tuple[int, ...], data: Buffer) -> Array:
    """BYTES: one walk over the lengths; the shape is believed only after as many elements were found."""
    texts: list[str] = []
    offset, end = 0, len(data)
    while offset < end:
        if end - offset < _LENGTH.size:
            raise OipTensorError(f"{name}: element {len(texts)} has no room for its length")
        (size,) = _LENGTH.unpack_from(data, offset)
        offset += _LENGTH.size
        if size > end - offset:
            raise OipTensorError(
                f"{name}: element {len(texts)} says it has {size} bytes, and {end - offset} follow; "
                "lengths are little-endian"
            )
        texts.append(_text(name, len(texts), data[offset : offset + size]))
        offset += size
    if len(texts) != prod(shape):
        raise OipTensorError(f"{name}: {len(texts)} elements; shape {list(shape)} takes {prod(shape)}")
    return object_array(texts, shape)


def object_array(texts: Sequence[str], shape: tuple[int, ...]) -> Array:
    """Text as ONNX Runtime takes it."""
    array = np.empty(len(texts), object)
    array[:] = texts
    return array.reshape(shape)


def _text(name: str, index: int, data: Buffer) -> str:
    try:
        return str(data, "utf-8")
    except UnicodeDecodeError as error:
        raise OipTensorError(
            f"{name}: element {index} is not UTF-8, as ONNX strings are: {error.reason}",
            "Send raw bytes as a UINT8 tensor.",
        ) from error


def _length_and_text(text: object) -> bytes:
    data = str(text).encode()
    if len(data) >= 2**32:
        raise OipTensorError("an output's text is longer than the protocol's 32-bit length can say")
    return _LENGTH.pack(len(data)) + data


def _flattened(name: str, shape: tuple[int, ...], values: object) -> list[object]:
    """Flat already, or nested exactly as the shape is."""
    if not isinstance(values, list):
        raise OipTensorError(f"{name}: data must be a JSON array")
    if len(shape) < 2 or not values or not isinstance(values[0], list):
        return values
    level: list[object] = [values]
    for size in shape:
        if any(not isinstance(row, list) or len(row) != size for row in level):
            raise OipTensorError(f"{name}: data is nested in another way than shape {list(shape)}")
        level = list(chain.from_iterable(cast("list[list[object]]", level)))
    return level


def _refuse_lone_surrogates(name: str, texts: Sequence[object]) -> None:
    """JSON can write half a character; UTF-8 cannot."""
    for index, text in enumerate(texts):
        try:
            str(text).encode()
        except UnicodeEncodeError as error:
            raise OipTensorError(f"{name}: element {index} is not Unicode text: {error.reason}") from error


def _spoken(allowed: frozenset[type]) -> str:
    return " or ".join(sorted(kind.__name__ for kind in allowed))
