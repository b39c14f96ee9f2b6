"""One sample on its way through a stream, and how bytes become the model's inputs.

The failure this exists for: a strange file or message that takes the process with it: a pickle in an ``.npy``, an
``.npz`` that unpacks to gigabytes, numbers that are quietly rounded to another type. Whatever a foreign file holds, it
becomes arrays or a :class:`~edge_component.streams.errors.SampleError` that says why not.

Pure functions over bytes; images are images.py's. What arrays must be in the end (names, types, shapes, NaN) is checked
where every request's are: in the session.
"""

import io
import zipfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from enum import Enum
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edge_component.contracts.codec import from_bytes
from edge_component.contracts.errors import ContractError
from edge_component.contracts.manifest import TensorSpec
from edge_component.streams.errors import SampleError

Inputs = Mapping[str, NDArray[Any]]
Specs = Sequence[TensorSpec]
UNPACKED_BYTES_MAX = 256_000_000
"""What the arrays of one ``.npz`` may take together."""
NPY_MAGIC = b"\x93NUMPY"


class Outcome(Enum):
    """What became of a sample; a folder's files are moved accordingly."""

    DELIVERED = "done"
    FAILED = "failed"
    DROPPED = "dropped"


def _forget(outcome: Outcome) -> None:
    del outcome


@dataclass(frozen=True, slots=True)
class Sample:
    """Something to be predicted from.

    Attributes:
        origin: what the result calls it: a file's name, a topic, a frame's number.
        load: the inputs, given what the model takes; called once, on the stream's own thread. Raises StreamError.
        settle: called once when it is known what became of it; not at all if the stream ends before.
    """

    origin: str
    load: Callable[[Specs], Inputs]
    settle: Callable[[Outcome], None] = _forget


def chosen_input(specs: Specs, name: str) -> TensorSpec:
    """The input that a single array is meant for.

    Raises:
        SampleError: the model has none of that name, or several and none was named.
    """
    if not name and len(specs) == 1:
        return specs[0]
    for spec in specs:
        if spec.name == name:
            return spec
    names = [spec.name for spec in specs]
    if name:
        raise SampleError(f"the model has no input {name!r}; it takes {names}")
    raise SampleError(f"the model takes {names}; set the stream's field `input`, or send all of them by name")


def decode_npy(content: bytes, specs: Specs, input_name: str) -> Inputs:
    """The bytes of an ``.npy`` file.

    Raises:
        SampleError: not one, or a pickle.
    """
    spec = chosen_input(specs, input_name)
    return {spec.name: with_batch(spec, _load_npy(io.BytesIO(content)))}


def decode_npz(content: bytes, specs: Specs) -> Inputs:
    """The bytes of an ``.npz`` file, arrays by the names of inputs.

    Raises:
        SampleError: not one, or larger than :data:`UNPACKED_BYTES_MAX` once unpacked.
    """
    by_name = {spec.name: spec for spec in specs}
    try:
        with zipfile.ZipFile(io.BytesIO(content)) as archive:
            _check_unpacked(sum(member.file_size for member in archive.infolist()))
            arrays = {
                member.filename.removesuffix(".npy"): _load_npy(io.BytesIO(archive.read(member)))
                for member in archive.infolist()
            }
    except SampleError:
        raise
    except Exception as error:  # a foreign archive makes zipfile and zlib raise half a dozen unrelated classes
        raise SampleError(f"not an .npz file: {type(error).__name__}: {error}") from error
    return {name: with_batch(by_name[name], array) if name in by_name else array for name, array in arrays.items()}


def decode_json(content: bytes, specs: Specs, input_name: str) -> Inputs:
    """``{"inputs": {name: nested lists}}``, the same without the outer object, or nested lists for a single input.

    ``null`` is NaN in a tensor of floats.

    Raises:
        SampleError: not JSON, ragged, or numbers that the input's type does not hold exactly (floats are rounded).
    """
    whole = content.lstrip()
    try:
        document = from_bytes(b'{"inputs":' + whole + b"}" if whole[:1] == b"[" else whole, UNPACKED_BYTES_MAX)
    except ContractError as error:
        raise SampleError(str(error)) from error
    values = document.get("inputs", document)
    if not isinstance(values, Mapping):
        values = {chosen_input(specs, input_name).name: values}
    by_name = {spec.name: spec for spec in specs}
    unknown = sorted(values.keys() - by_name.keys())
    if unknown:
        raise SampleError(f"the model has no input {unknown[0]!r}; it takes {sorted(by_name)}")
    return {name: with_batch(by_name[name], _from_lists(by_name[name], value)) for name, value in values.items()}


def with_batch(spec: TensorSpec, array: NDArray[Any]) -> NDArray[Any]:
    """One sample without its first axis gets it, where the model takes one or any number of them."""
    if array.ndim == len(spec.shape) - 1 and spec.shape[0] in (-1, 1):
        return array[np.newaxis]
    return array


def _check_unpacked(size_bytes: int) -> None:
    if size_bytes > UNPACKED_BYTES_MAX:
        raise SampleError(f"its arrays take {size_bytes} bytes; at most {UNPACKED_BYTES_MAX} are unpacked")


def _load_npy(file: io.BytesIO) -> NDArray[Any]:
    try:
        array = np.lib.format.read_array(file, allow_pickle=False)
    except Exception as error:  # a foreign file makes numpy raise half a dozen unrelated classes
        raise SampleError(f"not an .npy file: {type(error).__name__}: {error}") from error
    return array


def _from_lists(spec: TensorSpec, value: object) -> NDArray[Any]:
    try:
        found = np.asarray(value)
        if spec.dtype == "string":
            return np.asarray(value, dtype=object)
        wanted = np.dtype(spec.dtype)
        if wanted.kind != "f" and found.size and found.dtype.kind not in ("b" if wanted.kind == "b" else "iu"):
            raise SampleError(f"{spec.name} holds {found.dtype}; the model takes {spec.dtype}")
        return np.asarray(value, dtype=wanted)
    except (ValueError, TypeError, OverflowError) as error:
        raise SampleError(f"{spec.name}: {error}") from error
