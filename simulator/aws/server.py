"""The local cloud as a server: ``LocalCloud`` in this process, or ``python -m simulator.aws.server`` alone.

moto 5.2.5 keeps its state in module globals, so there is one local cloud in a process at a time, and each starts
empty. It listens on 127.0.0.1 only: it checks no signature, so it must never be reachable from elsewhere.

Concurrency: one thread accepts, one thread for each connection.
"""

import argparse
import json
import logging
import signal
import sys
import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from moto.moto_api._internal.models import moto_api_backend
from moto.moto_server.werkzeug_app import MotoRequestHandler
from werkzeug.serving import BaseWSGIServer, make_server

from simulator.aws import events, iot, iot_rules, kms, sagemaker, step_functions, unreal
from simulator.aws.cloud import Cloud
from simulator.aws.errors import LocalCloudError
from simulator.aws.front import Front
from simulator.aws.mqtt_bus import MqttBus
from simulator.errors import SimulatorError
from simulator.mqtt import BrokerAddress

HOST = "127.0.0.1"

log = logging.getLogger(__name__)

SERVICES: tuple[Callable[[Cloud], None], ...] = (
    unreal.install,
    kms.install,
    iot.install,
    events.install,
    iot_rules.install,
    sagemaker.install,
    step_functions.install,
)
"""Each service module's ``install``, in order: a later one may take an operation over from an earlier one."""

_running = threading.Lock()


@dataclass(frozen=True, slots=True)
class CloudOptions:
    """How to run it.

    Attributes:
        state_dir: folder for jobs' working folders; made if missing.
        port: TCP port on 127.0.0.1; 0 takes a free one.
        broker: the MQTT broker that devices use; ``None`` keeps messages inside this process.
        broker_timeout_s: how long to try for the first connection to it.
    """

    state_dir: Path
    port: int = 0
    broker: BrokerAddress | None = None
    broker_timeout_s: float = 10.0


class LocalCloud:
    """The server, as a context manager; ``url`` is what AWS_ENDPOINT_URL must be."""

    def __init__(self, options: CloudOptions) -> None:
        """Nothing runs and nothing is bound yet."""
        self._options = options
        self._server: BaseWSGIServer | None = None
        self._front: Front | None = None
        self._thread: threading.Thread | None = None
        options.state_dir.mkdir(parents=True, exist_ok=True)
        self.cloud = _new_cloud(options)

    @property
    def url(self) -> str:
        """``http://127.0.0.1:<port>`` while it runs."""
        return self.cloud.url

    def start(self) -> None:
        """Empty moto's state, install the services, answer requests; returns once it answers.

        Raises:
            LocalCloudError: another one runs in this process, or the port is taken. Nothing is left running.
            BrokerUnavailableError: the broker does not answer. Nothing is left running.
        """
        if not _running.acquire(blocking=False):
            raise LocalCloudError("a local cloud runs in this process already", "Stop it first, or use its url.")
        try:
            moto_api_backend.reset()
            self._front = Front(self.cloud.operations, self.cloud.device_doors)
            for install in SERVICES:
                install(self.cloud)
            self._server = self._bind(self._front)
        except BaseException:
            _running.release()
            raise
        self.cloud.url = f"http://{HOST}:{self._server.server_port}"
        self._thread = threading.Thread(target=self._server.serve_forever, name="local-cloud", daemon=True)
        self._thread.start()
        try:
            self.cloud.started()
        except BaseException:
            self.stop()
            raise

    def stop(self) -> None:
        """End what the services started, then stop answering. Safe to call twice."""
        if self._server is None or self._front is None or self._thread is None:
            return
        server, self._server = self._server, None
        try:
            self.cloud.stopping()
        finally:
            self._front.closed = True
            server.shutdown()
            self._thread.join()
            server.server_close()
            _running.release()

    def __enter__(self) -> Self:
        """Start."""
        self.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Stop."""
        self.stop()

    def _bind(self, front: Front) -> BaseWSGIServer:
        try:
            return make_server(HOST, self._options.port, front, threaded=True, request_handler=_RequestHandler)
        except SystemExit as error:  # werkzeug exits the process where the port is taken
            raise LocalCloudError(
                f"port {self._options.port} of {HOST} is taken", "Choose another port, or 0 for a free one."
            ) from error


def _new_cloud(options: CloudOptions) -> Cloud:
    if options.broker is None:
        return Cloud(options.state_dir)
    bus = MqttBus(options.broker, options.broker_timeout_s)
    cloud = Cloud(options.state_dir, bus, broker_endpoint=f"{options.broker.host}:{options.broker.port}")
    cloud.on_start(bus.connect)
    cloud.on_stop(bus.close)
    return cloud


class _RequestHandler(MotoRequestHandler):
    """moto's, which keeps underscores in headers; requests are logged at debug level only."""

    def log_request(self, code: int | str = "-", size: int | str = "-") -> None:
        log.debug("%s %s %s", self.requestline, code, size)

    def log(self, type: str, message: str, *args: Any) -> None:  # noqa: A002, ANN401 - werkzeug's signature
        log.debug("%s: %s", type, message % args)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run until SIGTERM or SIGINT; prints one JSON line with the URL when it answers."""
    parser = argparse.ArgumentParser(prog="python -m simulator.aws.server", description="Edgewright's local cloud")
    parser.add_argument("--port", type=int, default=0)
    parser.add_argument("--state-dir", type=Path, required=True)
    parser.add_argument("--broker", type=Path, help="the broker's address file")
    chosen = parser.parse_args(arguments)
    ended = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: ended.set())
    try:
        broker = BrokerAddress.read(chosen.broker) if chosen.broker else None
        with LocalCloud(CloudOptions(chosen.state_dir, chosen.port, broker)) as local:
            print(json.dumps({"url": local.url}), flush=True)
            ended.wait()
    except SimulatorError as error:
        print(f"{error} {error.remedy}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
