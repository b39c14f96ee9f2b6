"""What ``edgewright serve`` runs, apart from its command: FastAPI alone costs every other command half of its start."""

import signal
import threading

import typer

from cloud.api.app import create_app, utc_now
from cloud.api.door import Door
from cloud.api.server import ApiServer
from cloud.aws.control_plane import GreengrassControlPlane
from cloud.aws.events import EventBus
from cloud.aws.publications import S3Baselines, S3Publications
from cloud.aws.reports import S3Reports
from cloud.aws.s3 import ObjectStore
from cloud.aws.session import AwsSession
from cloud.aws.sqs import SqsQueue
from cloud.aws.state_machines import RetrainingExecutions
from cloud.cli.output import progress_console
from cloud.drift.attempts import AttemptLimits
from cloud.drift.ports import WatchPorts
from cloud.drift.watch import DriftWatch, WatchLimits
from cloud.fleet.consumer import Consumer
from cloud.fleet.database import Database
from cloud.fleet.history import SqliteHistory
from cloud.fleet.ledger import Ledger
from cloud.fleet.pruning import Pruning, disk_trouble
from cloud.fleet.reconcile import Reconciler
from cloud.fleet.retention import RetentionLimits
from cloud.fleet.service import Loop, Service
from cloud.fleet.store import SqliteFactSink
from cloud.settings import Settings


def serve_fleet(settings: Settings, attempts: AttemptLimits, door: Door, retention: RetentionLimits) -> None:
    """Until Ctrl-C or SIGTERM; raises what opening the database or the address does."""
    database = Database.from_url(settings.database_url)
    try:
        session = AwsSession(settings.region)
        with database.alone():
            loops = loops_of(settings, database, session, attempts)
            loops["retention"] = Pruning(SqliteHistory(database), utc_now, retention)
            _serve(database, loops, door, session, retention)
    finally:
        database.close()


def _serve(
    database: Database, loops: dict[str, Loop], door: Door, session: AwsSession, retention: RetentionLimits
) -> None:
    stop = _stopped_by_signals()
    service = Service(loops)

    def states() -> list[dict[str, str]]:
        beside = {"clock": session.clock_trouble(), "disk": disk_trouble(database.folder)}
        troubles = [{"name": name, "trouble": trouble} for name, trouble in beside.items()]
        return [*service.states(), *troubles, *door.states(utc_now())]

    app = create_app(database, utc_now, states, door.token, retention)
    with ApiServer(app, door.address.host, door.address.port, door.certificate) as server:
        service.start()
        try:
            typer.echo(server.url)
            progress_console.print("Ctrl-C ends it.", highlight=False)
            while not stop.wait(1.0):
                pass  # a wait without a limit would not see the signal on every platform
        finally:
            service.stop()


def loops_of(settings: Settings, database: Database, session: AwsSession, attempts: AttemptLimits) -> dict[str, Loop]:
    """Everything that works over AWS, or the local cloud, beside the API."""
    store = ObjectStore(session)
    publications = S3Publications(store, settings.bucket)
    ports = WatchPorts(
        baselines=S3Baselines(store, settings.bucket),
        incidents=EventBus(session, settings.event_bus),
        reports=S3Reports(store, settings.bucket),
        executions=RetrainingExecutions(session, settings.state_machine),
    )
    return {
        "ingest": Consumer(SqsQueue(session, settings.ingest_queue), SqliteFactSink(database)),
        "reconcile": Reconciler(GreengrassControlPlane(session), publications, Ledger(database), utc_now),
        "drift": DriftWatch(database, ports, utc_now, WatchLimits(attempts=attempts)),
    }


def _stopped_by_signals() -> threading.Event:
    stop = threading.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda *_: stop.set())
    return stop
