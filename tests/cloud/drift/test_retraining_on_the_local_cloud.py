"""A retraining that fails, from the window to the failed SageMaker job and back, over the local cloud's own services."""

import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from cloud.aws.events import EventBus
from cloud.aws.session import AwsSession
from cloud.aws.state_machines import RetrainingExecutions
from cloud.drift.attempts import AttemptLimits
from cloud.drift.watch import DriftWatch, WatchLimits
from cloud.fleet.database import Database
from cloud.infrastructure.setup import ModelWish, Setup
from cloud.settings import Settings, checkout_root
from cloud.training.specification import Specification
from tests.cloud.drift.test_watch import DRIFT, World

WEATHER = checkout_root() / "models" / "weather"
LIMITS = WatchLimits(settle_s=1, follow_every_s=0, attempts=AttemptLimits(attempts_max=2, pause_s=0))
DEADLINE_S = 60.0


@pytest.fixture
def world(tmp_path: Path, session: AwsSession) -> Iterator[World]:
    settings = Settings()
    database = Database(tmp_path / "fleet.db")
    made = World(database)
    bus, executions = EventBus(session, settings.event_bus), RetrainingExecutions(session, settings.state_machine)
    made.ports = replace(made.ports, incidents=bus, executions=executions)
    made.watch = DriftWatch(database, made.ports, lambda: made.now, LIMITS)
    yield made
    database.close()


def wait_for(condition: Callable[[], Any], what: str) -> Any:
    deadline = time.monotonic() + DEADLINE_S
    while not (found := condition()):
        assert time.monotonic() < deadline, f"waited in vain for {what}"
        time.sleep(0.1)
    return found


def states(world: World) -> str:
    world.watch.pass_once()
    return str(world.one("SELECT group_concat(state) FROM incident"))


def drift_on(world: World, turn: int) -> None:
    world.send(turn, shifts=DRIFT)
    world.watch.pass_once()


def test_a_machine_that_is_not_there_has_no_executions(session: AwsSession) -> None:
    executions = RetrainingExecutions(session, "edgewright-retrain")
    assert executions.executions("nobody", datetime(2026, 1, 1, tzinfo=UTC)) == ()


def test_each_attempt_is_a_job_of_its_own_and_its_failure_is_told_in_the_jobs_words(
    world: World, session: AwsSession
) -> None:
    settings = Settings()
    Setup(settings, session).run()
    made = Setup(settings, session).run_model(ModelWish(Specification.load(WEATHER), "s3://edgewright/nothing-here/"))
    for turn in (1, 2, 3):
        drift_on(world, turn)
    wait_for(lambda: states(world) == "failed", "the first attempt to be known to have failed")
    drift_on(world, 4)
    again = world.one("SELECT detail FROM incident WHERE attempt = 2")
    session.client("events").put_events(
        Entries=[{"Source": "edgewright.drift", "DetailType": "Edgewright Drift Detected", "Detail": str(again)}]
    )  # as EventBridge may by itself
    client = session.client("stepfunctions")
    listed = wait_for(lambda: three_ended(client, made["state_machine_arn"]), "three executions to end")
    assert {one["status"] for one in listed} == {"FAILED"}
    wait_for(lambda: states(world) == "failed,failed", "the second attempt to be known to have failed")
    jobs = {one["TrainingJobName"] for one in session.client("sagemaker").list_training_jobs()["TrainingJobSummaries"]}
    ids = str(world.one("SELECT group_concat(incident_id) FROM incident")).split(",")
    assert jobs == {f"{incident_id}-train" for incident_id in ids}, "two attempts, two jobs, for three deliveries"
    with world.database.read() as connection:
        found = connection.execute("SELECT sentence, execution_arn FROM incident ORDER BY attempt").fetchall()
    for number, (sentence, arn) in enumerate(found, start=1):
        assert sentence.startswith(
            f"Retraining of weather 1.0.0 failed (attempt {number} of 2): {ids[number - 1]}-train: "
        )
        assert arn.startswith("arn:aws:states:")
    assert found[1][0].endswith("run edgewright train.")
    world.now += timedelta(days=1)
    drift_on(world, 400)
    assert world.one("SELECT count(*) FROM incident") == 2


def three_ended(client: Any, arn: str) -> Any:
    listed = client.list_executions(stateMachineArn=arn)["executions"]
    return listed if len(listed) == 3 and all(one["status"] != "RUNNING" for one in listed) else None
