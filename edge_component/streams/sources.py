"""Where samples come from: a folder, or a Greengrass local topic; a camera is camera.py.

The failures this exists for: a file that is read while it is still being written (so it must look the same twice), one
that is lost or answered twice because the runtime restarted (so it is moved once its result is out, and taken again if
not), one that is put away unread because it took the name of one under way, and a symbolic link that makes the runtime
read what its own user may and the folder's owner may not.

A source runs on a thread of its own and gives samples to ``offer``; whether that waits is the queue's business.
"""

import fnmatch
import logging
import os
import threading
from collections.abc import Iterator
from pathlib import Path

from edge_component.nucleus_port import Nucleus
from edge_component.streams.camera import CameraReader
from edge_component.streams.config import FolderSource, ImageFit, StreamConfig, TopicSource
from edge_component.streams.errors import NucleusMissingError, SampleError, SourceFailedError
from edge_component.streams.images import SUFFIXES, decode_image
from edge_component.streams.samples import (
    NPY_MAGIC,
    Inputs,
    Outcome,
    Sample,
    Specs,
    chosen_input,
    decode_json,
    decode_npy,
    decode_npz,
)
from edge_component.streams.source_port import Offer, Source

log = logging.getLogger(__name__)

Stat = tuple[int, int, int]
"""Inode, size and time of the last change: a file that keeps them is the same, and is not being written."""


class FolderReader:
    """A :class:`~edge_component.streams.source_port.Source` over a folder's files."""

    def __init__(self, source: FolderSource, folder: Path, input_name: str, image: ImageFit) -> None:
        """``folder``: the source's path, made absolute."""
        self._source = source
        self._folder = folder
        self._input_name = input_name
        self._image = image
        self._before: dict[str, Stat] = {}
        self._offered: dict[str, Stat] = {}

    def run(self, offer: Offer, stopping: threading.Event) -> None:
        """See :class:`~edge_component.streams.source_port.Source`."""
        while not stopping.is_set():
            for name in self.settled_names():
                if stopping.is_set():
                    return
                offer(self._sample(name))
            stopping.wait(self._source.poll_s)

    def settled_names(self) -> list[str]:
        """Files that have not changed since the last look, and were not offered yet; sorted.

        Raises:
            SourceFailedError: the folder cannot be listed.
        """
        try:
            now = dict(self._files())
        except OSError as error:
            raise SourceFailedError(f"{self._folder}: {error.strerror or error}") from error
        self._offered = {name: stat for name, stat in self._offered.items() if now.get(name) == stat}
        ready = sorted(
            name for name, stat in now.items() if self._before.get(name) == stat and name not in self._offered
        )
        self._before = now
        self._offered |= {name: now[name] for name in ready}
        return ready

    def _files(self) -> Iterator[tuple[str, Stat]]:
        with os.scandir(self._folder) as entries:
            for entry in entries:
                if entry.name.startswith(".") or not fnmatch.fnmatch(entry.name, self._source.pattern):
                    continue
                if entry.is_file(follow_symlinks=False):
                    yield entry.name, _as_stat(entry.stat(follow_symlinks=False))

    def _sample(self, name: str) -> Sample:
        path = self._folder / name
        taken = [self._offered[name]]

        def load(specs: Specs) -> Inputs:
            taken[0] = _stat_of(path) or taken[0]
            return self._load(path, specs)

        def settle(outcome: Outcome) -> None:
            now = _stat_of(path)
            if now is None or now == taken[0]:  # else another has taken its name since, and is not read yet
                self._settle(path, outcome)

        return Sample(name, load, settle)

    def _load(self, path: Path, specs: Specs) -> Inputs:
        content = read_bounded(path, self._source.file_bytes_max)
        match path.suffix.lower():
            case ".npy":
                return decode_npy(content, specs, self._input_name)
            case ".npz":
                return decode_npz(content, specs)
            case ".json":
                return decode_json(content, specs, self._input_name)
            case suffix if suffix in SUFFIXES:
                spec = chosen_input(specs, self._input_name)
                return {spec.name: decode_image(content, spec, self._image)}
            case suffix:
                raise SampleError(
                    f"{suffix or 'a file without a suffix'} is none of .npy .npz .json {' '.join(SUFFIXES)}"
                )

    def _settle(self, path: Path, outcome: Outcome) -> None:
        """The file out of the way; one that cannot be moved stays, and is not offered again before the next start."""
        try:
            if self._source.afterwards == "delete" and outcome is Outcome.DELIVERED:
                path.unlink()
            elif self._source.afterwards != "keep":
                target = path.parent / outcome.value
                target.mkdir(exist_ok=True)
                path.rename(_free_name(target / path.name))
        except OSError as error:
            log.warning("%s could not be put away as %s: %s", path, outcome.value, error)


def _as_stat(seen: os.stat_result) -> Stat:
    return seen.st_ino, seen.st_size, seen.st_mtime_ns


def _stat_of(path: Path) -> Stat | None:
    try:
        return _as_stat(path.lstat())
    except OSError:
        return None


def _free_name(path: Path) -> Path:
    """This name, or one with a number where an earlier file has it."""
    number = 1
    free = path
    while free.exists():
        number += 1
        free = path.with_stem(f"{path.stem}-{number}")
    return free


class TopicListener:
    """A :class:`~edge_component.streams.source_port.Source` over a local topic."""

    def __init__(self, source: TopicSource, nucleus: Nucleus | None, input_name: str) -> None:
        """Nothing is subscribed before :meth:`run`."""
        self._source = source
        self._nucleus = nucleus
        self._input_name = input_name
        self._offer: Offer | None = None

    def run(self, offer: Offer, stopping: threading.Event) -> None:
        """See the port. It keeps the subscription for good; a stream that has ended does not hear it."""
        if self._nucleus is None:
            raise NucleusMissingError(f"a stream from {self._source.topic} needs a Greengrass nucleus")
        self._offer = offer
        self._nucleus.subscribe_local(self._source.topic, self._receive)
        stopping.wait()
        self._offer = None

    def _receive(self, topic: str, payload: bytes) -> None:
        if self._offer is not None:
            self._offer(Sample(topic, lambda specs: self._load(payload, specs)))

    def _load(self, payload: bytes, specs: Specs) -> Inputs:
        if payload.startswith(NPY_MAGIC):
            return decode_npy(payload, specs, self._input_name)
        return decode_json(payload, specs, self._input_name)


def read_bounded(path: Path, bytes_max: int) -> bytes:
    """A file's content, never through a symbolic link.

    Raises:
        SampleError: it is gone, larger, or may not be read.
    """
    try:
        with open(os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC), "rb") as file:  # noqa: PTH123 - O_NOFOLLOW
            content = file.read(bytes_max + 1)
    except OSError as error:
        raise SampleError(f"{path.name}: {error.strerror or error}") from error
    if len(content) > bytes_max:
        raise SampleError(f"{path.name} is larger than {bytes_max} bytes", "Raise the source's file_bytes_max.")
    return content


def make_source(stream: StreamConfig, work_path: Path, nucleus: Nucleus | None) -> Source:
    """The source that a stream is configured with."""
    match stream.source:
        case FolderSource() as source:
            return FolderReader(source, work_path / source.path, stream.input_name, stream.image)
        case TopicSource() as source:
            return TopicListener(source, nucleus, stream.input_name)
        case source:
            return CameraReader(source, stream.input_name, stream.image)
