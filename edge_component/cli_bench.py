"""``edgewright-edge bench``: what an answer takes on this device, end to end and within the model.

Method: one client on the fast path asks one model again and again with the same input (zeros of the model's own shape, 1
for a dynamic dimension, or what ``--inputs`` gives), after a warm-up that does not count. Reported are percentiles of
the whole round trip as the caller sees it, of the time in the runtime as it reports it with each answer, and their
difference: the hop. What else the device does meanwhile is part of the result, as it is for the device's own programs.
"""

import argparse
import json
import math
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from time import perf_counter_ns
from typing import Any

import numpy as np

from edge_component.client import Client
from edge_component.client.connection import Connection
from edge_component.client.patience import bounded, unavailable
from edge_component.contracts.fastpath import SOCKET_NAME, Opened
from edge_component.contracts.manifest import TensorSpec

WARM_UP_COUNT = 50


def add_bench(command: argparse.ArgumentParser) -> None:
    """The command's arguments."""
    command.add_argument("model")
    command.add_argument("--inputs", help='JSON such as {"input": [[1.0, 2.0]]}')
    command.add_argument("--count", type=int, default=2_000, help="requests that are measured")
    command.add_argument("--deadline-s", type=float, default=5.0)


def run_bench(arguments: argparse.Namespace) -> Any:  # noqa: ANN401 - JSON
    """Measure.

    Raises:
        ClientError: no runtime, or a request is not answered: then there is nothing to report.
        ValueError: the inputs are no JSON object.
    """
    if arguments.count < 1:
        raise ValueError("--count must be at least 1")
    socket_path = arguments.work / SOCKET_NAME
    if arguments.inputs:
        inputs = inputs_of(arguments.inputs)
    else:
        opened = tensors_of(socket_path, arguments.model, arguments.deadline_s)
        inputs = zeros_for([region.spec for region in opened.inputs])
    with Client(socket_path, deadline_s=arguments.deadline_s) as client:
        answer = client.infer(arguments.model, inputs)

        def ask() -> int:
            return client.infer(arguments.model, inputs).run_us

        for _ in range(WARM_UP_COUNT):
            ask()
        whole_us, inside_us = measure(ask, arguments.count, perf_counter_ns)
    return {
        "model": dict(answer.model.to_document()),
        "count": arguments.count,
        "round_trip_us": percentiles(whole_us),
        "runtime_us": percentiles(inside_us),
        "hop_us": percentiles([whole - inside for whole, inside in zip(whole_us, inside_us, strict=True)]),
        "requests_per_s": round(arguments.count / (sum(whole_us) / 1e6), 1),
    }


def measure(ask: Callable[[], int], count: int, now_ns: Callable[[], int]) -> tuple[list[float], list[float]]:
    """Ask so often; microseconds of each round trip, and what ``ask`` returned."""
    whole_us: list[float] = []
    inside_us: list[float] = []
    for _ in range(count):
        began_ns = now_ns()
        inside = ask()
        whole_us.append((now_ns() - began_ns) / 1000)
        inside_us.append(inside)
    return whole_us, inside_us


def percentiles(values: Sequence[float]) -> dict[str, float]:
    """The median, the 90th and 99th percentile and the largest; nearest rank."""
    ordered = sorted(values)
    ranks = {"p50": 0.5, "p90": 0.9, "p99": 0.99, "max": 1.0}
    return {name: round(ordered[math.ceil(rank * len(ordered)) - 1], 1) for name, rank in ranks.items()}


def zeros_for(specs: Sequence[TensorSpec]) -> dict[str, Any]:
    """An input of the model's own shapes and dtypes.

    Raises:
        ValueError: a tensor of a type that the fast path does not carry.
    """
    strange = [spec.name for spec in specs if spec.dtype in ("string", "bfloat16")]
    if strange:
        raise ValueError(f"{strange[0]} is no number; give the inputs with --inputs")
    return {spec.name: np.zeros([1 if size < 0 else size for size in spec.shape], spec.dtype) for spec in specs}


def tensors_of(socket_path: Path, model: str, deadline_s: float) -> Opened:
    """Who serves under a name and with which tensors, as the runtime says when a channel is opened; it is not kept.

    Raises:
        ClientError: no runtime, or it refuses.
    """
    wait_s = bounded(deadline_s)
    try:
        connection = Connection(socket_path, wait_s)
        try:
            return connection.look(model)
        finally:
            connection.close()
    except OSError as error:
        raise unavailable(f"no runtime answers on {socket_path}: {error}", error) from error


def inputs_of(text: str) -> Mapping[str, Any]:
    """What a person has written for a model's inputs.

    Raises:
        ValueError: no JSON object.
    """
    try:
        inputs = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise ValueError(f"the inputs are no JSON: {error}") from error
    if not isinstance(inputs, Mapping):
        raise ValueError('the inputs must be an object such as {"input": [[1.0, 2.0]]}')  # noqa: TRY004 - user input
    return inputs
