"""Setup on the local cloud: each thing is asked after through its own API, twice gives the same, and telemetry flows."""

import base64
import json
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from cloud.aws.events import EventBus
from cloud.aws.s3 import ObjectStore
from cloud.aws.session import AwsSession
from cloud.aws.sqs import SqsQueue
from cloud.aws.state_machines import StateMachines
from cloud.errors import ConflictError, DeniedError, InvalidInputError, NotFoundError, UnavailableError
from cloud.fleet.consumer import Consumer
from cloud.fleet.facts import ActivationFact, DeploymentStatusFact, HeartbeatFact, WindowFact
from cloud.fleet.store import MemoryFactSink
from cloud.infrastructure.policies import Place, role_policy, trust_policy
from cloud.infrastructure.retrain import Retraining, definition
from cloud.infrastructure.setup import ModelWish, Setup
from cloud.jobs.processing import Machine
from cloud.s3_uri import S3Uri
from cloud.settings import Settings, checkout_root
from cloud.training.specification import Specification
from edge_component.contracts.envelope import Envelope
from simulator.aws.event import Event
from simulator.aws.server import LocalCloud
from tests.cloud.fleet.samples import T0, activation_fact, heartbeat, window_fact
from tests.cloud.fleet.test_ingest import DEPLOYMENT
from tests.cloud.publishing.test_cli import run

WEATHER = checkout_root() / "models" / "weather"


@pytest.fixture
def made(session: AwsSession, settings: Settings) -> dict[str, str]:
    return Setup(settings, session).run()


def test_everything_exists_and_again_is_the_same(session: AwsSession, settings: Settings, made: dict[str, str]) -> None:
    steps: list[str] = []
    again = Setup(settings, session, steps.append).run()
    assert again == made
    assert len(steps) == 6
    role = session.client("iam").get_role(RoleName="edgewright")["Role"]
    assert "states.amazonaws.com" in json.dumps(role["AssumeRolePolicyDocument"])
    rule = session.client("iot").get_topic_rule(ruleName=settings.ingest_rule)["rule"]
    assert rule["actions"][0]["sqs"]["queueUrl"] == made["ingest_queue"]
    targets = session.client("events").list_targets_by_rule(Rule="edgewright-deployment-status")["Targets"]
    assert len(targets) == 1
    attributes = session.client("sqs").get_queue_attributes(QueueUrl=made["ingest_queue"], AttributeNames=["All"])
    assert json.loads(attributes["Attributes"]["RedrivePolicy"])["deadLetterTargetArn"].endswith("-dead")


def test_what_devices_and_greengrass_say_arrives_as_facts_and_rubbish_is_parked(
    session: AwsSession, settings: Settings, made: dict[str, str], local_cloud: LocalCloud
) -> None:
    publish = session.client("iot-data").publish
    bodies: dict[str, Any] = {
        "heartbeat": heartbeat().to_document(),
        "window": window_fact(1).window.to_document(),
        "activation": activation_fact(1).event.to_document(),
    }
    for sequence, (kind, body) in enumerate(bodies.items(), start=1):
        payload = Envelope(kind, "EWR", "e1", sequence, T0, body).to_bytes()
        publish(topic=f"edgewright/v1/EWR/{kind}", qos=1, payload=payload)
    publish(topic="edgewright/v1/JFK/heartbeat", qos=1, payload=Envelope(
        "heartbeat", "EWR", "e1", 9, T0, bodies["heartbeat"]).to_bytes())  # fmt: skip
    publish(topic="edgewright/v1/JFK/heartbeat", qos=1, payload=b"rubbish")
    event = Event("aws.greengrass", DEPLOYMENT["detail-type"], DEPLOYMENT["detail"], tuple(DEPLOYMENT["resources"]))
    local_cloud.cloud.events.emit(event)  # PutEvents takes no event in AWS's name
    queue, sink = SqsQueue(session, settings.ingest_queue), MemoryFactSink()
    consumer, deadline = Consumer(queue, sink), time.monotonic() + 20
    while len(sink.stored) + sink.rejected.total() < 6 and time.monotonic() < deadline:
        consumer.drain_once()
    found = {type(fact) for fact in sink.stored.values()}
    assert found == {HeartbeatFact, WindowFact, ActivationFact, DeploymentStatusFact}
    assert sink.rejected == {"identity": 1, "malformed": 1}
    dead = SqsQueue(session, f"{settings.ingest_queue}-dead")
    assert len(dead.receive(0)) == 2
    assert queue.receive(0) == []


def test_a_model_gets_its_machine_and_its_rule(session: AwsSession, settings: Settings, made: dict[str, str]) -> None:
    wish = ModelWish(Specification.load(WEATHER), "s3://edgewright/lake/", {"gain_log_loss": "0.01"})
    model = Setup(settings, session).run_model(wish)
    assert Setup(settings, session).run_model(wish) == model
    machine = session.client("stepfunctions").describe_state_machine(stateMachineArn=model["state_machine_arn"])
    train = json.loads(machine["definition"])["States"]["Train"]["Parameters"]
    assert train["HyperParameters"]["gain_log_loss"] == "0.01"
    assert train["TrainingJobName.$"] == "States.Format('{}-train', $.detail.incident_id)"
    sources = {uri.key.rpartition("/")[2] for uri in ObjectStore(session).list(S3Uri.parse(model["code_uri"]))}
    assert sources == {*wish.specification.sources, "model.toml"}
    (target,) = session.client("events").list_targets_by_rule(Rule=model["drift_rule"])["Targets"]
    assert target["Arn"] == model["state_machine_arn"]


def test_a_machines_requests_are_the_command_lines_own() -> None:
    specification = Specification.load(WEATHER)
    machine = definition(Retraining(specification, "s3://b/code/", "s3://b/data/", {}), Settings())
    states = machine["States"]
    assert [states[name]["Resource"] for name in ("Train", "Compile", "Publish")] == [
        "arn:aws:states:::sagemaker:createTrainingJob.sync",
        "arn:aws:states:::sagemaker:createProcessingJob.sync",
        "arn:aws:states:::sagemaker:createProcessingJob.sync",
    ]
    channels = {one["ChannelName"]: one["DataSource"]["S3DataSource"] for one in
                states["Train"]["Parameters"]["InputDataConfig"]}  # fmt: skip
    assert channels["incumbent"]["S3Uri.$"] == (
        "States.Format('s3://edgewright/incumbents/weather/{}/', $.detail.model_version)"
    )
    assert channels["training"]["S3Uri"] == "s3://b/data/"
    assert machine["TimeoutSeconds"] == 900 + 900 + 900 + 3600
    json.dumps(machine)


def test_a_machine_gives_each_job_the_size_and_the_time_of_the_model() -> None:
    specification = replace(
        Specification.load(WEATHER),
        training=Machine("ml.p3.2xlarge", 100, 6 * 3600),
        compilation=Machine("ml.m5.4xlarge", 50, 2 * 3600),
        publication=Machine("ml.m5.xlarge", 60, 1800),
    )
    machine = definition(Retraining(specification, "s3://b/code/", "s3://b/data/", {}), Settings())
    assert machine["TimeoutSeconds"] > 6 * 3600 + 2 * 3600 + 1800
    for name, size in (("Compile", ("ml.m5.4xlarge", 50, 7200)), ("Publish", ("ml.m5.xlarge", 60, 1800))):
        asked = machine["States"][name]["Parameters"]
        cluster = asked["ProcessingResources"]["ClusterConfig"]
        found = cluster["InstanceType"], cluster["VolumeSizeInGB"], asked["StoppingCondition"]["MaxRuntimeInSeconds"]
        assert found == size, name


def test_settings_that_cannot_be_are_named(session: AwsSession, settings: Settings, tmp_path: Path) -> None:
    with pytest.raises(InvalidInputError, match="EDGEWRIGHT_ROLE_ARN"):
        Setup(replace(settings, role_arn="me"), session)
    wish = ModelWish(Specification.load(WEATHER))
    with pytest.raises(InvalidInputError, match="EDGEWRIGHT_SIGNING_KEY"):
        Setup(replace(settings, signing_key=str(tmp_path / "key.pem")), session).run_model(wish)


def test_an_announcement_that_eventbridge_refuses_is_a_failure(
    session: AwsSession, monkeypatch: pytest.MonkeyPatch
) -> None:
    from cloud.drift.incidents import Incident

    bus = EventBus(session, "default")
    refused = {"FailedEntryCount": 1, "Entries": [{"ErrorMessage": "throttled"}]}
    monkeypatch.setattr(bus, "_client", type("Client", (), {"put_events": lambda self, **_: refused})())
    with pytest.raises(UnavailableError, match="throttled"):
        bus.announce(Incident("drift-1", "weather", "1.0.0", {}))


def test_the_machine_asks_no_job_for_what_it_may_lack() -> None:
    """A training script that prints no metric leaves no FinalMetricDataList, and a path that leads nowhere ends a machine."""
    machine = definition(Retraining(Specification.load(WEATHER), "s3://b/code/", "s3://b/data/", {}), HERE)
    asked = [path for state in machine["States"].values() for path in state["ResultSelector"].values()]
    assert set(asked) == {
        "$.ModelArtifacts.S3ModelArtifacts", "$.TrainingJobArn", "$.ProcessingOutputConfig.Outputs[0].S3Output.S3Uri"
    }  # fmt: skip


def test_a_queue_that_is_not_there_is_named(session: AwsSession) -> None:
    with pytest.raises(NotFoundError, match="nowhere"):
        SqsQueue(session, "nowhere").receive(0)


HERE = Settings(region="us-east-1")
WITHOUT_RESOURCES = {"ecr:GetAuthorizationToken", "cloudwatch:PutMetricData"}
"""Actions that IAM lets nobody tie to a resource."""


def test_the_role_may_do_nothing_to_everything() -> None:
    image = "123456789012.dkr.ecr.eu-west-1.amazonaws.com/edgewright/jobs:latest"
    policy = role_policy(Place.of(replace(HERE, job_image=image)))
    for statement in policy["Statement"]:
        assert "*" not in statement["Resource"] or set(statement["Action"]) <= WITHOUT_RESOURCES
        assert not any(action.endswith("*") for action in statement["Action"])


@pytest.mark.parametrize(
    ("image", "repository"),
    [
        ("edgewright-jobs:latest", None),
        ("public.ecr.aws/edgewright/jobs:1", None),
        ("123456789012.dkr.ecr.eu-west-1.amazonaws.com/jobs", "arn:aws:ecr:eu-west-1:123456789012:repository/jobs"),
        (
            "1" * 12 + ".dkr.ecr.eu-west-1.amazonaws.com/a/b@sha256:0",
            f"arn:aws:ecr:eu-west-1:{'1' * 12}:repository/a/b",
        ),
        ("1" * 12 + ".dkr.ecr.cn-north-1.amazonaws.com.cn/a:1", f"arn:aws-cn:ecr:cn-north-1:{'1' * 12}:repository/a"),
    ],
)
def test_jobs_may_pull_their_image_and_no_other(image: str, repository: str | None) -> None:
    statements = role_policy(Place.of(replace(HERE, job_image=image)))["Statement"]
    pulled = [one["Resource"] for one in statements if "ecr:BatchGetImage" in one["Action"]]
    assert pulled == ([[repository]] if repository else [])
    assert any("ecr:GetAuthorizationToken" in one["Action"] for one in statements) == bool(repository)


def test_a_role_in_another_account_is_refused_before_anything_is_made(session: AwsSession, settings: Settings) -> None:
    steps: list[str] = []
    foreign = replace(settings, role_arn="arn:aws:iam::999999999999:role/edgewright", bucket="never-made")
    with pytest.raises(InvalidInputError, match="account 123456789012") as caught:
        Setup(foreign, session, steps.append).run()
    assert "EDGEWRIGHT_ROLE_ARN=arn:aws:iam::123456789012:role/edgewright" in caught.value.remedy
    assert steps == []


def test_a_role_that_was_just_made_is_waited_for(
    session: AwsSession, settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    refusals, paused = [DeniedError("not authorized to assume"), InvalidInputError("cannot be assumed")], list[float]()
    truly = StateMachines.ensure

    def ensure(self: StateMachines, *arguments: Any) -> str:
        if refusals:
            raise refusals.pop()
        return truly(self, *arguments)

    monkeypatch.setattr(StateMachines, "ensure", ensure)
    fresh = replace(settings, role_arn="arn:aws:iam::123456789012:role/just-made")
    wish = ModelWish(Specification.load(WEATHER))
    made = Setup(fresh, session, sleep=paused.append)
    made.run()
    assert made.run_model(wish)["model"] == "weather"
    assert paused == [2.0, 4.0]
    again = Setup(fresh, session, sleep=paused.append)
    again.run()
    refusals.append(DeniedError("truly"))
    with pytest.raises(DeniedError, match="truly"):
        again.run_model(wish)
    assert len(paused) == 2, "an old role is refused for another reason"


ELSEWHERE = "arn:aws:kms:eu-west-1:999999999999"


@pytest.mark.parametrize(
    ("key", "resource", "condition"),
    [
        ("kms:1234", "arn:aws:kms:us-east-1:123456789012:key/1234", None),
        (f"kms:{ELSEWHERE}:key/1234", f"{ELSEWHERE}:key/1234", None),
        (f"kms:{ELSEWHERE}:alias/models", f"{ELSEWHERE}:key/*", {"StringEquals": {"kms:RequestAlias": "alias/models"}}),
        (f"kms:{ELSEWHERE}:alias/a:b", f"{ELSEWHERE}:key/*", {"StringEquals": {"kms:RequestAlias": "alias/a:b"}}),
        (
            "kms:alias/models",
            "arn:aws:kms:us-east-1:123456789012:key/*",
            {"ForAnyValue:StringEquals": {"kms:ResourceAliases": "alias/models"}},
        ),
    ],
)
def test_jobs_may_sign_with_this_key_and_no_other(key: str, resource: str, condition: object) -> None:
    statements = role_policy(Place.of(replace(HERE, signing_key=key)))["Statement"]
    (signing,) = [one for one in statements if "kms:Sign" in one["Action"]]
    assert (signing["Resource"], signing.get("Condition")) == ([resource], condition)


def test_the_role_is_assumed_for_this_account_alone() -> None:
    """Against the confused deputy: a service that somebody in another account asks to use this role."""
    statements = trust_policy(Place.of(HERE))["Statement"]
    sources = {
        one["Principal"]["Service"]: one["Condition"]["ArnLike"]["aws:SourceArn"]
        for one in statements
        if one["Condition"]["StringEquals"] == {"aws:SourceAccount": "123456789012"}
    }
    assert sources == {
        "sagemaker.amazonaws.com": "arn:aws:sagemaker:us-east-1:123456789012:*",
        "states.amazonaws.com": "arn:aws:states:us-east-1:123456789012:stateMachine:*",
        "events.amazonaws.com": "arn:aws:events:us-east-1:123456789012:rule/*",
        "iot.amazonaws.com": "arn:aws:iot:us-east-1:123456789012:rule/*",
    }
    assert len(statements) == len(sources)


def test_a_message_that_the_rule_cannot_deliver_is_kept_in_the_dead_letter_queue(
    session: AwsSession, settings: Settings
) -> None:
    chosen = replace(settings, ingest_queue="lost", ingest_rule="lost_rule")
    made = Setup(chosen, session).run()
    assert json.dumps(role_policy(Place.of(chosen))).count('"arn:aws:sqs:us-east-1:123456789012:lost-dead"') == 1
    session.client("sqs").delete_queue(QueueUrl=made["ingest_queue"])
    session.client("iot-data").publish(
        topic="$aws/rules/lost_rule/edgewright/v1/EWR/heartbeat", qos=1, payload=b"hello"
    )
    dead, received, deadline = SqsQueue(session, "lost-dead"), list[Any](), time.monotonic() + 20
    while not received and time.monotonic() < deadline:
        received += dead.receive(1)
    report = json.loads(received[0].body)
    assert (report["ruleName"], report["topic"]) == ("lost_rule", "edgewright/v1/EWR/heartbeat")
    assert base64.b64decode(report["base64OriginalPayload"]) == b"hello"


def test_a_key_that_exists_is_looked_at_before_anything_is_built_on_it(session: AwsSession, settings: Settings) -> None:
    with pytest.raises(NotFoundError, match="1234abcd"):
        Setup(replace(settings, signing_key="kms:1234abcd-12ab-34cd-56ef-1234567890ab"), session).run()


def test_a_role_below_a_path_is_made_there(session: AwsSession, settings: Settings) -> None:
    arn = "arn:aws:iam::123456789012:role/plant/edgewright-jobs"
    Setup(replace(settings, role_arn=arn), session).run()
    assert session.client("iam").get_role(RoleName="edgewright-jobs")["Role"]["Arn"] == arn
    moved = replace(settings, role_arn="arn:aws:iam::123456789012:role/edgewright-jobs")
    with pytest.raises(ConflictError, match=arn) as caught:
        Setup(moved, session).run()
    assert "EDGEWRIGHT_ROLE_ARN" in caught.value.remedy


def test_what_a_retraining_would_stumble_over_is_refused_now(session: AwsSession, settings: Settings) -> None:
    done = run("setup", "--model", str(WEATHER), "--data", "observations")
    assert (done.returncode, done.stdout) == (3, "")
    assert "bucket edgewright" not in done.stderr, "nothing was made before that was seen"
    setup = Setup(settings, session)
    specification = Specification.load(WEATHER)
    with pytest.raises(InvalidInputError, match="not an S3 URI"):
        setup.run_model(ModelWish(specification, "observations"))
    with pytest.raises(InvalidInputError, match="'misspelt' is no hyperparameter of weather"):
        setup.run_model(ModelWish(specification, hyperparameters={"misspelt": "1"}))


def test_the_role_of_another_region_s_installation_is_not_taken_away_from_it(
    session: AwsSession, settings: Settings
) -> None:
    """Roles are an account's, installations a region's: what one's setup writes ends the other's telemetry."""
    arn = "arn:aws:iam::123456789012:role/both"
    by_hand = {"Effect": "Allow", "Principal": {"Service": "iot.amazonaws.com"}, "Action": "sts:AssumeRole"}
    document = json.dumps({"Version": "2012-10-17", "Statement": by_hand})
    session.client("iam").create_role(RoleName="both", AssumeRolePolicyDocument=document)
    Setup(replace(settings, role_arn=arn), session).run()
    elsewhere = Setup(replace(settings, role_arn=arn, bucket="edgewright-eu"), AwsSession("eu-west-1"))
    with pytest.raises(ConflictError, match="us-east-1") as caught:
        elsewhere.run()
    assert f"EDGEWRIGHT_ROLE_ARN={arn}-eu-west-1" in caught.value.remedy
    trust = session.client("iam").get_role(RoleName="both")["Role"]["AssumeRolePolicyDocument"]
    assert trust == trust_policy(Place.of(replace(settings, role_arn=arn)))
