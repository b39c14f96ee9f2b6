"""The app behind a real socket, in a thread, so that a process can serve and work at once and end both cleanly.

The failure this exists for: a server that owns the process's signals, so that Ctrl-C ends it and leaves the other loops
hanging. Here the caller owns the signals; :meth:`ApiServer.stop` finishes the requests under way and joins the thread.
"""

import socket
import threading
import time
from types import TracebackType
from typing import Self

import uvicorn
from fastapi import FastAPI

from cloud.api.door_keys import CertificateFiles
from cloud.api.exposure import TcpAddress
from cloud.errors import ConflictError, UnavailableError

START_TIMEOUT_S = 10.0
STOP_TIMEOUT_S = 5
POLL_S = 0.01
LOOK_TICKS = 10
"""uvicorn ticks ten times a second; certificates are looked at once a second."""


class AddressTakenError(ConflictError):
    """Something else listens on that address; nothing was started."""

    code = "address-taken"


class _Server(uvicorn.Server):
    """uvicorn's, which also looks whether its certificate was renewed: from the event loop, which shakes hands too."""

    def __init__(self, config: uvicorn.Config, certificate: CertificateFiles | None) -> None:
        super().__init__(config)
        self._certificate = certificate
        if certificate is not None:
            config.load()
            config.ssl = certificate.context  # not from the files: a context that is replaced is not looked at again

    async def on_tick(self, counter: int) -> bool:
        if self._certificate is not None and counter % LOOK_TICKS == 0:
            self._certificate.look()
        return await super().on_tick(counter)


class ApiServer:
    """One app on one address; a context manager. ``port`` 0 takes a free one; with a certificate it speaks TLS alone."""

    def __init__(
        self, app: FastAPI, host: str = "127.0.0.1", port: int = 0, certificate: CertificateFiles | None = None
    ) -> None:
        """Bind at once, so that :attr:`url` is known.

        Raises:
            AddressTakenError: somebody listens there, or the host is not ours.
        """
        try:
            family = socket.AF_INET6 if ":" in host else socket.AF_INET
            self._socket = socket.create_server((host, port), family=family)
            # asyncio does so only for sockets made with an explicit protocol; without it each answer waits 40 ms
            self._socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        except OSError as error:
            raise AddressTakenError(
                f"cannot listen on {TcpAddress(host, port).name}: {error.strerror}",
                "Choose another --port, or --port 0 for a free one.",
            ) from error
        config = uvicorn.Config(
            app,
            log_level="warning",
            access_log=False,
            lifespan="off",
            ws="none",
            timeout_graceful_shutdown=STOP_TIMEOUT_S,
        )
        self._scheme = "https" if certificate else "http"
        self._server = _Server(config, certificate)
        self._thread = threading.Thread(
            target=self._server.run, kwargs={"sockets": [self._socket]}, name="api", daemon=True
        )

    @property
    def url(self) -> str:
        """Such as ``http://127.0.0.1:8008``."""
        return f"{self._scheme}://{TcpAddress(*self._socket.getsockname()[:2]).name}"

    def start(self) -> None:
        """Answer requests from now on.

        Raises:
            UnavailableError: it did not start in time.
        """
        self._thread.start()
        deadline = time.monotonic() + START_TIMEOUT_S
        while not self._server.started:
            if time.monotonic() > deadline or not self._thread.is_alive():
                raise UnavailableError("the API did not start", "Look at the log lines above.")
            time.sleep(POLL_S)

    def stop(self) -> None:
        """Finish the requests under way, at most ``STOP_TIMEOUT_S`` seconds, then close; harmless twice."""
        self._server.should_exit = True
        if self._thread.is_alive():
            self._thread.join(2 * STOP_TIMEOUT_S)
        self._socket.close()

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()
