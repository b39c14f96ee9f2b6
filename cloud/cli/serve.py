"""``edgewright serve``: API, page, ingest, reconciler and drift watch in one process; fleet_service.py runs them."""

import logging
from dataclasses import replace
from typing import Annotated

import typer

from cloud.drift.attempts import AttemptLimits
from cloud.settings import Settings

DEFAULT_PORT = 8008
DEFAULT_ATTEMPTS = AttemptLimits()


def serve(
    host: Annotated[str, typer.Option(help="Address to listen on. There is no access control yet.")] = "127.0.0.1",
    port: Annotated[int, typer.Option(min=0, max=65_535, help="0 takes a free one.")] = DEFAULT_PORT,
    retrain_attempts: Annotated[
        int, typer.Option(min=1, max=100, help="How often one model version is retrained, if it fails.")
    ] = DEFAULT_ATTEMPTS.attempts_max,
    retrain_pause_s: Annotated[
        float, typer.Option(min=0, help="From a first failed retraining to the next; then four times as long each.")
    ] = DEFAULT_ATTEMPTS.pause_s,
) -> None:
    """Serve the fleet status API and its page, take telemetry in, watch for drift. Ctrl-C ends it cleanly.

    Everything it knows lies in EDGEWRIGHT_DATABASE_URL (sqlite:///edgewright.db); one process for each database.

    For example:

      edgewright serve

      EDGEWRIGHT_DATABASE_URL=sqlite:////var/lib/edgewright/fleet.db edgewright serve --port 0
    """
    logging.basicConfig(level=logging.WARNING, format="%(asctime)s %(levelname)s %(message)s")
    from cloud.cli.fleet_service import serve_fleet  # noqa: PLC0415 - see there

    attempts = replace(DEFAULT_ATTEMPTS, attempts_max=retrain_attempts, pause_s=retrain_pause_s)
    serve_fleet(Settings.from_environment(), attempts, host, port)
