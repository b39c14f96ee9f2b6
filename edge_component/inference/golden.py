"""The golden test: does this model compute, on this device, what it computed where it was judged?

Inputs and expected outputs travel in the bundle (``golden.npz``: axis 0 counts samples, ``array[i]`` is the whole tensor
of request i), the tolerance in the signed manifest: ``|got - expected| <= atol + rtol * |expected|``, elementwise; other
than numbers must be equal. Strings are numpy's fixed-width text in the file, bfloat16 are uint16 bits. Each sample is one
run, as a client's request is.
"""

from collections.abc import Iterable

import numpy as np
from numpy.typing import NDArray

from edge_component.contracts.manifest import GoldenTest, Manifest
from edge_component.errors import GoldenMismatchError, NotFiniteError
from edge_component.inference.golden_file import Sample
from edge_component.inference.session import Array, Session, widened


def check_golden(samples: Iterable[Sample], session: Session, manifest: Manifest) -> None:
    """Ask every sample and compare with what is expected.

    Raises:
        NotFiniteError, GoldenMismatchError: naming sample and output, and how far off the worst value is.
        RequestError: a sample was not answered.
    """
    for index, sample in enumerate(samples):
        answer = session.run(sample.inputs)
        for spec in manifest.outputs:
            where = f"{spec.name} of golden sample {index}"
            got, expected = answer[spec.name], sample.outputs[spec.name]
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
