"""Configuration as it arrives: strings on Lite, typing mistakes anywhere, fields of the future."""

from dataclasses import fields

import pytest

from edge_component.config import RuntimeConfig


def test_strings_and_numbers_mean_the_same_and_unknown_fields_are_no_problem() -> None:
    as_strings = {"heartbeat_s": "15", "connections_max": "8", "ingest_rule": "mine", "from_the_future": {"x": 1}}
    as_numbers = {"heartbeat_s": 15, "connections_max": 8.0, "ingest_rule": "mine"}
    assert RuntimeConfig.from_document(as_strings) == RuntimeConfig.from_document(as_numbers)
    config, problems = RuntimeConfig.from_document(as_strings)
    assert (config.heartbeat_s, config.connections_max, config.ingest_rule, problems) == (15.0, 8, "mine", ())
    assert isinstance(config.connections_max, int)


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("heartbeat_s", "soon"),
        ("heartbeat_s", 0),
        ("heartbeat_s", "nan"),
        ("window_s", "inf"),
        ("window_s", None),
        ("window_s", True),
        ("probation_s", -1),
        ("connections_max", "2.5"),
        ("outbox_bytes_max", 10),
        ("ingest_rule", ""),
        ("ingest_rule", 7),
        ("oip_rest_port", 65_536),
        ("oip_rest_port", -1),
        ("oip_rest_socket", "yes"),
        ("oip_rest_socket", 1),
        ("oip_host", "device.local"),
        ("oip_host", ""),
        ("oip_host", "127.0.0.1:8000"),
        ("oip_host", 127),
        ("oip_key_file", 7),
        ("oip_key_file", "a\0b"),
        ("oip_token_file", "\ud800"),
        ("heartbeat_s", 10**400),
        ("window_s", 1e300),
        ("hello_s_max", "1e300"),
        ("connections_max", 10**18),
        ("in_flight_max", 10**12),
        ("intra_op_threads", 10**6),
        ("queue_max", "9" * 5_000),
        ("ingest_rule", ["x" * 100_000]),
    ],
)
def test_a_field_that_cannot_be_read_keeps_its_default_and_is_named(field: str, value: object) -> None:
    config, problems = RuntimeConfig.from_document({field: value, "stop_s": "1"})
    assert getattr(config, field) == getattr(RuntimeConfig(), field)
    assert config.stop_s == 1.0
    assert len(problems) == 1
    assert f"configuration field {field}: " in problems[0]
    assert len(problems[0]) < 200, "it is told in a heartbeat"


def test_a_format_that_there_is_not_keeps_the_default_and_is_named() -> None:
    config, problems = RuntimeConfig.from_document({"log_format": "xml", "slow_request_ms": "12.5"})
    assert (config.log_format, config.slow_request_ms) == ("text", 12.5)
    assert problems == ("configuration field log_format: must be one of text, json, not 'xml'; using text",)


def test_a_port_that_there_is_not_keeps_the_door_closed_and_is_named() -> None:
    config, problems = RuntimeConfig.from_document({"metrics_port": 70_000})
    assert config.metrics_port == 0
    assert problems == ("configuration field metrics_port: must be at most 65535, not 70000; using 0",)


@pytest.mark.parametrize(
    ("given", "meant"),
    [("0.0.0.0", "0.0.0.0"), ("localhost", "127.0.0.1"), ("[::1]", "::1"), ("0:0::1", "::1"), ("10.0.0.7", "10.0.0.7")],
)
def test_a_host_is_an_address(given: str, meant: str) -> None:
    config, problems = RuntimeConfig.from_document({"oip_host": given})
    assert (config.oip_host, problems) == (meant, ())


def test_switches_are_true_or_false_as_words_too() -> None:
    as_words, problems = RuntimeConfig.from_document({"oip_rest_socket": "True", "oip_grpc_socket": "false"})
    assert (as_words.oip_rest_socket, as_words.oip_grpc_socket, problems) == (True, False, ())
    assert RuntimeConfig.from_document({"oip_rest_socket": True})[0] == as_words


STRANGE = (None, [], {}, {"a": [1]}, True, -1, 0, 10**5_000, -(10**400), 1e308, "", "\0", "é" * 70_000)


@pytest.mark.parametrize("field", [field.name for field in fields(RuntimeConfig)])
def test_no_value_of_any_field_keeps_the_device_from_starting(field: str) -> None:
    for value in STRANGE:
        config, problems = RuntimeConfig.from_document({field: value})
        taken = getattr(config, field)
        assert type(taken) is type(getattr(RuntimeConfig(), field))
        assert len("".join(problems)) < 300 or isinstance(taken, str)
