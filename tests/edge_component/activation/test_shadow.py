"""The shadow stage: what the bound refuses, and the stage itself on live requests."""

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, strategies as st

from edge_component.activation.journal import Journal
from edge_component.activation.shadow import comparable, objection
from edge_component.activation.table import Phase
from edge_component.clock import SystemClock
from edge_component.config import RuntimeConfig
from edge_component.contracts.manifest import MODEL_FILE, Manifest, TensorSpec
from edge_component.errors import ShadowDisagreedError
from edge_component.inference import loading
from edge_component.inference.agreement import Agreement
from edge_component.inference.execution import SessionOptions
from edge_component.inference.session import Session
from edge_component.telemetry_sink import Outcome
from tests.edge_component.activation.conftest import ROW, Device
from tests.edge_component.bundle_factory import BundleFactory, npz, scale_model
from tests.edge_component.graphs import endless_model
from tests.edge_component.inference.test_session import MANIFEST


@given(st.integers(0, 500), st.floats(0, 1))
def test_a_candidate_is_refused_exactly_below_its_bound(asked: int, share: float) -> None:
    config = RuntimeConfig(probation_requests_min=20, shadow_agreement_min=0.9)
    compared = Agreement(asked, int(asked * share))
    assert (objection(compared, config) is not None) == (asked >= 20 and compared.agreed_count < 0.9 * asked)


def test_other_tensors_cannot_be_compared() -> None:
    class Asked:
        inputs, outputs = MANIFEST.inputs, MANIFEST.outputs

    other = replace(MANIFEST, inputs=(TensorSpec("x", "float64", (-1, 3)),))
    carried = replace(MANIFEST, inputs=(*MANIFEST.inputs, TensorSpec("state", "float32", (2, 1, 64))))
    assert comparable(Asked, MANIFEST)  # type: ignore[arg-type]
    assert comparable(Asked, replace(MANIFEST, inputs=(TensorSpec("x", "float32", (1, 3)),)))  # type: ignore[arg-type]
    wider = replace(MANIFEST, inputs=(TensorSpec("x", "float32", (-1, 4)),))
    assert not comparable(Asked, wider), "it would refuse each request, and be refused for that"  # type: ignore[arg-type]
    assert not comparable(Asked, other)  # type: ignore[arg-type]
    assert not comparable(Asked, carried)  # type: ignore[arg-type]


@contextmanager
def asked_all_the_while(device: Device) -> Iterator[None]:
    """A client that asks what serves, as a door would, and tells telemetry."""
    stop = threading.Event()

    def ask() -> None:
        while not stop.wait(0.0005):
            active = device.router.active("scale")
            if active is not None:
                device.door.record(Outcome(active.ref, {"x": ROW}, active.session.run({"x": ROW}), 100, None))

    thread = threading.Thread(target=ask)
    thread.start()
    try:
        yield
    finally:
        stop.set()
        thread.join()


@pytest.fixture
def shadowing(device: Device, bundles: BundleFactory) -> Device:
    """Serves factor 2.0, committed; the next offer is compared for up to 20 s or 40 requests."""
    device.configure(probation_s=0.0)
    device.hand_over(bundles.scale("1.0.0", 2.0))
    device.clock = SystemClock()  # type: ignore[assignment] - the stage waits for real requests
    device.configure(shadow_s=20.0, shadow_requests_max=40, probation_requests_min=20)
    return device


def test_a_candidate_that_agrees_is_switched_to(shadowing: Device, bundles: BundleFactory) -> None:
    with asked_all_the_while(shadowing):
        assert shadowing.hand_over(bundles.scale("1.1.0", 2.05)).outcome == "activated"
    assert shadowing.factor() == pytest.approx(2.05)
    assert shadowing.door.record == shadowing.sink.record, "afterwards a request pays nothing"


@pytest.mark.parametrize("factor", [-3.0, float("nan")], ids=["other answers", "NaN on live requests"])
def test_a_candidate_that_disagrees_never_answers(shadowing: Device, bundles: BundleFactory, factor: float) -> None:
    candidate = bundles.scale("1.1.0", factor)
    with asked_all_the_while(shadowing), pytest.raises(ShadowDisagreedError, match="0 of 40"):
        shadowing.hand_over(candidate)
    assert shadowing.factor() == 2.0
    assert shadowing.sink.outcomes()[-1] == ("refused", "shadow", "shadow-disagreed")
    assert shadowing.sink.switches == ["1.0.0"]
    assert len(shadowing.stored()) == 1
    assert shadowing.door.record == shadowing.sink.record


def test_a_candidate_that_hangs_on_a_live_request_is_stopped(shadowing: Device, bundles: BundleFactory) -> None:
    shadowing.configure(run_s_max=0.02, shadow_requests_max=20)
    candidate = bundles.scale("1.1.0", 2.0, files={"model.onnx": endless_model()})
    shadowing.trial = lambda folder, manifest, allowed_s: None

    def cold(folder: Path, manifest: Manifest, options: SessionOptions) -> Session:
        return Session.load(folder / MODEL_FILE, manifest, options)

    with asked_all_the_while(shadowing), pytest.MonkeyPatch.context() as patched:
        patched.setattr(loading, "warm_session", cold)  # it hangs on live requests only
        with pytest.raises(ShadowDisagreedError, match="0 of 20"):
            shadowing.hand_over(candidate)
    assert shadowing.factor() == 2.0


def test_a_quiet_device_is_not_kept_from_its_update(shadowing: Device, bundles: BundleFactory) -> None:
    shadowing.configure(shadow_s=0.05)
    assert shadowing.hand_over(bundles.scale("1.1.0", 9.0)).outcome == "activated"
    assert shadowing.factor() == 9.0


def test_a_version_with_other_tensors_is_not_compared(
    shadowing: Device, bundles: BundleFactory, caplog: pytest.LogCaptureFixture
) -> None:
    renamed = scale_model(9.0).replace(b"\n\x01x", b"\n\x01z")  # a tensor's name in protobuf: tag, length, letter
    golden = npz(**{"input:z": ROW[None], "output:y": ROW[None] * np.float32(9)})
    other = bundles.scale(
        "1.1.0", 9.0, files={"model.onnx": renamed, "golden.npz": golden},
        change=lambda manifest: replace(manifest, inputs=(TensorSpec("z", "float32", (-1, 3)),)),
    )  # fmt: skip
    assert shadowing.hand_over(other).outcome == "activated"
    assert "not compared" in caplog.text


@pytest.mark.parametrize("phase", [Phase.TRIAL, Phase.SHADOW])
def test_a_runtime_that_dies_before_the_switch_refuses_the_candidate(
    shadowing: Device, bundles: BundleFactory, phase: Phase, monkeypatch: pytest.MonkeyPatch
) -> None:
    class DiedError(BaseException):
        pass

    save: Callable[..., None] = Journal.save

    def dying(journal: Journal, state: object, **how: bool) -> None:
        save(journal, state, **how)
        if any(slot.phase is phase for slot in state.slots.values()):  # type: ignore[attr-defined]
            monkeypatch.setattr(Journal, "save", lambda journal, state, **how: None)  # the dead write nothing
            raise DiedError

    monkeypatch.setattr(Journal, "save", dying)
    with pytest.raises(DiedError):
        shadowing.hand_over(bundles.scale("1.1.0", 9.0))
    monkeypatch.setattr(Journal, "save", save)
    shadowing.start()
    assert shadowing.sink.outcomes() == [("refused", "restore", "activation-interrupted")]
    assert shadowing.factor() == 2.0
    assert len(shadowing.stored()) == 1
