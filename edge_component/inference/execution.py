"""On what a model computes: execution providers in order of preference, threads, processors, and memory.

The failures this exists for: an accelerator that was asked for, is not there, and is silently replaced (so what was chosen
instead is kept with its reason, and the heartbeat says it); threads that spin (two of them at 50 Hz burn 103 % of a
processor, 3.3 % without; measured); a golden test on another provider than the one that will serve; and a model that
takes all memory for certain inputs, and with it the runtime and everybody's models.

Pure, but for :func:`bind_to_cpus` and :func:`limit_memory`. It does not import ONNX Runtime: the trial's parent reads it too.
"""

import json
import os
import resource
from collections.abc import Collection, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from edge_component.config import RuntimeConfig

CPU = "CPUExecutionProvider"
SUFFIX = "ExecutionProvider"
STATUS_FILE = Path("/proc/self/status")
ROOM_BYTES_MIN = 64_000_000
"""For models, requests and connections, beyond what the runtime has taken before it loads any."""


@dataclass(frozen=True, slots=True)
class SessionOptions:
    """How a session computes. One thread is right for small models on a device that does other things.

    Attributes:
        intra_op_threads: for one operator.
        inter_op_threads: operators at once; above 1 the graph is executed in parallel.
        spinning: threads wait for work by burning their processor: microseconds for watts.
        providers: ONNX Runtime's names, the most wanted first; the CPU follows by itself.
    """

    intra_op_threads: int = 1
    inter_op_threads: int = 1
    spinning: bool = False
    providers: tuple[str, ...] = (CPU,)

    def to_text(self) -> str:
        """For a child's command line."""
        return json.dumps(asdict(self))

    @classmethod
    def from_text(cls, text: str) -> "SessionOptions":
        """The inverse of :meth:`to_text`."""
        fields = json.loads(text)
        return cls(**fields | {"providers": tuple(fields.get("providers", (CPU,)))})


@dataclass(frozen=True, slots=True)
class Providers:
    """What can be tried on this build, in order and ending with the CPU; and one sentence for each that cannot."""

    chosen: tuple[str, ...]
    reasons: tuple[str, ...] = ()


def session_options(config: RuntimeConfig) -> SessionOptions:
    """How this device computes."""
    return SessionOptions(
        config.intra_op_threads,
        config.inter_op_threads,
        bool(config.spinning),
        parse_providers(config.execution_providers),
    )


def parse_providers(text: str) -> tuple[str, ...]:
    """``CUDA, cpu`` as ONNX Runtime's names, in order, each once; nothing is the CPU.

    ``XNNPACK`` and ``XnnpackExecutionProvider`` name the same provider; case is compared by :func:`choose_providers`.
    """
    names = [name.strip() for name in text.split(",") if name.strip()]
    whole = [name if name.lower().endswith(SUFFIX.lower()) else name + SUFFIX for name in names]
    return tuple(dict.fromkeys(whole)) or (CPU,)


def choose_providers(preferred: Sequence[str], available: Collection[str]) -> Providers:
    """Those of the preferred that this build of ONNX Runtime has, then the CPU, which every build has."""
    by_name: Mapping[str, str] = {name.lower(): name for name in available}
    chosen: list[str] = []
    reasons: list[str] = []
    for name in preferred:
        found = by_name.get(name.lower())
        if found is None:
            reasons.append(f"{name} is not in this build of ONNX Runtime, which has {', '.join(sorted(available))}")
        elif found not in chosen:
            chosen.append(found)
    if CPU not in chosen:
        chosen.append(CPU)
    return Providers(tuple(chosen), tuple(reasons))


def parse_cpus(text: str, online: Collection[int]) -> frozenset[int]:
    """``0,2-3`` as processor numbers.

    Raises:
        ValueError: not such a list, or none of these processors is there.
    """
    found: set[int] = set()
    for part in text.split(","):
        first, dash, last = part.strip().partition("-")
        if not first.isdecimal() or (dash and not last.isdecimal()):
            raise ValueError(f"{text!r} is not a list of processors such as 0,2-3")
        wanted = range(int(first), int(last if dash else first) + 1)
        found.update(cpu for cpu in online if cpu in wanted)
    if not found:
        raise ValueError(f"none of the processors {text} is there; there are {sorted(online)}")
    return frozenset(found)


def bind_to_cpus(text: str) -> str:
    """Keep this process, and every thread it starts from now on, on these processors; empty leaves it alone.

    Returns a sentence if that cannot be had: the runtime then serves on all of them.
    """
    if not text:
        return ""
    try:
        os.sched_setaffinity(0, parse_cpus(text, os.sched_getaffinity(0)))
    except (ValueError, OSError, OverflowError) as error:
        return f"configuration field cpu_affinity: {error}; serving on all processors"
    return ""


def limit_memory(bytes_max: int) -> str:
    """Let this process, and each trial, ask for no more data than this; 0 leaves it alone.

    A run that would is failed by ONNX Runtime, and what it had taken is free again; the kernel ends nobody for it, and a
    request pays nothing. The kernel counts what is reserved: the stack of each connection's thread is 8 MB, used or not.

    Returns a sentence if that cannot be had, or would leave no room: there is no bound then.
    """
    if not bytes_max:
        return ""
    try:
        least_bytes = _data_bytes() + ROOM_BYTES_MIN
        if bytes_max < least_bytes:
            return (
                f"configuration field memory_bytes_max: {bytes_max} is not enough, {least_bytes} is; there is no bound"
            )
        _, hard = resource.getrlimit(resource.RLIMIT_DATA)
        resource.setrlimit(resource.RLIMIT_DATA, (bytes_max, hard))
    except (ValueError, OSError) as error:
        return f"configuration field memory_bytes_max: {error}; there is no bound"
    return ""


def _data_bytes() -> int:
    """As the kernel counts it against the limit."""
    with STATUS_FILE.open() as lines:
        return 1024 * next(int(line.split()[1]) for line in lines if line.startswith("VmData:"))
