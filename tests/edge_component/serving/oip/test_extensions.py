"""What Triton's clients believe of a model's configuration, and the extensions that are not here: told, never hung up on."""

import logging
import queue
import threading
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import tritonclient.grpc
import tritonclient.http
from tritonclient.utils import InferenceServerException

from edge_component.contracts.manifest import TensorSpec
from edge_component.contracts.routes import Arm, BatchRule, ModelRules, RouteTable, StatePair
from edge_component.errors import UnloadableModelError
from edge_component.inference.batching import Batcher
from edge_component.inference.sequences import SequenceLimits, Sequences
from edge_component.inference.versions import ActiveModel
from edge_component.serving.oip_documents import model_config, model_metadata
from tests.edge_component.bundle_factory import scale_model
from tests.edge_component.inference.conftest import SUMMING, summing_model
from tests.edge_component.serving.oip.conftest import Doors
from tests.edge_component.serving.oip.test_clients import ROW, ask, client_of

DOORS = pytest.mark.parametrize("door", ["http", "grpc"])


def active(doors: Doors, name: str = "scale") -> ActiveModel:
    found = doors.fastpath.router.active(name)
    assert found is not None
    return found


def test_a_model_of_one_row_takes_no_batches(doors: Doors) -> None:
    spec = TensorSpec("x", "float32", (1, 3))
    doors.fastpath.put("1.0.0", scale_model(2.0, batch=1), (spec,), (replace(spec, name="y"),), name="one")
    config = model_config(active(doors, "one"))
    assert (config["max_batch_size"], config["input"][0]["dims"]) == (0, [1, 3])
    assert model_config(active(doors))["max_batch_size"] > 0
    assert model_metadata(active(doors))["inputs"][0]["shape"] == [-1, 3]


def test_an_output_of_one_number_for_each_row_has_dims_that_triton_allows(doors: Doors) -> None:
    session = active(doors).session
    labels = replace(active(doors), detour=Batcher(session, BatchRule(8, 500)))
    session.outputs = (*session.outputs, TensorSpec("label", "int64", (-1,)))
    config = model_config(labels)
    assert config["output"][1] == {"name": "label", "data_type": "TYPE_INT64", "dims": [1], "reshape": {"shape": []}}


def test_an_input_of_one_number_for_each_row_is_told_as_the_model_takes_it(doors: Doors) -> None:
    spec = TensorSpec("x", "float32", (-1,))
    flat = active(doors)
    flat.session.inputs = (spec,)
    config = model_config(flat)
    assert config["max_batch_size"] == 0
    assert config["input"] == [{"name": "x", "data_type": "TYPE_FP32", "dims": [-1], "format": "FORMAT_NONE"}]


def test_rules_are_triton_scheduling(doors: Doors) -> None:
    plain = active(doors)
    assert not {"dynamic_batching", "sequence_batching"} & model_config(plain).keys()
    batching = model_config(replace(plain, detour=Batcher(plain.session, BatchRule(8, 500))))
    assert (batching["max_batch_size"], batching["dynamic_batching"]) == (8, {"max_queue_delay_microseconds": 500})
    doors.fastpath.put("1.0.0", summing_model(), SUMMING.inputs, SUMMING.outputs, name="sum")
    sums = active(doors, "sum")
    carrying = Sequences(sums.session, (StatePair("total", "sum"),), SequenceLimits(3, 1.5))
    config = model_config(replace(sums, detour=carrying))
    assert config["sequence_batching"] == {"max_sequence_idle_microseconds": 1_500_000}
    assert [tensor["name"] for tensor in config["input"]] == ["x"]


@DOORS
def test_a_version_may_be_asked_for_by_its_release_number(doors: Doors, request: Any, door: str) -> None:
    client, kind = client_of(request, doors, door)
    answer = ask(client, kind, "scale", {"x": ("FP32", ROW)}, version="1")
    np.testing.assert_array_equal(answer.as_numpy("y"), ROW * 2)
    assert client.is_model_ready("scale", "1")
    assert versions(client.get_inference_statistics("scale", "1")) == ["1"]
    assert versions(client.get_inference_statistics("scale", "1.0.0")) == ["1.0.0"]
    with pytest.raises(InferenceServerException, match="version 7 of 'scale' is not on this device") as refusal:
        ask(client, kind, "scale", {"x": ("FP32", ROW)}, version="7")
    assert refusal.value.status() in ("404", "StatusCode.NOT_FOUND")


def test_statistics_of_a_name_are_those_of_every_version_that_may_answer(doors: Doors, http_client: Any) -> None:
    router, first = doors.fastpath.router, active(doors).ref
    router.set_table(RouteTable(1, models={"scale": ModelRules(split=(Arm("active", 1), Arm("previous", 1)))}))
    router.hold("scale", (replace(first, version="2.0.0"), first))
    doors.fastpath.scale("2.0.0", 3.0)
    answers = [ask(http_client, tritonclient.http, "scale", {"x": ("FP32", ROW)}) for _ in range(20)]
    assert {answer.get_response()["model_version"] for answer in answers} == {"1.0.0", "2.0.0"}
    counts = [stats["inference_count"] for stats in http_client.get_inference_statistics("scale")["model_stats"]]
    assert len(counts) == 2
    assert sum(counts) == 20


@DOORS
def test_asking_whether_a_version_is_ready_loads_nothing(doors: Doors, request: Any, door: str) -> None:
    router, first = doors.fastpath.router, active(doors).ref
    router.hold("scale", (replace(first, version="2.0.0"), first))
    doors.fastpath.scale("2.0.0", 3.0)
    client, _ = client_of(request, doors, door)
    assert client.is_model_ready("scale", "1.0.0")
    asleep = next(version for version in router.versions("scale") if version.ref == first)
    assert asleep.loaded is None
    asleep.failure = UnloadableModelError("it is gone")
    assert not client.is_model_ready("scale", "1.0.0")


def versions(answer: Any) -> list[str]:
    stats = answer["model_stats"] if isinstance(answer, dict) else answer.model_stats
    return [one["version"] if isinstance(one, dict) else one.version for one in stats]


@DOORS
def test_what_is_not_built_is_refused_by_name(doors: Doors, request: Any, door: str) -> None:
    client, kind = client_of(request, doors, door)
    status = "501" if kind is tritonclient.http else "StatusCode.UNIMPLEMENTED"
    refused = {
        "extension trace": [client.get_trace_settings, lambda: client.update_trace_settings("scale", {"trace_rate": "1"})],
        "extension logging": [client.get_log_settings, lambda: client.update_log_settings({"log_info": False})],
        "extension cuda_shared_memory": [lambda: client.register_cuda_shared_memory("r", b"aGFuZGxl", 0, 16)],
        "config cannot be put in its place": [lambda: client.load_model("scale", config="{}")],
    }  # fmt: skip
    for told, calls in refused.items():
        for call in calls:
            with pytest.raises(InferenceServerException, match=told) as refusal:
                call()
            assert refusal.value.status() == status
    np.testing.assert_array_equal(ask(client, kind, "scale", {"x": ("FP32", ROW)}).as_numpy("y"), ROW * 2)


@DOORS
def test_a_client_that_tidies_up_first_goes_on(doors: Doors, request: Any, door: str) -> None:
    client, _ = client_of(request, doors, door)
    client.unregister_cuda_shared_memory()
    client.unregister_cuda_shared_memory("nobodys")
    client.unregister_system_shared_memory()
    status = client.get_cuda_shared_memory_status()
    assert not (status if isinstance(status, list) else status.ListFields())
    with pytest.raises(InferenceServerException, match="no CUDA region 'nobodys'"):
        client.get_cuda_shared_memory_status("nobodys")


def test_a_stream_says_which_response_is_the_last(doors: Doors) -> None:
    answers: queue.Queue[Any] = queue.Queue()
    with tritonclient.grpc.InferenceServerClient(f"unix:{doors.grpc_path}") as client:
        client.start_stream(lambda result, error: answers.put(error or result))
        for wanted in (True, False):
            sent = tritonclient.grpc.InferInput("x", [1, 3], "FP32").set_data_from_numpy(ROW)
            client.async_stream_infer("scale", [sent], enable_empty_final_response=wanted)
            said = answers.get(timeout=20).get_response().parameters
            assert said["triton_final_response"].bool_param == wanted


def test_a_stream_whose_client_hangs_up_is_no_error_of_ours(doors: Doors, caplog: pytest.LogCaptureFixture) -> None:
    answered = threading.Event()
    client = tritonclient.grpc.InferenceServerClient(f"unix:{doors.grpc_path}")
    client.start_stream(lambda result, error: answered.set())
    client.async_stream_infer("scale", [tritonclient.grpc.InferInput("x", [1, 3], "FP32").set_data_from_numpy(ROW)])
    assert answered.wait(20)
    with caplog.at_level(logging.ERROR):
        client.stop_stream(cancel_requests=True)
        client.close()
        doors.grpc_unix.stop(5.0)
    assert "unforeseen" not in caplog.text
