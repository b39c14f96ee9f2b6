"""What Triton's own measuring client says of the Open Inference Protocol's doors.

Question: what does somebody see who measures this runtime with the tool that Triton is measured with?

Method: the runtime as a device runs it, everything on, with its TCP doors open, and ``perf_analyzer`` (C++, its own
connections) in a process of its own: closed loop, 1 and 4 requests at once, batches, shared memory, three windows of 1 s each.
It reports throughput, its latency and, from the door's statistics, how much of that is inside the runtime. No window is asked
to agree with another: on a busy machine they do not.

Run ``make bench-perf-analyzer``. The last line is JSON.
"""

import json
import sys
import tempfile
from pathlib import Path

from tests.benchmarks.bench_serving import at_least
from tests.benchmarks.serving.device import device
from tests.benchmarks.serving.models import bench_models
from tests.benchmarks.serving.oip_sides import DOORS as CONFIG, GRPC_PORT, REST_PORT
from tests.edge_component.serving.oip.perf_analyzer import measure, what_is_missing

DOORS = {
    "REST": ["-i", "http", "-u", f"127.0.0.1:{REST_PORT}"],
    "gRPC": ["-i", "grpc", "-u", f"127.0.0.1:{GRPC_PORT}"],
}
ASKED = (
    ("mlp", "REST", "--concurrency-range 1:4:3"),
    ("mlp", "gRPC", "--concurrency-range 1:4:3"),
    ("mlp", "gRPC", "--streaming --async"),
    ("mlp", "REST", "-b 16"),
    ("mlp", "gRPC", "-b 16"),
    ("vis", "REST", "--concurrency-range 1:4:3"),
    ("vis", "gRPC", "--concurrency-range 1:4:3"),
    ("vis", "REST", "--shared-memory system"),
    ("vis", "gRPC", "--shared-memory system"),
)
INSIDE = ("Server Queue", "Server Compute Input", "Server Compute Infer", "Server Compute Output")


def main() -> None:
    missing = what_is_missing()
    if missing:
        sys.exit(missing)
    models = [model for model in bench_models() if model.name in {name for name, _, _ in ASKED}]
    measured = 0
    print("| model | door | options | at once | inferences/s | p50 µs | p99 µs | inside the runtime µs |")
    print("|---|---|---|---|---|---|---|---|")
    with tempfile.TemporaryDirectory() as folder, device(Path(folder), models, CONFIG):
        for model, door, options in ASKED:
            report = Path(folder) / "report.csv"
            rows = measure(["-m", model, *DOORS[door], *options.split()], report, window_ms=1000)
            for row in sorted(rows, key=lambda row: row["Concurrency"]):
                measured += 1
                print_row(model, door, options, row)
    bars = [at_least("oip_perf_analyzer_loads", measured, "count", len(ASKED) + 4)]
    print(json.dumps({"bench": "perf-analyzer", "bars": bars}))


def print_row(model: str, door: str, options: str, row: dict[str, float]) -> None:
    shown = options.partition("--concurrency-range")[0] or "-"
    inside = sum(row[name] for name in INSIDE)
    figures = (row["Concurrency"], row["Inferences/Second"], row["p50 latency"], row["p99 latency"], inside)
    print(f"| {model} | {door} | {shown} | " + " | ".join(f"{figure:,.0f}" for figure in figures) + " |", flush=True)


if __name__ == "__main__":
    main()
