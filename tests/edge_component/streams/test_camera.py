"""A camera as a source: through OpenCV where it is installed (a video file is a camera to it), and one that is unplugged."""

import sys
import threading
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from edge_component.contracts.manifest import TensorSpec
from edge_component.streams.camera import CameraReader
from edge_component.streams.config import CameraSource, ImageFit
from edge_component.streams.errors import ExtraMissingError, SourceFailedError
from edge_component.streams.samples import Sample

SPEC = TensorSpec("pixels", "uint8", (1, 4, 6, 3))
FIT = ImageFit(layout="nhwc")


def reader(device: str) -> CameraReader:
    return CameraReader(CameraSource(device, every_s=0.0), "", FIT)


def unplugged(frames: list[np.ndarray], opened: list[object], released: list[bool]) -> SimpleNamespace:
    """As much of ``cv2`` as a camera needs; it gives these frames and then none."""

    class Capture:
        def __init__(self, device: object) -> None:
            opened.append(device)

        def isOpened(self) -> bool:  # noqa: N802 - OpenCV's name
            return opened[-1] != 9

        def read(self) -> tuple[bool, Any]:
            return (True, frames.pop(0)) if frames else (False, None)

        def release(self) -> None:
            released.append(True)

    def resize(frame: np.ndarray, size: tuple[int, int], interpolation: int) -> np.ndarray:
        assert size == (6, 4), "OpenCV takes the width first"
        return frame

    return SimpleNamespace(VideoCapture=Capture, resize=resize, INTER_LINEAR=1)


def test_frames_until_it_is_unplugged(monkeypatch: pytest.MonkeyPatch) -> None:
    blue = np.zeros((4, 6, 3), np.uint8)
    blue[..., 0] = 200
    opened: list[object] = []
    released: list[bool] = []
    monkeypatch.setitem(sys.modules, "cv2", unplugged([blue, blue], opened, released))
    samples: list[Sample] = []
    with pytest.raises(SourceFailedError, match="camera 0 gives no frame any more"):
        reader("0").run(samples.append, threading.Event())
    assert (opened, released) == ([0], [True])
    assert [sample.origin for sample in samples] == ["frame 1", "frame 2"]
    pixels = samples[0].load([SPEC])["pixels"]
    assert pixels.shape == (1, 4, 6, 3)
    assert pixels[0, 0, 0].tolist() == [0, 0, 200], "red comes first"


def test_a_camera_that_cannot_be_opened_is_let_go_of(monkeypatch: pytest.MonkeyPatch) -> None:
    released: list[bool] = []
    monkeypatch.setitem(sys.modules, "cv2", unplugged([], [], released))
    with pytest.raises(SourceFailedError, match="camera 9 cannot be opened"):
        reader("9").run(lambda sample: None, threading.Event())
    assert released == [True]


def test_without_opencv_the_package_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "cv2", None)
    with pytest.raises(ExtraMissingError, match="cameras need a package") as missing:
        reader("0").run(lambda sample: None, threading.Event())
    assert "opencv-python-headless" in missing.value.remedy


def test_real_opencv_reads_a_video_as_a_camera(tmp_path: Path) -> None:
    cv2 = pytest.importorskip("cv2", reason="opencv-python-headless is not installed: pip install it")
    path = tmp_path / "video.avi"
    writer = cv2.VideoWriter(str(path), cv2.VideoWriter_fourcc(*"MJPG"), 10, (64, 48))
    red = np.zeros((48, 64, 3), np.uint8)
    red[..., 2] = 250
    for _ in range(5):
        writer.write(red)
    writer.release()
    samples: list[Sample] = []
    with pytest.raises(SourceFailedError, match="gives no frame any more"):
        reader(str(path)).run(samples.append, threading.Event())
    assert len(samples) == 5
    pixels = samples[-1].load([SPEC])["pixels"]
    assert pixels.shape == (1, 4, 6, 3)
    assert pixels[0, 2, 3, 0] > 200
    assert pixels[0, 2, 3, 2] < 50
