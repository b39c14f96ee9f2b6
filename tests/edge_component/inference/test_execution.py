"""On what a model computes: preferences followed as far as the build goes, and every fall-back with its reason."""

import os
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, strategies as st

from edge_component.config import RuntimeConfig
from edge_component.inference.execution import (
    CPU,
    SessionOptions,
    bind_to_cpus,
    choose_providers,
    parse_cpus,
    parse_providers,
    session_options,
)
from edge_component.inference.session import Session
from edge_component.inference.trial import run_trial
from tests.edge_component.bundle_factory import BundleFactory
from tests.edge_component.inference.test_session import MANIFEST, ROW, scale_model
from tests.edge_component.inference.test_trial import unpacked

CUDA = "CUDAExecutionProvider"


@pytest.mark.parametrize(
    ("text", "names"),
    [
        ("", (CPU,)), ("CPU", (CPU,)), ("CUDA, CPU", (CUDA, CPU)), ("CUDAExecutionProvider,CUDA", (CUDA,)),
    ],
)  # fmt: skip
def test_providers_are_named_short_or_whole(text: str, names: tuple[str, ...]) -> None:
    assert parse_providers(text) == names


def test_what_the_build_lacks_is_left_out_with_its_reason_and_the_cpu_is_always_last() -> None:
    found = choose_providers((CUDA, "xnnpackExecutionProvider"), ("XnnpackExecutionProvider", CPU))
    assert found.chosen == ("XnnpackExecutionProvider", CPU)
    (reason,) = found.reasons
    assert CUDA in reason
    assert choose_providers((CPU,), (CPU,)).reasons == ()


def test_a_session_falls_back_keeps_the_reason_and_prints_nothing(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "model.onnx"
    path.write_bytes(scale_model(2.0))
    session = Session.load(path, MANIFEST, SessionOptions(2, 2, spinning=False, providers=(CUDA,)))
    np.testing.assert_array_equal(session.run({"x": ROW})["y"], ROW * 2)
    assert len(session.fallbacks) == 1
    assert session.ort_session.get_providers() == [CPU]
    assert Session.load(path, MANIFEST).fallbacks == ()
    assert capfd.readouterr().out == ""


def test_the_trial_computes_as_serving_will(bundles: BundleFactory, tmp_path: Path) -> None:
    folder, manifest = unpacked(bundles, tmp_path, {}, MANIFEST.caps)
    run_trial(folder, manifest, 30, SessionOptions(2, 2, spinning=True, providers=(CUDA, CPU)))


@given(
    st.builds(
        SessionOptions, st.integers(1, 9), st.integers(1, 9), st.booleans(), st.lists(st.text(), min_size=1).map(tuple)
    )
)
def test_options_reach_the_child_whole(options: SessionOptions) -> None:
    assert SessionOptions.from_text(options.to_text()) == options


def test_options_come_from_the_configuration() -> None:
    config, problems = RuntimeConfig.from_document(
        {"intra_op_threads": "2", "inter_op_threads": 3, "spinning": "1", "execution_providers": "CUDA"}
    )
    assert problems == ()
    assert session_options(config) == SessionOptions(2, 3, spinning=True, providers=(CUDA,))
    assert session_options(RuntimeConfig()) == SessionOptions()


@given(st.sets(st.integers(0, 200), min_size=1))
def test_processors_are_listed_one_by_one_or_in_ranges(cpus: set[int]) -> None:
    assert parse_cpus(",".join(map(str, cpus)), range(201)) == cpus
    assert parse_cpus(f"{min(cpus)}-{max(cpus)}", cpus) == cpus


@pytest.mark.parametrize("text", ["x", "1-", "-1", "1;2", "900", "900-99999999999"])
def test_what_is_no_processor_here_is_said_and_nothing_changes(text: str) -> None:
    before = os.sched_getaffinity(0)
    assert "cpu_affinity" in bind_to_cpus(text)
    assert os.sched_getaffinity(0) == before


def test_a_process_keeps_to_its_processors() -> None:
    before = os.sched_getaffinity(0)
    try:
        assert bind_to_cpus(str(min(before))) == ""
        assert os.sched_getaffinity(0) == {min(before)}
        assert bind_to_cpus("") == ""
    finally:
        os.sched_setaffinity(0, before)
