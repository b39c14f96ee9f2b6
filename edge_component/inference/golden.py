"""The golden test: does this model compute, on this device, what it computed where it was judged?

Inputs and expected outputs travel in the bundle (``golden.npz``: axis 0 counts samples, ``array[i]`` is the whole tensor
of request i), the tolerance in the signed manifest: ``|got - expected| <= atol + rtol * |expected|``, elementwise; other
than numbers must be equal. Strings are numpy's fixed-width text in the file, bfloat16 are uint16 bits. Each sample is one
run, as a client's request is.
"""

import zipfile
import zlib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edge_component.bundles.unpack import METHODS
from edge_component.contracts.manifest import GOLDEN_FILE, GoldenTest, Manifest
from edge_component.errors import GoldenMismatchError, GoldenUnusableError, NotFiniteError
from edge_component.inference.session import Array, Session, tensor_dtype, widened

GOLDEN_BYTES_MAX = 512_000_000


@dataclass(frozen=True, slots=True)
class Golden:
    """The samples; every array's first axis counts them."""

    inputs: Mapping[str, Array]
    outputs: Mapping[str, Array]
    sample_count: int

    def ask(self, session: Session, sample: int, options: Any = None) -> dict[str, Array]:  # noqa: ANN401 - as Session.run
        """The session's answer to one sample, with ONNX Runtime's run options if there are any.

        Raises:
            RequestError: it was not answered.
        """
        return session.run({name: array[sample] for name, array in self.inputs.items()}, options)


def load_golden(folder: Path, manifest: Manifest) -> Golden:
    """Read ``golden.npz`` and hold it against the manifest.

    Raises:
        GoldenUnusableError: unreadable, a tensor is missing or of another dtype, or the sample counts do not fit.
    """
    arrays = _read_arrays(folder / GOLDEN_FILE, manifest)
    counts = {array.shape[0] if array.ndim else 0 for array in arrays.values()}
    if len(counts) != 1 or 0 in counts:
        raise GoldenUnusableError(f"{GOLDEN_FILE}: the arrays hold {sorted(counts)} samples on their first axes")
    inputs = {spec.name: arrays[f"input:{spec.name}"] for spec in manifest.inputs}
    outputs = {spec.name: arrays[f"output:{spec.name}"] for spec in manifest.outputs}
    return Golden(inputs, outputs, counts.pop())


def check_golden(golden: Golden, session: Session, manifest: Manifest) -> None:
    """Ask every sample and compare with what is expected.

    Raises:
        NotFiniteError, GoldenMismatchError: naming sample and output, and how far off the worst value is.
        RequestError: a sample was not answered.
    """
    for sample in range(golden.sample_count):
        answer = golden.ask(session, sample)
        for spec in manifest.outputs:
            where = f"{spec.name} of golden sample {sample}"
            got, expected = answer[spec.name], golden.outputs[spec.name][sample]
            if spec.dtype == "bfloat16":
                got, expected = widened(got), widened(expected)
            _check_output(where, got, expected, manifest.golden)


def _check_output(where: str, got: Array, expected: Array, tolerance: GoldenTest) -> None:
    if got.shape != expected.shape:
        raise GoldenMismatchError(f"{where} has shape {got.shape}, expected {expected.shape}")
    if got.dtype.kind != "f":
        _check_equal(where, got, expected)
        return
    if not np.isfinite(got[np.isfinite(expected)]).all():
        raise NotFiniteError(f"{where} holds NaN or infinity where numbers are expected")
    _check_close(where, got.astype(np.float64), expected.astype(np.float64), tolerance)


def _check_equal(where: str, got: Array, expected: Array) -> None:
    differing = int((got != expected).sum())
    if differing:
        raise GoldenMismatchError(f"{where} differs in {differing} of {got.size} values")


def _check_close(where: str, got: NDArray[np.float64], expected: NDArray[np.float64], tolerance: GoldenTest) -> None:
    allowed = tolerance.atol + tolerance.rtol * np.abs(expected)
    with np.errstate(invalid="ignore"):  # infinities, which `same` judges
        off = np.abs(got - expected)
        excess = np.nan_to_num(off - allowed, nan=np.inf)
    same = (got == expected) | (np.isnan(got) & np.isnan(expected))
    beyond = ~same & ~(np.isfinite(expected) & (off <= allowed))
    if beyond.any():
        worst = int(np.argmax(np.where(beyond, excess, -np.inf)))
        raise GoldenMismatchError(
            f"{where} is {got.flat[worst]:.6g} where {expected.flat[worst]:.6g} is expected "
            f"(± {allowed.flat[worst]:.2g}); {int(beyond.sum())} of {got.size} values are beyond the tolerance"
        )


def _check_size(path: Path) -> None:
    """A few kilobytes can unpack to all memory, of the process that serves too.

    By other methods than these, they can do so whatever size they name; see bundles/unpack.py.
    """
    with zipfile.ZipFile(path) as archive:
        entries = archive.infolist()
    if any(entry.compress_type not in METHODS for entry in entries):
        raise GoldenUnusableError(
            f"{GOLDEN_FILE} is packed in a way that is not read; numpy.savez_compressed writes one"
        )
    size_bytes = sum(entry.file_size for entry in entries)
    if size_bytes > GOLDEN_BYTES_MAX:
        raise GoldenUnusableError(f"{GOLDEN_FILE} unpacks to {size_bytes} bytes; at most {GOLDEN_BYTES_MAX} are read")


def _read_arrays(path: Path, manifest: Manifest) -> dict[str, Array]:
    dtypes = {f"input:{spec.name}": spec.dtype for spec in manifest.inputs}
    dtypes |= {f"output:{spec.name}": spec.dtype for spec in manifest.outputs}
    try:
        _check_size(path)
        with np.load(path, allow_pickle=False) as archive:
            arrays = {key: archive[key] for key in dtypes}
    except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile, zlib.error) as error:
        raise GoldenUnusableError(f"{GOLDEN_FILE} cannot be used: {error}") from error
    for key, dtype in dtypes.items():
        if dtype == "string" and arrays[key].dtype.kind == "U":
            arrays[key] = arrays[key].astype(object)
        if arrays[key].dtype != tensor_dtype(dtype):
            raise GoldenUnusableError(f"{GOLDEN_FILE}: {key} is {arrays[key].dtype}, the manifest says {dtype}")
    return arrays
