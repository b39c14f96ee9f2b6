"""``edgewright serve``: API, page, ingest, reconciler and drift watch in one process; fleet_service.py runs them."""

import logging
import os
from dataclasses import replace
from pathlib import Path
from typing import Annotated

import typer

from cloud.drift.attempts import AttemptLimits
from cloud.fleet.retention import RetentionLimits
from cloud.settings import Settings

DEFAULT_PORT = 8008
DEFAULT_ATTEMPTS = AttemptLimits()


def serve(
    host: Annotated[
        str, typer.Option(help="Address to listen on. Beyond loopback only with a token, and with TLS or a proxy.")
    ] = "127.0.0.1",
    port: Annotated[int, typer.Option(min=0, max=65_535, help="0 takes a free one.")] = DEFAULT_PORT,
    token_file: Annotated[
        str,
        typer.Option(
            help="File (mode 600) with the token that every request must carry. "
            "Default: EDGEWRIGHT_API_TOKEN_FILE, or the token itself in EDGEWRIGHT_API_TOKEN."
        ),
    ] = "",
    certificate_file: Annotated[
        Path | None, typer.Option(help="Certificate chain (PEM) for TLS; renewed files are used without a restart.")
    ] = None,
    key_file: Annotated[Path | None, typer.Option(help="Its private key (PEM, unencrypted, mode 600).")] = None,
    behind_tls_proxy: Annotated[
        bool,
        typer.Option("--behind-tls-proxy", help="Plain HTTP beyond loopback: a proxy of yours ends TLS before it."),
    ] = False,
    retrain_attempts: Annotated[
        int, typer.Option(min=1, max=100, help="How often one model version is retrained, if it fails.")
    ] = DEFAULT_ATTEMPTS.attempts_max,
    retrain_pause_s: Annotated[
        float, typer.Option(min=0, help="From a first failed retraining to the next; then four times as long each.")
    ] = DEFAULT_ATTEMPTS.pause_s,
) -> None:
    """Serve the fleet status API and its page, take telemetry in, watch for drift. Ctrl-C ends it cleanly.

    Everything it knows lies in EDGEWRIGHT_DATABASE_URL (sqlite:///edgewright.db); one process for each database: a second
    is refused. Old history goes after EDGEWRIGHT_RETENTION_WINDOW_DAYS (30) and others: see edgewright fleet store.

    Without a token it is open to everybody on this machine, and listens on loopback alone. With one, clients send it as
    Authorization: Bearer <token>; a browser asks for a name and a password: any name, and the token. GET /healthz says
    ok or degraded to everybody.

    For example:

      edgewright serve

      EDGEWRIGHT_DATABASE_URL=sqlite:////var/lib/edgewright/fleet.db edgewright serve --port 0

      edgewright serve --host 0.0.0.0 --token-file fleet.token --certificate-file fleet.pem --key-file fleet.key

      EDGEWRIGHT_API_TOKEN_FILE=fleet.token edgewright serve --host 10.0.0.7 --behind-tls-proxy
    """
    logging.basicConfig(level=logging.WARNING, format="%(asctime)s %(levelname)s %(message)s")
    from cloud.api.door import Door  # noqa: PLC0415 - as the next
    from cloud.api.exposure import TcpAddress  # noqa: PLC0415 - as the next
    from cloud.cli.fleet_service import serve_fleet  # noqa: PLC0415 - see there

    settings = Settings.from_environment()
    attempts = replace(DEFAULT_ATTEMPTS, attempts_max=retrain_attempts, pause_s=retrain_pause_s)
    key_files = certificate_file, key_file
    door = Door.settled(settings, TcpAddress(host, port), token_file, key_files, behind_tls_proxy=behind_tls_proxy)
    serve_fleet(settings, attempts, door, RetentionLimits.from_environment(os.environ))
