"""What passed its trial and then cannot be loaded, or must be gone back from at a bad moment: the old one serves."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import numpy_helper

from edge_component.activation.activator import AGAIN_S, AGAIN_S_MAX
from edge_component.contracts.manifest import Caps, Manifest
from edge_component.errors import ActivationError, TrialTimeoutError, UnloadableModelError
from edge_component.inference import loading
from edge_component.inference.execution import SessionOptions
from edge_component.inference.router import Router
from edge_component.inference.session import Session
from tests.edge_component.activation.conftest import Device
from tests.edge_component.bundle_factory import Bundle, BundleFactory, scale_model
from tests.edge_component.graphs import endless_model

PADDING_FLOATS = 50_000
BUDGET_BYTES = 700_000
"""Three graphs of 200 kB; or one, as long as only its file is known (loading.GROWTH_FACTOR)."""


def committed(device: Device, bundle: Bundle) -> None:
    device.configure(probation_s=30.0)
    device.hand_over(bundle)
    wait_for_commit(device)


def wait_for_commit(device: Device) -> None:
    device.clock.advance(31)
    device.activator.tick()


def failing_for(version: str, error: Exception) -> Callable[[Path, Manifest, SessionOptions], Session]:
    warm_session = loading.warm_session

    def load(folder: Path, manifest: Manifest, options: SessionOptions) -> Session:
        if manifest.version == version:
            raise error
        return warm_session(folder, manifest, options)

    return load


@pytest.mark.parametrize(
    ("failure", "error", "told"),
    [
        (MemoryError(), UnloadableModelError, "model-unloadable"),
        (RuntimeError("a defect"), ActivationError, "activation-failed"),
    ],
)
def test_a_candidate_that_was_refused_in_the_switch_is_never_committed(
    device: Device, bundles: BundleFactory, monkeypatch: pytest.MonkeyPatch,
    failure: Exception, error: type[Exception], told: str,
) -> None:  # fmt: skip
    good = bundles.scale("1.0.0", 2.0)
    committed(device, good)
    monkeypatch.setattr(loading, "warm_session", failing_for("1.1.0", failure))
    with pytest.raises(error):
        device.hand_over(bundles.scale("1.1.0", 3.0))
    assert device.sink.outcomes()[-1] == ("refused", "switch", told)
    wait_for_commit(device)
    monkeypatch.undo()
    device.start()
    assert (device.factor(), device.stored()) == (2.0, {good.digest})


def test_a_switch_that_breaks_off_half_way_is_gone_back_from(
    device: Device, bundles: BundleFactory, monkeypatch: pytest.MonkeyPatch
) -> None:
    def breaking_off(*_: object) -> None:
        raise RuntimeError("half-way")

    committed(device, bundles.scale("1.0.0", 2.0))
    monkeypatch.setattr(Router, "switch", breaking_off)
    with pytest.raises(RuntimeError, match="half-way"):
        device.hand_over(bundles.scale("1.1.0", 3.0))
    monkeypatch.undo()
    assert device.sink.outcomes()[-1] == ("refused", "switch", "activation-failed")
    wait_for_commit(device)
    device.start()
    assert device.factor() == 2.0


def test_a_model_that_went_through_its_trial_by_luck_does_not_hold_everything_up(
    device: Device, bundles: BundleFactory
) -> None:
    """One that draws random numbers, say. The trial of these tests lets everything pass."""
    committed(device, bundles.scale("1.0.0", 2.0))
    unlucky = bundles.scale(
        "1.1.0", 2.0, files={"model.onnx": endless_model()}, change=lambda m: replace(m, caps=Caps(load_timeout_ms=100))
    )
    with pytest.raises(TrialTimeoutError, match="after its trial"):
        device.hand_over(unlucky)
    assert device.factor() == 2.0
    assert device.hand_over(bundles.scale("1.2.0", 4.0)).outcome == "activated"


def padded(factor: float) -> bytes:
    model = onnx.load_from_string(scale_model(factor))
    model.graph.initializer.append(numpy_helper.from_array(np.zeros(PADDING_FLOATS, np.float32), "padding"))
    return bytes(model.SerializeToString())


def test_a_full_memory_budget_does_not_keep_a_doubted_model_in_its_place(
    device: Device, bundles: BundleFactory, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(loading, "resident_bytes", lambda: 0)  # a model takes what its file does
    device.configure(model_memory_bytes_max=BUDGET_BYTES)
    committed(device, bundles.scale("1.0.0", 2.0, files={"model.onnx": padded(2.0)}))
    others = ["a", "b", "c"]
    for name in others:
        component = f"com.edgewright.model.{name.upper()}"
        files = {"model.onnx": padded(5.0)}
        device.hand_over(bundles.scale("1.0.0", 5.0, name=name, component=component, files=files))
    wait_for_commit(device)
    device.hand_over(bundles.scale("1.1.0", 3.0))
    for name in others:  # each of them computes something from now on
        device.router.route(name).resolve().gate.places.pop()
    device.fail_requests(100, 1)
    device.activator.tick()
    assert device.sink.outcomes()[-1] == ("reverted", "probation", "probation-failed")
    assert device.factor() == 2.0
    device.start()
    assert device.factor() == 2.0


def test_what_could_not_be_gone_back_to_is_tried_again(
    device: Device, bundles: BundleFactory, monkeypatch: pytest.MonkeyPatch
) -> None:
    committed(device, bundles.scale("1.0.0", 2.0))
    device.hand_over(bundles.scale("1.1.0", 3.0))
    monkeypatch.setattr(loading, "warm_session", failing_for("1.0.0", UnloadableModelError("too many open files")))
    device.fail_requests(100, 1)
    device.activator.tick()
    device.activator.tick()
    assert device.factor() == 3.0, "something serves"
    monkeypatch.undo()
    device.clock.advance(AGAIN_S + 1)
    device.activator.tick()
    assert device.factor() == 2.0
    assert device.sink.outcomes()[-2:] == [("reverted", "probation", "probation-failed"), ("restored", "restore", "")]


def test_what_could_not_be_restored_at_the_start_is_tried_again(
    device: Device, bundles: BundleFactory, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    committed(device, bundles.scale("1.0.0", 2.0))
    with monkeypatch.context() as faulty:
        faulty.setattr(loading, "warm_session", failing_for("1.0.0", MemoryError()))
        device.start()
        for _ in range(100):
            device.clock.advance(AGAIN_S + 1)
            device.activator.tick()
        assert device.factor() is None
        assert caplog.text.count("cannot be loaded") < 10, "it is told less and less"
        assert [model.state for model in device.activator.models()] == ["failed"]
    device.clock.advance(AGAIN_S_MAX + 1)
    device.activator.tick()
    assert device.factor() == 2.0
    assert device.sink.outcomes() == [("refused", "restore", "model-unloadable"), ("restored", "restore", "")]
