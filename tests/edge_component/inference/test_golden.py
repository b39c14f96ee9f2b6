"""The golden comparison: tolerance elementwise, NaN never by accident, other types exactly."""

import zipfile
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, strategies as st

from edge_component.contracts.manifest import GoldenTest, TensorSpec
from edge_component.errors import GoldenMismatchError, GoldenUnusableError, ModelError, NotFiniteError
from edge_component.inference import golden
from edge_component.inference.golden import Golden, check_golden, load_golden
from edge_component.inference.session import Array
from tests.edge_component.bundle_factory import npz
from tests.edge_component.inference.test_session import MANIFEST


class Answering:
    """Stands in for a session: gives what it was made with, whatever it is asked."""

    def __init__(self, answer: Array) -> None:
        self.answer = answer

    def run(self, inputs: object, options: object) -> dict[str, Array]:
        return {"y": self.answer}


def check(got: Array, expected: Array, rtol: float = 1e-3, atol: float = 1e-6) -> None:
    manifest = replace(
        MANIFEST, golden=GoldenTest(rtol, atol), outputs=(TensorSpec("y", str(expected.dtype), expected.shape),)
    )
    golden = Golden({"x": np.zeros((1, 1), "f")}, {"y": expected[np.newaxis]}, 1)
    check_golden(golden, Answering(got), manifest)  # type: ignore[arg-type]


@given(st.floats(-1e6, 1e6), st.floats(-0.99, 0.99))
def test_within_the_tolerance_is_accepted(expected: float, share: float) -> None:
    off = share * (1e-6 + 1e-3 * abs(expected))
    check(np.array([expected + off]), np.array([expected]))


@pytest.mark.parametrize(
    ("got", "expected", "error"),
    [
        (np.array([1.01]), np.array([1.0]), GoldenMismatchError),
        (np.array([np.nan]), np.array([1.0]), NotFiniteError),
        (np.array([np.inf]), np.array([1.0]), NotFiniteError),
        (np.array([1.0]), np.array([np.nan]), GoldenMismatchError),
        (np.array([-np.inf]), np.array([np.inf]), GoldenMismatchError),
        (np.array([1.0, 1.0]), np.array([1.0]), GoldenMismatchError),
        (np.array([3]), np.array([4]), GoldenMismatchError),
        (np.array([True]), np.array([False]), GoldenMismatchError),
    ],
)
def test_beyond_it_is_refused(got: Array, expected: Array, error: type[ModelError]) -> None:
    with pytest.raises(error, match="y of golden sample 0"):
        check(got, expected)


def test_expected_nan_and_infinity_are_met_by_the_same() -> None:
    check(np.array([np.nan, np.inf, 1.0]), np.array([np.nan, np.inf, 1.0]))


def test_samples_of_another_dtype_are_unusable(tmp_path: Path) -> None:
    (tmp_path / "golden.npz").write_bytes(npz(**{"input:x": np.zeros((1, 1, 3)), "output:y": np.zeros((1, 1, 3), "f")}))
    with pytest.raises(GoldenUnusableError, match="input:x is float64"):
        load_golden(tmp_path, MANIFEST)


def test_samples_that_would_fill_the_memory_are_not_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(golden, "GOLDEN_BYTES_MAX", 1000)
    (tmp_path / "golden.npz").write_bytes(npz(**{"input:x": np.zeros((400, 1, 3), "f")}))
    with pytest.raises(GoldenUnusableError, match="unpacks to"):
        load_golden(tmp_path, MANIFEST)


@pytest.mark.parametrize("method", [zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA])
def test_samples_packed_in_a_way_that_has_no_bound_are_not_unpacked(tmp_path: Path, method: int) -> None:
    with zipfile.ZipFile(tmp_path / "golden.npz", "w", method) as archive:
        archive.writestr("input:x.npy", b"\0" * 10_000_000)
    with pytest.raises(GoldenUnusableError, match="packed in a way"):
        load_golden(tmp_path, MANIFEST)
