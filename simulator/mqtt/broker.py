"""Starts a real MQTT broker on 127.0.0.1: mosquitto with mutual TLS where it is installed, else iotcore from pip.

The failure this exists for: a fleet tested without certificates, where any device can speak as any other. With mosquitto
each thing's certificate allows it its own topics only, as an IoT policy does. iotcore enforces nothing: it is for
demonstrations on machines without root, and says so in its :class:`BrokerTraits`.

A broker is a child process. ``start`` and ``stop`` may be called again on the same object, which keeps its port, so that
an outage can be played; they are not for concurrent use.
"""

import importlib.util
import os
import shutil
import socket
import subprocess
import sys
import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from types import TracebackType
from typing import IO, ClassVar, Literal, Self

from simulator.mqtt.address import CLOUD_NAME, IOT_CORE_PAYLOAD_BYTES_MAX, BrokerAddress
from simulator.mqtt.authority import Authority
from simulator.mqtt.errors import BrokerMissingError, BrokerStartError

Kind = Literal["auto", "mosquitto", "iotcore"]

HOST = "127.0.0.1"
ADDRESS_FILE = "broker.json"
START_TIMEOUT_S = 10.0
STOP_TIMEOUT_S = 5.0
POLL_S = 0.02
PORT_ATTEMPTS = 3

MOSQUITTO_CONFIGURATION = """\
listener {port} {host}
cafile {authority}
certfile {certificate}
keyfile {private_key}
require_certificate true
use_identity_as_username true
allow_anonymous false
acl_file {acl}
user {user}
persistence true
persistence_location {directory}/
autosave_interval 1
autosave_on_changes false
message_size_limit {payload_bytes_max}
max_queued_messages 100000
max_inflight_messages 100
set_tcp_nodelay true
"""

ACCESS_RULES = f"""\
user {CLOUD_NAME}
topic readwrite #
topic readwrite $aws/#

pattern readwrite $aws/things/%u/#
pattern write $aws/rules/+/edgewright/v1/%u/#
pattern readwrite edgewright/v1/%u/#
"""
"""What the IoT policy of a core device allows: its own topics. ``%u`` is the certificate's common name."""


@dataclass(frozen=True, slots=True)
class BrokerTraits:
    """Where a broker differs from AWS IoT Core, honestly.

    Attributes:
        enforces_identity: a client without its own certificate is refused, and kept to its own topics.
        delivers_overlaps_once: a client whose filters overlap gets one copy of a message, not one for each filter.
        keeps_sessions_over_restart: a persistent session's queue survives an orderly restart of the broker.
    """

    enforces_identity: bool
    delivers_overlaps_once: bool
    keeps_sessions_over_restart: bool


class Broker(ABC):
    """A broker process of this machine; a context manager that stops it."""

    traits: ClassVar[BrokerTraits]

    def __init__(self, directory: Path) -> None:
        """``directory`` is made and belongs to this broker: configuration, certificates, log, address file."""
        self.directory = directory
        directory.mkdir(parents=True, exist_ok=True)
        self._process: subprocess.Popen[bytes] | None = None
        self._address = self._configure(free_port())

    @property
    def address(self) -> BrokerAddress:
        """Where clients find it; the same over restarts, and written to ``broker.json`` in its folder."""
        return self._address

    @property
    def log_file(self) -> Path:
        """What the broker's process prints."""
        return self.directory / "broker.log"

    @property
    def process_id(self) -> int | None:
        """The child's process id while it runs."""
        return None if self._process is None else self._process.pid

    def start(self) -> Self:
        """Start it and wait until it listens; nothing happens where it runs already.

        Raises:
            BrokerStartError: with the end of its log.
        """
        if self._process is not None:
            return self
        if _accepts(self.address):  # it would pass for ours
            raise BrokerStartError(f"port {self.address.port} is taken", "Start it again; it takes another port.")
        with self.log_file.open("ab") as log:
            self._process = subprocess.Popen(
                self._command(),
                stdin=subprocess.PIPE,
                stdout=log,
                stderr=log,
                start_new_session=True,  # a terminal's Ctrl-C is for whoever started the broker, who stops it in order
            )
        try:
            self._wait_until_listening(self._process)
        except BrokerStartError:
            self.stop()
            raise
        self.address.write(self.directory / ADDRESS_FILE)
        return self

    def stop(self) -> None:
        """Stop it and free its port; safe to call twice."""
        process, self._process = self._process, None
        if process is None:
            return
        process.terminate()
        try:
            process.wait(STOP_TIMEOUT_S)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
        _close(process.stdin)

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    @abstractmethod
    def _configure(self, port: int) -> BrokerAddress:
        """Write what the process reads, and say where it will listen."""

    @abstractmethod
    def _command(self) -> Sequence[str]:
        """What to run."""

    def _wait_until_listening(self, process: subprocess.Popen[bytes]) -> None:
        deadline = time.monotonic() + START_TIMEOUT_S
        while time.monotonic() < deadline:
            if process.poll() is not None:
                break
            if _accepts(self.address):
                return
            time.sleep(POLL_S)
        raise BrokerStartError(
            f"{type(self).__name__} does not listen on port {self.address.port} (exit code {process.poll()}): "
            f"{self.log_file.read_text(errors='replace')[-600:]}",
            f"Read {self.log_file}.",
        )


class MosquittoBroker(Broker):
    """mosquitto: mutual TLS, one certificate per thing, topics by identity."""

    traits = BrokerTraits(
        enforces_identity=True,
        delivers_overlaps_once=True,
        keeps_sessions_over_restart=True,
    )

    def _configure(self, port: int) -> BrokerAddress:
        now = datetime.now(UTC)
        authority = Authority(self.directory)
        authority.create(now)
        server = authority.issue("broker", now, server=True)
        access = self.directory / "access.acl"
        access.write_text(ACCESS_RULES)
        access.chmod(0o600)
        (self.directory / "mosquitto.conf").write_text(
            MOSQUITTO_CONFIGURATION.format(
                port=port,
                host=HOST,
                authority=authority.certificate_file,
                certificate=server.certificate,
                private_key=server.private_key,
                acl=access,
                user="root" if os.geteuid() == 0 else "mosquitto",  # only root would switch to it
                directory=self.directory,
                payload_bytes_max=IOT_CORE_PAYLOAD_BYTES_MAX,
            )
        )
        return BrokerAddress(HOST, port, tls=authority.certificate_file)

    def _command(self) -> Sequence[str]:
        return (str(mosquitto_program()), "-c", str(self.directory / "mosquitto.conf"))


class IotCoreBroker(Broker):
    """iotcore 0.4.0 (rumqttd): plain, no identities, drops clients that subscribe to ``$…``; ends with its parent."""

    traits = BrokerTraits(
        enforces_identity=False,
        delivers_overlaps_once=False,
        keeps_sessions_over_restart=False,
    )

    def _configure(self, port: int) -> BrokerAddress:
        return BrokerAddress(HOST, port, dollar_prefix="_")

    def _command(self) -> Sequence[str]:
        # Its own limit of 20,480 bytes would leave larger QoS 1 publishes unacknowledged for ever; topics need room too.
        program = (
            "import os, sys, threading; from iotcore.iotcore import IotCoreBroker; "
            "threading.Thread(target=lambda: (sys.stdin.read(), os._exit(0)), daemon=True).start(); "
            f"IotCoreBroker(listen={HOST!r}, port={self.address.port}, "
            f"max_payload_size={2 * IOT_CORE_PAYLOAD_BYTES_MAX}).run_forever()"
        )
        return (sys.executable, "-c", program)


BROKERS: dict[str, Callable[[Path], Broker]] = {"mosquitto": MosquittoBroker, "iotcore": IotCoreBroker}


def start_broker(directory: Path, kind: Kind = "auto") -> Broker:
    """Start a broker in ``directory``; ``auto`` prefers mosquitto, since only it enforces identities.

    Raises:
        BrokerMissingError: none of that kind is installed.
        BrokerStartError: it does not begin to listen.
    """
    make = BROKERS[_chosen(kind)]
    for _ in range(PORT_ATTEMPTS - 1):
        try:
            return make(directory.resolve()).start()
        except BrokerStartError:  # somebody else took the port meanwhile, most likely; the last attempt tells the truth
            continue
    return make(directory.resolve()).start()


def mosquitto_program() -> Path | None:
    """Where mosquitto is installed; Debian puts it outside an ordinary user's PATH."""
    found = shutil.which("mosquitto") or shutil.which("mosquitto", path="/usr/sbin:/usr/local/sbin")
    return None if found is None else Path(found)


def free_port() -> int:
    """A TCP port of 127.0.0.1 that nothing listens on now."""
    with socket.socket() as probe:
        probe.bind((HOST, 0))
        port: int = probe.getsockname()[1]
    return port


def _chosen(kind: Kind) -> str:
    present = {
        "mosquitto": mosquitto_program() is not None,
        "iotcore": importlib.util.find_spec("iotcore") is not None,
    }
    wanted = [name for name in present if kind in {"auto", name}]
    for name in wanted:
        if present[name]:
            return name
    raise BrokerMissingError(
        f"no MQTT broker: {' and '.join(wanted)} not installed",
        "Install mosquitto (apt install mosquitto) or iotcore (pip install 'edgewright[simulator]').",
    )


def _accepts(address: BrokerAddress) -> bool:
    try:
        with socket.create_connection((address.host, address.port), timeout=0.5):
            return True
    except OSError:
        return False


def _close(stream: IO[bytes] | None) -> None:
    if stream is not None:
        stream.close()
