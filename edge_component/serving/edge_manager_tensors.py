"""Tensors as the Edge Manager agent's protocol carries them, in both directions. Pure.

The failure this exists for: bytes that are read as another tensor than the one that was sent. Where the request names a
type and a shape, they must be the model's and fit the bytes; where it names none (the agent allowed that), the model's
are taken. ``from_message(to_message(x)) == x`` for every type that the protocol can name.
"""

from collections.abc import Callable, Mapping, Sequence
from math import prod
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edge_component.contracts.fastpath import shape_problem
from edge_component.contracts.manifest import TensorSpec
from edge_component.serving.edge_manager_errors import InexpressibleTensorError, TensorRefusedError

DATA_TYPES = {"uint8": 0, "int16": 1, "int32": 2, "int64": 3, "float16": 4, "float32": 5, "float64": 6}
"""The protocol's numbers. ``bool`` and ``int8`` travel as their bytes, UINT8."""
BYTE_TYPES = ("bool", "int8")

Message = Any
ReadMemory = Callable[[Message], bytes]
"""The bytes that a SharedMemoryHandle means."""


def data_type_of(spec: TensorSpec) -> int:
    """The protocol's number for a tensor's type.

    Raises:
        InexpressibleTensorError: it has none.
    """
    name = "uint8" if spec.dtype in BYTE_TYPES else spec.dtype
    if name not in DATA_TYPES:
        raise InexpressibleTensorError(
            f"{spec.name} is of type {spec.dtype}, which the Edge Manager's protocol has not"
        )
    return DATA_TYPES[name]


def metadata_fields(spec: TensorSpec) -> dict[str, Any]:
    """A TensorMetadata's fields; dynamic dimensions are -1."""
    return {"name": spec.name, "data_type": data_type_of(spec), "shape": list(spec.shape)}


def read_inputs(
    messages: Sequence[Message], specs: Sequence[TensorSpec], read_memory: ReadMemory
) -> Mapping[str, NDArray[Any]]:
    """The inputs of a request; tensors without a name are the model's inputs in their order.

    Raises:
        TensorRefusedError: more than the model takes, one twice, or one that does not fit.
        InexpressibleTensorError: see :func:`data_type_of`.
    """
    by_name = {spec.name: spec for spec in specs}
    if len(messages) > len(specs):
        raise TensorRefusedError(f"{len(messages)} tensors; the model takes {sorted(by_name)}")
    inputs: dict[str, NDArray[Any]] = {}
    for position, message in enumerate(messages):
        name = message.tensor_metadata.name or specs[position].name
        if name not in by_name or name in inputs:
            raise TensorRefusedError(f"{name!r} is {'given twice' if name in inputs else 'no input of the model'}")
        inputs[name] = from_message(message, by_name[name], read_memory)
    return inputs


def from_message(message: Message, spec: TensorSpec, read_memory: ReadMemory) -> NDArray[Any]:
    """One tensor, in memory of its own message.

    Raises:
        TensorRefusedError, InexpressibleTensorError: as :func:`read_inputs`.
    """
    wanted = data_type_of(spec)
    is_described = message.HasField("tensor_metadata")
    if is_described and message.tensor_metadata.data_type != wanted:
        raise TensorRefusedError(f"{spec.name} is sent as type {message.tensor_metadata.data_type}; it is {wanted}")
    match message.WhichOneof("data"):
        case "byte_data":
            content = message.byte_data
        case "shared_memory_handle":
            content = read_memory(message.shared_memory_handle)
        case _:
            raise TensorRefusedError(f"{spec.name} has neither byte_data nor shared_memory_handle")
    dtype = np.dtype(spec.dtype)
    shape = tuple(message.tensor_metadata.shape) if is_described else ()
    shape = shape or _shape_from_size(spec, len(content) // dtype.itemsize)
    problem = shape_problem(spec, shape)
    if problem or min(shape, default=0) < 0:
        raise TensorRefusedError(problem or f"{spec.name} has a negative dimension")
    if prod(shape) * dtype.itemsize != len(content):
        raise TensorRefusedError(f"{spec.name}: {len(content)} bytes are not {list(shape)} of {spec.dtype}")
    array: NDArray[Any] = np.frombuffer(content, dtype).reshape(shape)
    return array


def to_fields(spec: TensorSpec, array: NDArray[Any]) -> dict[str, Any]:
    """A Tensor's fields, its data as bytes."""
    metadata = {"name": spec.name, "data_type": data_type_of(spec), "shape": list(array.shape)}
    return {"tensor_metadata": metadata, "byte_data": np.ascontiguousarray(array).tobytes()}


def _shape_from_size(spec: TensorSpec, item_count: int) -> tuple[int, ...]:
    """The model's shape, its one dynamic dimension as the bytes say."""
    fixed = prod(size for size in spec.shape if size >= 0)
    if spec.shape.count(-1) > 1 or (-1 in spec.shape and (not fixed or item_count % fixed)):
        raise TensorRefusedError(f"{spec.name} needs a shape: the model takes {list(spec.shape)}")
    return tuple(item_count // fixed if size == -1 else size for size in spec.shape)
