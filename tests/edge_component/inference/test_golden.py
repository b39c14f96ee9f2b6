"""The golden comparison: tolerance elementwise, NaN never by accident, other types exactly."""

import io
import tracemalloc
import zipfile
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, strategies as st
from onnx import TensorProto, helper

from edge_component.contracts.limits import Limits
from edge_component.contracts.manifest import GoldenTest, TensorSpec
from edge_component.errors import GoldenMismatchError, GoldenUnusableError, ModelError, NotFiniteError
from edge_component.inference import golden_file
from edge_component.inference.golden import check_golden
from edge_component.inference.golden_file import Sample, load_golden
from edge_component.inference.session import Array, Session
from tests.edge_component.bundle_factory import npz, serialized
from tests.edge_component.inference.test_session import MANIFEST


class Answering:
    """Stands in for a session: gives what it was made with, whatever it is asked."""

    def __init__(self, answer: Array) -> None:
        self.answer = answer

    def run(self, inputs: object) -> dict[str, Array]:
        return {"y": self.answer}


def check(got: Array, expected: Array, rtol: float = 1e-3, atol: float = 1e-6) -> None:
    manifest = replace(
        MANIFEST, golden=GoldenTest(rtol, atol), outputs=(TensorSpec("y", str(expected.dtype), expected.shape),)
    )
    sample = Sample({"x": np.zeros(1, "f")}, {"y": expected})
    check_golden([sample], Answering(got), manifest)  # type: ignore[arg-type]


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


@pytest.mark.parametrize(("kind", "dtype", "value"), [("STRING", "string", "heiß"), ("BFLOAT16", "bfloat16", 0x3F80)])
def test_a_sample_may_be_a_scalar_of_any_type(tmp_path: Path, kind: str, dtype: str, value: object) -> None:
    x, y = (helper.make_tensor_value_info(name, TensorProto.DataType.Value(kind), []) for name in "xy")
    (tmp_path / "model.onnx").write_bytes(
        serialized(helper.make_graph([helper.make_node("Identity", ["x"], ["y"])], "g", [x], [y]))
    )
    samples = np.array([value]) if dtype == "string" else np.array([value], np.uint16)
    (tmp_path / "golden.npz").write_bytes(npz(**{"input:x": samples, "output:y": samples}))
    manifest = replace(MANIFEST, inputs=(TensorSpec("x", dtype, ()),), outputs=(TensorSpec("y", dtype, ()),))
    check_golden(load_golden(tmp_path, manifest), Session.load(tmp_path / "model.onnx", manifest), manifest)


def test_samples_of_another_dtype_are_unusable(tmp_path: Path) -> None:
    (tmp_path / "golden.npz").write_bytes(npz(**{"input:x": np.zeros((1, 1, 3)), "output:y": np.zeros((1, 1, 3), "f")}))
    with pytest.raises(GoldenUnusableError, match="input:x is float64"):
        load_golden(tmp_path, MANIFEST)


def test_samples_that_would_fill_the_memory_are_not_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(golden_file, "LIMITS", Limits(golden_bytes_max=1000))
    (tmp_path / "golden.npz").write_bytes(npz(**{"input:x": np.zeros((400, 1, 3), "f")}))
    with pytest.raises(GoldenUnusableError, match="unpacks to"):
        load_golden(tmp_path, MANIFEST)


@pytest.mark.parametrize("method", [zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA])
def test_samples_packed_in_a_way_that_has_no_bound_are_not_unpacked(tmp_path: Path, method: int) -> None:
    with zipfile.ZipFile(tmp_path / "golden.npz", "w", method) as archive:
        archive.writestr("input:x.npy", b"\0" * 10_000_000)
    with pytest.raises(GoldenUnusableError, match="packed in a way"):
        load_golden(tmp_path, MANIFEST)


WIDE = (TensorSpec("x", "float32", (-1, -1)),)


def test_a_large_file_of_samples_is_read_one_sample_at_a_time(tmp_path: Path) -> None:
    """Each start loads each model: what its samples take is taken from the process that serves."""
    x = np.zeros((40, 1, 250_000), np.float32)
    manifest = replace(MANIFEST, inputs=WIDE, outputs=(replace(WIDE[0], name="y"),))
    (tmp_path / "golden.npz").write_bytes(npz(**{"input:x": x, "output:y": x}))
    tracemalloc.start()
    try:
        samples = load_golden(tmp_path, manifest)
        assert samples.first().inputs["x"].shape == (1, 250_000)
        check_golden(samples, Answering(x[0]), manifest)  # type: ignore[arg-type]
        _, peak_bytes = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert samples.sample_count == 40
    assert peak_bytes < x.nbytes / 2


ARRAYS = {
    "several samples": np.arange(24, dtype=np.float32).reshape(4, 2, 3),
    "in Fortran's order": np.asfortranarray(np.arange(24, dtype=np.float32).reshape(4, 2, 3)),
    "scalars": np.arange(4, dtype=np.int64),
    "empty tensors": np.zeros((4, 0, 3), np.float32),
    "text": np.array([["a", "bcd"], ["", "ü"], ["e", "f"], ["g", "h"]]),
}


@pytest.mark.parametrize("compress", [False, True])
@pytest.mark.parametrize("array", ARRAYS.values(), ids=ARRAYS.keys())
def test_samples_are_what_numpy_wrote(array: Array, compress: bool, tmp_path: Path) -> None:
    dtype = "string" if array.dtype.kind == "U" else str(array.dtype)
    specs = [TensorSpec(name, dtype, array.shape[1:]) for name in ("x", "y")]
    manifest = replace(MANIFEST, inputs=(specs[0],), outputs=(specs[1],))
    arrays = {"input:x": array, "output:y": array[::-1], "unasked": np.zeros(7)}
    (np.savez_compressed if compress else np.savez)(tmp_path / "golden.npz", **arrays)  # type: ignore[arg-type]
    samples = list(load_golden(tmp_path, manifest))
    assert len(samples) == 4
    for index, sample in enumerate(samples):
        np.testing.assert_array_equal(sample.inputs["x"], array[index])
        np.testing.assert_array_equal(sample.outputs["y"], array[3 - index])
        assert sample.inputs["x"].dtype == (object if dtype == "string" else array.dtype)


def written_by_hand(path: Path, shape: tuple[int, ...], content: bytes, descr: str = "<f4") -> None:
    with zipfile.ZipFile(path, "w") as archive:
        for name in ("input:x.npy", "output:y.npy"):
            with archive.open(name, "w") as file:
                header = {"descr": descr, "fortran_order": False, "shape": shape}
                np.lib.format.write_array_header_1_0(file, header)  # type: ignore[arg-type]
                file.write(content)


@pytest.mark.parametrize("shape", [(10**12, 1, 3), (1, 1, 4), (1, 1, 2), (-1, -1, 3)])
def test_a_header_that_promises_other_than_there_is_is_refused(shape: tuple[int, ...], tmp_path: Path) -> None:
    written_by_hand(tmp_path / "golden.npz", shape, b"\0" * 12)
    with pytest.raises(GoldenUnusableError, match="not as long as its header says"):
        load_golden(tmp_path, MANIFEST)


@pytest.mark.parametrize(
    "change",
    [(b"False", b"False("), (b"'descr'", b"\n 'descr'"), (b"\x93NUMPY\x01", b"\x93NUMPY\x03"), (b"<f4", b"<f0")],
)
def test_a_header_that_is_none_is_refused(change: tuple[bytes, bytes], tmp_path: Path) -> None:
    content = io.BytesIO()
    np.lib.format.write_array(content, np.zeros((1, 1, 3), np.float32))
    bent = content.getvalue().replace(*change)
    assert bent != content.getvalue()
    with zipfile.ZipFile(tmp_path / "golden.npz", "w") as archive:
        archive.writestr("input:x.npy", bent)
        archive.writestr("output:y.npy", bent)
    with pytest.raises(GoldenUnusableError):
        load_golden(tmp_path, MANIFEST)


def test_damage_further_on_is_found_where_it_lies(tmp_path: Path) -> None:
    written_by_hand(tmp_path / "golden.npz", (2, 10_000, 3), b"\0" * 240_000)
    content = bytearray((tmp_path / "golden.npz").read_bytes())
    content[content.index(b"\0" * 240_000) + 200_000] = 1
    (tmp_path / "golden.npz").write_bytes(content)
    samples = iter(load_golden(tmp_path, MANIFEST))
    next(samples)
    with pytest.raises(GoldenUnusableError, match="Bad CRC"):
        next(samples)


def test_a_file_that_ends_before_its_directory_says_is_found(tmp_path: Path) -> None:
    """The checksum is of what there is, so that nothing but the length tells."""
    path = tmp_path / "golden.npz"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for name in ("input:x.npy", "output:y.npy"):
            content = io.BytesIO()
            np.lib.format.write_array(content, np.zeros((2, 1, 3), np.float32))
            archive.writestr(name, content.getvalue()[:-12])
            archive.getinfo(name).file_size += 12
    samples = iter(load_golden(tmp_path, MANIFEST))
    next(samples)
    with pytest.raises(GoldenUnusableError):
        next(samples)
