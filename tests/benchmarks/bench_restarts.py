"""What 20 kills of the runtime cost the requests that are under way.

Question: does every request end by its deadline, answered or with the typed error that says why not, whatever happens to
the runtime meanwhile?

Method. The real runtime, everything on, serves the tabular model to 4 processes that ask without a pause through the
Python client. Two are patient (5 s for a request, longer than a restart), two are not (0.1 s, shorter than one). Twenty
times, at a moment drawn between 0.2 and 1 s after all four have been answered 100 times again, the runtime is killed (SIGKILL) and
started anew at once, as Greengrass does; it restores the model from its store. Each client counts what became of every
request: *answered* (and compared with what ONNX Runtime computes), *typed* (``runtime-unavailable`` or
``deadline-exceeded``), *untyped* (any other end), *late* (ended more than 0.25 s after its deadline, which is what a busy
machine may take to wake a process), *hung* (not ended 10 s after its deadline, when everything is over). *Out of service* is
the time from a kill to the first answer that any client gets.

Run ``python tests/benchmarks/bench_restarts.py [--restarts N]``. The last line is JSON.
"""

import argparse
import json
import multiprocessing
import random
import statistics
import tempfile
import time
from collections import Counter
from dataclasses import dataclass, field
from multiprocessing.connection import Connection
from multiprocessing.sharedctypes import SynchronizedArray
from multiprocessing.synchronize import Event
from pathlib import Path

import numpy as np
import onnxruntime as ort

from edge_component.client import Client, ClientError, DeadlineExceededError, UnavailableError
from tests.benchmarks.bench_serving import at_least, at_most
from tests.benchmarks.serving.device import Device, device
from tests.benchmarks.serving.models import BenchModel, tabular

DEADLINES_S = (5.0, 5.0, 0.1, 0.1)
LATE_S = 0.25
HUNG_S = 10.0
BETWEEN_COUNT = 100
"""Answers that every client gets between two kills, at least."""
PAUSE_S = (0.2, 1.0)
SERVED_AGAIN_S = 60.0
"""After which a runtime that does not come back ends the benchmark."""


@dataclass
class Seen:
    """What one client saw."""

    answered_count: int = 0
    typed: Counter[str] = field(default_factory=Counter)
    untyped: list[str] = field(default_factory=list)
    late_count: int = 0
    latest_s: float = 0.0
    """After the deadline; negative if none was."""


@dataclass(frozen=True)
class Asking:
    """One client process."""

    process: multiprocessing.process.BaseProcess
    pipe: Connection
    deadline_s: float


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n", 1)[0])
    parser.add_argument("--restarts", type=int, default=20)
    restarts = parser.parse_args().restarts
    model = tabular()
    with tempfile.TemporaryDirectory() as folder, device(Path(folder), [model]) as served:
        context = multiprocessing.get_context("spawn")
        stop, counts = context.Event(), context.Array("Q", len(DEADLINES_S))
        clients = [start_client(context, index, served, model, stop, counts) for index in range(len(DEADLINES_S))]
        outages_s = [restart(served, counts) for _ in range(restarts)]
        wait_for_more(counts, BETWEEN_COUNT)
        stop.set()
        seen = [result(client) for client in clients]
    print(json.dumps({"bench": "restarts", "bars": print_restarts(seen, outages_s)}))


def start_client(
    context: multiprocessing.context.SpawnContext,
    index: int,
    served: Device,
    model: BenchModel,
    stop: Event,
    counts: "SynchronizedArray[int]",
) -> Asking:
    ours, theirs = context.Pipe()
    deadline_s = DEADLINES_S[index]
    arguments = (theirs, served.socket_path, model, deadline_s, stop, counts, index)
    process = context.Process(target=ask_until_stopped, args=arguments)
    process.start()
    theirs.close()
    return Asking(process, ours, deadline_s)


def ask_until_stopped(
    pipe: Connection,
    socket_path: Path,
    model: BenchModel,
    deadline_s: float,
    stop: Event,
    counts: "SynchronizedArray[int]",
    index: int,
) -> None:
    """The client process's main."""
    names = [spec.name for spec in model.outputs]
    session = ort.InferenceSession(model.content, providers=["CPUExecutionProvider"])
    expected = dict(zip(names, session.run(names, model.feed), strict=True))
    seen = Seen(latest_s=-deadline_s)
    with Client(socket_path, deadline_s=deadline_s) as client:
        while not stop.is_set():
            ask(client, model, expected, seen, deadline_s)
            counts[index] = seen.answered_count
    pipe.send(seen)


def ask(client: Client, model: BenchModel, expected: dict[str, np.ndarray], seen: Seen, deadline_s: float) -> None:
    began_s = time.monotonic()
    try:
        answer = client.infer(model.name, model.feed)
    except (UnavailableError, DeadlineExceededError) as error:
        seen.typed[error.code] += 1
    except (ClientError, OSError, ValueError) as error:
        seen.untyped.append(repr(error))
    else:
        seen.answered_count += 1
        if not all(np.allclose(answer.outputs[name], array, 1e-5, 1e-6) for name, array in expected.items()):
            seen.untyped.append("answered with other numbers")
    late_s = time.monotonic() - began_s - deadline_s
    seen.latest_s = max(seen.latest_s, late_s)
    seen.late_count += late_s > LATE_S


def restart(served: Device, counts: "SynchronizedArray[int]") -> float:
    """Kill and start anew under load; returns for how long nobody was answered."""
    wait_for_more(counts, BETWEEN_COUNT)
    time.sleep(random.uniform(*PAUSE_S))
    assert served.runtime is not None
    began_s = time.monotonic()
    served.runtime.kill()
    before = sum(counts)
    served.start()
    while sum(counts) == before:
        assert time.monotonic() < began_s + SERVED_AGAIN_S, "the runtime does not serve again"
        time.sleep(0.001)
    return time.monotonic() - began_s


def wait_for_more(counts: "SynchronizedArray[int]", more: int) -> None:
    """Until every client has been answered so often again."""
    targets = [count + more for count in counts]
    ends_at_s = time.monotonic() + SERVED_AGAIN_S
    while any(count < target for count, target in zip(counts, targets, strict=True)):
        assert time.monotonic() < ends_at_s, f"not every client is answered again: {list(counts)}, {targets}"
        time.sleep(0.005)


def result(client: Asking) -> Seen | None:
    """What it saw; ``None`` if it hangs, and is killed."""
    if client.pipe.poll(client.deadline_s + HUNG_S):
        seen: Seen = client.pipe.recv()
        client.process.join()
        return seen
    client.process.kill()
    client.process.join()
    return None


def print_restarts(results: list[Seen | None], outages_s: list[float]) -> list[dict[str, object]]:
    seen = [one for one in results if one is not None]
    answered = sum(one.answered_count for one in seen)
    untyped = [failure for one in seen for failure in one.untyped]
    print(
        "| client, deadline s | answered | unavailable | deadline exceeded | ended at the latest, s after its deadline |"
    )
    print("|---|---|---|---|---|")
    for index, one in enumerate(results):
        if one is None:
            print(f"| {index + 1}, {DEADLINES_S[index]:g} | hung | | | |")
            continue
        typed = f"{one.typed['runtime-unavailable']} | {one.typed['deadline-exceeded']}"
        print(f"| {index + 1}, {DEADLINES_S[index]:g} | {one.answered_count:,} | {typed} | {one.latest_s:+.3f} |")
    print(
        f"\n{len(outages_s)} kills; out of service {statistics.median(outages_s):.2f} s, at most {max(outages_s):.2f} s"
    )
    for failure in untyped[:10]:
        print(f"untyped: {failure}")
    return [
        at_least("restart_count", len(outages_s), "count", 20),
        at_least("restart_answered", answered, "count", len(outages_s) * len(results) * BETWEEN_COUNT),
        at_least("restart_failed_typed", sum(one.typed.total() for one in seen), "count", 1),
        at_most("restart_patient_failed", sum(one.typed.total() for one in results[:2] if one), "count", 0),
        at_most("restart_failed_untyped", len(untyped), "count", 0),
        at_most("restart_late", sum(one.late_count for one in seen), "count", 0),
        at_most("restart_hung", len(results) - len(seen), "count", 0),
    ]


if __name__ == "__main__":
    main()
