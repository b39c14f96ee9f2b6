"""The application of a weather station: each hour it asks the runtime on its device for a forecast.

It knows a socket and a model's name; it knows no version, no cloud and no file of the runtime. Versions change under
it, and it notes who answered, because whoever watches a rollout wants to know. It never stops on an error: retries are
the client's, and what the client gives up is counted.

Sensors are replayed from the station's own observation files. Commands come as JSON, one a line, on standard input;
each is answered by one JSON line on standard output::

    {"play": {"station": "EWR", "from": "2013-03-01", "to": "2013-03-16", "rate_per_s": null}}
    {"stop": {}}

Standard library, numpy, and ``edge_component.client``. One thread: one request at a time, as a control loop asks.
"""

import argparse
import json
import sys
import time
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

import data
import numpy as np

from edge_component.client import Client, ClientError

INPUT, OUTPUT, LOW = "input", "probabilities", 1
"""The model's signature: features in, both classes' probabilities out, low visibility in the second column."""

SUREST = 1e-7
"""Probabilities are kept this far off 0 and 1, so that one wrong certainty is a bad score and not an infinite one."""


class CommandError(ValueError):
    """A line that is no command; the sentence is the answer, and nothing was played."""


class Answer(Protocol):
    """What the client's answer offers that is needed here."""

    @property
    def outputs(self) -> Mapping[str, Any]:
        """Arrays by output name."""

    @property
    def model(self) -> Any:  # noqa: ANN401 - any object with a version
        """Who answered."""


Ask = Callable[[np.ndarray], Answer]


@dataclass(frozen=True, slots=True)
class Play:
    """Replay a station's hours from ``starts_at`` up to, not including, ``ends_at``; ``rate_per_s`` None: no pauses."""

    station: str
    first_hour: int
    end_hour: int
    rate_per_s: float | None


@dataclass(slots=True)
class Served:
    """What one model version did in one replay. ``failed`` counts requests lost while it was the last to answer."""

    answered: int = 0
    failed: int = 0
    losses: list[float] = field(default_factory=list)

    def to_document(self) -> dict[str, Any]:
        """Counts, and the mean loss where the next hour told what came."""
        return {
            "answered": self.answered,
            "failed": self.failed,
            "labelled": len(self.losses),
            "log_loss": float(np.mean(self.losses)) if self.losses else None,
        }


@dataclass(slots=True)
class Tally:
    """Everything counted in one replay."""

    by_version: dict[str, Served] = field(default_factory=dict)
    latencies_us: list[float] = field(default_factory=list)
    errors: Counter[str] = field(default_factory=Counter)
    last_version: str = ""

    def answered(self, version: str, latency_us: float, loss: float | None) -> None:
        """Count an answer; ``loss`` is None where nobody knows what came."""
        served = self.by_version.setdefault(version, Served())
        served.answered += 1
        self.last_version = version
        self.latencies_us.append(latency_us)
        if loss is not None:
            served.losses.append(loss)

    def failed(self, code: str) -> None:
        """Count a request that got no answer."""
        self.by_version.setdefault(self.last_version, Served()).failed += 1
        self.errors[code] += 1

    def to_document(self) -> dict[str, Any]:
        """The answer to a ``play`` command."""
        every = Served(
            answered=sum(served.answered for served in self.by_version.values()),
            failed=sum(served.failed for served in self.by_version.values()),
            losses=[loss for served in self.by_version.values() for loss in served.losses],
        )
        p50, p99 = np.percentile(self.latencies_us, [50, 99]).tolist() if self.latencies_us else (None, None)
        return {
            **every.to_document(),
            "models": {version: served.to_document() for version, served in self.by_version.items()},
            "latency_us": {"p50": p50, "p99": p99},
            "errors": dict(self.errors),
        }


def read_command(line: str) -> Play | None:
    """Decode one line; None means stop.

    Raises:
        CommandError: naming what is wrong.
    """
    try:
        document = json.loads(line)
        if "stop" in document:
            return None
        play = document["play"]
        rate = play.get("rate_per_s")
        return Play(
            station=str(play["station"]),
            first_hour=data.hour_of(data.parse_day(play["from"])),
            end_hour=data.hour_of(data.parse_day(play["to"])),
            rate_per_s=None if rate is None else float(rate),
        )
    except KeyError as error:
        raise CommandError(f"the command lacks {error}") from error
    except (ValueError, TypeError, AttributeError) as error:
        raise CommandError(f"not a command: {error}") from error


def hours_of(play: Play, lake: Path) -> data.Examples:
    """The hours that a command asks for, out of the station's observation files.

    Raises:
        ObservationError: the files cannot be read, or hold none of these hours.
    """
    known = {station.station: station for station in data.read_lake(lake, play.station)}
    if play.station not in known:
        raise data.ObservationError(f"{lake} holds no observation of station {play.station!r}")
    hours = data.examples(known[play.station])
    chosen = hours.where((hours.hours >= play.first_hour) & (hours.hours < play.end_hour))
    if len(chosen) == 0:
        raise data.ObservationError(f"{lake} holds no hour of {play.station} in the asked time")
    return chosen


def replay(hours: data.Examples, ask: Ask, rate_per_s: float | None, sleep: Callable[[float], None]) -> Tally:
    """Ask for a forecast for every hour, in order, and count."""
    tally = Tally()
    for features, label in zip(hours.features, hours.label.tolist(), strict=True):
        started_ns = time.perf_counter_ns()
        try:
            answer = ask(features[np.newaxis, :])
        except ClientError as error:
            tally.failed(error.code)
        else:
            latency_us = (time.perf_counter_ns() - started_ns) / 1_000
            tally.answered(answer.model.version, latency_us, _loss(float(answer.outputs[OUTPUT][0, LOW]), label))
        if rate_per_s:
            sleep(1 / rate_per_s)
    return tally


def serve(lake: Path, ask: Ask, lines: Any, answer: Callable[[str], None]) -> None:  # noqa: ANN401 - any iterable
    """Answer commands until ``stop`` or the end of the input."""
    for line in lines:
        if not line.strip():
            continue
        try:
            play = read_command(line)
            if play is None:
                return
            tally = replay(hours_of(play, lake), ask, play.rate_per_s, time.sleep)
            answer(json.dumps({"played": {"station": play.station, **tally.to_document()}}))
        except (CommandError, data.ObservationError) as error:
            answer(json.dumps({"error": str(error)}))


def _loss(probability: float, label: float) -> float | None:
    if np.isnan(label):
        return None
    certain = min(max(probability, SUREST), 1 - SUREST)
    return -float(np.log(certain if label == 1 else 1 - certain))


def main() -> int:
    """Run the station until its input ends."""
    parser = argparse.ArgumentParser(description="Ask the runtime on this device for a forecast each hour.")
    parser.add_argument("--socket", type=Path, required=True, help="the runtime's infer.sock")
    parser.add_argument("--observations", type=Path, required=True, help="folder of observation files")
    parser.add_argument("--model", default="weather", help="name of the model to ask for")
    parser.add_argument("--deadline-s", type=float, default=10.0, help="how long the client may retry one request")
    arguments = parser.parse_args()

    def answer(line: str) -> None:
        sys.stdout.write(line + "\n")
        sys.stdout.flush()

    with Client(arguments.socket, deadline_s=arguments.deadline_s) as client:
        serve(
            arguments.observations,
            lambda features: client.infer(arguments.model, {INPUT: features}),
            sys.stdin,
            answer,
        )
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
