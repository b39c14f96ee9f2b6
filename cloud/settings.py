"""Where the cloud side works: region, bucket, role, key, names. Read once from the environment, passed on as a value.

The same settings serve AWS and the local cloud: only ``AWS_ENDPOINT_URL`` and the credentials differ, and those boto3
reads itself.
"""

import os
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Self

from cloud.errors import InvalidInputError
from edge_component.contracts.topics import DEFAULT_RULE


@dataclass(frozen=True, slots=True)
class Settings:
    """Every name and limit that an installation chooses.

    Attributes:
        region: AWS region; empty: as AWS's own configuration (the profile) says.
        bucket: S3 bucket for training data, artifacts and reports.
        bucket_owner: account that the bucket belongs to; empty: these credentials'.
        role_arn: role that SageMaker jobs and the state machine assume.
        signing_key: ``kms:<key id, alias/name or ARN>`` or the path of a P-256 private key in PEM.
        ingest_rule: IoT topic rule that devices publish to.
        ingest_queue: name of the SQS queue the rule fills; its dead-letter queue is ``<name>-dead``.
        event_bus: EventBridge bus for drift events.
        state_machine: name of the retraining state machine.
        database_url: fleet store; ``sqlite:///<path>``.
        api_url: where the command line finds the fleet status API.
        api_token: what the API asks for, and the command line sends; ``api_token_file``: the file that holds it.
        api_ca_file: certificates (PEM) that the command line trusts the API by; empty: the usual ones.
        job_image: container image of training and processing jobs (on the local cloud: a label only).
    """

    region: str = ""
    bucket: str = "edgewright"
    bucket_owner: str = ""
    role_arn: str = "arn:aws:iam::123456789012:role/edgewright"
    signing_key: str = "kms:alias/edgewright"
    ingest_rule: str = DEFAULT_RULE
    ingest_queue: str = "edgewright-ingest"
    event_bus: str = "default"
    state_machine: str = "edgewright-retrain"
    database_url: str = "sqlite:///edgewright.db"
    api_url: str = "http://127.0.0.1:8008"
    api_token: str = field(default="", repr=False)
    api_token_file: str = ""
    api_ca_file: str = ""
    job_image: str = "edgewright-jobs:latest"

    @classmethod
    def from_environment(cls, environment: Mapping[str, str] | None = None) -> Self:
        """Read ``EDGEWRIGHT_<FIELD>``; the region comes from ``AWS_REGION`` or ``AWS_DEFAULT_REGION``.

        Raises:
            InvalidInputError: naming the variable.
        """
        source = os.environ if environment is None else environment
        chosen = {
            name: source[variable] for name in cls.__slots__ if (variable := f"EDGEWRIGHT_{name.upper()}") in source
        }
        region = source.get("AWS_REGION") or source.get("AWS_DEFAULT_REGION")
        if region:
            chosen.setdefault("region", region)
        for name, value in chosen.items():
            if not value:
                raise InvalidInputError(
                    f"EDGEWRIGHT_{name.upper()} is set but empty", "Unset it to use the default, or give it a value."
                )
        _check_owner(chosen.get("bucket_owner"))
        return cls(**chosen)


def _check_owner(account: str | None) -> None:
    if account is not None and not re.fullmatch(r"\d{12}", account):
        raise InvalidInputError(f"EDGEWRIGHT_BUCKET_OWNER is {account!r}", "Write the account's twelve digits.")


def checkout_root() -> Path:
    """The folder that holds ``cloud/``, ``edge_component/``, ``recipes/`` and ``models/``."""
    return Path(__file__).resolve().parent.parent
