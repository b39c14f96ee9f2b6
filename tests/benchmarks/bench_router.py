"""What routing, admission, shadows, batches and unloading cost a request.

Method: in this process, without a door. Each figure is the median of ``ROUNDS`` rounds, taken in turns, so that whatever
else the machine does falls on all of them alike. The model doubles 30 floats (``Mul``); the batch model is a chain of three
1024 x 1024 ``MatMul``, whose weights are read once for a run, however many rows it has. Memory is the process's own (RSS),
after loading and unloading a 20 MB graph, with and without ``malloc_trim``.

Run it: ``python -m tests.benchmarks.bench_router``
"""

import gc
import json
import statistics
import tempfile
import threading
import time
from collections.abc import Callable
from dataclasses import replace
from itertools import pairwise
from pathlib import Path

import numpy as np
from onnx import TensorProto, helper, numpy_helper

from edge_component.clock import SystemClock
from edge_component.contracts.heartbeat import ModelRef
from edge_component.contracts.manifest import Manifest, TensorSpec
from edge_component.contracts.routes import Arm, BatchRule, ModelRules, RouteTable
from edge_component.inference.admission import AdmissionLimits, Gate
from edge_component.inference.batching import Batcher
from edge_component.inference.deadline import DeadlineWatch
from edge_component.inference.loading import resident_bytes
from edge_component.inference.residents import trim_memory
from edge_component.inference.router import Router
from edge_component.inference.session import Array, Session
from edge_component.inference.shadow import Shadowing, ShadowLimits
from edge_component.inference.versions import NO_TURN
from tests.edge_component.bundle_factory import scale_model, serialized
from tests.edge_component.inference.test_session import MANIFEST

ROUNDS = 7
REPEATS = 20_000
CALLERS = 8
WIDE = 1024


def main() -> None:
    """Print one JSON object."""
    with tempfile.TemporaryDirectory() as folder:
        print(json.dumps({**per_call(Path(folder)), **batches(Path(folder)), **memory(Path(folder))}, indent=2))


def per_call(folder: Path) -> dict[str, float]:
    """Nanoseconds of each step that a request may take, the empty loop's own subtracted."""
    session = load(folder, scale_model(2.0), MANIFEST)
    router, gate = Router(), Gate(AdmissionLimits())
    old, new = ModelRef("m", "1.0.0", "0" * 64), ModelRef("m", "1.1.0", "1" * 64)
    router.switch(old, MANIFEST, session)
    plain = router.route("m")
    split = two_arms(new, old, session).route("m")
    watch = DeadlineWatch(SystemClock())
    full = Shadowing(watch, ShadowLimits(queue_bytes_max=0))
    roomy = Shadowing(watch, ShadowLimits(queue_bytes_max=1 << 40))
    roomy._start_worker = lambda: None  # type: ignore[method-assign]  # only the offering is measured

    def offer(tensors: dict[str, Array]) -> None:
        roomy.put(None, tensors, small)  # type: ignore[arg-type]
        roomy._waiting.clear()  # as a worker that keeps up would

    small, large = {"x": np.zeros((1, 30), np.float32)}, {"x": np.zeros((1, 3, 224, 224), np.float32)}
    steps: dict[str, Callable[[], object]] = {
        "empty": lambda: None,
        "look_up_ns": lambda: router.route("m").active,
        "held_route_ns": lambda: plain.active,
        "gate_ns": lambda: (gate.enter(1.0), gate.leave()),
        "split_by_draw_ns": split.resolve,
        "split_by_key_ns": lambda: split.resolve("station-jfk"),
        "shadow_dropped_ns": lambda: full.put(None, small, small),  # type: ignore[arg-type]
    }
    few: dict[str, Callable[[], object]] = {
        "shadow_kept_30_floats_ns": lambda: offer(small),
        "shadow_kept_602_kB_ns": lambda: offer(large),
    }
    rounds = [
        {name: timed_ns(step, REPEATS) for name, step in steps.items()}
        | {name: timed_ns(step, 50) for name, step in few.items()}
        for _ in range(ROUNDS)
    ]
    medians = {name: statistics.median(found[name] for found in rounds) for name in rounds[0]}
    empty = medians.pop("empty")
    return {name: round(value - empty) for name, value in medians.items()}


def two_arms(new: ModelRef, old: ModelRef, session: Session) -> Router:
    """A router whose two arms are both in memory."""
    router = Router()
    router.set_table(RouteTable(models={"m": ModelRules(split=(Arm("1.1.0", 9), Arm("1.0.0", 1)))}))
    router.switch(old, MANIFEST, session)
    router.hold("m", (new, old))
    router.switch(new, MANIFEST, session)
    return router


def batches(folder: Path) -> dict[str, float]:
    """Requests per second of ``CALLERS`` threads, each asking for one row, alone and batched."""
    session = load(folder, matrices(3), wide_manifest())
    row = {"x": np.ones((1, WIDE), np.float32)}
    batcher = Batcher(session, BatchRule(CALLERS, 0))
    rounds = [
        (rate(lambda _: session.run(row)), rate(lambda leash: batcher.run(row, leash, 10, NO_TURN))) for _ in range(3)
    ]
    return {
        "alone_per_s": round(statistics.median(alone for alone, _ in rounds)),
        "batched_per_s": round(statistics.median(batched for _, batched in rounds)),
    }


def rate(ask: Callable[..., object]) -> float:
    """Calls per second over all callers."""
    watch = DeadlineWatch(SystemClock())
    counts = [0] * CALLERS
    ends_at_s = time.monotonic() + 1.0

    def work(index: int) -> None:
        leash = watch.leash()
        while time.monotonic() < ends_at_s:
            ask(leash)
            counts[index] += 1

    threads = [threading.Thread(target=work, args=(index,)) for index in range(CALLERS)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return float(sum(counts))


def memory(folder: Path) -> dict[str, float]:
    """Megabytes that ten loads and unloads of a 20 MB graph leave behind, before and after trimming; and one load's ms."""
    path = folder / "large.onnx"
    path.write_bytes(matrices(5))
    gc.collect()
    trim_memory()
    before = resident_bytes()
    took_ms = []
    for _ in range(10):
        began = time.perf_counter()
        session = Session.load(path, wide_manifest())
        took_ms.append((time.perf_counter() - began) * 1000)
        session.run({"x": np.ones((1, WIDE), np.float32)})
        del session
    left = resident_bytes() - before
    trim_memory()
    return {
        "load_20_MB_ms": round(statistics.median(took_ms), 1),
        "left_MB": round(left / 1e6, 1),
        "left_after_trim_MB": round((resident_bytes() - before) / 1e6, 1),
    }


def timed_ns(step: Callable[[], object], count: int) -> float:
    """Mean of so many calls."""
    began_ns = time.perf_counter_ns()
    for _ in range(count):
        step()
    return (time.perf_counter_ns() - began_ns) / count


def load(folder: Path, model: bytes, manifest: Manifest) -> Session:
    """A session of these bytes."""
    path = folder / "model.onnx"
    path.write_bytes(model)
    return Session.load(path, manifest)


def wide_manifest() -> Manifest:
    """Of :func:`matrices`."""
    shape = (-1, WIDE)
    return replace(MANIFEST, inputs=(TensorSpec("x", "float32", shape),), outputs=(TensorSpec("y", "float32", shape),))


def matrices(count: int) -> bytes:
    """``count`` matrix products in a row."""
    rng = np.random.default_rng(0)
    names = ["x", *(f"h{index}" for index in range(1, count)), "y"]
    weights = [
        numpy_helper.from_array(rng.standard_normal((WIDE, WIDE)).astype(np.float32), f"w{index}")
        for index in range(count)
    ]
    nodes = [
        helper.make_node("MatMul", [taken, f"w{index}"], [given])
        for index, (taken, given) in enumerate(pairwise(names))
    ]
    ends = [helper.make_tensor_value_info(name, TensorProto.FLOAT, ["batch", WIDE]) for name in ("x", "y")]
    return serialized(helper.make_graph(nodes, "matrices", ends[:1], ends[1:], weights))


if __name__ == "__main__":
    main()
