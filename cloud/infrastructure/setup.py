"""Make everything that the loop needs, or bring it up to date; running it again changes nothing.

The order is that of need: bucket, role, key, queues, the IoT rule that fills them, the EventBridge rule that adds
deployment statuses; and for a model its sources in S3, its state machine and the rule that starts it. Whatever fails,
running the same again completes it.
"""

import hashlib
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any, TypeVar

from cloud.aws.events import DRIFT_DETAIL_TYPE, DRIFT_SOURCE, EventBus
from cloud.aws.roles import Roles
from cloud.aws.s3 import ObjectStore
from cloud.aws.session import AwsSession
from cloud.aws.sqs import SqsQueue
from cloud.aws.state_machines import StateMachines
from cloud.aws.topic_rules import TopicRules
from cloud.errors import DeniedError, InvalidInputError
from cloud.fleet.ingest import DEPLOYMENT_DETAIL_TYPE, DEPLOYMENT_SOURCE
from cloud.infrastructure.policies import Place, queue_policy, role_policy, trust_policy
from cloud.infrastructure.retrain import Retraining, definition
from cloud.names import retraining_machine
from cloud.publishing.keys import KMS_PREFIX, create_key, signer_for
from cloud.s3_uri import S3Uri
from cloud.settings import Settings
from cloud.training.specification import Specification

AWS_BUS = "default"
"""AWS's own services send their events to this bus only."""

STATUS_RULE = "edgewright-deployment-status"
DRIFT_RULE = "edgewright-drift-{}"
Report = Callable[[str], None]
Made = TypeVar("Made")
ROLE_PAUSES_S = (2.0, 4.0, 8.0, 16.0)


@dataclass(frozen=True, slots=True)
class ModelWish:
    """A model that shall be retrained when it drifts.

    Attributes:
        specification: ``model.toml``.
        data_uri: S3 prefix with its training data; empty for ``s3://<bucket>/data/<model>/``.
        hyperparameters: override the specification's when retraining.
    """

    specification: Specification
    data_uri: str = ""
    hyperparameters: Mapping[str, str] | None = None

    def check(self) -> None:
        """What a retraining would stumble over, months from now.

        Raises:
            InvalidInputError: the data are not in S3, or a hyperparameter is none of the model's.
        """
        self.specification.check_hyperparameters(self.hyperparameters or {})
        if self.data_uri:
            S3Uri.parse(self.data_uri)


class Setup:
    """One installation, as its settings name it."""

    def __init__(
        self,
        settings: Settings,
        session: AwsSession,
        report: Report = lambda _: None,
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        """Nothing is contacted yet; ``report`` hears each step.

        Raises:
            InvalidInputError: settings that cannot be.
        """
        self._settings = settings = replace(settings, region=session.region)
        self._place = Place.of(settings)
        self._session = session
        self._report = report
        self._sleep = sleep
        self._is_role_new = False

    def run(self) -> dict[str, str]:
        """The part that every installation has; returns what exists now.

        Raises:
            InvalidInputError: the role is to be in another account than these credentials are of.
        """
        settings = self._settings
        self._check_account()
        self._report(f"bucket {settings.bucket}")
        store = ObjectStore(self._session)
        store.ensure_bucket(settings.bucket, settings.region, self._place.account, settings.bucket_owner)
        self._report(f"role {self._place.role_name}")
        roles = Roles(self._session)
        self._is_role_new = roles.ensure(settings.role_arn, trust_policy(self._place), role_policy(self._place))
        made = {"bucket": settings.bucket, "role": settings.role_arn, "signing_key": self._ensure_key()}
        return made | self._ensure_ingest()

    def run_model(self, wish: ModelWish) -> dict[str, str]:
        """What one model needs beyond that, so that drift retrains it; returns what exists now.

        Raises:
            InvalidInputError: the signing key is a file, which no job could read; or as the wish's own.
        """
        wish.check()
        settings, specification = self._settings, wish.specification
        if not settings.signing_key.startswith(KMS_PREFIX):
            raise InvalidInputError(
                f"EDGEWRIGHT_SIGNING_KEY is {settings.signing_key!r}: a retraining job cannot read a file of yours",
                "Use a key in KMS: kms:alias/<name>; edgewright keys create --alias <name> makes one.",
            )
        model = specification.model_name
        self._report(f"sources of {model}")
        retraining = Retraining(
            specification=specification,
            code_uri=f"{self._upload_sources(specification)}/",
            data_uri=wish.data_uri or f"s3://{settings.bucket}/data/{model}/",
            hyperparameters=dict(wish.hyperparameters or {}),
        )
        name = retraining_machine(settings.state_machine, model)
        self._report(f"state machine {name}")
        machines = StateMachines(self._session)
        machine_arn = self._once_role_is_known(
            lambda: machines.ensure(name, definition(retraining, settings), settings.role_arn)
        )
        pattern = {"source": [DRIFT_SOURCE], "detail-type": [DRIFT_DETAIL_TYPE], "detail": {"model_name": [model]}}
        target = {"Id": "retrain", "Arn": machine_arn, "RoleArn": settings.role_arn}
        bus = EventBus(self._session, settings.event_bus)
        self._once_role_is_known(lambda: bus.ensure_rule(DRIFT_RULE.format(model), pattern, target))
        return {
            "model": model,
            "state_machine_arn": machine_arn,
            "drift_rule": DRIFT_RULE.format(model),
            "code_uri": retraining.code_uri,
            "data_uri": retraining.data_uri,
        }

    def _check_account(self) -> None:
        account = self._session.account()
        if account != self._place.account:
            raise InvalidInputError(
                f"EDGEWRIGHT_ROLE_ARN is {self._settings.role_arn}, and these credentials are of account {account}",
                f"Set EDGEWRIGHT_ROLE_ARN=arn:{self._place.partition}:iam::{account}:role/{self._place.role_name}.",
            )

    def _once_role_is_known(self, make: Callable[[], Made]) -> Made:
        """A role that was just made takes IAM some seconds to be known everywhere; until then services refuse it."""
        for pause_s in ROLE_PAUSES_S if self._is_role_new else ():
            try:
                return make()
            except (DeniedError, InvalidInputError):
                self._report("waiting until the new role is known everywhere")
                self._sleep(pause_s)
        return make()

    def _ensure_key(self) -> str:
        key = self._settings.signing_key
        if not key.startswith(KMS_PREFIX):
            return key
        self._report(f"signing key {key}")
        if key.startswith(f"{KMS_PREFIX}alias/"):
            return create_key(key, self._session).name
        signer_for(key, self._session).public_key_pem()  # made by somebody else: it is there, and of the right kind
        return key

    def _ensure_ingest(self) -> dict[str, str]:
        settings = self._settings
        self._report(f"queue {settings.ingest_queue} and its dead-letter queue")
        queue = SqsQueue(self._session, settings.ingest_queue)
        queue_arn = queue.ensure(queue_policy(self._place))
        self._report(f"IoT rule {settings.ingest_rule}")
        TopicRules(self._session).ensure_ingest(settings.ingest_rule, queue.url, queue.dead_url, settings.role_arn)
        self._report(f"EventBridge rule {STATUS_RULE}")
        pattern: dict[str, Any] = {"source": [DEPLOYMENT_SOURCE], "detail-type": [DEPLOYMENT_DETAIL_TYPE]}
        EventBus(self._session, AWS_BUS).ensure_rule(STATUS_RULE, pattern, {"Id": "ingest", "Arn": queue_arn})
        return {
            "ingest_queue": queue.url,
            "dead_letter_queue": queue.dead_url,
            "ingest_rule": settings.ingest_rule,
            "status_rule": STATUS_RULE,
        }

    def _upload_sources(self, specification: Specification) -> S3Uri:
        """Under the digest of what they are: a machine's code never changes under it."""
        digest = hashlib.sha256(b"\0".join(_sources(specification))).hexdigest()[:16]
        prefix = S3Uri(self._settings.bucket, f"code/{specification.model_name}/{digest}")
        store = ObjectStore(self._session)
        for source in specification.job_files:
            store.put_file(prefix / source, specification.folder / source)
        return prefix


def _sources(specification: Specification) -> Iterator[bytes]:
    for source in sorted(specification.job_files):
        yield source.encode()
        yield (specification.folder / source).read_bytes()
