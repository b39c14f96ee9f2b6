"""The door without a process boundary: verified like the others, the same router, and beside a real runtime read only."""

import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from onnx import TensorProto, helper

from edge_component.config import RuntimeConfig
from edge_component.contracts.manifest import TensorSpec
from edge_component.contracts.routes import Arm, ModelRules, RouteTable
from edge_component.errors import (
    AlreadyRunningError,
    SignatureError,
    StartError,
    StoreDamagedError,
    UnknownModelError,
    UntrustedKeyError,
)
from edge_component.in_process import Runtime
from edge_component.inference.computing import compute
from edge_component.inference.errors import InputShapeError, InputTypeError, RunDeadlineError
from edge_component.inference.router import Totals
from tests.edge_component.bundle_factory import Bundle, BundleFactory, new_key, npz, serialized
from tests.edge_component.runtime_process import RuntimeProcess
from tests.edge_component.serving.test_client_forks import exit_code, in_child

ROW = np.array([[1, 2, 3]], np.float32)
AT_ONCE = RuntimeConfig(probation_s=0)


def activate(runtime: Runtime, bundle: Bundle) -> str:
    return runtime.activate(bundle.archive, bundle.component, bundle.version).outcome


@pytest.fixture
def own(tmp_path: Path, trust: Path) -> Iterator[Runtime]:
    with Runtime.own(tmp_path / "own", trust, AT_ONCE) as runtime:
        yield runtime


def test_a_bundle_is_verified_tried_and_answers(own: Runtime, bundles: BundleFactory) -> None:
    with pytest.raises(UnknownModelError):
        own.infer("scale", {"x": ROW})
    bundle = bundles.scale("1.0.0", 2.0)
    assert activate(own, bundle) == "activated"
    answer = own.infer("scale", {"x": [[1, 2, 3]]}, deadline_s=10)
    np.testing.assert_array_equal(answer.outputs["y"], ROW * 2)
    assert answer.model.digest == bundle.digest
    with pytest.raises(InputShapeError):
        own.infer("scale", {"x": ROW[:, :2]})
    assert own.router.totals("scale") == Totals(1, 0)


def whole_numbers(own: Runtime, bundles: BundleFactory) -> None:
    """A model ``count`` of one int64 input."""
    x = helper.make_tensor_value_info("x", TensorProto.INT64, ["n"])
    y = helper.make_tensor_value_info("y", TensorProto.INT64, ["n"])
    golden = np.arange(3, dtype=np.int64).reshape(1, 3)
    files = {
        "model.onnx": serialized(helper.make_graph([helper.make_node("Identity", ["x"], ["y"])], "count", [x], [y])),
        "golden.npz": npz(**{"input:x": golden, "output:y": golden}),
    }
    specs = {"inputs": (TensorSpec("x", "int64", (-1,)),), "outputs": (TensorSpec("y", "int64", (-1,)),)}
    bundle = bundles.scale(
        "1.0.0", 1.0, name="count", component="com.edgewright.model.Count", files=files,
        change=lambda manifest: replace(manifest, **specs),
    )  # fmt: skip
    assert activate(own, bundle) == "activated"


@pytest.mark.parametrize("given", [[1.5], [2**70], ["a"], [[1], [2, 3]], {"a": 1}, [None]])
def test_a_list_that_the_models_dtype_cannot_hold_is_refused_and_not_cut(
    own: Runtime, bundles: BundleFactory, given: object
) -> None:
    whole_numbers(own, bundles)
    with pytest.raises(InputTypeError, match="x cannot become an array"):
        own.infer("count", {"x": given})  # type: ignore[dict-item]
    np.testing.assert_array_equal(own.infer("count", {"x": [1, 2]}).outputs["y"], [1, 2])


@pytest.mark.parametrize("deadline_s", [0, -1, float("nan"), -float("inf")])
def test_a_deadline_that_leaves_no_time_is_told_and_nothing_is_computed(
    own: Runtime, bundles: BundleFactory, deadline_s: float
) -> None:
    activate(own, bundles.scale("1.0.0", 2.0))
    with pytest.raises(RunDeadlineError, match="leaves no time"):
        own.infer("scale", {"x": ROW}, deadline_s=deadline_s)
    assert own.router.totals("scale") == Totals(0, 0)


def test_a_child_of_fork_opens_a_runtime_of_its_own(own: Runtime, bundles: BundleFactory, tmp_path: Path) -> None:
    activate(own, bundles.scale("1.0.0", 2.0))

    def ask() -> None:
        with pytest.raises(StartError, match="parent process's"):
            own.infer("scale", {"x": ROW})
        with Runtime.beside(tmp_path / "own", AT_ONCE) as beside:
            np.testing.assert_array_equal(beside.infer("scale", {"x": ROW}).outputs["y"], ROW * 2)

    assert exit_code(in_child(ask)) == 0
    np.testing.assert_array_equal(own.infer("scale", {"x": ROW}).outputs["y"], ROW * 2)


def test_a_model_that_goes_while_it_computes_has_answered(
    own: Runtime, bundles: BundleFactory, monkeypatch: pytest.MonkeyPatch
) -> None:
    activate(own, bundles.scale("1.0.0", 2.0))

    def gone_meanwhile(*asked: object) -> object:
        outputs = compute(*asked)  # type: ignore[arg-type]
        own.router.remove("scale")
        return outputs

    monkeypatch.setattr("edge_component.in_process.compute", gone_meanwhile)
    np.testing.assert_array_equal(own.infer("scale", {"x": ROW}).outputs["y"], ROW * 2)
    assert own.router.totals("scale") == Totals(1, 0)


def test_what_is_not_trusted_never_answers(own: Runtime, bundles: BundleFactory) -> None:
    with pytest.raises((UntrustedKeyError, SignatureError)):
        activate(own, bundles.scale("1.0.0", 2.0, key=new_key()))
    assert own.router.names() == []


def test_it_keeps_what_it_served_and_its_routes_and_its_folder(
    own: Runtime, bundles: BundleFactory, tmp_path: Path, trust: Path
) -> None:
    activate(own, bundles.scale("1.0.0", 2.0))
    activate(own, bundles.scale("1.1.0", 3.0))
    own.set_routes(
        RouteTable(aliases={"old": "scale@1.0.0"}, models={"scale": ModelRules(split=(Arm("previous", 1),))})
    )
    with pytest.raises(AlreadyRunningError):
        Runtime.own(tmp_path / "own", trust)
    own.close()
    with Runtime.own(tmp_path / "own", trust) as again:
        for name, version in (("old", "1.0.0"), ("scale", "1.0.0"), ("scale@1.1.0", "1.1.0")):
            assert again.infer(name, {"x": ROW}).model.version == version


def test_threads_share_it_while_versions_change(own: Runtime, bundles: BundleFactory) -> None:
    activate(own, bundles.scale("1.0.0", 2.0))
    ended = threading.Event()

    def ask() -> int:
        count = 0
        while not ended.is_set():
            answer = own.infer("scale", {"x": ROW}, deadline_s=30)
            factor = {"1.0.0": 2.0, "1.1.0": 3.0}[answer.model.version]
            np.testing.assert_array_equal(answer.outputs["y"], ROW * factor)
            count += 1
        return count

    with ThreadPoolExecutor(3) as pool:
        asked = [pool.submit(ask) for _ in range(3)]
        activate(own, bundles.scale("1.1.0", 3.0))
        ended.set()
        total = sum(future.result(30) for future in asked)
    assert own.router.totals("scale") == Totals(total, 0)


def test_beside_nothing_is_a_wrong_path_and_no_runtime_without_models(tmp_path: Path) -> None:
    with pytest.raises(StartError, match="is no folder"):
        Runtime.beside(tmp_path / "work-misspelt")


def test_beside_the_devices_runtime_it_reads_and_follows_and_changes_nothing(
    start_runtime: Callable[..., RuntimeProcess], bundles: BundleFactory
) -> None:
    process = start_runtime(config={"probation_s": 0})
    first, second = bundles.scale("1.0.0", 2.0), bundles.scale("1.1.0", 3.0)
    process.admin.activate(first.archive, first.component, first.version)
    with Runtime.beside(process.work, AT_ONCE) as runtime:
        assert runtime.infer("scale", {"x": ROW}).model.version == "1.0.0"
        process.admin.activate(second.archive, second.component, second.version)
        process.admin.route(RouteTable(aliases={"stable": "scale@1.0.0"}))
        before = listing(process.work)
        runtime.refresh()
        assert runtime.infer("scale", {"x": ROW}).model.version == "1.1.0"
        assert runtime.infer("stable", {"x": ROW}).model.version == "1.0.0"
        with pytest.raises(StartError, match="only reads"):
            activate(runtime, first)
        with pytest.raises(StartError, match="only reads"):
            runtime.set_routes(RouteTable())
        assert listing(process.work) == before
        process.admin.deactivate("scale")
        runtime.refresh()
        with pytest.raises(UnknownModelError):
            runtime.infer("scale", {"x": ROW})


def test_a_journal_that_cannot_be_read_is_said_and_left_as_it_is(tmp_path: Path) -> None:
    (tmp_path / "activation.json").write_bytes(b"{")
    with pytest.raises(StoreDamagedError):
        Runtime.beside(tmp_path)
    assert listing(tmp_path) == {"activation.json": 1}


def test_bytes_that_changed_on_the_disk_never_answer(own: Runtime, bundles: BundleFactory, tmp_path: Path) -> None:
    bundle = bundles.scale("1.0.0", 2.0)
    activate(own, bundle)
    own.close()
    model = tmp_path / "own" / "store" / bundle.digest / "model.onnx"
    model.chmod(0o600)
    model.write_bytes(model.read_bytes()[:-1] + b"\0")
    with pytest.raises(StoreDamagedError):
        Runtime.beside(tmp_path / "own")


def listing(folder: Path) -> dict[str, int]:
    return {str(path.relative_to(folder)): path.stat().st_size for path in folder.rglob("*") if path.is_file()}
