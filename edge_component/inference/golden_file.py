"""``golden.npz``, read one sample at a time.

The failure this exists for: each start of the runtime, and each model that is woken, reads its golden samples for the one
that warms it up; read whole, they took up to half a gigabyte from the process that serves. So an array's header says what
there is, and the rest is read as far as it is asked for: one sample of each tensor is in memory, whatever the file's size.

The file is numpy's (``numpy.savez``, also compressed): a zip of one ``.npy`` for each array. Pickled objects are refused,
as are methods of compression that unpack without a bound (see bundles/unpack.py), headers that promise other than what the
archive holds, and more than ``LIMITS.golden_bytes_max`` in all. An array in Fortran's order, which has no sample in one piece, is
read whole.
"""

import zipfile
import zlib
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from math import prod
from pathlib import Path
from tokenize import TokenError
from typing import IO, Any

import numpy as np

from edge_component.bundles.unpack import METHODS
from edge_component.contracts.limits import LIMITS
from edge_component.contracts.manifest import GOLDEN_FILE, Manifest
from edge_component.errors import GoldenUnusableError
from edge_component.inference.session import Array, tensor_dtype

_HEADERS = {(1, 0): np.lib.format.read_array_header_1_0, (2, 0): np.lib.format.read_array_header_2_0}
"""Version 3 is for names of fields, which tensors have not."""


@dataclass(frozen=True, slots=True)
class Sample:
    """What is asked once, and what has to be answered."""

    inputs: Mapping[str, Array]
    outputs: Mapping[str, Array]


@dataclass(frozen=True, slots=True)
class GoldenFile:
    """The samples of one file whose headers are as the manifest says; iterating reads it anew.

    Raises, while iterating:
        GoldenUnusableError: the file is damaged further on.
    """

    path: Path
    manifest: Manifest
    sample_count: int

    def first(self) -> Sample:
        """The one that a new session is warmed up with."""
        return next(iter(self))

    def __iter__(self) -> Iterator[Sample]:
        """Each sample in turn."""
        inputs = [(spec.name, _Array(f"input:{spec.name}", spec.dtype)) for spec in self.manifest.inputs]
        outputs = [(spec.name, _Array(f"output:{spec.name}", spec.dtype)) for spec in self.manifest.outputs]
        with _told(), ExitStack() as opened:
            archive = opened.enter_context(zipfile.ZipFile(self.path))
            for _, array in (*inputs, *outputs):
                array.begin(opened, archive)
            for _ in range(self.sample_count):
                yield Sample(
                    {name: array.next() for name, array in inputs}, {name: array.next() for name, array in outputs}
                )


def load_golden(folder: Path, manifest: Manifest) -> GoldenFile:
    """Hold the headers of a bundle's ``golden.npz`` against its manifest; no sample is read yet.

    Raises:
        GoldenUnusableError: unreadable, a tensor is missing or of another dtype, or the sample counts do not fit.
    """
    path = folder / GOLDEN_FILE
    wanted = [_Array(f"input:{spec.name}", spec.dtype) for spec in manifest.inputs]
    wanted += [_Array(f"output:{spec.name}", spec.dtype) for spec in manifest.outputs]
    with _told(), ExitStack() as opened:
        archive = opened.enter_context(zipfile.ZipFile(path))
        _check_archive(archive)
        counts = {array.begin(opened, archive) for array in wanted}
    if len(counts) != 1 or 0 in counts:
        raise GoldenUnusableError(f"{GOLDEN_FILE}: the arrays hold {sorted(counts)} samples on their first axes")
    return GoldenFile(path, manifest, counts.pop())


@contextmanager
def _told() -> Iterator[None]:
    try:
        yield
    except (
        OSError, ValueError, KeyError, EOFError, RuntimeError, zipfile.BadZipFile, zlib.error, SyntaxError, TokenError,
        TypeError,  # numpy's word for an array that ends too early
    ) as error:  # fmt: skip
        raise GoldenUnusableError(f"{GOLDEN_FILE} cannot be used: {error}") from error


def _check_archive(archive: zipfile.ZipFile) -> None:
    """A few kilobytes can unpack to far more, and by other methods than these whatever size they name."""
    entries = archive.infolist()
    if any(entry.compress_type not in METHODS for entry in entries):
        raise GoldenUnusableError(
            f"{GOLDEN_FILE} is packed in a way that is not read; numpy.savez_compressed writes one"
        )
    size_bytes = sum(entry.file_size for entry in entries)
    if size_bytes > LIMITS.golden_bytes_max:
        raise GoldenUnusableError(
            f"{GOLDEN_FILE} unpacks to {size_bytes} bytes; at most {LIMITS.golden_bytes_max} are read"
        )


class _Array:
    """One array of the archive, read from its beginning."""

    def __init__(self, key: str, dtype: str) -> None:
        self._key = key
        self._promised = dtype

    def begin(self, opened: ExitStack, archive: zipfile.ZipFile) -> int:
        """Read the header, which must promise what there is; returns how many samples that are."""
        entry = archive.getinfo(f"{self._key}.npy")
        self._file: IO[bytes] = opened.enter_context(archive.open(entry))
        shape, in_fortrans_order, dtype = _HEADERS[np.lib.format.read_magic(self._file)](self._file)
        self._check_dtype(dtype)
        if min(shape, default=0) < 0 or entry.file_size - self._file.tell() != prod(shape) * dtype.itemsize:
            raise GoldenUnusableError(f"{GOLDEN_FILE}: {self._key} is not as long as its header says")
        self._shape, self._dtype, self._whole = shape[1:], dtype, None
        if in_fortrans_order:
            content = self._file.read(prod(shape) * dtype.itemsize)
            self._whole = iter(np.ndarray(shape, dtype, content, order="F"))
        return shape[0] if shape else 0

    def _check_dtype(self, dtype: np.dtype[Any]) -> None:
        found = np.dtype(object) if self._promised == "string" and dtype.kind == "U" else dtype
        if found != tensor_dtype(self._promised) or dtype.hasobject:
            raise GoldenUnusableError(f"{GOLDEN_FILE}: {self._key} is {dtype}, the manifest says {self._promised}")

    def next(self) -> Array:
        """The next sample's."""
        if self._whole is not None:
            array: Array = next(self._whole)
        else:
            content = self._file.read(prod(self._shape) * self._dtype.itemsize)
            array = np.ndarray(self._shape, self._dtype, content)
        return array.astype(object) if self._promised == "string" else array
