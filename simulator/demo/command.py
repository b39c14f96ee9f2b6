"""``edgewright-sim demo``: sets the stage, tells the story, prints what it amounts to, and tidies up.

Everything promised was seen only if :meth:`Summary.holds`. Without ``exit_at_end`` the fleet stays up after the story,
so that its page can be looked at, until Ctrl-C.
"""

import json
import sys
import time
from collections.abc import Mapping
from contextlib import ExitStack
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from rich.console import Console

from simulator.demo.lake import DataLake
from simulator.demo.narrator import Narrator
from simulator.demo.periods import OBSERVED_UNTIL, TRAINED_MONTHS, Period, half_months
from simulator.demo.replay import Replay
from simulator.demo.station import StationApplication, running_station
from simulator.demo.story import RINGS, Story, StoryError, thing_of
from simulator.demo.summary import Summary
from simulator.world import World

FIRST_VERSION, RETRAINED_VERSION, BAD_VERSION = "1.0.0", "1.1.0", "1.2.0"
MODEL_FOLDER = Path(__file__).resolve().parents[2] / "models" / "weather"
CANARY = next(iter(RINGS))
STAY_POLL_S = 0.5


@dataclass(frozen=True, slots=True)
class DemoOptions:
    """What the command line asks for.

    Attributes:
        folder: the demo's own; emptied at the start.
        exit_at_end: stop after the story instead of staying up.
        summary_path: where to write the summary as JSON; written even if a step fails.
    """

    folder: Path
    exit_at_end: bool
    summary_path: Path | None


def run_demo(options: DemoOptions, console: Console) -> bool:
    """Run the demo; returns whether everything promised was seen.

    Raises:
        SimulatorError: a step did not succeed; everything started was stopped again.
    """
    summary = Summary()
    narrator = Narrator(console, summary.phases_s)
    try:
        with ExitStack() as stack:
            with narrator.phase("start", "Start a broker and the local cloud"):
                world = stack.enter_context(World(options.folder))
                narrator.note(world.description)
            _Demo(world, narrator, summary, stack).tell()
            _print_end(console, summary)
            if not options.exit_at_end:
                _stay(console, world)
    finally:
        if options.summary_path is not None:
            options.summary_path.write_text(json.dumps(summary.to_document(), indent=2) + "\n")
    return summary.holds()


class _Demo:
    """The phases in their order. Not reusable."""

    def __init__(self, world: World, narrator: Narrator, summary: Summary, stack: ExitStack) -> None:
        self._world = world
        self._phase = narrator.phase
        self._note = narrator.note
        self._stack = stack
        self._story = Story(world, narrator, summary, MODEL_FOLDER)
        self._summary = summary

    def tell(self) -> None:
        lake, compilation = self._build()
        replay = self._start_fleet(lake)
        self._watch_until_drift(replay, lake)
        with self._phase("retrain", "The drift event starts the state machine: train, compile, register, publish"):
            replay.while_running(lambda: self._story.wait_for_retraining(RETRAINED_VERSION))
        self._roll_out(replay)
        with self._phase("refuse", f"Deploy a deliberately bad {BAD_VERSION} to {CANARY}"):
            replay.while_running(lambda: self._story.refuse(compilation, BAD_VERSION, CANARY))
            self._story.deploy(RETRAINED_VERSION, CANARY)
        with self._phase("finish", "Replay the rest of the year"):
            for period in half_months(replay.today.month):
                replay.play_until(period.end)
                replay.flush()
            self._story.conclude(replay)

    def _build(self) -> tuple[DataLake, Path]:
        story = self._story
        with self._phase("set_up", "Set up the cloud side once: bucket, key, queue, rules, state machine, fleet API"):
            story.set_up()
            lake = DataLake(self._world.folder / "lake", MODEL_FOLDER, self._world.endpoint_url)
            lake.upload_months(TRAINED_MONTHS)
        with self._phase("train", "Train on January and February in a SageMaker training job"):
            training_job = story.train(lake)
        with self._phase("compile", "Compile, quantise and gate in a SageMaker processing job"):
            compilation = story.compile(training_job)
        with self._phase("publish", f"Sign and publish {FIRST_VERSION}, and the runtime that will serve it"):
            story.publish(compilation, FIRST_VERSION)
            story.publish_runtime(FIRST_VERSION)
        return lake, compilation

    def _start_fleet(self, lake: DataLake) -> Replay:
        with self._phase("deploy", f"Start three core devices and deploy {FIRST_VERSION} to both rings"):
            works = self._story.start_devices()
            self._story.deploy(FIRST_VERSION, *RINGS, configure=True)
        return Replay(
            {station: self._start_station(station, work, lake) for station, work in works.items()},
            works,
            Period.first_of(TRAINED_MONTHS[-1] + 1),
            OBSERVED_UNTIL,
        )

    def _start_station(self, station: str, work: Path, lake: DataLake) -> StationApplication:
        script = MODEL_FOLDER / "station.py"
        running = running_station(station, work, lake.folder, script, self._world.environment, self._world.logs)
        return self._stack.enter_context(running)

    def _watch_until_drift(self, replay: Replay, lake: DataLake) -> None:
        with self._phase("watch", "Replay the year at each station until drift asks for a retraining"):
            for judged_count, period in enumerate(half_months(replay.today.month), start=1):
                retrain = self._story.watch(replay, period, judged_count)
                if period.ends_month:
                    lake.upload_months([period.first.month])
                decisions = [found for found in self._summary.drift if found.window == period.label]
                self._note(f"{period.label}: {', '.join(found.decision for found in decisions)}")
                if retrain:
                    self._note(next(found.sentence for found in decisions if found.decision == "retrain"))
                    return
        raise StoryError("the year ended and no drift was found that asks for a retraining")

    def _roll_out(self, replay: Replay) -> None:
        for ring, stations in RINGS.items():
            names = " and ".join(map(thing_of, stations))
            with self._phase(f"roll_out_{ring}", f"Roll {RETRAINED_VERSION} out to {ring} ({names}), under load"):
                replay.while_running(partial(self._story.deploy, RETRAINED_VERSION, ring))


def _print_end(console: Console, summary: Summary) -> None:
    console.print()
    for sentence in summary.sentences():
        console.print(sentence, highlight=False, markup=False, soft_wrap=True)
    times: Mapping[str, float] = summary.phases_s
    console.print(f"Phases: {', '.join(f'{name} {seconds:.0f} s' for name, seconds in times.items())}; "
                  f"{sum(times.values()):.0f} s together.", highlight=False)  # fmt: skip


def _stay(console: Console, world: World) -> None:
    console.print(f"\nThe fleet is up: {world.api_url}   Stop it with Ctrl-C.", highlight=False)
    command = Path(sys.argv[0]).with_name("edgewright")
    asked = f"EDGEWRIGHT_API_URL={world.api_url} {command} get devices"
    console.print(f"Ask it in another shell: {asked}", highlight=False, markup=False, soft_wrap=True)
    try:
        while True:
            world.check()
            time.sleep(STAY_POLL_S)
    except KeyboardInterrupt:
        console.print("Stopping.")
