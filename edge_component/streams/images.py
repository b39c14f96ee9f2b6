"""Images as tensors: decode with Pillow or OpenCV, whichever is there, fit to the model's input.

The failures this exists for: a picture whose header promises a hundred gigapixels, and a model that sees blue where it
learnt red. Size is looked at before anything is decoded; layout, colour order and scaling are the stream's own fields.

Both packages are extras and imported when the first image comes: a device without images carries neither.
"""

import io
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edge_component.contracts.manifest import TensorSpec
from edge_component.streams.config import ImageFit
from edge_component.streams.errors import ExtraMissingError, SampleError

PIXELS_MAX = 50_000_000
SUFFIXES = (".jpg", ".jpeg", ".png", ".bmp", ".webp")
Pixels = NDArray[np.uint8]
"""``[height, width, 3]``, red first."""


def decode_image(content: bytes, spec: TensorSpec, fit: ImageFit) -> NDArray[Any]:
    """The bytes of an image file as this input.

    Raises:
        SampleError: no image, too large, or an input that is no image.
        ExtraMissingError: neither Pillow nor OpenCV is installed.
    """
    return fit_pixels(_with_pillow(content, target_size(spec, fit)), spec, fit)


def target_size(spec: TensorSpec, fit: ImageFit) -> tuple[int, int] | None:
    """Height and width that the model fixes; ``None`` where it takes any.

    Raises:
        SampleError: not a tensor of images in this layout.
    """
    channel_count = 1 if fit.colors == "gray" else 3
    axes = (1, 2, 3) if fit.layout == "nchw" else (3, 1, 2)
    if len(spec.shape) != 4 or spec.shape[0] not in (-1, 1) or spec.shape[axes[0]] not in (-1, channel_count):
        raise SampleError(
            f"input {spec.name} {list(spec.shape)} takes no {fit.colors} images in {fit.layout}",
            "Set the stream's image.layout and image.colors to what the model was trained on.",
        )
    height, width = spec.shape[axes[1]], spec.shape[axes[2]]
    return (height, width) if height > 0 and width > 0 else None


def fit_pixels(pixels: Pixels, spec: TensorSpec, fit: ImageFit) -> NDArray[Any]:
    """Pixels of the right size as this input: colours, scaling, layout, type, batch of one."""
    channels: NDArray[Any] = pixels
    if fit.colors == "gray":  # ITU-R BT.601
        channels = np.rint(pixels @ np.array([0.299, 0.587, 0.114]))[..., np.newaxis]
    elif fit.colors == "bgr":
        channels = pixels[..., ::-1]
    wanted = np.dtype(spec.dtype)
    if wanted.kind == "f":
        channels = channels.astype(np.float32) * np.float32(fit.scale)
        if fit.mean:
            channels = channels - np.array(fit.mean, dtype=np.float32)
        if fit.std:
            channels = channels / np.array(fit.std, dtype=np.float32)
    elif wanted != np.uint8:
        raise SampleError(f"input {spec.name} is of type {spec.dtype}; images become floats or uint8")
    if fit.layout == "nchw":
        channels = np.moveaxis(channels, -1, 0)
    return np.ascontiguousarray(channels[np.newaxis], dtype=wanted)


def _with_pillow(content: bytes, size: tuple[int, int] | None) -> Pixels:
    try:
        from PIL import Image  # noqa: PLC0415 - an extra
    except ImportError:
        return _with_opencv(content, size)
    try:
        with Image.open(io.BytesIO(content)) as image:
            _check_pixels(image.width, image.height)
            colored = image.convert("RGB")
            fitted = colored.resize((size[1], size[0]), Image.Resampling.BILINEAR) if size else colored
            return np.asarray(fitted, dtype=np.uint8)
    except SampleError:
        raise
    except Exception as error:  # a foreign file makes its decoders raise anything
        raise SampleError(f"not an image: {type(error).__name__}: {error}") from error


def _check_pixels(width: int, height: int) -> None:
    if width * height > PIXELS_MAX:
        raise SampleError(f"{width} x {height} pixels; at most {PIXELS_MAX} are decoded")


def _with_opencv(content: bytes, size: tuple[int, int] | None) -> Pixels:
    cv2 = load_opencv("images", "pillow or opencv-python-headless")
    pixels = cv2.imdecode(np.frombuffer(content, np.uint8), cv2.IMREAD_COLOR)
    if pixels is None:
        raise SampleError("not an image that OpenCV can read")
    return resized(cv2, pixels, size)


def resized(cv2: Any, blue_first: NDArray[Any], size: tuple[int, int] | None) -> Pixels:  # noqa: ANN401 - an extra, untyped
    """OpenCV's pixels in our order and the wanted size."""
    fitted = cv2.resize(blue_first, (size[1], size[0]), interpolation=cv2.INTER_LINEAR) if size else blue_first
    return np.ascontiguousarray(fitted[..., ::-1])


def load_opencv(what: str, packages: str) -> Any:  # noqa: ANN401 - an extra, untyped
    """The ``cv2`` module.

    Raises:
        ExtraMissingError: it is not installed.
    """
    try:
        import cv2  # noqa: PLC0415 - an extra
    except ImportError as error:
        raise ExtraMissingError(
            f"{what} need a package that is not installed on this device",
            f"Install {packages} where this runtime's Python finds it.",
        ) from error
    return cv2
