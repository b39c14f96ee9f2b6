"""``python -m edge_component``: the runtime as a process, under Greengrass or alone.

Exit codes: 0 after SIGTERM or SIGINT, and never by itself (Greengrass Lite does not restart a component that exits 0);
1 when it cannot start; anything else is a crash.

Under Greengrass (its IPC variables are in the environment) telemetry goes out through the nucleus; alone, it stays in
the outbox. Either way serving does not depend on the nucleus: it is given a moment to tell the configuration, no more;
then what it told last time holds until it does (last_configuration.py).
"""

import argparse
import gc
import logging
import os
import queue
import random
import resource
import signal
import socket
import sys
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import NoReturn

os.environ["ORT_DISABLE_TELEMETRY"] = "1"  # before anything may import onnxruntime

from edge_component.clock import Parting, SystemClock
from edge_component.config import RuntimeConfig, changed_fields
from edge_component.contracts.codec import from_bytes
from edge_component.contracts.errors import ContractError
from edge_component.errors import ConfigurationError, DeviceError, sentence_of
from edge_component.inference.execution import bind_to_cpus, limit_memory
from edge_component.last_configuration import LastConfiguration
from edge_component.nucleus_address import SOCKET_VARIABLE, NucleusAddress
from edge_component.nucleus_port import Nucleus
from edge_component.observability.json_log import TEXT_FORMAT, use_log_format
from edge_component.observability.service_totals import ServiceTotals
from edge_component.observability.slow_requests import SlowLimits, SlowRequests
from edge_component.optional_parts import OptionalParts, Surroundings
from edge_component.reporting import Reporting, ReportingParts
from edge_component.runtime import Runtime, RuntimeParts
from edge_component.telemetry.outbox import Outbox
from edge_component.telemetry.recorder import Recorder, RecorderLimits
from edge_component.telemetry.segment_log import LogLimits
from edge_component.telemetry.uplink import Uplink

log = logging.getLogger("edge_component")

OUTBOX_FOLDER = "outbox"
CONFIGURATION_BYTES_MAX = 65_536
AT_ONCE = ("heartbeat_s", "window_s", "ingest_rule")
"""Fields whose change needs no restart."""
SWITCH_INTERVAL_S = 0.0001
"""After which a thread that computes in Python gives way to one that has a request. With the interpreter's 5 ms, counting
telemetry or loading a model made every hundredth request wait for milliseconds (measured); with this, a tenth of that."""
OPEN_FILES_MAX = 65_536
"""A channel holds one. With the usual 1,024, the channels of one user of the fast path were enough to keep a hand-over out,
and its trial from starting."""
NUCLEUS_WAIT_S = 2.0
"""How long the start waits for the nucleus's configuration, connecting included; the models are served without it."""


def main() -> int:
    """Run until a signal says stop; returns the exit code."""
    arguments = parse_arguments()
    logging.basicConfig(level=arguments.log_level.upper(), stream=sys.stderr, format=TEXT_FORMAT)
    try:
        return serve(arguments, os.environ)
    except (DeviceError, OSError) as error:
        told = sentence_of(error) if isinstance(error, DeviceError) else f"{error}. See `edgewright-edge doctor`."
        log.error("the runtime cannot start: %s", told)  # noqa: TRY400 - a sentence
        return 1


def allow_open_files() -> None:
    """Raise the limit as far as this process may, and as far as there is use for it."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = OPEN_FILES_MAX if hard == resource.RLIM_INFINITY else min(OPEN_FILES_MAX, hard)
    if soft != resource.RLIM_INFINITY and soft < wanted:
        resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))


def serve(arguments: argparse.Namespace, environment: Mapping[str, str]) -> int:
    """Put the runtime together, run it, stop it."""
    sys.setswitchinterval(SWITCH_INTERVAL_S)
    allow_open_files()
    arguments.work.mkdir(parents=True, exist_ok=True)
    nucleus = connect_nucleus(environment)
    last = LastConfiguration(arguments.work)
    document = configuration_document(nucleus, arguments.config, last)
    config, problems = RuntimeConfig.from_document(document or {})
    use_log_format(config.log_format)
    totals = ServiceTotals()
    problems += tuple(filter(None, (bind_to_cpus(config.cpu_affinity), limit_memory(config.memory_bytes_max))))
    reporting = make_reporting(arguments.work, thing_name(environment), nucleus, config, totals)
    parts = RuntimeParts(
        arguments.work, arguments.trust, arguments.version, config, reporting, problems=problems, configuration=document
    )
    runtime = Runtime(parts)
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: runtime.ask_to_stop())
    runtime.start()
    reporting.start(runtime.heartbeat)
    optional = OptionalParts(
        Surroundings(arguments.work, runtime.serving, nucleus, totals, SystemClock(), runtime.add_reason)
    )
    runtime.ask_also(optional.problems)
    optional.open()
    optional.follow(document or {})
    if nucleus is not None:
        follow_nucleus(nucleus, Followers(reporting, runtime, optional, last, config))
        nucleus.report_running()
    spare_the_collector()
    runtime.run()
    log.info("asked to stop")
    parting = Parting(config.stop_s, SystemClock())
    optional.stop(parting)
    runtime.stop(parting)
    if nucleus is not None:
        nucleus.close()
    return 0


def spare_the_collector() -> None:
    """What there is once everything is open stays until the end: the garbage collector need not look at it again.

    A full pass over it stopped every thread for 18 ms, nine times in 300,000 requests; it takes 0.5 ms since (measured).
    """
    gc.collect()
    gc.freeze()


def leave(exit_code: int) -> NoReturn:
    """End the process; all that is to be kept has been.

    Not by way of the interpreter's end: a run that outlives ``stop_s`` would come back from ONNX Runtime into an interpreter
    that is gone, and take the process down with SIGABRT (measured), which looks like a crash of the component.
    """
    logging.shutdown()
    with suppress(OSError):
        sys.stdout.flush()
    os._exit(exit_code)


def parse_arguments() -> argparse.Namespace:
    """The command line, as the recipe writes it."""
    parser = argparse.ArgumentParser(prog="python -m edge_component", description="The Edgewright runtime.")
    parser.add_argument("--work", type=Path, required=True, help="the component's own folder: models, sockets, outbox")
    parser.add_argument("--trust", type=Path, required=True, help="folder of public keys (*.pem) that may sign models")
    parser.add_argument("--version", required=True, help="this component's version, as the heartbeat reports it")
    parser.add_argument("--config", type=Path, help="configuration as a JSON file, for a runtime without a nucleus")
    parser.add_argument("--log-level", default="info", choices=("debug", "info", "warning", "error"))
    return parser.parse_args()


def thing_name(environment: Mapping[str, str]) -> str:
    """As Greengrass says, else the host's name: without a nucleus nobody reads it."""
    return environment.get("AWS_IOT_THING_NAME") or socket.gethostname()


def connect_nucleus(environment: Mapping[str, str]) -> Nucleus | None:
    """The nucleus that started this process, if one did; connects in the background."""
    if not environment.get(SOCKET_VARIABLE):
        log.info("not started by Greengrass: what there is to tell stays in the outbox")
        return None
    from edge_component.nucleus import (  # noqa: PLC0415 - awsiot takes time and memory, and only Greengrass needs it
        GreengrassNucleus,
    )

    nucleus = GreengrassNucleus(NucleusAddress.from_environment(environment), SystemClock(), random.random)
    nucleus.start()
    return nucleus


def configuration_document(
    nucleus: Nucleus | None, path: Path | None, last: LastConfiguration, wait_s: float = NUCLEUS_WAIT_S
) -> Mapping[str, object] | None:
    """The component's configuration as the nucleus tells it within a moment, else as it last did; ``None`` is not known.

    Without a nucleus it is the file's.

    Raises:
        ConfigurationError: the file is there but is no JSON object.
    """
    if nucleus is None:
        return read_configuration(path) if path is not None else {}
    told: queue.SimpleQueue[Mapping[str, object]] = queue.SimpleQueue()
    nucleus.on_configuration_change(told.put)
    try:
        document = told.get(timeout=wait_s)
    except queue.Empty:
        known = last.read()
        told_before = "the defaults" if known is None else "what it told last time"
        log.warning("no configuration from the nucleus within %g s; starting with %s", wait_s, told_before)
        return known
    last.keep(document)
    return document


def read_configuration(path: Path) -> Mapping[str, object]:
    """A JSON object."""
    try:
        return from_bytes(path.read_bytes(), CONFIGURATION_BYTES_MAX)
    except (OSError, ContractError) as error:
        raise ConfigurationError(f"{path}: {error}") from error


def make_reporting(
    work_path: Path, thing: str, nucleus: Nucleus | None, config: RuntimeConfig, totals: ServiceTotals
) -> Reporting:
    """Outbox, recorder and, where there is a nucleus, the uplink."""
    clock = SystemClock()
    outbox = Outbox(work_path / OUTBOX_FOLDER, thing, clock, LogLimits(bytes_max=config.outbox_bytes_max))
    limits = RecorderLimits(window_s=config.window_s)
    observers = (totals, SlowRequests(SlowLimits(config.slow_request_ms), clock))
    recorder = Recorder(outbox.append, clock, outbox.body_bytes_max, limits, observers=observers)
    uplink = Uplink(outbox, nucleus, random.random, config.ingest_rule) if nucleus is not None else None
    return Reporting(ReportingParts(outbox, recorder, uplink, config.heartbeat_s))


@dataclass(frozen=True, slots=True)
class Followers:
    """Who has to know what the nucleus tells; ``config`` is what the runtime was started with."""

    reporting: Reporting
    runtime: Runtime
    optional: OptionalParts
    last: LastConfiguration
    config: RuntimeConfig


def follow_nucleus(nucleus: Nucleus, followers: Followers) -> None:
    """Take changes of the configuration over, and send what waited once the nucleus is back.

    Intervals, rule and streams change at once; the other fields hold from the next start (a deployment that changes them
    restarts the component on Greengrass Lite anyway).
    """
    reporting, runtime = followers.reporting, followers.runtime

    def on_change(document: Mapping[str, object]) -> None:
        followers.last.keep(document)
        config, problems = RuntimeConfig.from_document(document)
        for problem in problems:
            runtime.add_reason(problem)
        runtime.configured(document)
        reporting.set_intervals(config.heartbeat_s, config.window_s)
        reporting.use_rule(config.ingest_rule)
        followers.optional.follow(document)
        later = [name for name in changed_fields(followers.config, config) if name not in AT_ONCE]
        if later:
            log.warning("the configuration's %s will hold from this component's next start", ", ".join(later))

    def on_connection(connected: bool) -> None:  # noqa: FBT001 - the port's signature
        log.info("the nucleus is %s", "connected" if connected else "gone; serving goes on")
        if connected:
            reporting.retry_now()

    nucleus.on_configuration_change(on_change)
    nucleus.on_connection(on_connection)


if __name__ == "__main__":
    leave(main())
