"""What the Open Inference Protocol costs a request, through its real client.

Question: how much do REST and gRPC add to a model, as `tritonclient` sees it, with router, telemetry, deadlines and
admission on?

Method: the runtime as a device runs it (a process, signed bundles, its outbox) with its doors open, one client process,
three models (tests/benchmarks/serving/models.py). Each round goes round the sides in blocks of about 10 ms: raw ONNX Runtime in
the client's own process, the fast path, REST with binary tensors over TCP, gRPC over the Unix socket and over TCP, and
gRPC with tensors in shared memory. Whatever else the machine does falls on all of them. A request includes making the
client's own input and output objects and reading the answer as an array, as an application must. Reported are medians
over rounds of p50 and p99, less raw's of the same round.

Two floors are measured beside them: an answer of no work from a bare server of grpcio's (one thread pool, raw bytes)
over a Unix socket, and from our own HTTP loop: what is left is ours to better.

Run ``python tests/benchmarks/bench_oip.py [--rounds N]``. The last line is JSON for ``make bench``.
"""

import argparse
import json
import os
import statistics
import tempfile
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from multiprocessing import get_context
from pathlib import Path

os.environ["ORT_DISABLE_TELEMETRY"] = "1"

import grpc
import numpy as np
import onnxruntime as ort
import tritonclient.grpc

from edge_component.client import Client
from tests.benchmarks.bench_serving import at_most
from tests.benchmarks.serving.device import device
from tests.benchmarks.serving.models import BenchModel, bench_models
from tests.benchmarks.serving.oip_sides import BARS, DOORS, Ask, OipClients, sent


class Askers:
    """The clients of one run; each :meth:`sides` asks one model in every way."""

    def __init__(self, work: Path, bare: str) -> None:
        self.fast = Client(work / "infer.sock", deadline_s=10)
        self.oip = OipClients(work)
        self.bare = tritonclient.grpc.InferenceServerClient(f"unix:{bare}")

    def sides(self, model: BenchModel) -> dict[str, Ask]:
        return {
            "raw": raw(model),
            "fast path": lambda: self.fast.infer(model.name, model.feed),
            **self.oip.sides(model),
            "bare grpc, no work": sent(self.bare, tritonclient.grpc, model, model.outputs[0].name),
            "bare HTTP, no work": self.oip.bare_http,
        }


def raw(model: BenchModel) -> Ask:
    options = ort.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    session = ort.InferenceSession(model.content, options, providers=["CPUExecutionProvider"])
    names = [spec.name for spec in model.outputs]
    return lambda: session.run(names, model.feed)


def serve_bare(path: str) -> None:
    """A synchronous server of grpcio's that answers at once, with bytes made beforehand."""
    message = tritonclient.grpc.service_pb2.ModelInferResponse(model_name="bare")
    for model in bench_models():
        message.outputs.add(name=model.outputs[0].name, datatype="FP32", shape=[1])
        message.raw_output_contents.append(b"1234")
    answer = message.SerializeToString()
    server = grpc.server(ThreadPoolExecutor(8))
    handler = grpc.unary_unary_rpc_method_handler(lambda request, context: answer)
    service = "inference.GRPCInferenceService"
    server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler(service, {"ModelInfer": handler}),))
    server.add_insecure_port(f"unix:{path}")
    server.start()
    server.wait_for_termination()


@contextmanager
def bare_server(path: Path) -> Iterator[str]:
    process = get_context("spawn").Process(target=serve_bare, args=(str(path),), daemon=True)
    process.start()
    while not path.exists():
        assert process.is_alive(), "the bare server ended"
        time.sleep(0.05)
    try:
        yield str(path)
    finally:
        process.kill()
        process.join()


def one_round(sides: dict[str, Ask], model: BenchModel, blocks: int) -> dict[str, np.ndarray]:
    """Durations in us by side."""
    kept: dict[str, list[int]] = {name: [] for name in sides}
    count = max(model.request_count // 10, 4)
    for _ in range(blocks):
        for name, ask in sides.items():
            ask()
            for _ in range(count):
                began_ns = time.perf_counter_ns()
                ask()
                kept[name].append(time.perf_counter_ns() - began_ns)
    return {name: np.array(durations) / 1000 for name, durations in kept.items()}


def added(rounds: list[dict[str, np.ndarray]], side: str, percentile: float) -> float:
    """Median over rounds of the side's percentile less raw's."""
    return statistics.median(
        float(np.percentile(found[side], percentile) - np.percentile(found["raw"], percentile)) for found in rounds
    )


def measure(rounds_count: int, blocks: int) -> dict[str, list[dict[str, np.ndarray]]]:
    models = bench_models()
    with (
        tempfile.TemporaryDirectory() as folder,
        bare_server(Path(folder) / "bare.sock") as bare,
        device(Path(folder), models, DOORS) as served,
    ):
        askers = Askers(served.work, bare)
        found: dict[str, list[dict[str, np.ndarray]]] = {}
        for model in models:
            sides = askers.sides(model)
            one_round(sides, model, 2)  # warm
            found[model.name] = [one_round(sides, model, blocks) for _ in range(rounds_count)]
        askers.oip.close()
        return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--blocks", type=int, default=10)
    arguments = parser.parse_args()
    found = measure(arguments.rounds, arguments.blocks)
    print("| added p50 / p99 µs | " + " | ".join(found) + " |\n|---|" + "---|" * len(found))
    raw_cells = [
        f"{statistics.median(float(np.median(one['raw'])) for one in rounds):.0f}" for rounds in found.values()
    ]
    print("| raw p50 | " + " | ".join(raw_cells) + " |")
    for side in list(next(iter(found.values()))[0])[1:]:
        cells = [f"+{added(rounds, side, 50):.0f} / +{added(rounds, side, 99):.0f}" for rounds in found.values()]
        print(f"| {side} | " + " | ".join(cells) + " |")
    bars = [at_most(bar.name, added(found[bar.model], bar.side, 50), "us", bar.added_us) for bar in BARS]
    print(json.dumps({"bench": "oip", "bars": bars}))


if __name__ == "__main__":
    main()
