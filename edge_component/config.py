"""Every limit of the runtime, named with its unit, and how a component's configuration becomes one.

The failure this exists for: scalars of a YAML recipe arrive as strings on Greengrass Lite (``batch: 8`` becomes
``"8"``), so values are coerced; and a typing mistake in one field must not take the device down, so a field that cannot
be read keeps its default and is reported in the heartbeat as a reason for ``degraded``.
"""

import ipaddress
import math
from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import Any, Self

from edge_component.contracts.topics import DEFAULT_RULE


@dataclass(frozen=True, slots=True)
class RuntimeConfig:
    """What an operator may set in the component ``com.edgewright.Runtime``; defaults suit a small device.

    Attributes:
        heartbeat_s: between two heartbeats.
        window_s: length of a telemetry window.
        ingest_rule: IoT topic rule that receives what the device sends.
        outbox_bytes_max: disk the outbox may use; the oldest messages go first, counted.
        probation_s: how long a new model is watched before it is committed; 0 commits at once.
        probation_failed_ratio_max: share of requests the model may fail on probation before it is reverted.
        probation_requests_min: requests before that share, or any below, means anything.
        probation_latency_ms_max: median latency of the model on probation beyond which it is reverted; 0 for no bound.
        probation_latency_ratio_max, probation_latency_slack_ms: the same against what served before: at most so many
            times its median, and so much more; a ratio of 0 for no bound.
        shadow_s: how long, at most, a new model is compared with what serves on live requests before the switch (and at
            most half of the time that the caller still allows); 0 switches without.
        shadow_requests_max: compared requests that end the comparison early.
        shadow_agreement_min: share of them on which both must lead to the same label.
        pending_starts_max: starts of the runtime that a model on probation may see before it is reverted.
        intra_op_threads: of each ONNX Runtime session.
        inter_op_threads: of each session; above 1 independent operators are computed at once.
        spinning: 1 lets these threads burn a processor while they wait, which is a little faster; 0 does not.
        execution_providers: what to compute on, the most wanted first, such as ``CUDA,CPU``; empty is the CPU.
        cpu_affinity: processors that the runtime keeps to, such as ``0,2-3``; empty is all of them.
        in_flight_max: requests of one model that are computed at once.
        queue_max: requests of one model that wait for that; more are refused at once (``overloaded``).
        sequences_max: sequences of one model whose state is carried at once.
        sequence_idle_s: after which one that nobody continues is forgotten.
        model_memory_bytes_max: of all loaded models together; idle ones are unloaded to keep it. 0 means no limit.
        memory_bytes_max: of the runtime's whole process: a run that would take more fails, and so does a trial. 0 means no
            limit; see bundles/README.md for what to set, and what Greengrass can set beside it.
        idle_unload_s: after which a version that only requests for exactly that version used is unloaded.
        connections_max: client connections at once.
        hello_s_max: how long a new connection may be silent before it is hung up on; and may take for its TLS handshake.
        channels_max: open channels of one connection.
        channel_bytes_max: shared memory of one channel.
        run_s_max: after which a run without a deadline of its own is stopped.
        follow_run_us_max: a client whose requests run no longer than this is served on the core where it runs (see
            serving/core_follower.py); 0 leaves every thread to the scheduler.
        poll_us: how long a connection whose client asks again at once, and alone, is polled before its thread sleeps (see
            polling.py); 0 for never.
        fault_deadline_s: a run stopped by a deadline of at least this counts against the model on probation.
        edge_manager_socket: whether there is ``edge-manager.sock``, the SageMaker Edge Manager agent's API (needs
            ``publish-runtime --with-grpc``).
        edge_manager_capture_bytes_max: disk for what its CaptureData keeps, oldest first away; 0 switches that off.
        metrics_port: of 127.0.0.1, for Prometheus; 0 for none.
        metrics_socket: whether there is ``metrics.sock`` in the work folder, with the access of the prediction sockets.
        log_format: ``text``, or ``json`` for one JSON object a line.
        slow_request_ms: from where on a request is reported in the log, rate limited; 0 for never.
        socket_group: name or id of the group whose members may use the prediction sockets; empty for the owner alone.
        socket_users: of that group's members only these, names or ids separated by commas; empty for all of them.
        oip_host: address that these two ports are of: 127.0.0.1, ::1, another of this device's own, or 0.0.0.0 or :: for
            all of them. Beyond loopback the three files below are needed, or the doors stay shut.
        oip_rest_port, oip_grpc_port: of the Open Inference Protocol's doors; 0 keeps them closed.
        oip_certificate_file, oip_key_file, oip_token_file: PEM certificate chain and private key, and the bearer token that
            clients send; within the work folder unless absolute. All or none; where they are given, both ports speak TLS
            and ask for the token, on loopback too. See serving/README.md.
        oip_rest_socket, oip_grpc_socket: whether there are Unix sockets for it, ``oip-rest.sock`` and ``oip-grpc.sock``.
        oip_shared_memory: whether its clients may register shared memory of their own.
        oip_body_bytes_max: of one of its requests.
        stop_s: how long requests in flight may take to finish when the runtime is stopped, at all doors together. Java's
            nucleus kills 5 s after it has asked, and telemetry has to be kept in that time too.
    """

    heartbeat_s: float = 60.0
    window_s: float = 300.0
    ingest_rule: str = DEFAULT_RULE
    outbox_bytes_max: int = 16_000_000
    probation_s: float = 30.0
    probation_failed_ratio_max: float = 0.05
    probation_requests_min: int = 20
    probation_latency_ms_max: float = 0.0
    probation_latency_ratio_max: float = 5.0
    probation_latency_slack_ms: float = 5.0
    shadow_s: float = 0.0
    shadow_requests_max: int = 200
    shadow_agreement_min: float = 0.95
    pending_starts_max: int = 3
    intra_op_threads: int = 1
    inter_op_threads: int = 1
    spinning: int = 0
    execution_providers: str = ""
    cpu_affinity: str = ""
    in_flight_max: int = 16
    queue_max: int = 64
    sequences_max: int = 256
    sequence_idle_s: float = 300.0
    model_memory_bytes_max: int = 0
    memory_bytes_max: int = 0
    idle_unload_s: float = 600.0
    connections_max: int = 64
    hello_s_max: float = 5.0
    channels_max: int = 16
    channel_bytes_max: int = 256_000_000
    run_s_max: float = 60.0
    follow_run_us_max: int = 500
    poll_us: int = 500
    fault_deadline_s: float = 1.0
    edge_manager_socket: bool = False
    edge_manager_capture_bytes_max: int = 16_000_000
    metrics_port: int = 0
    metrics_socket: bool = False
    log_format: str = "text"
    slow_request_ms: float = 0.0
    socket_group: str = ""
    socket_users: str = ""
    oip_host: str = "127.0.0.1"
    oip_rest_port: int = 0
    oip_rest_socket: bool = False
    oip_grpc_port: int = 0
    oip_grpc_socket: bool = False
    oip_certificate_file: str = ""
    oip_key_file: str = ""
    oip_token_file: str = ""
    oip_shared_memory: bool = False
    oip_body_bytes_max: int = 64_000_000
    stop_s: float = 3.0

    @classmethod
    def from_document(cls, document: Mapping[str, Any]) -> tuple[Self, tuple[str, ...]]:
        """Coerce a component's configuration; returns it with one sentence for each field that kept its default.

        Unknown fields are not problems: a newer recipe may carry them.
        """
        chosen: dict[str, Any] = {}
        problems: list[str] = []
        for field in fields(cls):
            if field.name not in document:
                continue
            try:
                chosen[field.name] = _coerce(field.name, document[field.name], field.default)
            except ValueError as error:
                problems.append(f"configuration field {field.name}: {error}; using {field.default}")
        return cls(**chosen), tuple(problems)


def changed_fields(before: RuntimeConfig, after: RuntimeConfig) -> tuple[str, ...]:
    """Names of the fields in which two configurations differ."""
    return tuple(field.name for field in fields(before) if getattr(before, field.name) != getattr(after, field.name))


MINIMA: Mapping[str, float] = {
    "heartbeat_s": 1, "window_s": 1, "outbox_bytes_max": 65_536, "pending_starts_max": 1,
    "intra_op_threads": 1, "inter_op_threads": 1, "in_flight_max": 1, "connections_max": 1, "hello_s_max": 0.001,
    "channels_max": 1, "channel_bytes_max": 65_536, "run_s_max": 0.001, "shadow_requests_max": 1, "oip_body_bytes_max": 4_096,
}  # fmt: skip
"""Inclusive; 0 for every number not listed."""

MAXIMA: Mapping[str, float] = {
    "metrics_port": 65_535, "oip_rest_port": 65_535, "oip_grpc_port": 65_535,
    "oip_body_bytes_max": 2_000_000_000,  # a gRPC message cannot be larger
    "intra_op_threads": 256, "inter_op_threads": 256, "in_flight_max": 4_096, "connections_max": 16_384,
    "outbox_bytes_max": 1e15, "channel_bytes_max": 1e15, "model_memory_bytes_max": 1e15, "memory_bytes_max": 1e15,
    "edge_manager_capture_bytes_max": 1e15,
}  # fmt: skip
"""Inclusive; ``NUMBER_MAX`` for every number not listed."""
NUMBER_MAX = 1e9
"""As seconds, thirty years: for ever, and still a time that the operating system's waits accept."""
CHOICES: Mapping[str, tuple[str, ...]] = {"log_format": ("text", "json")}
TOLD_CHARS_MAX = 60
IDS = ("socket_group", "socket_users", "cpu_affinity")
"""Text fields that may also be given as one number."""
HOSTS = ("oip_host",)
"""Text fields that hold an address. A name is none: what it resolves to is another's to say, and may be asked for long."""
DOOR_FIELDS = (
    "oip_host", "oip_rest_port", "oip_grpc_port", "oip_certificate_file", "oip_key_file", "oip_token_file",
)  # fmt: skip
"""What decides whether a TCP door may open; the work folder's lock tells them to `edgewright-edge doctor`."""


def _coerce(name: str, value: object, default: object) -> object:
    if isinstance(default, str):
        return _text(name, value, may_be_empty=not default)
    if isinstance(default, bool):
        return _truth(value)
    number = _number(value)
    if isinstance(default, int):
        if number != int(number):
            raise ValueError(f"must be a whole number, not {_told(value)}")
        number = int(number)
    if number > MAXIMA.get(name, NUMBER_MAX):
        raise ValueError(f"must be at most {MAXIMA.get(name, NUMBER_MAX):.15g}, not {_told(value)}")
    if number < MINIMA.get(name, 0):
        raise ValueError(f"must be at least {MINIMA.get(name, 0)}, not {_told(value)}")
    return number


def _text(name: str, value: object, *, may_be_empty: bool) -> str:
    if isinstance(value, int) and not isinstance(value, bool) and name in IDS:
        value = str(value)
    if not isinstance(value, str) or not (value or may_be_empty):
        raise ValueError(f"must be a non-empty string, not {_told(value)}")
    if not value.isprintable():  # it will be told in messages, and is a path perhaps
        raise ValueError(f"must be text in one line, not {_told(value)}")
    if value not in CHOICES.get(name, (value,)):
        raise ValueError(f"must be one of {', '.join(CHOICES[name])}, not {_told(value)}")
    return _host(value) if name in HOSTS else value


def _host(value: str) -> str:
    """An address in its usual form; brackets and ``localhost`` are understood."""
    if value == "localhost":
        return "127.0.0.1"
    try:
        return str(ipaddress.ip_address(value.removeprefix("[").removesuffix("]")))
    except ValueError:
        raise ValueError(f"must be an IP address or localhost, not {_told(value)}") from None


def _truth(value: object) -> bool:
    text = str(value).lower() if isinstance(value, bool | str) else ""
    if text not in ("true", "false"):
        raise ValueError(f"must be true or false, not {_told(value)}")
    return text == "true"


def _number(value: object) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float | str):
        raise ValueError(f"must be a number, not {_told(value)}")  # noqa: TRY004 - one kind of problem for the caller
    try:
        number = float(value)
    except OverflowError:  # a whole number of more digits than a float can hold
        raise ValueError(f"must be finite, not {_told(value)}") from None
    except ValueError:
        raise ValueError(f"must be a number, not {_told(value)}") from None
    if not math.isfinite(number):
        raise ValueError(f"must be finite, not {_told(value)}")
    return number


def _told(value: object) -> str:
    """A value as the heartbeat can carry it, however long it is."""
    try:
        text = repr(value)
    except ValueError:  # an integer of more digits than Python writes
        text = f"{value:#x}" if isinstance(value, int) else type(value).__name__
    return text if len(text) <= TOLD_CHARS_MAX else f"{text[:TOLD_CHARS_MAX]}…"
