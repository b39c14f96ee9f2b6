"""What telemetry costs a request.

Question: how much does ``Recorder.record()`` add to a request, while its worker counts and its windows are kept?

Method: one loop of requests over a small ONNX Runtime session (30 float32 in, one probability out: the toy model of
4-6 µs that everything is measured against), with and without the recorder, in rounds that alternate, so that whatever
else the machine does falls on both. Reported are medians over rounds of each round's p50, p99 and mean. The recorder's
worker runs, its sink is a real outbox on disk, and its window is half a second, so windows are closed and synced while
requests are measured. The bars compare each round with the one beside it, then take the median.

Also measured: a model of about a millisecond, for the ratio that "Runtime overhead of unsupervised detectors"
(arXiv 2304.08319) publishes as 1.01 to 20.15; the rate at which the worker counts; durable appends to the outbox.

Run ``python tests/benchmarks/bench_telemetry.py [--rounds N]``. The last line is JSON for ``make bench``.
"""

import argparse
import itertools
import json
import os
import statistics
import tempfile
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

os.environ["ORT_DISABLE_TELEMETRY"] = "1"

import numpy as np
import onnxruntime as ort
from onnx import TensorProto, helper, numpy_helper

from edge_component.clock import SystemClock
from edge_component.contracts.baseline import BIN_COUNT
from edge_component.contracts.heartbeat import ModelRef
from edge_component.telemetry.columns import WatchedColumn, WatchPlan
from edge_component.telemetry.histogram import Bins
from edge_component.telemetry.outbox import Outbox
from edge_component.telemetry.recorder import Recorder, RecorderLimits
from edge_component.telemetry_sink import Outcome

FEATURES = 30
MODEL = ModelRef("bench", "1.0.0", "a" * 64)
BINS = Bins(np.linspace(-3, 3, BIN_COUNT - 1), -3, 3)
PLAN = WatchPlan(
    MODEL, "b" * 64, ("input",), ("probability",),
    tuple(WatchedColumn(f"f{n}", 0, n, is_vector=False, bins=BINS) for n in range(FEATURES)),
    (WatchedColumn("p", 1, 0, is_vector=False, bins=BINS),),
)  # fmt: skip
SAMPLE = {"input": np.zeros((1, FEATURES), np.float32)}
ANSWER = {"probability": np.zeros((1, 1), np.float32)}

Request = Callable[[], None]


@dataclass(frozen=True)
class Round:
    """Microseconds of one round's requests."""

    p50_us: float
    p99_us: float
    mean_us: float


def session(layers: int, width: int) -> ort.InferenceSession:
    """A chain of matrix products ending in a sigmoid; its size sets how long a request takes."""
    drawn = np.random.default_rng(1)
    sizes = [FEATURES, *[width] * layers, 1]
    nodes, weights, last = [], [], "input"
    for index, (rows, columns) in enumerate(itertools.pairwise(sizes)):
        weights.append(numpy_helper.from_array(drawn.normal(0, 0.1, (rows, columns)).astype(np.float32), f"w{index}"))
        nodes.append(helper.make_node("MatMul", [last, f"w{index}"], [f"h{index}"]))
        last = f"h{index}"
    nodes.append(helper.make_node("Sigmoid", [last], ["probability"]))
    inputs = [helper.make_tensor_value_info("input", TensorProto.FLOAT, [None, FEATURES])]
    outputs = [helper.make_tensor_value_info("probability", TensorProto.FLOAT, [None, 1])]
    graph = helper.make_graph(nodes, "bench", inputs, outputs, weights)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=10)
    options = ort.SessionOptions()
    options.intra_op_num_threads = 1
    return ort.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])


def measure(request: Request, count: int) -> Round:
    took: list[int] = []
    clock = time.perf_counter_ns
    for _ in range(count):
        began = clock()
        request()
        took.append(clock() - began)
    us = np.array(took) / 1000
    return Round(float(np.median(us)), float(np.percentile(us, 99)), float(us.mean()))


def bare_request(run: ort.InferenceSession) -> Request:
    def request() -> None:
        run.run(None, SAMPLE)

    return request


def recorded_request(run: ort.InferenceSession, recorder: Recorder) -> Request:
    def request() -> None:
        (answer,) = run.run(None, SAMPLE)
        recorder.record(Outcome(MODEL, SAMPLE, {"probability": answer}, 5, None))

    return request


def interleaved(left: Request, right: Request, rounds: int, count: int) -> tuple[list[Round], list[Round]]:
    results: tuple[list[Round], list[Round]] = ([], [])
    for turn in range(-1, rounds):  # the first turn warms up
        for index in (0, 1) if turn % 2 else (1, 0):
            measured = measure((left, right)[index], count)
            if turn >= 0:
                results[index].append(measured)
    return results


def median_of(rounds: list[Round], name: str) -> float:
    return statistics.median(getattr(each, name) for each in rounds)


def appends_per_s(outbox: Outbox, threads: int, seconds: float) -> float:
    done = [0] * threads
    until = time.perf_counter() + seconds

    def write(index: int) -> None:
        while time.perf_counter() < until:
            outbox.append("heartbeat", {"pad": "x" * 100})
            done[index] += 1

    workers = [threading.Thread(target=write, args=(index,)) for index in range(threads)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    return sum(done) / seconds


def counted_per_s(recorder: Recorder, records: int = 4096) -> float:
    for _ in range(records):
        recorder.record(Outcome(MODEL, SAMPLE, ANSWER, 5, None))
    began = time.perf_counter()
    recorder.flush()
    return records / (time.perf_counter() - began)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n", 1)[0])
    parser.add_argument("--rounds", type=int, default=21)
    rounds = parser.parse_args().rounds
    with tempfile.TemporaryDirectory() as folder:
        outbox = Outbox(Path(folder) / "outbox", "bench", SystemClock())
        recorder = Recorder(outbox.append, SystemClock(), outbox.body_bytes_max, RecorderLimits(window_s=0.5))
        recorder.model_switched(PLAN)
        recorder.start()
        small, large = session(1, 16), session(3, 1400)
        toy = interleaved(bare_request(small), recorded_request(small, recorder), rounds, 3_000)
        heavy = interleaved(bare_request(large), recorded_request(large, recorder), rounds, 150)
        alone = interleaved(
            lambda: None, lambda: recorder.record(Outcome(MODEL, SAMPLE, ANSWER, 5, None)), rounds, 3_000
        )
        recorder.stop()
        idle = Recorder(lambda kind, body: None, SystemClock(), outbox.body_bytes_max)
        idle.model_switched(PLAN)
        counting = statistics.median(counted_per_s(idle) for _ in range(5))
        appends = appends_per_s(outbox, 1, 1.0), appends_per_s(outbox, 8, 1.0)
        outbox.close()
    print_table({
        "toy model": toy[0], "toy model, recorded": toy[1],
        "1 ms model": heavy[0], "1 ms model, recorded": heavy[1],
        "an empty call": alone[0], "record() alone": alone[1],
    })  # fmt: skip
    print(f"\nworker: {counting:,.0f} records/s of {FEATURES + 1} columns")
    print(f"outbox: {appends[0]:,.0f} durable appends/s from one thread, {appends[1]:,.0f} from eight")
    print_bars(
        statistics.median(right.p50_us - left.p50_us for left, right in zip(*toy, strict=True)),
        statistics.median(right.p50_us / left.p50_us for left, right in zip(*heavy, strict=True)),
        counting,
    )


def print_table(measured: dict[str, list[Round]]) -> None:
    print("| | p50 µs | p99 µs | mean µs |\n|---|---|---|---|")
    for name, rounds in measured.items():
        figures = [f"{median_of(rounds, field):.2f}" for field in ("p50_us", "p99_us", "mean_us")]
        print(f"| {name} | {' | '.join(figures)} |")


def print_bars(added_us: float, ratio: float, counting: float) -> None:
    bars = [
        bar("telemetry_record_added_p50", round(added_us, 2), "us", "<= 2.0", added_us <= 2.0),
        bar("telemetry_overhead_ratio_1ms", round(ratio, 4), "ratio", "<= 1.01", ratio <= 1.01),
        bar("telemetry_worker_rate", round(counting), "records/s", ">= 100000", counting >= 100_000),
    ]
    print(json.dumps({"bench": "telemetry", "bars": bars}))


def bar(name: str, value: float, unit: str, target: str, holds: bool) -> dict[str, object]:
    return {"name": name, "value": value, "unit": unit, "target": target, "holds": holds}


if __name__ == "__main__":
    main()
