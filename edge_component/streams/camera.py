"""A camera, or anything else that OpenCV's ``VideoCapture`` opens, as a source of frames.

The failure this exists for: a camera that is unplugged, and a stream that ends with it. A camera that gives no frame is
let go of and opened again later; how often is the stream's business. OpenCV is an extra, imported when a stream needs it.
"""

import threading
from typing import Any

from edge_component.streams.config import CameraSource, ImageFit
from edge_component.streams.errors import SourceFailedError
from edge_component.streams.images import fit_pixels, load_opencv, resized, target_size
from edge_component.streams.samples import Inputs, Sample, Specs, chosen_input
from edge_component.streams.source_port import Offer


class CameraReader:
    """A :class:`~edge_component.streams.source_port.Source` of frames."""

    def __init__(self, source: CameraSource, input_name: str, image: ImageFit) -> None:
        """Nothing is opened before :meth:`run`."""
        self._source = source
        self._input_name = input_name
        self._image = image
        self._frames_count = 0

    def run(self, offer: Offer, stopping: threading.Event) -> None:
        """See :class:`~edge_component.streams.source_port.Source`."""
        cv2 = load_opencv("cameras", "opencv-python-headless")
        device = self._source.device
        capture = cv2.VideoCapture(int(device) if device.isdecimal() else device)
        try:
            if not capture.isOpened():
                raise SourceFailedError(f"camera {device} cannot be opened")
            while not stopping.is_set():
                offer(self._sample(cv2, self._frame(capture)))
                stopping.wait(self._source.every_s)
        finally:
            capture.release()

    def _frame(self, capture: Any) -> Any:  # noqa: ANN401 - an extra, untyped
        is_read, frame = capture.read()
        if not is_read:
            raise SourceFailedError(f"camera {self._source.device} gives no frame any more")
        return frame

    def _sample(self, cv2: Any, frame: Any) -> Sample:  # noqa: ANN401 - as above
        self._frames_count += 1

        def load(specs: Specs) -> Inputs:
            spec = chosen_input(specs, self._input_name)
            pixels = resized(cv2, frame, target_size(spec, self._image))
            return {spec.name: fit_pixels(pixels, spec, self._image)}

        return Sample(f"frame {self._frames_count}", load)
