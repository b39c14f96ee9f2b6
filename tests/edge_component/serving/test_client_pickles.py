"""Clients and their errors across processes: a pool's worker is handed a client, and hands back what it met.

An exception that cannot be made anew from its pickle ends the thread that reads a ``multiprocessing.Pool``'s results, and
whoever waits for them waits for ever.
"""

import copy
import multiprocessing
import pickle
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor

import numpy as np
import pytest

import edge_component.client.errors as client_errors
import edge_component.inference.errors as request_errors
from edge_component.client import Client, ClientError, OverloadedError, UnknownModelError
from edge_component.client.aio import AsyncClient
from edge_component.errors import DeviceError
from tests.edge_component.serving.conftest import ROW, Door


def kinds(root: type[Exception]) -> Iterator[type[Exception]]:
    yield root
    for kind in root.__subclasses__():
        yield from kinds(kind)


@pytest.mark.parametrize("kind", kinds(ClientError), ids=lambda kind: kind.__name__)
def test_an_error_of_the_clients_is_itself_after_pickling(kind: type[ClientError]) -> None:
    error = kind("a sentence", "a-code", "a remedy")
    again = pickle.loads(pickle.dumps(error))
    assert (type(again), str(again), again.code, again.remedy) == (kind, "a sentence", "a-code", "a remedy")


def test_what_an_error_says_beside_its_sentence_is_kept() -> None:
    late = copy.copy(OverloadedError("full", "overloaded", "later", 0.25))
    assert (str(late), late.retry_after_s) == ("full", 0.25)


@pytest.mark.parametrize("kind", kinds(DeviceError), ids=lambda kind: kind.__name__)
def test_an_error_of_the_runtime_in_process_is_itself_after_pickling(kind: type[DeviceError]) -> None:
    with_number = kind in (request_errors.OverloadedError, request_errors.AnswerTooLargeError)
    error = kind("a sentence", *([7] if with_number else []))
    again = pickle.loads(pickle.dumps(error))
    assert (type(again), str(again), vars(again)) == (kind, "a sentence", vars(error))


def ask(client: Client, model: str) -> list[float]:
    """In the worker."""
    return [float(value) for value in client.infer(model, {"x": ROW}).outputs["y"].ravel()]


def test_a_pools_worker_has_a_client_of_its_own_and_its_errors_come_back(door: Door) -> None:
    client = door.client()
    client.infer("scale", {"x": ROW})
    with ProcessPoolExecutor(1, mp_context=multiprocessing.get_context("spawn")) as pool:
        assert pool.submit(ask, client, "scale").result() == (ROW * 2).ravel().tolist()
        with pytest.raises(UnknownModelError) as caught:
            pool.submit(ask, client, "nope").result()
    assert caught.value.code == "unknown-model"
    np.testing.assert_array_equal(client.infer("scale", {"x": ROW}).outputs["y"], ROW * 2)


@pytest.mark.parametrize("kind", [Client, AsyncClient])
def test_a_copied_client_is_another_one_with_the_same_arguments(kind: type[Client] | type[AsyncClient]) -> None:
    client = kind("/run/infer.sock", deadline_s=3.0, key="k", sequence="s")
    for again in (copy.copy(client), copy.deepcopy(client), pickle.loads(pickle.dumps(client))):
        told = {name: getattr(again, name) for name in ("_socket_path", "_deadline_s", "_key", "_sequence")}
        assert told == {name: getattr(client, name) for name in told}
        assert again._lock is not client._lock


@pytest.mark.parametrize("name", ["\ud800", "a\udcff"])
def test_a_name_that_is_no_text_is_the_callers_error(door: Door, name: str) -> None:
    client = door.client()
    with pytest.raises(client_errors.InputError, match="cannot be asked"):
        client.infer(name, {"x": ROW})
    assert client.infer("scale", {"x": ROW}).outputs["y"].shape == ROW.shape
