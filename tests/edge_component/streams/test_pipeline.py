"""A stream at work: every sample ends in one counter, and what is away is waited for."""

import itertools
import json
import os
import threading
import time
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, strategies as st

from edge_component.backoff import Backoff
from edge_component.contracts.heartbeat import ModelRef
from edge_component.contracts.manifest import TensorSpec
from edge_component.errors import DeviceError, UnknownModelError
from edge_component.inference.errors import InputNanError, OverloadedError
from edge_component.nucleus_port import InMemoryNucleus
from edge_component.observability.stream_figures import stream_families
from edge_component.serving.predictor import Prediction
from edge_component.streams.bounded_queue import BoundedQueue
from edge_component.streams.conductor import Streams
from edge_component.streams.config import FileSink, StreamConfig, read_stream
from edge_component.streams.errors import SinkFailedError
from edge_component.streams.pipeline import Stream, StreamParts, listed
from edge_component.streams.sinks import JsonLines, make_sink
from edge_component.streams.sources import make_source

WAIT_S = 15.0
AT = datetime(2026, 3, 1, tzinfo=UTC)


def eventually(condition: Callable[[], bool], what: str) -> None:
    deadline = time.monotonic() + WAIT_S
    while not condition():
        assert time.monotonic() < deadline, f"never: {what}"
        time.sleep(0.005)


@dataclass
class Doubler:
    """Models without a runtime: ``y = 2 x``; ``failures`` are raised one after another first."""

    failures: list[DeviceError] = field(default_factory=list)
    gate: threading.Event = field(default_factory=threading.Event)
    is_closed: bool = False

    def __post_init__(self) -> None:
        self.gate.set()

    def inputs(self, model: str) -> tuple[TensorSpec, ...]:
        return (TensorSpec("x", "float32", (-1, 3)),)

    def predict(self, model: str, inputs: Mapping[str, Any], deadline_s: float, request_id: str) -> Prediction:
        assert self.gate.wait(WAIT_S)
        if self.failures:
            raise self.failures.pop(0)
        return Prediction(ModelRef("scale", "1.0.0", "a" * 64), {"y": inputs["x"] * 2}, 7)

    def close(self) -> None:
        self.is_closed = True


@dataclass
class Bench:
    """One stream over real files and an in-memory nucleus."""

    folder: Path
    nucleus: InMemoryNucleus = field(default_factory=InMemoryNucleus)
    models: Doubler = field(default_factory=Doubler)
    streams: list[Stream] = field(default_factory=list)

    def make(self, config: StreamConfig) -> Stream:
        stream = Stream(
            StreamParts(
                config,
                make_source(config, self.folder, self.nucleus),
                make_sink(config, self.folder, self.nucleus),
                self.models,
                lambda: AT,
                lambda: 0.5,
                Backoff(0.01, 0.05),
            )
        )
        self.streams.append(stream)
        return stream

    def start(self, **entry: Any) -> Stream:
        stream = self.make(read_stream("test", {"model": "scale", **entry}))
        stream.start()
        return stream

    def put(self, name: str, values: Any) -> None:
        (self.folder / "in").mkdir(exist_ok=True)
        beside = self.folder / "in" / f".{name}"
        beside.write_bytes(values if isinstance(values, bytes) else json.dumps(values).encode())
        beside.rename(self.folder / "in" / name)

    def results(self) -> list[dict[str, Any]]:
        path = self.folder / "out.jsonl"
        return [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []

    def files(self, where: str = "in") -> set[str]:
        folder = self.folder / where
        return {path.name for path in folder.iterdir() if path.is_file()} if folder.is_dir() else set()


FOLDER = {"kind": "folder", "path": "in", "poll_s": 0.05}
FILE = {"kind": "file", "path": "out.jsonl"}
LOCAL_IN = {"kind": "local_topic", "topic": "edgewright/in"}
LOCAL_OUT = {"kind": "local_topic", "topic": "edgewright/out"}


@pytest.fixture
def bench(tmp_path: Path):
    bench = Bench(tmp_path)
    (tmp_path / "in").mkdir()
    yield bench
    bench.models.gate.set()
    for stream in bench.streams:
        stream.stop(5.0)


def test_files_become_lines_and_are_put_away(bench: Bench) -> None:
    bench.put("a.json", [[1, 2, 3]])
    bench.put("b.json", [4, None, 6])
    bench.put("c.npy", b"garbage")
    bench.put("d.txt", b"what is this")
    stream = bench.start(source=FOLDER, sink=FILE)
    eventually(lambda: stream.counts.delivered_count == 2 and stream.counts.failed_count == 2, "all four are settled")
    first, second = bench.results()
    assert (first["stream"], first["origin"], first["outputs"]) == ("test", "a.json", {"y": [[2.0, 4.0, 6.0]]})
    assert first["model"] == {"name": "scale", "version": "1.0.0", "digest": "a" * 64}
    assert first["at"] == "2026-03-01T00:00:00.000000Z"
    assert second["outputs"] == {"y": [[8.0, None, 12.0]]}
    eventually(lambda: bench.files() == set(), "all four are put away, each after it is counted")
    assert (bench.files("in/done"), bench.files("in/failed")) == ({"a.json", "b.json"}, {"c.npy", "d.txt"})


def test_a_name_that_comes_again_overwrites_nothing(bench: Bench) -> None:
    stream = bench.start(source=FOLDER, sink=FILE)
    for number in (1, 2):
        bench.put("a.json", [number, 0, 0])
        eventually(lambda wanted=number: stream.counts.delivered_count == wanted, "delivered")
    eventually(lambda: bench.files("in/done") == {"a.json", "a-2.json"}, "both are kept")


def test_a_file_that_still_grows_and_a_symbolic_link_are_not_read(bench: Bench) -> None:
    secret = bench.folder / "secret.json"
    secret.write_text("[1, 2, 3]")
    (bench.folder / "in" / "link.json").symlink_to(secret)
    reader = make_source(read_stream("t", {"model": "m", "source": FOLDER, "sink": FILE}), bench.folder, None)
    path = bench.folder / "in" / "growing.json"
    path.write_text("[1, 2")
    assert reader.settled_names() == []
    path.write_text("[1, 2, 3]")
    assert reader.settled_names() == []
    assert reader.settled_names() == ["growing.json"]
    assert reader.settled_names() == []


def test_kept_files_are_read_once_and_again_when_they_change(bench: Bench) -> None:
    bench.put("a.json", [1, 2, 3])
    stream = bench.start(source={**FOLDER, "afterwards": "keep"}, sink=FILE)
    eventually(lambda: stream.counts.delivered_count == 1, "read")
    bench.put("b.json", [1, 2, 3])
    eventually(lambda: stream.counts.delivered_count == 2, "the next is read, and not the first again")
    bench.put("a.json", [[1, 2, 3], [4, 5, 6]])
    eventually(lambda: stream.counts.delivered_count == 3, "changed, so it is read again")
    assert bench.files() == {"a.json", "b.json"}


def test_deleted_when_done_and_kept_when_failed(bench: Bench) -> None:
    bench.put("a.json", [1, 2, 3])
    bench.put("b.json", b"garbage")
    stream = bench.start(source={**FOLDER, "afterwards": "delete"}, sink=FILE)
    eventually(lambda: stream.counts.delivered_count + stream.counts.failed_count == 2, "settled")
    eventually(lambda: bench.files() == set(), "both are put away, each after it is counted")
    assert bench.files("in/failed") == {"b.json"}


def test_a_model_that_is_not_there_yet_is_waited_for(bench: Bench, caplog: pytest.LogCaptureFixture) -> None:
    bench.models.failures = [
        UnknownModelError("no model named 'scale'"),
        OverloadedError("full", 5),
        UnknownModelError("x"),
    ]
    bench.put("a.json", [1, 2, 3])
    stream = bench.start(source=FOLDER, sink=FILE)
    eventually(lambda: stream.counts.delivered_count == 1, "delivered")
    assert len([record for record in caplog.records if "its model is held" in record.message]) == 1
    assert stream.held_by == ""


def test_a_request_that_the_model_refuses_is_a_failed_sample(bench: Bench) -> None:
    bench.models.failures = [InputNanError("x holds NaN")]
    bench.put("a.json", [1, 2, 3])
    bench.put("b.json", [1, 2, 3])
    stream = bench.start(source=FOLDER, sink=FILE)
    eventually(lambda: stream.counts.delivered_count == 1, "the next is answered")
    eventually(lambda: bench.files("in/failed") == {"a.json"}, "put away")


def test_a_folder_that_is_not_there_holds_the_stream_until_it_is(bench: Bench) -> None:
    stream = bench.start(source={**FOLDER, "path": "later"}, sink=FILE)
    eventually(lambda: "later: No such file" in stream.held_by, "held")
    (bench.folder / "later").mkdir()
    (bench.folder / "later" / "a.json").write_text("[1, 2, 3]")
    eventually(lambda: stream.counts.delivered_count == 1, "goes on")
    assert stream.held_by == ""


def test_a_name_that_is_no_utf8_is_told_as_it_can_be(bench: Bench) -> None:
    bench.put(os.fsdecode(b"caf\xe9.json"), [1, 2, 3])
    stream = bench.start(source=FOLDER, sink=FILE)
    eventually(lambda: stream.counts.delivered_count == 1, "answered")
    assert bench.results()[0]["origin"] == "caf\\udce9.json"


def test_topic_to_topic_and_a_nucleus_that_goes_away(bench: Bench) -> None:
    stream = bench.start(source=LOCAL_IN, sink=LOCAL_OUT, drop="newest", queue_max=2)
    eventually(lambda: bool(bench.nucleus._on_local), "subscribed")
    bench.nucleus.receive_local("edgewright/in", b"[1, 2, 3]")
    eventually(lambda: stream.counts.delivered_count == 1, "delivered")
    topic, payload = bench.nucleus.published_locally[0]
    assert (topic, json.loads(payload)["outputs"]) == ("edgewright/out", {"y": [[2.0, 4.0, 6.0]]})
    receive = bench.nucleus._on_local[0][1]
    bench.nucleus.set_connected(False)
    receive("edgewright/in", b"[2, 2, 2]")
    eventually(lambda: "ConnectionClosedError" in stream.held_by, "held by its sink")
    for number in range(5):
        receive("edgewright/in", json.dumps([number] * 3).encode())
    assert stream.counts.dropped_count == 3
    bench.nucleus.set_connected(True)
    eventually(lambda: stream.counts.delivered_count == 4, "what was not dropped is delivered")
    outputs = [json.loads(payload)["outputs"]["y"][0][0] for _, payload in bench.nucleus.published_locally]
    assert outputs == [2.0, 4.0, 0.0, 2.0]


def test_a_result_that_no_publish_can_carry_is_counted_and_passed_over(bench: Bench) -> None:
    stream = bench.start(source=LOCAL_IN, sink={"kind": "iot_core", "topic": "plant/gate"})
    eventually(lambda: bool(bench.nucleus._on_local), "subscribed")
    bench.nucleus.receive_local("edgewright/in", json.dumps([[0.123456, 0, 0]] * 900).encode())
    bench.nucleus.receive_local("edgewright/in", b"[1, 2, 3]")
    eventually(lambda: stream.counts.delivered_count == 1, "delivered")
    assert stream.counts.failed_count == 1
    assert [topic for topic, _ in bench.nucleus.published] == ["plant/gate"]


def test_topics_without_a_nucleus_say_what_is_missing(tmp_path: Path) -> None:
    bench = Bench(tmp_path, nucleus=None)  # type: ignore[arg-type]
    stream = bench.start(source=LOCAL_IN, sink=FILE)
    eventually(lambda: "needs a Greengrass nucleus" in stream.held_by, "held")
    stream.stop(5.0)


def test_an_output_that_the_model_has_not_is_named(bench: Bench, caplog: pytest.LogCaptureFixture) -> None:
    bench.put("a.json", [1, 2, 3])
    stream = bench.start(source=FOLDER, sink=FILE, outputs=["label"])
    eventually(lambda: stream.counts.failed_count == 1, "failed")
    assert "no output 'label'; it gives ['y']" in caplog.text


def test_what_waits_at_the_end_is_left_to_the_next_start(bench: Bench) -> None:
    bench.models.gate.clear()
    for number in range(3):
        bench.put(f"{number}.json", [number, 0, 0])
    stream = bench.start(source=FOLDER, sink=FILE, queue_max=1)
    eventually(lambda: stream.counts.read_count >= 2, "one at the model, one in the queue")
    stopper = threading.Thread(target=stream.stop, args=(5.0,))
    stopper.start()
    bench.models.gate.set()
    stopper.join()
    assert bench.models.is_closed
    again = bench.start(source=FOLDER, sink=FILE)
    eventually(lambda: len(bench.results()) >= 3 and not bench.files(), "everything is answered in the end")
    assert {result["origin"] for result in bench.results()} == {"0.json", "1.json", "2.json"}
    assert again.counts.failed_count == 0


@given(st.sampled_from(["oldest", "newest"]), st.integers(1, 4), st.lists(st.booleans(), max_size=40))
def test_a_queue_loses_nothing_that_it_does_not_name(drop: str, size_max: int, steps: list[bool]) -> None:
    queue: BoundedQueue[int] = BoundedQueue(size_max, drop)
    numbers, taken, dropped = itertools.count(), [], []
    offered = 0
    for is_offer in steps:
        if is_offer:
            gone = queue.offer(next(numbers))
            offered += 1
            dropped += [] if gone is None else [gone]
        elif len(queue):
            taken.append(queue.take())
        assert len(queue) <= size_max
    taken += [queue.take() for _ in range(len(queue))]
    assert taken == sorted(taken)
    assert Counter(taken + dropped) == Counter(range(offered))


def test_a_closed_queue_wakes_who_waits_for_room() -> None:
    queue: BoundedQueue[int] = BoundedQueue(1, "block")
    assert queue.offer(1) is None
    waiting = threading.Thread(target=queue.offer, args=(2,))
    waiting.start()
    queue.close()
    waiting.join(WAIT_S)
    assert not waiting.is_alive()
    assert queue.take() is None


def lines(path: Path) -> list[bytes]:
    return path.read_bytes().splitlines() if path.exists() else []


def test_lines_rotate_within_their_bound(tmp_path: Path) -> None:
    sink = JsonLines(FileSink("o", bytes_max=40, files_max=3), tmp_path / "o")
    for number in range(20):
        sink.put(b'{"n":%d}' % (100 + number))
    sink.close()
    found = [line for name in ("o.2", "o.1", "o") for line in lines(tmp_path / name)]
    assert found == [b'{"n":%d}' % number for number in range(106, 120)][-len(found) :]
    assert all(path.stat().st_size <= 40 for path in tmp_path.iterdir())
    assert len(list(tmp_path.iterdir())) == 3


def test_half_a_line_of_a_killed_process_is_cut_off(tmp_path: Path) -> None:
    (tmp_path / "o").write_bytes(b'{"n":1}\n{"n":')
    sink = JsonLines(FileSink("o"), tmp_path / "o")
    sink.put(b'{"n":2}')
    sink.close()
    assert lines(tmp_path / "o") == [b'{"n":1}', b'{"n":2}']


def test_a_full_disk_is_held_and_leaves_no_half_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    sink = JsonLines(FileSink("o"), tmp_path / "o")
    sink.put(b"1")
    real = os.pwrite
    monkeypatch.setattr(os, "pwrite", lambda descriptor, content, at: real(descriptor, content[:1], at))
    with pytest.raises(SinkFailedError, match="no room for a whole line"):
        sink.put(b"22")
    monkeypatch.setattr(os, "pwrite", real)
    sink.put(b"22")
    sink.close()
    assert lines(tmp_path / "o") == [b"1", b"22"]


def test_numbers_that_json_has_not_are_null() -> None:
    assert listed(np.array([[1.5, np.nan], [np.inf, -np.inf]], np.float32)) == [[1.5, None], [None, None]]
    assert listed(np.array([[1, 2]], np.int64)) == [[1, 2]]


def test_streams_follow_the_configuration(bench: Bench) -> None:
    made: list[StreamConfig] = []

    def make(config: StreamConfig) -> Stream:
        made.append(config)
        return bench.make(config)

    streams = Streams(make)
    entry = {"model": "scale", "source": {**FOLDER, "afterwards": "keep"}, "sink": FILE}
    assert streams.follow({"streams": {"a": entry, "b": {**entry, "drop": "all"}}})[0].startswith(
        "configuration field streams.b.drop"
    )
    streams.start()
    try:
        eventually(lambda: [report.config.name for report in streams.reports()] == ["a"], "a runs")
        streams.follow({"streams": {"a": entry, "b": {**entry, "queue_max": 3}}})
        eventually(lambda: [report.config.name for report in streams.reports()] == ["a", "b"], "b runs too")
        streams.follow({"streams": {"b": {**entry, "queue_max": 4}}})
        eventually(lambda: [report.config.queue_max for report in streams.reports()] == [4], "b anew, a not")
        assert [(config.name, config.queue_max) for config in made] == [("a", 16), ("b", 3), ("b", 4)]
    finally:
        streams.stop()
    assert streams.reports() == ()


def test_a_stream_is_seen_in_a_scrape(bench: Bench) -> None:
    bench.put("a.json", [1, 2, 3])
    stream = bench.start(source=FOLDER, sink=FILE)
    eventually(lambda: stream.counts.delivered_count == 1, "delivered")
    streams = Streams(bench.make)
    config = replace(read_stream("x", {"model": "scale", "source": FOLDER, "sink": FILE}), name="test")
    streams._running = {"test": (config, stream)}
    values = {
        (family.name, sample.labels.get("outcome", "")): sample.value
        for family in stream_families(streams.reports())
        for sample in family.samples
    }
    assert values["edgewright_stream_samples_total", "delivered"] == 1
    assert values["edgewright_stream_read_total", ""] == 1
    assert values["edgewright_stream_held", ""] == 0
