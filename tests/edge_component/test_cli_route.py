"""``edgewright-edge route`` and ``bench`` against a runtime's process: set, seen, followed, restored, measured."""

import argparse
import json
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from edge_component import cli
from edge_component.cli_bench import measure, percentiles, zeros_for
from edge_component.cli_route import add_route, changed_table
from edge_component.client import Client
from edge_component.contracts.manifest import TensorSpec
from edge_component.contracts.routes import NO_RULES, Arm, BatchRule, ModelRules, RouteTable, ShadowRule, StatePair
from tests.edge_component.bundle_factory import BundleFactory
from tests.edge_component.runtime_process import RuntimeProcess

ROW = np.array([[1.0, 2.0, 3.0]], np.float32)


def parsed(*arguments: str) -> argparse.Namespace:
    parser = argparse.ArgumentParser()
    add_route(parser)
    return parser.parse_args(arguments)


@pytest.mark.parametrize(
    ("arguments", "rules"),
    [
        (["m", "--split", "active=9", "1.0.0=1"], ModelRules(split=(Arm("active", 9), Arm("1.0.0", 1)))),
        (["m", "--shadow", "previous=0.25"], ModelRules(shadow=ShadowRule("previous", 0.25))),
        (["m", "--batch", "16=500"], ModelRules(batch=BatchRule(16, 500))),
        (["m", "--state", "state=stateN"], ModelRules(states=(StatePair("state", "stateN"),))),
        (["m", "--in-flight", "2", "--queue", "0"], ModelRules(in_flight_max=2, queue_max=0)),
        (["m", "--clear"], NO_RULES),
    ],
)
def test_options_become_rules(arguments: list[str], rules: ModelRules) -> None:
    assert changed_table(RouteTable(), parsed(*arguments)).rules("m") == rules


def test_what_is_not_named_stays() -> None:
    table = RouteTable(3, {"a": "m", "b": "m"}, {"m": ModelRules(batch=BatchRule(8, 0)), "n": ModelRules(queue_max=1)})
    changed = changed_table(table, parsed("m", "--queue", "5", "--alias", "c=m@1.0.0", "--remove-alias", "a"))
    assert changed.aliases == {"b": "m", "c": "m@1.0.0"}
    assert changed.rules("m") == ModelRules(batch=BatchRule(8, 0), queue_max=5)
    assert changed.rules("n") == ModelRules(queue_max=1)
    assert changed.revision == 3
    assert changed_table(table, parsed()) == table


@pytest.mark.parametrize(
    "arguments",
    [
        ["--split", "active=1"], ["m", "--split", "active"], ["m", "--split", "active=x"], ["m", "--split", "new=1"],
        ["m", "--split", "active=0"], ["m", "--shadow", "active=2"], ["m", "--batch", "1=1"], ["--alias", "a"],
        ["m", "--split", "active=1", "active=2"], ["--alias", "a@1=m"],
        ["m", "--split", "active=0.9", "previous=0.1"], ["m", "--split", "active=1e999"], ["m", "--batch", "8=1e999"],
        ["m", "--batch", "x=1"], ["m", "--batch", "8=nan"], ["m", "--shadow", "previous=nan"],
    ],
)  # fmt: skip
def test_what_makes_no_sense_is_refused_before_it_is_sent(arguments: list[str]) -> None:
    with pytest.raises(ValueError, match=r"--|split|shadow|batch|alias|model"):
        changed_table(RouteTable(), parsed(*arguments))


def test_a_split_is_set_at_run_time_counted_reported_and_kept(
    start_runtime: Callable[..., RuntimeProcess], bundles: BundleFactory, capsys: pytest.CaptureFixture[str]
) -> None:
    runtime = start_runtime(config={"probation_s": 0})
    for version, factor in (("1.0.0", 2.0), ("1.1.0", 3.0)):
        bundle = bundles.scale(version, factor)
        runtime.admin.activate(bundle.archive, bundle.component, bundle.version)
    assert run(runtime, capsys, "route")["held"] == {"scale": ["1.1.0", "1.0.0"]}
    run(runtime, capsys, "route", "scale", "--split", "active=1", "previous=1", "--alias", "old=scale@1.0.0")

    with Client(runtime.infer_socket) as client:
        assert client.infer("old", {"x": ROW}).outputs["y"][0, 0] == 2
        assert {client.infer("scale", {"x": ROW}).model.version for _ in range(40)} == {"1.0.0", "1.1.0"}
    (model,) = runtime.admin.status().models
    assert model.routing is not None
    assert sum(arm.answered_count for arm in model.routing.arms) == 41
    assert [(arm.version, arm.share_ratio) for arm in model.routing.arms] == [("1.1.0", 0.5), ("1.0.0", 0.5)]

    refused, said = run_failing(runtime, capsys, "route", "scale", "--split", "7.0.0=1")
    assert refused == 3
    assert "7.0.0 is not on this device" in said
    runtime.kill()
    again = start_runtime(runtime.work)
    with Client(again.infer_socket) as client:
        assert {client.infer("scale", {"x": ROW}).model.version for _ in range(40)} == {"1.0.0", "1.1.0"}
    assert run(again, capsys, "route", "scale", "--clear")["table"]["revision"] == 2
    assert again.admin.status().models[0].routing is None

    measured = run(again, capsys, "bench", "scale", "--count", "50")
    assert measured["count"] == 50
    assert measured["round_trip_us"]["p50"] >= measured["runtime_us"]["p50"]
    assert run_failing(again, capsys, "bench", "nobody")[0] == 3


def test_percentiles_are_of_what_was_measured() -> None:
    times = iter(range(0, 10_000_000, 1000))
    whole_us, inside_us = measure(lambda: 7, 5, lambda: next(times))
    assert whole_us == [1.0] * 5
    assert inside_us == [7] * 5
    assert percentiles(range(1, 101)) == {"p50": 50, "p90": 90, "p99": 99, "max": 100}


def test_an_input_of_zeros_has_the_models_shapes() -> None:
    assert zeros_for([TensorSpec("empty", "bool", (-1, 0))])["empty"].shape == (1, 0)
    found = zeros_for([TensorSpec("x", "float32", (-1, 3)), TensorSpec("n", "int64", ())])
    assert found["x"].shape == (1, 3)
    assert found["n"].shape == ()
    with pytest.raises(ValueError, match="text"):
        zeros_for([TensorSpec("text", "string", (1,))])


def run(runtime: RuntimeProcess, capsys: pytest.CaptureFixture[str], *arguments: str) -> Any:
    assert cli.main(["--work", str(runtime.work), *arguments]) == 0
    return json.loads(capsys.readouterr().out)


def run_failing(runtime: RuntimeProcess, capsys: pytest.CaptureFixture[str], *arguments: str) -> tuple[int, str]:
    code = cli.main(["--work", str(runtime.work), *arguments])
    return code, capsys.readouterr().err
