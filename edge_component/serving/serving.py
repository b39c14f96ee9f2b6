"""What every door serves with.

The failure this exists for: a door that knows another door, only because both meet the same router.
"""

from dataclasses import dataclass, field

from edge_component.config import RuntimeConfig
from edge_component.inference.deadline import DeadlineWatch
from edge_component.inference.router import Router
from edge_component.polling import NEVER, Polling
from edge_component.serving.core_follower import LongRuns
from edge_component.telemetry_sink import TelemetrySink, Tensors

NO_TENSORS: Tensors = {}


@dataclass(frozen=True, slots=True)
class Serving:
    """One for all doors of a process."""

    router: Router
    sink: TelemetrySink
    watch: DeadlineWatch
    config: RuntimeConfig
    runtime_version: str
    long_runs: LongRuns = field(default_factory=LongRuns)
    polling: Polling = NEVER
