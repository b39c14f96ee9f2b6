"""Streams as configuration: pure values out of the component's configuration, and errors that name the field.

The failure this exists for: a pipeline that silently does something else than its owner wrote. A stream with a field
that is wrong, missing or unknown is not started, and the sentence says which; the other streams are. Numbers may be
strings, since that is how YAML scalars arrive on Greengrass Lite.

The table of all fields is in this folder's README. Nothing is opened here; relative paths are the component's.
"""

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from edge_component.contracts.codec import Fields, as_number, as_text
from edge_component.contracts.errors import ContractError, MalformedError
from edge_component.nucleus_port import topic_matches

STREAMS_FIELD = "streams"
STREAMS_MAX = 16
NAME_PATTERN = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]{0,63}")
DROP_POLICIES = ("oldest", "newest", "block")
AFTERWARDS = ("move", "delete", "keep")
LAYOUTS = ("nchw", "nhwc")
COLORS = ("rgb", "bgr", "gray")


@dataclass(frozen=True, slots=True)
class FolderSource:
    """Files of a folder, in order of their names; each is settled by moving it, deleting it or remembering it.

    Attributes:
        afterwards: ``move`` into ``done/``, ``failed/`` or ``dropped/`` beside it; ``delete``; or ``keep``, which
            remembers what was seen until the next start.
        poll_s: between two looks; a file is taken once it is the same in two of them.
        file_bytes_max: larger ones fail.
    """

    path: str
    pattern: str = "*"
    afterwards: str = "move"
    poll_s: float = 1.0
    file_bytes_max: int = 64_000_000


@dataclass(frozen=True, slots=True)
class TopicSource:
    """Messages under a Greengrass local topic filter: JSON, or the bytes of an ``.npy`` file."""

    topic: str


@dataclass(frozen=True, slots=True)
class CameraSource:
    """Frames through OpenCV; ``device`` is a number, a device path or a URL, ``every_s`` the time between two frames."""

    device: str
    every_s: float = 1.0


@dataclass(frozen=True, slots=True)
class TopicSink:
    """Results as JSON messages; ``is_local`` for Greengrass local topics, else AWS IoT Core."""

    topic: str
    is_local: bool


@dataclass(frozen=True, slots=True)
class FileSink:
    """Results as JSON lines; ``files_max`` files of ``bytes_max`` each, of which the oldest is deleted for a new one."""

    path: str
    bytes_max: int = 10_000_000
    files_max: int = 2


@dataclass(frozen=True, slots=True)
class ImageFit:
    """How an image becomes a tensor: resized to the model's, then ``(pixel * scale - mean) / std`` for each channel."""

    layout: str = "nchw"
    colors: str = "rgb"
    scale: float = 1 / 255
    mean: tuple[float, ...] = ()
    std: tuple[float, ...] = ()


@dataclass(frozen=True, slots=True)
class StreamConfig:
    """One pipeline.

    Attributes:
        model: a name that the router knows: a model's, an alias, or ``name@version``.
        input_name: which input a single array or image is; empty for the model's only one.
        output_names: which outputs are told; empty for all.
        queue_max: samples that wait for the model.
        drop: what gives way when the queue is full: the ``oldest`` in it, the ``newest`` that comes, or nobody
            (``block``: the source waits).
        deadline_s: of one prediction; 0 leaves it to the runtime.
    """

    name: str
    model: str
    source: FolderSource | TopicSource | CameraSource
    sink: TopicSink | FileSink
    input_name: str = ""
    output_names: tuple[str, ...] = ()
    image: ImageFit = ImageFit()
    queue_max: int = 16
    drop: str = "oldest"
    deadline_s: float = 0.0


def read_streams(document: Mapping[str, Any]) -> tuple[tuple[StreamConfig, ...], tuple[str, ...]]:
    """The streams of a component's configuration, and one sentence for each that cannot be run as it is written."""
    entries = document.get(STREAMS_FIELD)
    if entries is None:
        return (), ()
    if not isinstance(entries, Mapping):
        return (), (f"configuration field {STREAMS_FIELD}: must be an object of streams by name",)
    streams: list[StreamConfig] = []
    problems: list[str] = []
    for name, entry in entries.items():
        try:
            streams.append(read_stream(str(name), entry))
        except ContractError as error:
            problems.append(f"configuration field {error}; this stream is not run")
    if len(streams) > STREAMS_MAX:
        problems.append(f"configuration field {STREAMS_FIELD}: {len(streams)} streams; the first {STREAMS_MAX} are run")
    return tuple(streams[:STREAMS_MAX]), tuple(problems)


def read_stream(name: str, entry: object) -> StreamConfig:
    """One stream.

    Raises:
        ContractError: naming the field.
    """
    where = f"{STREAMS_FIELD}.{name}"
    if not NAME_PATTERN.fullmatch(name):
        raise MalformedError(f"a stream's name matches {NAME_PATTERN.pattern}", where)
    reader = _Reader(entry, where)
    source = reader.nested("source", _read_source)
    sink = reader.nested("sink", _read_sink)
    stream = StreamConfig(
        name=name,
        model=reader.text("model"),
        source=source,
        sink=sink,
        input_name=reader.text("input", ""),
        output_names=reader.texts("outputs"),
        image=reader.nested("image", _read_image) if reader.has("image") else ImageFit(),
        queue_max=reader.whole("queue_max", 16, minimum=1, maximum=10_000),
        drop=reader.choice("drop", DROP_POLICIES, "block" if isinstance(source, FolderSource) else "oldest"),
        deadline_s=reader.number("deadline_s", 0.0, minimum=0.0),
    )
    reader.end()
    _check_together(stream, where)
    return stream


def _check_together(stream: StreamConfig, where: str) -> None:
    source, sink = stream.source, stream.sink
    if isinstance(source, TopicSource):
        if stream.drop == "block":
            raise MalformedError("a topic cannot wait; choose oldest or newest", f"{where}.drop")
        if isinstance(sink, TopicSink) and sink.is_local and topic_matches(source.topic, sink.topic):
            raise MalformedError("the source's topic covers it: the stream would feed itself", f"{where}.sink.topic")


def _read_source(value: object, where: str) -> FolderSource | TopicSource | CameraSource:
    reader = _Reader(value, where)
    source: FolderSource | TopicSource | CameraSource
    match reader.choice("kind", ("folder", "local_topic", "camera")):
        case "folder":
            source = FolderSource(
                path=reader.text("path"),
                pattern=reader.text("pattern", "*"),
                afterwards=reader.choice("afterwards", AFTERWARDS, "move"),
                poll_s=reader.number("poll_s", 1.0, minimum=0.05),
                file_bytes_max=reader.whole("file_bytes_max", 64_000_000, minimum=1, maximum=2**31),
            )
        case "local_topic":
            source = TopicSource(reader.text("topic"))
        case _:
            source = CameraSource(reader.text("device"), reader.number("every_s", 1.0, minimum=0.0))
    reader.end()
    return source


def _read_sink(value: object, where: str) -> TopicSink | FileSink:
    reader = _Reader(value, where)
    sink: TopicSink | FileSink
    match reader.choice("kind", ("local_topic", "iot_core", "file")):
        case "file":
            sink = FileSink(
                path=reader.text("path"),
                bytes_max=reader.whole("bytes_max", 10_000_000, minimum=4_096, maximum=2**40),
                files_max=reader.whole("files_max", 2, minimum=1, maximum=1_000),
            )
        case kind:
            topic = reader.text("topic")
            if "+" in topic or "#" in topic:
                raise MalformedError("a sink's topic holds no wildcards", f"{where}.topic")
            sink = TopicSink(topic, is_local=kind == "local_topic")
    reader.end()
    return sink


def _read_image(value: object, where: str) -> ImageFit:
    reader = _Reader(value, where)
    fit = ImageFit(
        layout=reader.choice("layout", LAYOUTS, "nchw"),
        colors=reader.choice("colors", COLORS, "rgb"),
        scale=reader.number("scale", 1 / 255, minimum=0.0),
        mean=reader.numbers("mean"),
        std=reader.numbers("std"),
    )
    reader.end()
    for name, values in (("mean", fit.mean), ("std", fit.std)):
        if len(values) not in {0, 1 if fit.colors == "gray" else 3}:
            raise MalformedError(f"needs one number for each channel of {fit.colors}", f"{where}.{name}")
    if 0.0 in fit.std:
        raise MalformedError("must not be 0", f"{where}.std")
    return fit


class _Reader:
    """Fields with defaults, numbers that may be text, and a complaint about what nobody asked for."""

    def __init__(self, value: object, where: str) -> None:
        self._fields = Fields(value, where)
        self._names = frozenset(value) if isinstance(value, Mapping) else frozenset()
        self._where = where

    def has(self, name: str) -> bool:
        return name in self._names

    def text(self, name: str, default: str | None = None) -> str:
        if default is not None and not self.has(name):
            return default
        found = self._fields.nested(name, _scalar_text)
        if not found and default is None:
            raise MalformedError("must not be empty", self._fields.path(name))
        return found

    def choice(self, name: str, allowed: tuple[str, ...], default: str | None = None) -> str:
        return self._fields.choice(name, allowed) if default is None or self.has(name) else default

    def number(self, name: str, default: float, *, minimum: float) -> float:
        if not self.has(name):
            return default
        number = self._fields.nested(name, _number)
        if number < minimum:
            raise MalformedError(f"must be at least {minimum:g}", self._fields.path(name))
        return number

    def whole(self, name: str, default: int, *, minimum: int, maximum: int) -> int:
        number = self.number(name, default, minimum=minimum)
        if number != int(number) or number > maximum:
            raise MalformedError(f"must be a whole number of at most {maximum}", self._fields.path(name))
        return int(number)

    def texts(self, name: str) -> tuple[str, ...]:
        return self._fields.items(name, as_text) if self.has(name) else ()

    def numbers(self, name: str) -> tuple[float, ...]:
        return self._fields.items(name, _number) if self.has(name) else ()

    def nested(self, name: str, read: Callable[[object, str], Any]) -> Any:  # noqa: ANN401 - what the reader returns
        return self._fields.nested(name, read)

    def end(self) -> None:
        unknown = sorted(self._fields.rest())
        if unknown:
            raise MalformedError("is not a field of this table", f"{self._where}.{unknown[0]}")


def _number(value: object, where: str) -> float:
    if isinstance(value, str):
        try:
            value = float(value)
        except ValueError:
            raise MalformedError(f"must be a number, not {value!r}", where) from None
    return as_number(value, where)


def _scalar_text(value: object, where: str) -> str:
    """A camera's number may come as a number."""
    return str(value) if isinstance(value, int) and not isinstance(value, bool) else as_text(value, where)
