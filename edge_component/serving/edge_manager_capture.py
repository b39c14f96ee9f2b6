"""Captures: tensors that a client wants kept, as JSON lines on this device, in SageMaker's data-capture format.

The failure this exists for: a capture that is said to be done and is not on disk, and one that fills it. The agent could
send captures to S3 or keep them on disk; this keeps them on disk, bounded, oldest first away, and sends none: what leaves
the device by itself are counts (telemetry/). One thread writes; the status of the last so many captures is remembered.
"""

import base64
import json
import logging
import queue
import threading
from collections import OrderedDict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from enum import IntEnum
from pathlib import Path
from uuid import UUID

from edge_component.contracts.codec import Document, format_moment, to_bytes
from edge_component.errors import DeviceError
from edge_component.serving.edge_manager_errors import (
    CaptureFullError,
    CaptureFutureError,
    CaptureIdError,
    CaptureOffError,
    CaptureRepeatedError,
)
from edge_component.streams.config import FileSink
from edge_component.streams.sinks import JsonLines

log = logging.getLogger(__name__)

CAPTURES_FILE = Path("captures") / "edge-manager.jsonl"
FILES_MAX = 4
WAITING_MAX = 64
WAITING_BYTES_MAX = 64_000_000
REMEMBERED_MAX = 4_096
CLOCK_TOLERANCE = timedelta(seconds=1)


class CaptureStatus(IntEnum):
    """The protocol's numbers."""

    FAILURE = 0
    SUCCESS = 1
    IN_PROGRESS = 2
    NOT_FOUND = 3


@dataclass(frozen=True, slots=True)
class CapturedTensor:
    """A tensor or auxiliary datum; ``kind`` is its data type's or encoding's name."""

    name: str
    kind: str
    shape: tuple[int, ...]
    content: bytes


@dataclass(frozen=True, slots=True)
class Capture:
    """One call's data."""

    capture_id: str
    model_name: str
    inferred_at: datetime
    inputs: Sequence[CapturedTensor]
    outputs: Sequence[CapturedTensor]

    @property
    def size_bytes(self) -> int:
        """Of all contents."""
        return sum(len(tensor.content) for tensor in (*self.inputs, *self.outputs))


def check_capture(capture_id: str, seconds: int, nanos: int, now: datetime) -> datetime:
    """The inference's time.

    Raises:
        CaptureIdError: not a UUID.
        CaptureFutureError: later than now; or a time that there is not.
    """
    try:
        UUID(capture_id)
    except ValueError as error:
        raise CaptureIdError(f"{capture_id[:64]!r} is no UUID") from error
    try:
        inferred_at = datetime.fromtimestamp(seconds, UTC) + timedelta(microseconds=nanos // 1000)
    except (ValueError, OverflowError, OSError) as error:
        raise CaptureFutureError(f"{seconds} s is no time") from error
    if inferred_at > now + CLOCK_TOLERANCE:
        raise CaptureFutureError(f"{format_moment(inferred_at)} is in the future; it is {format_moment(now)}")
    return inferred_at


def capture_document(capture: Capture) -> Document:
    """As SageMaker's data capture writes a request and its answer."""
    return {
        "eventVersion": "0",
        "eventMetadata": {"eventId": capture.capture_id, "inferenceTime": format_moment(capture.inferred_at)},
        "captureData": {
            "endpointInput": _captured("INPUT", capture.inputs),
            "endpointOutput": _captured("OUTPUT", capture.outputs),
        },
        "modelName": capture.model_name,
    }


def _captured(mode: str, tensors: Sequence[CapturedTensor]) -> Mapping[str, str]:
    listed = [
        {
            "name": tensor.name,
            "kind": tensor.kind,
            "shape": list(tensor.shape),
            "base64": base64.b64encode(tensor.content).decode(),
        }
        for tensor in tensors
    ]
    return {
        "observedContentType": "application/json",
        "mode": mode,
        "encoding": "JSON",
        "data": json.dumps(listed, sort_keys=True),
    }


class Captures:
    """Takes captures, and writes them one after the other. Any thread may call anything."""

    def __init__(self, work_path: Path, bytes_max: int) -> None:
        """``bytes_max`` of disk for all of them; 0 switches captures off."""
        self._is_on = bytes_max > 0
        self._file = JsonLines(
            FileSink(str(CAPTURES_FILE), max(bytes_max // FILES_MAX, 1), FILES_MAX), work_path / CAPTURES_FILE
        )
        self._waiting: queue.SimpleQueue[Capture | None] = queue.SimpleQueue()
        self._waiting_count = 0
        self._waiting_bytes = 0
        self._statuses: OrderedDict[str, CaptureStatus] = OrderedDict()
        self._lock = threading.Lock()
        self._thread = threading.Thread(target=self._write_all, name="captures", daemon=True)

    def start(self) -> None:
        """Begin to write."""
        if self._is_on:
            self._thread.start()

    def stop(self) -> None:
        """Write what waits, and end."""
        self._waiting.put(None)
        if self._thread.ident is not None:
            self._thread.join()
        self._file.close()

    def check_on(self) -> None:
        """Raise CaptureOffError where captures are switched off."""
        if not self._is_on:
            raise CaptureOffError("captures are switched off on this device")

    def take(self, capture: Capture) -> None:
        """Keep it; its status is IN_PROGRESS from now on.

        Raises:
            CaptureOffError: captures are switched off.
            CaptureRepeatedError: an id that was taken before.
            CaptureFullError: too many wait.
        """
        self.check_on()
        with self._lock:
            if capture.capture_id in self._statuses:
                raise CaptureRepeatedError(f"capture {capture.capture_id} was taken before")
            if self._waiting_count >= WAITING_MAX or self._waiting_bytes + capture.size_bytes > WAITING_BYTES_MAX:
                raise CaptureFullError(f"{self._waiting_count} captures of {self._waiting_bytes} bytes wait")
            self._waiting_count += 1
            self._waiting_bytes += capture.size_bytes
            self._statuses[capture.capture_id] = CaptureStatus.IN_PROGRESS
            while len(self._statuses) > REMEMBERED_MAX:
                self._statuses.popitem(last=False)
        self._waiting.put(capture)

    def status(self, capture_id: str) -> CaptureStatus:
        """What became of it; NOT_FOUND for one that was never taken, or too long ago."""
        with self._lock:
            return self._statuses.get(capture_id, CaptureStatus.NOT_FOUND)

    def _write_all(self) -> None:
        while (capture := self._waiting.get()) is not None:
            status = self._write(capture)
            with self._lock:
                self._waiting_count -= 1
                self._waiting_bytes -= capture.size_bytes
                if capture.capture_id in self._statuses:
                    self._statuses[capture.capture_id] = status

    def _write(self, capture: Capture) -> CaptureStatus:
        try:
            self._file.put(to_bytes(capture_document(capture)))
        except DeviceError as error:
            log.warning("capture %s is not kept: %s", capture.capture_id, error)
            return CaptureStatus.FAILURE
        except Exception:  # a defect costs this capture
            log.exception("capture %s ended in an unforeseen error", capture.capture_id)
            return CaptureStatus.FAILURE
        return CaptureStatus.SUCCESS
