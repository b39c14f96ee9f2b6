"""Samples: what a model is asked in tests, calibration and evaluation, out of ``.npz`` archives.

Axis 0 of every array counts the samples; ``array[i]`` is one request's whole tensor (see the manifest contract). An
archive is untrusted input: nothing is unpickled, and what does not fit the model is refused by the array's name, not by
a stack trace out of ONNX Runtime.
"""

import zipfile
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from cloud.compilation.errors import SamplesError
from edge_component.contracts.manifest import TensorSpec

Array = npt.NDArray[Any]
INPUT_PREFIX = "input:"
OUTPUT_PREFIX = "output:"
SAMPLES_BYTES_MAX = 2_000_000_000
GOLDEN_COUNT_MAX = 64


@dataclass(frozen=True, slots=True)
class Samples:
    """Requests, and where known their answers.

    Attributes:
        inputs, outputs: arrays by tensor name; all have the same length, ``count``.
        label: what came, one for each sample, or ``None``.
    """

    inputs: Mapping[str, Array]
    outputs: Mapping[str, Array]
    label: Array | None = None

    @property
    def count(self) -> int:
        """How many requests."""
        return len(next(iter(self.inputs.values())))

    def requests(self) -> Iterator[dict[str, Array]]:
        """One request's tensors after the other; a scalar stays an array, since ONNX Runtime takes no numpy scalars."""
        for index in range(self.count):
            yield {name: np.asarray(array[index]) for name, array in self.inputs.items()}


def read_samples(path: Path) -> Samples:
    """Read an archive; see :func:`samples_of`.

    Raises:
        SamplesError: the file is missing, no archive, or holds no samples.
    """
    return samples_of(path.name, read_arrays(path))


def samples_of(where: str, named: Mapping[str, Array]) -> Samples:
    """Samples out of an archive's arrays. A name without prefix counts as an input, ``label`` apart.

    Raises:
        SamplesError: no inputs, or axis 0 does not count the same samples in all.
    """
    arrays = dict(named)
    label = arrays.pop("label", None)
    outputs = {name.removeprefix(OUTPUT_PREFIX): arrays[name] for name in arrays if name.startswith(OUTPUT_PREFIX)}
    inputs = {
        name.removeprefix(INPUT_PREFIX): array for name, array in arrays.items() if not name.startswith(OUTPUT_PREFIX)
    }
    if not inputs:
        raise SamplesError(f"{where} holds no input arrays", "Name them input:<name of the model's input>.")
    everything = [*inputs.items(), *outputs.items(), *([("label", label)] if label is not None else [])]
    lengths = {name: len(array) if array.ndim else 0 for name, array in everything}
    if len(set(lengths.values())) != 1 or 0 in lengths.values():
        counts = ", ".join(f"{name}: {length}" for name, length in lengths.items())
        raise SamplesError(
            f"{where}: axis 0 must count the samples, the same in every array, at least one ({counts})",
            "Stack one request's tensors per sample: numpy.stack([request_0, request_1, …]).",
        )
    return Samples(inputs, outputs, label)


def write_samples(path: Path, samples: Samples) -> None:
    """Write an archive; the inverse of :func:`read_samples`."""
    arrays = {f"{INPUT_PREFIX}{name}": _storable(array) for name, array in samples.inputs.items()}
    arrays |= {f"{OUTPUT_PREFIX}{name}": _storable(array) for name, array in samples.outputs.items()}
    if samples.label is not None:
        arrays["label"] = samples.label
    with path.open("wb") as stream:
        np.savez(stream, allow_pickle=False, **arrays)


def _storable(array: Array) -> Array:
    """Text is an array of objects where ONNX Runtime made it, and fixed-width text in an archive: nothing is pickled."""
    return array.astype(np.str_) if array.dtype.kind == "O" else array


def read_arrays(path: Path) -> dict[str, Array]:
    """The arrays of an archive by name, whatever they mean.

    Raises:
        SamplesError: the file is missing, too large, or no archive of arrays.
    """
    if not path.is_file():
        raise SamplesError(
            f"{path.name} is missing: a model is not compiled without samples of what it is asked",
            "Give an .npz archive of some requests; axis 0 counts them.",
        )
    try:
        with zipfile.ZipFile(path) as members:
            size_bytes = sum(member.file_size for member in members.infolist())  # unpacked: a small archive may hide it
        if size_bytes > SAMPLES_BYTES_MAX:
            raise SamplesError(f"{path.name} holds more than {SAMPLES_BYTES_MAX} bytes", "Give fewer samples.")
        with np.load(path, allow_pickle=False) as archive:
            return {name: archive[name] for name in archive.files}
    except (ValueError, OSError, EOFError, zipfile.BadZipFile) as error:
        raise SamplesError(
            f"{path.name} is not an .npz archive of arrays: {error}",
            "Write it by numpy.savez(path, name=array); text by array.astype(str).",
        ) from error


def require_fit(where: str, arrays: Mapping[str, Array], specs: tuple[TensorSpec, ...]) -> None:
    """Check names, dtypes, ranks and fixed dimensions against the model's inputs or outputs.

    Raises:
        SamplesError: naming the file, the array, and what the model wants.
    """
    wanted = {spec.name for spec in specs}
    if set(arrays) != wanted:
        raise SamplesError(
            f"{where} holds {', '.join(sorted(arrays)) or 'nothing'}; the model has {', '.join(sorted(wanted))}",
            "Name the arrays as the model names its tensors.",
        )
    for spec in specs:
        array = arrays[spec.name]
        if array.dtype != np.dtype(_numpy_name(spec.dtype)) and not (
            spec.dtype == "string" and array.dtype.kind == "U"
        ):
            raise SamplesError(
                f"{where}: {spec.name} is {array.dtype}, the model wants {spec.dtype}", _conversion(spec.dtype)
            )
        if not fits(array.shape[1:], spec.shape):
            raise SamplesError(
                f"{where}: each sample of {spec.name} has shape {array.shape[1:]}, the model wants {spec.shape} "
                "(-1 is free)",
                "Axis 0 counts samples; array[i] is one request's whole tensor, its batch dimension included.",
            )


def fits(shape: tuple[int, ...], wanted: tuple[int, ...]) -> bool:
    """Whether a tensor's shape is what a signature wants, in which -1 is free."""
    return len(shape) == len(wanted) and all(fixed in (-1, size) for size, fixed in zip(shape, wanted, strict=True))


def _conversion(dtype: str) -> str:
    special = {"bfloat16": "Give its sixteen bits: array.view(numpy.uint16).", "string": "Give str: array.astype(str)."}
    return special.get(dtype, f"Convert it: array.astype(numpy.{'bool_' if dtype == 'bool' else dtype}).")


def _numpy_name(dtype: str) -> str:
    return {"string": "str", "bfloat16": "uint16"}.get(dtype, dtype)
