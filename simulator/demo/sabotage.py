"""A deliberately bad version: a graph that is sound and a signature that is good, under golden answers that are not its.

It stands for the mistake that only a device can catch: everything was built, gated, signed and published in order, and
the numbers that come out on the device are not the ones that training promised.
"""

import shutil
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

GOLDEN_FILE = "golden.npz"
OUTPUT_PREFIX = "output:"
SHIFT = 0.25


def with_false_golden_answers(compilation: Path, copy: Path) -> Path:
    """Copy a compilation folder and move every expected output by ``SHIFT``; returns the copy."""
    shutil.copytree(compilation, copy)
    with np.load(copy / GOLDEN_FILE, allow_pickle=False) as golden:
        arrays = {name: _shifted(name, golden[name]) for name in golden.files}
    np.savez(copy / GOLDEN_FILE, allow_pickle=False, **arrays)
    return copy


def _shifted(name: str, array: npt.NDArray[Any]) -> npt.NDArray[Any]:
    if not name.startswith(OUTPUT_PREFIX) or not np.issubdtype(array.dtype, np.floating):
        return array
    shifted: npt.NDArray[Any] = array + np.asarray(SHIFT, array.dtype)
    return shifted
