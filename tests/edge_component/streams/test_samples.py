"""Bytes to inputs: what is right arrives exactly, what is strange becomes a SampleError and nothing else."""

import builtins
import io
import json
import pickle
import zipfile
from typing import Any

import numpy as np
import pytest
from hypothesis import given, strategies as st
from hypothesis.extra import numpy as hnp

from edge_component.contracts.manifest import TensorSpec
from edge_component.streams.config import ImageFit
from edge_component.streams.errors import ExtraMissingError, SampleError
from edge_component.streams.images import decode_image, fit_pixels, target_size
from edge_component.streams.samples import decode_json, decode_npy, decode_npz

X = TensorSpec("x", "float32", (-1, 3))
N = TensorSpec("n", "int64", (2,))


def npy(array: np.ndarray, allow_pickle: bool = False) -> bytes:
    target = io.BytesIO()
    np.save(target, array, allow_pickle=allow_pickle)
    return target.getvalue()


def npz(**arrays: np.ndarray) -> bytes:
    target = io.BytesIO()
    np.savez_compressed(target, **arrays)
    return target.getvalue()


@given(hnp.arrays(np.float32, (2, 3), elements=st.floats(width=32)))
def test_npy_and_npz_arrive_exactly(array: np.ndarray) -> None:
    for inputs in (decode_npy(npy(array), [X], ""), decode_npz(npz(x=array), [X])):
        assert inputs["x"].tobytes() == array.tobytes()


@given(st.lists(st.lists(st.none() | st.floats(-1e6, 1e6, width=32), min_size=3, max_size=3), min_size=1, max_size=4))
def test_json_arrives_exactly_with_null_as_nan(rows: list[list[float | None]]) -> None:
    wanted = np.array([[np.nan if each is None else each for each in row] for row in rows], np.float32)
    for document in (rows, {"x": rows}, {"inputs": {"x": rows}}, {"inputs": rows}):
        found = decode_json(json.dumps(document).encode(), [X], "")["x"]
        assert found.dtype == np.float32
        np.testing.assert_array_equal(found, wanted)


def test_one_sample_gets_its_batch_axis() -> None:
    assert decode_json(b"[1, 2, 3]", [X], "")["x"].shape == (1, 3)
    assert decode_npy(npy(np.zeros(3, np.float32)), [X], "")["x"].shape == (1, 3)
    assert decode_json(b'{"n": [1, 2]}', [N], "")["n"].shape == (2,)


class Bomb:
    def __reduce__(self) -> Any:
        return (print, ("executed",))


LYING = npy(np.zeros((1, 3), np.float32)).replace(b"(1, 3)", b"(9999999999, 3)"[:15])


@pytest.mark.parametrize(
    "content",
    [b"", b"\x93NUMPY", b"garbage", npy(np.array([Bomb()], object), allow_pickle=True), pickle.dumps(Bomb()), LYING],
    ids=["empty", "cut", "garbage", "object array", "pickle", "lying shape"],
)
def test_a_strange_npy_is_a_sample_error(content: bytes, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SampleError, match=r"not an \.npy file"):
        decode_npy(content, [X], "")
    assert capsys.readouterr().out == ""


@given(st.binary(max_size=300))
def test_no_bytes_do_anything_but_decode_or_fail(content: bytes) -> None:
    for decode in (
        lambda: decode_npy(content, [X], ""),
        lambda: decode_npz(content, [X]),
        lambda: decode_json(content, [X], ""),
    ):
        try:
            decode()
        except SampleError:
            continue


def test_an_archive_that_unpacks_to_gigabytes_is_not_unpacked() -> None:
    target = io.BytesIO()
    with zipfile.ZipFile(target, "w", zipfile.ZIP_DEFLATED) as archive, archive.open("x.npy", "w") as member:
        for _ in range(300):
            member.write(bytes(1_000_000))
    assert len(target.getvalue()) < 1_000_000
    with pytest.raises(SampleError, match="at most 256000000 are unpacked"):
        decode_npz(target.getvalue(), [X])


@pytest.mark.parametrize(
    ("content", "specs", "input_name", "named"),
    [
        (b"{", [X], "", "not JSON"),
        (b"[[1, 2], [3]]", [X], "", "x: "),
        (b'["a", "b", "c"]', [X], "", "x: "),
        (b'{"n": [1.5, 2]}', [N], "", "n holds float64; the model takes int64"),
        (b'{"n": [300, 2]}', [TensorSpec("n", "uint8", (2,))], "", "n: "),
        (b'{"n": [true, false]}', [N], "", "n holds bool"),
        (b'{"y": [1]}', [X], "", "no input 'y'"),
        (b"[1, 2]", [X, N], "", "set the stream's field `input`"),
        (b"[1, 2]", [X, N], "z", "no input 'z'"),
        (b'{"x": {"a": 1}}', [X], "", "x: "),
    ],
)
def test_what_is_wrong_with_a_message_is_said(content: bytes, specs: list, input_name: str, named: str) -> None:
    with pytest.raises(SampleError, match=named):
        decode_json(content, specs, input_name)


def test_the_named_input_of_several_is_meant() -> None:
    assert decode_json(b"[1, 2]", [X, N], "n").keys() == {"n"}


PIXELS = np.arange(2 * 3 * 3, dtype=np.uint8).reshape(2, 3, 3) * 10
NCHW = TensorSpec("image", "float32", (1, 3, 2, 3))


def png(pixels: np.ndarray) -> bytes:
    image = pytest.importorskip("PIL.Image", reason="pillow is not installed: pip install pillow")
    target = io.BytesIO()
    image.fromarray(pixels).save(target, "PNG")
    return target.getvalue()


def test_an_image_becomes_the_models_tensor() -> None:
    found = decode_image(png(PIXELS), NCHW, ImageFit())
    np.testing.assert_allclose(found[0], np.moveaxis(PIXELS, -1, 0) / 255, rtol=1e-6)
    assert found.dtype == np.float32
    assert found.flags.c_contiguous


def test_colours_layout_and_scaling_are_the_streams() -> None:
    spec = TensorSpec("image", "float32", (-1, 2, 3, 3))
    fit = ImageFit("nhwc", "bgr", 1.0, (1.0, 2.0, 3.0), (2.0, 2.0, 2.0))
    np.testing.assert_allclose(fit_pixels(PIXELS, spec, fit)[0], (PIXELS[..., ::-1].astype(float) - [1, 2, 3]) / 2)
    raw = fit_pixels(PIXELS, TensorSpec("image", "uint8", (1, 2, 3, 3)), ImageFit("nhwc"))
    np.testing.assert_array_equal(raw[0], PIXELS)
    gray = fit_pixels(
        np.full((2, 3, 3), 100, np.uint8), TensorSpec("i", "uint8", (1, 1, 2, 3)), ImageFit(colors="gray")
    )
    assert gray.shape == (1, 1, 2, 3)
    assert set(gray.flat) == {100}


def test_an_image_is_resized_to_what_the_model_fixes() -> None:
    assert decode_image(png(PIXELS), TensorSpec("i", "float32", (1, 3, 8, 4)), ImageFit()).shape == (1, 3, 8, 4)
    assert decode_image(png(PIXELS), TensorSpec("i", "float32", (-1, 3, -1, -1)), ImageFit()).shape == (1, 3, 2, 3)


@pytest.mark.parametrize(
    "spec", [X, TensorSpec("i", "float32", (1, 1, 8, 8)), TensorSpec("i", "float32", (4, 3, 8, 8))]
)
def test_an_input_that_is_no_image_is_named(spec: TensorSpec) -> None:
    with pytest.raises(SampleError, match=f"input {spec.name}"):
        target_size(spec, ImageFit())


def test_what_is_no_image_or_too_large_a_one_is_a_sample_error(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(SampleError, match="not an image"):
        decode_image(b"garbage", NCHW, ImageFit())
    content = png(PIXELS)
    with pytest.raises(SampleError, match="not an image"):
        decode_image(content[:40], NCHW, ImageFit())
    monkeypatch.setattr("edge_component.streams.images.PIXELS_MAX", 5)
    with pytest.raises(SampleError, match="3 x 2 pixels; at most 5"):
        decode_image(content, NCHW, ImageFit())


def test_without_pillow_and_opencv_the_missing_package_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    real = builtins.__import__

    def without(name: str, *rest: Any) -> Any:
        if name.partition(".")[0] in {"PIL", "cv2"}:
            raise ImportError(name)
        return real(name, *rest)

    monkeypatch.setattr(builtins, "__import__", without)
    with pytest.raises(ExtraMissingError, match="images need a package") as missing:
        decode_image(b"", NCHW, ImageFit())
    assert "pillow or opencv-python-headless" in missing.value.remedy
