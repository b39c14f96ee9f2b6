"""Probation: each bound by itself as a table, and the latency of live requests through the activator."""

import pytest

from edge_component.activation.live import Latency
from edge_component.activation.probation import Evidence, Judgement, Verdict, judge
from edge_component.config import RuntimeConfig
from edge_component.inference.errors import RunCancelledError, RunDeadlineError
from edge_component.inference.router import Totals
from edge_component.telemetry_sink import Outcome
from tests.edge_component.activation.conftest import Device
from tests.edge_component.bundle_factory import BundleFactory

CONFIG = RuntimeConfig(probation_s=30, probation_requests_min=20, probation_failed_ratio_max=0.05)
BOUNDED = RuntimeConfig(probation_s=30, probation_latency_ms_max=10.0, probation_latency_ratio_max=0.0)
GOOD = Totals(100, 0)


@pytest.mark.parametrize(
    ("evidence", "config", "verdict", "code"),
    [
        (Evidence(29, GOOD), CONFIG, Verdict.WATCH, ""),
        (Evidence(30, GOOD), CONFIG, Verdict.CONFIRM, ""),
        (Evidence(30, Totals()), CONFIG, Verdict.CONFIRM, ""),
        (Evidence(0, Totals(95, 5)), CONFIG, Verdict.WATCH, ""),
        (Evidence(0, Totals(94, 6)), CONFIG, Verdict.DOUBT, "probation-failed"),
        (Evidence(99, Totals(0, 19)), CONFIG, Verdict.CONFIRM, ""),
        (Evidence(99, Totals(0, 20)), CONFIG, Verdict.DOUBT, "probation-failed"),
        (Evidence(0, GOOD, Latency(20, 15_001), Latency(20, 2_000)), CONFIG, Verdict.DOUBT, "probation-slow"),
        (Evidence(0, GOOD, Latency(20, 15_000), Latency(20, 2_000)), CONFIG, Verdict.WATCH, ""),
        (Evidence(0, GOOD, Latency(19, 99_000), Latency(20, 2_000)), CONFIG, Verdict.WATCH, ""),
        (Evidence(0, GOOD, Latency(20, 99_000), Latency(19, 2_000)), CONFIG, Verdict.WATCH, ""),
        (Evidence(0, GOOD, Latency(20, 4_000), Latency(20, 4)), CONFIG, Verdict.WATCH, ""),
        (Evidence(0, GOOD, Latency(20, 10_001)), BOUNDED, Verdict.DOUBT, "probation-slow"),
        (Evidence(0, GOOD, Latency(20, 10_000), Latency(20, 1)), BOUNDED, Verdict.WATCH, ""),
    ],
)
def test_each_bound(evidence: Evidence, config: RuntimeConfig, verdict: Verdict, code: str) -> None:
    judgement: Judgement = judge(evidence, config)
    assert judgement.verdict is verdict
    assert (judgement.error.code if judgement.error is not None else "") == code


def answer(device: Device, count: int, latency_us: int, code: str | None = None) -> None:
    active = device.router.active("scale")
    assert active is not None
    for _ in range(count):
        device.door.record(Outcome(active.ref, {}, {}, latency_us, code))


def committed(device: Device, bundles: BundleFactory) -> None:
    device.hand_over(bundles.scale("1.0.0", 2.0))
    device.clock.advance(100)
    device.activator.tick()
    assert device.door.record == device.sink.record, "without a change under way a request pays nothing"


@pytest.mark.parametrize("code", [None, RunDeadlineError.code, RunCancelledError.code])
def test_a_slow_model_is_reverted_by_the_measure_of_the_one_before(
    device: Device, bundles: BundleFactory, code: str | None
) -> None:
    committed(device, bundles)
    device.trial = lambda folder, manifest, allowed_s: answer(device, 30, 2_000)  # the old one answers meanwhile
    device.hand_over(bundles.scale("1.1.0", 3.0))
    answer(device, 30, 14_000, code)
    device.activator.tick()
    assert device.factor() == 3.0
    answer(device, 40, 16_000, code)
    device.activator.tick()
    assert device.factor() == 2.0
    assert device.sink.outcomes()[-1] == ("reverted", "probation", "probation-slow")
    assert "the version before took 2 ms" in device.sink.events[-1].message
    assert device.door.record == device.sink.record


def test_after_a_restart_the_operators_own_bound_still_holds(device: Device, bundles: BundleFactory) -> None:
    device.configure(probation_latency_ms_max=10.0)
    committed(device, bundles)
    device.hand_over(bundles.scale("1.1.0", 3.0))
    device.start()
    answer(device, 20, 10_001)
    device.activator.tick()
    assert device.factor() == 2.0
    assert device.sink.outcomes() == [("restored", "restore", ""), ("reverted", "probation", "probation-slow")]


def test_failures_other_than_stopped_runs_say_nothing_about_speed(device: Device, bundles: BundleFactory) -> None:
    device.configure(probation_latency_ms_max=10.0)
    committed(device, bundles)
    device.hand_over(bundles.scale("1.1.0", 3.0))
    answer(device, 50, 99_000, "input-shape")
    device.activator.tick()
    assert device.factor() == 3.0
