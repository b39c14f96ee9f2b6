from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, strategies as st
from hypothesis.extra.numpy import array_shapes, arrays

from cloud.compilation.errors import SamplesError
from cloud.compilation.samples import Samples, read_samples, require_fit, write_samples
from edge_component.contracts.manifest import TensorSpec


@given(count=st.integers(1, 4), content=st.data())
def test_what_is_written_is_read_again(
    tmp_path_factory: pytest.TempPathFactory, count: int, content: st.DataObject
) -> None:
    some = st.dictionaries(
        st.text("abc./_", min_size=1, max_size=5).filter(lambda name: name != "label"),
        array_shapes(max_dims=3, max_side=3).flatmap(lambda shape: arrays(np.float32, (count, *shape))),
        min_size=1,
        max_size=3,
    )
    before = Samples(content.draw(some), content.draw(some), np.arange(count))
    path = tmp_path_factory.mktemp("samples") / "samples.npz"
    write_samples(path, before)
    after = read_samples(path)
    assert after.count == count
    for left, right in ((before.inputs, after.inputs), (before.outputs, after.outputs)):
        assert set(left) == set(right)
        for name in left:
            np.testing.assert_array_equal(left[name], right[name])


def test_a_scalar_request_stays_an_array() -> None:
    (first, _) = Samples({"rate": np.array([8000, 16000])}, {}).requests()
    assert isinstance(first["rate"], np.ndarray)
    assert first["rate"].shape == ()


def one_array(path: Path) -> None:
    with path.open("wb") as stream:
        np.save(stream, np.ones(3))


def truncated(path: Path) -> None:
    np.savez(path, x=np.ones(1000))
    path.write_bytes(path.read_bytes()[:500])


@pytest.mark.parametrize(
    ("write", "sentence"),
    [
        (lambda path: None, "is missing"),
        (lambda path: path.write_text("hello"), "is not an .npz archive"),
        (one_array, "is not an .npz archive"),
        (lambda path: np.savez(path, x=np.array([{"a": 1}], dtype=object)), "is not an .npz archive"),
        (np.savez, "holds no input arrays"),
        (
            lambda path: np.savez(path, x=np.ones((3, 1)), y=np.ones((2, 1))),
            r"axis 0 must count the samples.*\(x: 3, y: 2\)",
        ),
        (lambda path: np.savez(path, x=np.float32(1)), "axis 0 must count"),
        (lambda path: np.savez(path, x=np.ones((0, 3))), "at least one"),
        (truncated, "is not an .npz archive"),
    ],
)
def test_a_bad_archive_is_refused_in_a_sentence(tmp_path: Path, write: Callable[[Path], object], sentence: str) -> None:
    path = tmp_path / "golden.npz"
    write(path)
    with pytest.raises(SamplesError, match=sentence) as caught:
        read_samples(path)
    assert "golden.npz" in str(caught.value)


@pytest.mark.parametrize(
    ("arrays", "sentence"),
    [
        ({"y": np.ones((2, 1, 3), np.float32)}, "holds y; the model has x"),
        ({"x": np.ones((2, 1, 3))}, "x is float64, the model wants float32"),
        ({"x": np.ones((2, 1, 4), np.float32)}, r"shape \(1, 4\), the model wants \(-1, 3\)"),
        ({"x": np.ones((2, 3), np.float32)}, "whole tensor|shape"),
    ],
)
def test_what_does_not_fit_is_named(arrays: dict[str, np.ndarray], sentence: str) -> None:
    spec = TensorSpec("x", "float32", (-1, 3))
    require_fit("golden.npz", {"x": np.ones((2, 9, 3), np.float32)}, (spec,))
    with pytest.raises(SamplesError, match=sentence):
        require_fit("golden.npz", arrays, (spec,))


def test_a_small_archive_that_unpacks_to_much_is_not_unpacked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("cloud.compilation.samples.SAMPLES_BYTES_MAX", 1_000_000)
    path = tmp_path / "golden.npz"
    np.savez_compressed(path, x=np.zeros(1_000_000))
    assert path.stat().st_size < 100_000
    with pytest.raises(SamplesError, match="holds more than 1000000 bytes"):
        read_samples(path)
