"""What the doors cost: added latency, throughput, swaps, idle cost, start.

Question: how far is a prediction through the runtime, with everything switched on, from the same prediction in process,
and from the floor that crossing to another process has?

Method. The runtime is the real process over signed bundles: router, admission, deadlines and telemetry are on, and the
tabular model's 31 columns are counted (serving/device.py). One other process asks (serving/asker.py). In each round it
goes round the sides in blocks of about 10 ms: ``session.run`` in process (*raw*; also with everything bound beforehand),
a bare one-byte ping-pong with a third process over a socket pair of the same kind (*doorbell*, the floor), the fast path,
and the peers if asked for. So whatever else the machine does falls on all of them. Each block begins with another side,
and each side runs for 25 ms before it is measured, until its model is back in the caches.

- *added* is fast path - raw, *beyond* is fast path - raw - doorbell, each from one round's p50 (or p99); reported is the
  median over rounds.
- *in place*: the same requests, whose inputs were written before where the runtime reads them (``Client.prepare``; the C
  client's ``inputs[i].data``), as a camera or a decoder can: without the client's copy of the input.
- *doorbell, after a run*: the same ping-pong, once after each run of the model, when neither its code nor the kernel's is
  in the core's nearest caches: what crossing costs at a model's own pace. Shown beside; the bars are against the other.
- *C client*: the example of ``edge_component/client/c``, once per round, if there is a compiler, less what raw took just
  before and after. It shows what the path costs; the Python client's rows show what an application in Python sees.
- *REST*, *gRPC*: the Open Inference Protocol through `tritonclient` (serving/oip_sides.py), where nobody is pinned, since that
  client has threads of its own. bench_oip.py puts a bare grpc server beside it.
- *one core*: asker and doorbell partner are pinned to one core; the runtime is not told, its connection's thread follows
  its client by itself. *scheduler*: nobody is pinned.
- Where a model's memory happens to lie makes 50 us of a run of 2.4 ms, in process as well (measured): so each round begins
  with new sessions, inputs and channels on both sides, and medians over rounds are medians over places. (With the scheduler
  the runtime keeps its session: the protocol's doors need some hundred requests to settle after a swap.)
- A loaded machine has slower caches and busier cores, for raw as well. Rounds are ranked by raw's and the fast path's p50
  together (by raw's alone, the choice would be of raw's luck), and the bars are taken from the quietest quarter; the
  table shows all rounds beside it.
- Throughput: 1 and 4 asking processes, alternating; beside it the same with the models run in those processes, which is
  what the machine has to give at that time.
- Swaps: 20 activations of a next version, each through signature, trial and golden test, under the load of one asker
  that is not pinned; p99 of requests that ended during an activation against that before the first.
- Start: from starting the process over a work folder with three models to the first answer. Idle: PSS, and processor
  time of all threads, with the tabular model loaded; with the fast path alone, and with every door open.
- Peers serve the same models over their own protocols (serving/peers.py); each is installed into its own environment
  below ``--peers-cache`` on first use.

Run ``python tests/benchmarks/bench_serving.py [--rounds N] [--models mlp,vad,vis] [--peers]``. The last line is JSON.
"""

import argparse
import json
import statistics
import tempfile
import time
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

from tests.benchmarks.serving import peers
from tests.benchmarks.serving.asker import AFTER_A_RUN, RAW_BESIDE, LatencyRound, Load, p50_p99, raw_beside
from tests.benchmarks.serving.askers import Askers, build_c_client, load_together
from tests.benchmarks.serving.device import Device, Idle, device, idle_of, start_to_first_answer_s
from tests.benchmarks.serving.models import BenchModel, bench_models, tabular
from tests.benchmarks.serving.oip_sides import BARS, DOORS, EVERY_DOOR

PLACEMENTS = {"one core": 1, "scheduler": None}
BLOCKS = 5
FLOORS = ("raw", "raw, bound", "doorbell", AFTER_A_RUN)
IN_PLACE_BYTES_MIN = 100_000
"""Of a model's inputs, from which on writing them in place has bars of its own."""


@dataclass
class Rounds:
    """p50 and p99 in µs of each round, by side."""

    by_side: dict[str, list[tuple[float, float]]] = field(default_factory=dict)

    def add(self, found: Mapping[str, tuple[float, float]]) -> None:
        for side, values in found.items():
            self.by_side.setdefault(side, []).append(values)

    def quiet(self) -> "Rounds":
        """The quarter in which raw and fast path together were fastest."""
        pairs = zip(self.by_side["raw"], self.by_side["fast path"], strict=True)
        both = [raw[0] + fast[0] for raw, fast in pairs]
        chosen = sorted(range(len(both)), key=both.__getitem__)[: max(len(both) // 4, 3)]
        return Rounds({side: [values[index] for index in chosen] for side, values in self.by_side.items()})

    def p50(self, side: str) -> float:
        return statistics.median(p50 for p50, _ in self.by_side[side])

    def added(self, side: str, at: int = 0, floors: Sequence[str] = ()) -> float:
        """Median over rounds of what a side takes more than raw and these floors together; ``at`` 0 is p50, 1 is p99."""
        beside = raw_beside(side)
        columns = [self.by_side[name] for name in (beside if beside in self.by_side else "raw", *floors)]
        rows = zip(self.by_side[side], *columns, strict=True)
        return statistics.median(mine[at] - sum(other[at] for other in others) for mine, *others in rows)

    def beyond(self, side: str) -> float:
        return self.added(side, floors=("doorbell",))


def main() -> None:
    arguments = parse_arguments()
    models = [model for model in bench_models() if model.name in arguments.models.split(",")]
    bars: list[dict[str, object]] = []
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        served = stack.enter_context(device(folder, models, DOORS))
        addresses = stack.enter_context(peers.running(arguments.peers_cache, models)) if arguments.peers else {}
        program = build_c_client(folder)
        askers = stack.enter_context(Askers(served.socket_path, 4, addresses, program, with_oip=True))
        bars += latency(askers, served, models, arguments.rounds)
        bars += throughput(askers, models, max(arguments.rounds // 4, 3))
        bars += swaps(askers, served, models)
        askers.close()
        bars += start_and_idle(served, folder)
    print(json.dumps({"bench": "serving", "bars": bars}))


def parse_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.split("\n", 1)[0])
    parser.add_argument("--rounds", type=int, default=40)
    parser.add_argument("--models", default="mlp,vad,vis")
    parser.add_argument("--peers", action="store_true", help="MLServer, BentoML, LitServe and FastAPI beside it")
    parser.add_argument("--peers-cache", type=Path, default=Path(".edgewright/bench-peers"))
    return parser.parse_args()


def latency(askers: Askers, served: Device, models: Sequence[BenchModel], rounds: int) -> list[dict[str, object]]:
    bars = []
    print("| model | placement | side | p50 µs | added p50 / p99 µs | beyond the doorbell | quiet quarter |")
    print("|---|---|---|---|---|---|---|")
    for placement, core in PLACEMENTS.items():
        for model in models:
            measured = Rounds()
            wanted = LatencyRound(model, core, BLOCKS)
            askers.first.ask(wanted)  # opens channels, warms up, lets the runtime find its client's core
            for _ in range(rounds):
                if core is not None:
                    served.swap(model)
                measured.add(askers.first.ask(wanted))
            print_latency(model, placement, measured)
            bars += latency_bars(model, placement, measured.quiet())
            bars += oip_bars(model, measured.quiet())
    return bars


def oip_bars(model: BenchModel, quiet: Rounds) -> list[dict[str, object]]:
    """Where those sides were measured."""
    return [
        at_most(bar.name, quiet.added(bar.side), "us", bar.added_us)
        for bar in BARS
        if bar.model == model.name and bar.side in quiet.by_side
    ]


def print_latency(model: BenchModel, placement: str, measured: Rounds) -> None:
    quiet = measured.quiet()
    for side in measured.by_side:
        if side.startswith(RAW_BESIDE):
            continue
        line = f"| {model.title} | {placement} | {side} | {measured.p50(side):.1f} |"
        if side in FLOORS:
            line += f" | | {quiet.p50(side):.1f} |"
        else:
            line += f" {measured.added(side):+.1f} / {measured.added(side, 1):+.1f} | {measured.beyond(side):+.1f} |"
            line += f" {quiet.added(side):+.1f} / {quiet.added(side, 1):+.1f}, {quiet.beyond(side):+.1f} beyond |"
        print(line, flush=True)


def latency_bars(model: BenchModel, placement: str, quiet: Rounds) -> list[dict[str, object]]:
    """The bars hold for the path; so they are looked at with the cheap client and with the convenient one."""
    where = placement.replace(" ", "_")
    bars = []
    sides = [("fast path", "fastpath", ""), ("fast path, C client", "fastpath", "_c")]
    if sum(array.nbytes for array in model.feed.values()) >= IN_PLACE_BYTES_MIN:
        sides += [("in place", "in_place", ""), ("in place, C client", "in_place", "_c")]
    for side, way, suffix in sides:
        if side not in quiet.by_side:
            continue
        beyond = quiet.beyond(side)
        bars.append(at_most(f"{way}_{model.name}_beyond_floor_{where}{suffix}", beyond, "us", model.beyond_floor_us))
        if placement == "one core":
            added = quiet.added(side)
            bars.append(at_most(f"{way}_{model.name}_added_one_core{suffix}", added, "us", model.one_core_us))
    return bars


def throughput(askers: Askers, models: Sequence[BenchModel], rounds: int) -> list[dict[str, object]]:
    bars = []
    print("\n| model | requests/s, 1 client | 4 clients | ratio | ratio in process |\n|---|---|---|---|---|")
    for model in models:
        rows = [
            [rate(askers, model, count, in_process) for in_process in (False, True) for count in (1, 4)]
            for _ in range(rounds)
        ]
        one, four = (statistics.median(row[index] for row in rows) for index in (0, 1))
        ratio = statistics.median(row[1] / row[0] for row in rows)
        machine = statistics.median(row[3] / row[2] for row in rows)
        print(f"| {model.title} | {one:,.0f} | {four:,.0f} | {ratio:.2f} | {machine:.2f} |", flush=True)
        if model.name == "vis":
            bars.append(at_least("fastpath_vis_4_clients_over_1", ratio, "ratio", 1.8))
    return bars


def rate(askers: Askers, model: BenchModel, count: int, in_process: bool, seconds: float = 1.0) -> float:
    loads = load_together(askers.all[:count], model, seconds, in_process=in_process)
    return sum(load.answered_count for load in loads) / seconds


def swaps(askers: Askers, served: Device, models: Sequence[BenchModel], count: int = 20) -> list[dict[str, object]]:
    bars = []
    print("\n| model | steady p99 µs | p99 during 20 swaps | failed of |\n|---|---|---|---|")
    seconds = 3.0 + count * 1.5
    for model in models:
        spans: list[tuple[float, float]] = []
        bundles = [served.next_bundle(model) for _ in range(count)]  # as they arrive: packed and signed elsewhere
        swap = partial(served.swap_until, bundles, 3.0, seconds, spans)
        (load,) = load_together(askers.all[:1], model, seconds, meanwhile=swap)
        steady, during = split_by(load, spans)
        ratio = p50_p99(during)[1] / p50_p99(steady)[1]
        print(
            f"| {model.title} | {p50_p99(steady)[1]:.0f} | {p50_p99(during)[1]:.0f} ({ratio:.1f} times) | "
            f"{len(load.failures)} of {load.answered_count:,}, {len(spans)} swaps, {len(load.versions)} versions |",
            flush=True,
        )
        bars.append(at_most(f"swap_{model.name}_p99_over_steady", ratio, "ratio", 2.0))
        bars.append(at_most(f"swap_{model.name}_failed", len(load.failures), "count", 0))
    return bars


def split_by(load: Load, spans: Sequence[tuple[float, float]]) -> tuple[list[float], list[float]]:
    """Durations before the first swap, and those of requests that ended during one."""
    first = spans[0][0]
    pairs = list(zip(load.ended_at_s, load.durations_us, strict=True))
    steady = [duration for ended, duration in pairs if ended < first]
    during = [duration for ended, duration in pairs if any(begin <= ended <= end for begin, end in spans)]
    return steady, during


def start_and_idle(served: Device, folder: Path) -> list[dict[str, object]]:
    served.stop()
    starts = []
    for _ in range(5):
        starts.append(start_to_first_answer_s(served, tabular()))
        served.stop()
    idle = idle_alone(folder / "alone", {})
    every_door = idle_alone(folder / "every-door", EVERY_DOOR)
    start_s = statistics.median(starts)
    print(f"\nstart to first answer: {start_s:.2f} s (fastest {min(starts):.2f})")
    print(f"idle: {idle.pss_mb:.0f} MB PSS, {idle.cpu_percent:.2f} % of a core")
    print(f"idle with every door open: {every_door.pss_mb:.0f} MB PSS, {every_door.cpu_percent:.2f} % of a core")
    return [
        at_most("start_to_first_answer", start_s, "s", 0.5),
        at_most("idle_pss", idle.pss_mb, "MB", 60),
        at_most("idle_cpu", idle.cpu_percent, "percent", 0.5),
        at_most("idle_every_door_pss", every_door.pss_mb, "MB", 85),
        at_most("idle_every_door_cpu", every_door.cpu_percent, "percent", 0.5),
    ]


def idle_alone(folder: Path, config: Mapping[str, object]) -> Idle:
    """Of a runtime that serves the tabular model, and is asked by nobody."""
    folder.mkdir()
    with device(folder, [tabular()], config) as small:
        assert small.runtime is not None
        small.runtime.terminate()  # what activation left behind is not what an idle runtime holds
        small.start().wait_until_ready()
        time.sleep(1.0)
        return idle_of(small.runtime.process.pid, 10.0)


def at_most(name: str, value: float, unit: str, target: float) -> dict[str, object]:
    return {"name": name, "value": round(value, 2), "unit": unit, "target": f"<= {target:g}", "holds": value <= target}


def at_least(name: str, value: float, unit: str, target: float) -> dict[str, object]:
    return {"name": name, "value": round(value, 2), "unit": unit, "target": f">= {target:g}", "holds": value >= target}


if __name__ == "__main__":
    main()
