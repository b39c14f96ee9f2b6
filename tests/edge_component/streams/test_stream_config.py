"""Streams as configuration: every wrong field is named, and costs only its own stream."""

from collections.abc import Mapping
from typing import Any

import pytest

from edge_component.contracts.errors import ContractError
from edge_component.streams.config import (
    STREAMS_MAX,
    CameraSource,
    FileSink,
    FolderSource,
    ImageFit,
    StreamConfig,
    TopicSink,
    TopicSource,
    read_stream,
    read_streams,
)

FOLDER = {"kind": "folder", "path": "in"}
FILE = {"kind": "file", "path": "out.jsonl"}


def entry(**changes: Any) -> dict[str, Any]:
    return {"model": "scale", "source": FOLDER, "sink": FILE, **changes}


def test_the_least_that_must_be_said() -> None:
    assert read_stream("gate", entry()) == StreamConfig(
        "gate", "scale", FolderSource("in"), FileSink("out.jsonl"), drop="block"
    )


def test_everything_that_can_be_said_with_numbers_as_text() -> None:
    image = {"layout": "nhwc", "colors": "bgr", "scale": "1", "mean": ["1", 2, 3], "std": [1, 1, 1]}
    stream = read_stream(
        "gate",
        entry(
            source={"kind": "camera", "device": 0, "every_s": "0.5"},
            sink={"kind": "iot_core", "topic": "plant/gate"},
            input="pixels",
            outputs=["label"],
            image=image,
            queue_max="4",
            drop="newest",
            deadline_s="0.2",
        ),
    )
    assert stream == StreamConfig(
        "gate",
        "scale",
        CameraSource("0", 0.5),
        TopicSink("plant/gate", is_local=False),
        "pixels",
        ("label",),
        ImageFit("nhwc", "bgr", 1.0, (1.0, 2.0, 3.0), (1.0, 1.0, 1.0)),
        4,
        "newest",
        0.2,
    )


def test_a_topic_drops_its_oldest_by_default() -> None:
    stream = read_stream("gate", entry(source={"kind": "local_topic", "topic": "edgewright/in"}))
    assert (stream.source, stream.drop) == (TopicSource("edgewright/in"), "oldest")


TOPIC = {"kind": "local_topic", "topic": "edgewright/in/+"}


@pytest.mark.parametrize(
    ("changes", "field"),
    [
        ({"model": ""}, "streams.gate.model"),
        ({"model": 7.5}, "streams.gate.model"),
        ({"source": {"kind": "ftp"}}, "streams.gate.source.kind"),
        ({"source": {"kind": "folder"}}, "streams.gate.source.path"),
        ({"source": {**FOLDER, "poll_s": 0}}, "streams.gate.source.poll_s"),
        ({"source": {**FOLDER, "poll_s": "often"}}, "streams.gate.source.poll_s"),
        ({"source": {**FOLDER, "afterwards": "burn"}}, "streams.gate.source.afterwards"),
        ({"source": {**FOLDER, "patern": "*.npy"}}, "streams.gate.source.patern"),
        ({"source": "in"}, "streams.gate.source"),
        ({"sink": {**FILE, "bytes_max": 10}}, "streams.gate.sink.bytes_max"),
        ({"sink": {**FILE, "files_max": 1.5}}, "streams.gate.sink.files_max"),
        ({"sink": {"kind": "iot_core", "topic": "a/#"}}, "streams.gate.sink.topic"),
        ({"queue_max": 0}, "streams.gate.queue_max"),
        ({"queue_max": True}, "streams.gate.queue_max"),
        ({"drop": "all"}, "streams.gate.drop"),
        ({"deadline_s": -1}, "streams.gate.deadline_s"),
        ({"deadline_s": "nan"}, "streams.gate.deadline_s"),
        ({"outputs": "y"}, "streams.gate.outputs"),
        ({"image": {"mean": [1]}}, "streams.gate.image.mean"),
        ({"image": {"std": [1, 0, 1]}}, "streams.gate.image.std"),
        ({"image": {"colors": "cmyk"}}, "streams.gate.image.colors"),
        ({"qeue_max": 3}, "streams.gate.qeue_max"),
        ({"source": TOPIC, "drop": "block"}, "streams.gate.drop"),
        ({"source": TOPIC, "sink": {"kind": "local_topic", "topic": "edgewright/in/a"}}, "streams.gate.sink.topic"),
    ],
)
def test_a_wrong_field_is_named(changes: Mapping[str, Any], field: str) -> None:
    with pytest.raises(ContractError) as refusal:
        read_stream("gate", entry(**changes))
    assert refusal.value.field == field


@pytest.mark.parametrize("missing", ["model", "source", "sink"])
def test_a_missing_field_is_named(missing: str) -> None:
    with pytest.raises(ContractError, match=f"streams.gate.{missing}: is missing"):
        read_stream("gate", {name: value for name, value in entry().items() if name != missing})


def test_a_wrong_stream_costs_no_other() -> None:
    streams, problems = read_streams({"streams": {"good": entry(), "bad": entry(drop="all"), "a/b": entry(), "no": 3}})
    assert [stream.name for stream in streams] == ["good"]
    assert [problem.split(":")[0] for problem in problems] == [
        "configuration field streams.bad.drop",
        "configuration field streams.a/b",
        "configuration field streams.no",
    ]


def test_no_streams_and_too_many() -> None:
    assert read_streams({}) == ((), ())
    assert read_streams({"streams": [1]})[1] == ("configuration field streams: must be an object of streams by name",)
    streams, problems = read_streams({"streams": {f"s{number}": entry() for number in range(STREAMS_MAX + 1)}})
    assert len(streams) == STREAMS_MAX
    assert "17 streams" in problems[0]
