"""kill -9 in mid-append, many times over: nothing that was acknowledged is lost, nothing is numbered twice."""

import json
import os
import random
import signal
import subprocess
import sys
from collections import Counter
from pathlib import Path

from edge_component.clock import SystemClock
from edge_component.contracts.envelope import Envelope
from edge_component.telemetry.outbox import Outbox
from edge_component.telemetry.segment_log import LogLimits

WRITER = Path(__file__).with_name("killed_writer.py")
ROUNDS = 25


def run_and_kill(directory: Path, bytes_max: int, lines_before: int, *more: str) -> list[str]:
    """Start the writer, read so many lines, kill it; returns every whole line that it managed to say."""
    arguments = [sys.executable, str(WRITER), str(directory), str(bytes_max), *more]
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[3])}
    with subprocess.Popen(arguments, stdout=subprocess.PIPE, env=environment) as child:
        assert child.stdout is not None
        lines = [child.stdout.readline() for _ in range(lines_before)]
        child.send_signal(signal.SIGKILL)
        rest = child.stdout.read()
    said = b"".join(lines) + rest
    return [line.decode() for line in said.split(b"\n")[:-1]]


def open_outbox(directory: Path, bytes_max: int) -> Outbox:
    return Outbox(directory, "station-jfk", SystemClock(), LogLimits(bytes_max=bytes_max))


def drain(outbox: Outbox) -> list[Envelope]:
    seen: list[Envelope] = []
    while batch := outbox.oldest(100):
        seen += [Envelope.from_bytes(queued.payload) for queued in batch]
        outbox.acknowledge(batch[-1])
    return seen


def test_no_acknowledged_message_is_lost(tmp_path: Path) -> None:
    chance = random.Random(1)
    acknowledged: Counter[tuple[int, int]] = Counter()
    for _ in range(ROUNDS):  # each child recovers what the one before it left
        for line in run_and_kill(tmp_path / "outbox", 100_000_000, chance.randint(1, 60)):
            writer, number, _ = map(int, line.split())
            acknowledged[writer, number] += 1
    outbox = open_outbox(tmp_path / "outbox", 100_000_000)
    messages = drain(outbox)
    outbox.close()
    kept = Counter((message.body["writer"], message.body["number"]) for message in messages)
    keys = Counter((message.epoch, message.sequence) for message in messages)
    assert acknowledged.total() > ROUNDS
    assert not acknowledged - kept, "acknowledged and lost"
    assert max(keys.values()) == 1, "two messages under one number"
    assert len({epoch for epoch, _ in keys}) == 1, "kill -9 tears at most a record that nobody was told of"


def test_with_a_reader_beside_it_every_acknowledged_message_was_sent_or_waits(tmp_path: Path) -> None:
    chance = random.Random(2)
    acknowledged: Counter[tuple[int, int]] = Counter()
    sent: dict[tuple[str, int], tuple[int, int]] = {}
    for _ in range(ROUNDS):
        for line in run_and_kill(tmp_path / "outbox", 1_000_000, chance.randint(5, 60), "drain"):
            if line.startswith("sent "):
                message = Envelope.read(json.loads(line.removeprefix("sent ")))
                body = (message.body["writer"], message.body["number"])
                assert sent.setdefault((message.epoch, message.sequence), body) == body, "one number, two messages"
            else:
                writer, number, _ = map(int, line.split())
                acknowledged[writer, number] += 1
    outbox = open_outbox(tmp_path / "outbox", 1_000_000)
    for message in drain(outbox):
        body = (message.body["writer"], message.body["number"])
        assert sent.setdefault((message.epoch, message.sequence), body) == body
    state = outbox.state()
    outbox.close()
    assert not acknowledged - Counter(sent.values())
    assert state.dropped_count == 0
