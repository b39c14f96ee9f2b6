"""Where results go: a Greengrass local topic, AWS IoT Core, or a file of JSON lines.

The failure this exists for: a result that is counted as told and never was. A sink takes a result, or raises: held (the
same result is tried again), or refused for good (it is counted, and the stream goes on).
"""

import os
from itertools import pairwise
from pathlib import Path
from typing import Protocol

from edge_component.nucleus_errors import NucleusRefusedError, NucleusUnavailableError
from edge_component.nucleus_port import Nucleus
from edge_component.streams.config import FileSink, StreamConfig, TopicSink
from edge_component.streams.errors import NucleusMissingError, SampleError, SinkFailedError


class Sink(Protocol):
    """Takes results."""

    def put(self, result: bytes) -> None:
        """One result, as one JSON object without a newline.

        Raises:
            HeldError: not now; the same result is offered again.
            SampleError: never in this form.
        """

    def close(self) -> None:
        """The stream has ended."""


class TopicPublisher:
    """A :class:`Sink` into a topic."""

    def __init__(self, sink: TopicSink, nucleus: Nucleus | None) -> None:
        """Nothing is sent."""
        self._sink = sink
        self._nucleus = nucleus

    def put(self, result: bytes) -> None:
        """See :class:`Sink`."""
        if self._nucleus is None:
            raise NucleusMissingError(f"a stream to {self._sink.topic} needs a Greengrass nucleus")
        publish = self._nucleus.publish_local if self._sink.is_local else self._nucleus.publish
        try:
            publish(self._sink.topic, result)
        except NucleusUnavailableError as error:
            raise SinkFailedError(f"{self._sink.topic}: {error}") from error
        except NucleusRefusedError as error:
            raise SampleError(f"{self._sink.topic}: {error}", error.remedy) from error

    def close(self) -> None:
        """See :class:`Sink`; the connection is the runtime's."""


class JsonLines:
    """A :class:`Sink` into files: ``path``, then ``path.1`` and so on, the oldest of which is deleted for a new one.

    A line is written whole or not at all: what a full disk or a killed process left of one is cut off before the next.
    Lines are not fsynced one by one: a power cut may cost the last few seconds of them.
    """

    def __init__(self, sink: FileSink, path: Path) -> None:
        """``path``: the sink's, made absolute; opened with the first result."""
        self._sink = sink
        self._path = path
        self._descriptor = -1
        self._size_bytes = 0

    def put(self, result: bytes) -> None:
        """See :class:`Sink`."""
        line = result + b"\n"
        if len(line) > self._sink.bytes_max:
            raise SampleError(f"a result of {len(line)} bytes; the file holds {self._sink.bytes_max}")
        try:
            if self._descriptor < 0:
                self._open()
            if self._size_bytes + len(line) > self._sink.bytes_max:
                self._rotate()
            self._append(line)
        except OSError as error:
            self.close()
            raise SinkFailedError(f"{self._path}: {error.strerror or error}") from error

    def close(self) -> None:
        """See :class:`Sink`."""
        if self._descriptor >= 0:
            os.close(self._descriptor)
            self._descriptor = -1

    def _open(self) -> None:
        self._path.parent.mkdir(parents=True, exist_ok=True)
        self._descriptor = os.open(self._path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o640)
        self._size_bytes = whole_lines_bytes(self._descriptor)
        os.ftruncate(self._descriptor, self._size_bytes)

    def _append(self, line: bytes) -> None:
        written_bytes = os.pwrite(self._descriptor, line, self._size_bytes)
        if written_bytes < len(line):
            os.ftruncate(self._descriptor, self._size_bytes)
            raise OSError(None, "no room for a whole line")
        self._size_bytes += len(line)

    def _rotate(self) -> None:
        self.close()
        older = [self._path, *(Path(f"{self._path}.{number}") for number in range(1, self._sink.files_max))]
        older[-1].unlink(missing_ok=True)
        for newer, name in reversed(list(pairwise(older))):
            if newer.exists():
                newer.rename(name)
        self._open()


def whole_lines_bytes(descriptor: int, block_bytes: int = 65_536) -> int:
    """How far a file goes up to its last newline."""
    end = os.fstat(descriptor).st_size
    while end > 0:
        start = max(end - block_bytes, 0)
        at = os.pread(descriptor, end - start, start).rfind(b"\n")
        if at >= 0:
            return start + at + 1
        end = start
    return 0


def make_sink(stream: StreamConfig, work_path: Path, nucleus: Nucleus | None) -> Sink:
    """The sink that a stream is configured with."""
    if isinstance(stream.sink, FileSink):
        return JsonLines(stream.sink, work_path / stream.sink.path)
    return TopicPublisher(stream.sink, nucleus)
