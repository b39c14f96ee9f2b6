"""What 200 model swaps cost the requests that are under way.

Question: does anybody notice a swap? Requests that fail, requests that wait, memory and descriptors that stay behind.

Method. The real runtime, everything on, serves the tabular model to 4 processes that ask without a pause. After some
seconds of peace come 200 activations, one after the other with as long a pause as each takes to prepare: every one is a
signed bundle of its own that goes through verification, a trial load in a child process, the golden test and the switch.
*Steady* are the requests of the peace before; *during* are those that ended while an activation was under way. Four
clients and the trial's child share the machine's cores, so the ratio of p99 says what the child costs too; beside it
stands the same ratio with the child's work done by a bystander (a process that loads onnxruntime and the model) and no
swap at all. RSS, descriptors and threads are those after swap 50 against those after the last.

Run ``python tests/benchmarks/bench_swaps.py [--swaps N]``. The last line is JSON.
"""

import argparse
import json
import subprocess
import sys
import tempfile
import threading
import time
from functools import partial
from pathlib import Path

from tests.benchmarks.bench_serving import at_least, at_most, split_by
from tests.benchmarks.serving.asker import Load, p50_p99
from tests.benchmarks.serving.askers import Askers, load_together
from tests.benchmarks.serving.device import Device, Footprint, device, footprint
from tests.benchmarks.serving.models import BenchModel, tabular

PEACE_S = 5.0
BYSTANDER = "import onnxruntime, sys; onnxruntime.InferenceSession(sys.argv[1]).get_inputs()"
Spans = list[tuple[float, float]]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n", 1)[0])
    parser.add_argument("--swaps", type=int, default=200)
    swaps = parser.parse_args().swaps
    model = tabular()
    spans: Spans = []
    by: Spans = []
    footprints: list[Footprint] = []
    with (
        tempfile.TemporaryDirectory() as folder,
        device(Path(folder), [model]) as served,
        Askers(served.socket_path, 4) as askers,
    ):
        loads = under_load(askers, model, partial(swap_many, served, model, swaps, spans, footprints), swaps * 0.8)
        path = Path(folder) / "model.onnx"
        path.write_bytes(model.content)
        beside = under_load(askers, model, partial(stand_by, path, 20, by), 20 * 0.6)
    bars = print_swaps(loads, spans, footprints, swaps)
    bystander = ratio(beside, by)
    print(f"p99 beside a process that merely loads the model, over steady: {bystander:.2f}")
    print(json.dumps({"bench": "swaps", "bars": bars}))


def under_load(askers: Askers, model: BenchModel, meanwhile: object, seconds: float) -> list[Load]:
    """All clients ask until ``meanwhile`` is done; it is told when they begin."""
    assert callable(meanwhile)
    done = threading.Event()

    def until_done(starts_at_s: float) -> None:
        time.sleep(max(starts_at_s + PEACE_S - time.monotonic(), 0))
        meanwhile()
        done.set()

    loads = load_together(askers.all, model, PEACE_S + seconds, meanwhile=until_done)
    assert done.is_set()
    return loads


def swap_many(served: Device, model: BenchModel, count: int, spans: Spans, footprints: list[Footprint]) -> None:
    assert served.runtime is not None
    for number in range(count):
        began_s = time.monotonic()
        bundle = served.next_bundle(model)
        time.sleep(max(began_s + 0.1 - time.monotonic(), 0))
        began_s = time.monotonic()
        served.activate(bundle)
        spans.append((began_s, time.monotonic()))
        if number + 1 in (min(50, count // 2), count):
            time.sleep(0.5)  # the admin connection's thread ends a moment after its acknowledgement
            footprints.append(footprint(served.runtime.process.pid))


def stand_by(model_path: Path, count: int, spans: Spans) -> None:
    for _ in range(count):
        began_s = time.monotonic()
        subprocess.run([sys.executable, "-c", BYSTANDER, str(model_path)], check=True)
        spans.append((began_s, time.monotonic()))
        time.sleep(0.1)


def ratio(loads: list[Load], spans: Spans) -> float:
    steady, during = gathered(loads, spans)
    return p50_p99(during)[1] / p50_p99(steady)[1]


def gathered(loads: list[Load], spans: Spans) -> tuple[list[float], list[float]]:
    steady: list[float] = []
    during: list[float] = []
    for load in loads:
        one, other = split_by(load, spans)
        steady += one
        during += other
    return steady, during


def print_swaps(loads: list[Load], spans: Spans, footprints: list[Footprint], swaps: int) -> list[dict[str, object]]:
    steady, during = gathered(loads, spans)
    answered = sum(load.answered_count for load in loads)
    failed = sum(len(load.failures) for load in loads)
    versions = set().union(*(load.versions for load in loads))
    early, late = footprints
    print("| | p50 µs | p99 µs | worst ms |\n|---|---|---|---|")
    for name, durations in (("steady", steady), ("during a swap", during)):
        p50, p99 = p50_p99(durations)
        print(f"| {name} | {p50:.1f} | {p99:.1f} | {max(durations) / 1000:.1f} |")
    print(f"\n{len(spans)} swaps, {answered:,} answers of {len(versions)} versions, {failed} failed")
    print(f"a swap took {sum(end - begin for begin, end in spans) / len(spans):.2f} s; {early} -> {late}")
    return [
        at_least("swap_200_count", len(spans), "count", swaps),
        at_least("swap_200_requests", answered, "count", 100_000),
        at_most("swap_200_failed", failed, "count", 0),
        at_most("swap_200_p99_over_steady", p50_p99(during)[1] / p50_p99(steady)[1], "ratio", 2.0),
        at_most("swap_200_rss_growth", late.rss_mb / early.rss_mb, "ratio", 1.05),
        at_most("swap_200_descriptors_growth", late.descriptors_count - early.descriptors_count, "count", 0),
        at_most("swap_200_threads_growth", late.threads_count - early.threads_count, "count", 0),
    ]


if __name__ == "__main__":
    main()
