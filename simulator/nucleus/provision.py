"""Makes a core device known to AWS IoT: thing, groups, certificate, role alias. Once; running it again completes it.

It goes through boto3 and whatever ``AWS_ENDPOINT_URL`` names, so the same calls would register a device at AWS. The
certificate comes from the local broker's authority where the broker enforces one, and from AWS IoT otherwise.
"""

import logging
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import boto3
from botocore.exceptions import BotoCoreError, ClientError

from simulator.mqtt import BrokerAddress, Credentials, credentials_for
from simulator.nucleus.data_plane import ROLE_ALIAS
from simulator.nucleus.errors import ProvisioningError

DEVICE_ROLE_ARN = "arn:aws:iam::123456789012:role/EdgewrightCoreDevice"
EXISTS = frozenset({"ResourceAlreadyExistsException", "ResourceConflictException"})

logger = logging.getLogger(__name__)


def provision(
    thing_name: str, groups: Sequence[str], broker: BrokerAddress, root: Path, region: str = "us-east-1"
) -> Credentials | None:
    """Register a device and return the credentials for its broker (``None`` on a broker without identities).

    Raises:
        ProvisioningError: AWS IoT did not answer, or refused.
    """
    credentials = credentials_for(broker, thing_name)
    with _wrapped(f"provisioning {thing_name}"):
        iot = boto3.session.Session(region_name=region).client("iot")
        if not _is_known(iot, thing_name):  # moto makes a thing anew, without its shadows, where AWS leaves it as it is
            iot.create_thing(thingName=thing_name)
        for group in groups:
            _unless_exists(iot.create_thing_group, thingGroupName=group)
            iot.add_thing_to_thing_group(thingName=thing_name, thingGroupName=group)
        _unless_exists(iot.create_role_alias, roleAlias=ROLE_ALIAS, roleArn=DEVICE_ROLE_ARN)
        if not iot.list_thing_principals(thingName=thing_name)["principals"]:
            iot.attach_thing_principal(thingName=thing_name, principal=_certificate(iot, credentials, root))
    return credentials


def _is_known(iot: Any, thing_name: str) -> bool:  # noqa: ANN401 - a boto3 client
    try:
        iot.describe_thing(thingName=thing_name)
    except iot.exceptions.ResourceNotFoundException:
        return False
    return True


def _certificate(iot: Any, credentials: Credentials | None, root: Path) -> str:  # noqa: ANN401 - a boto3 client
    if credentials is not None:
        pem = credentials.certificate.read_text()
        return str(iot.register_certificate_without_ca(certificatePem=pem, status="ACTIVE")["certificateArn"])
    made = iot.create_keys_and_certificate(setAsActive=True)
    root.mkdir(parents=True, exist_ok=True)
    key_file = root / "privKey.key"
    key_file.touch(mode=0o600)
    key_file.write_text(made["keyPair"]["PrivateKey"])
    (root / "thingCert.crt").write_text(made["certificatePem"])
    return str(made["certificateArn"])


def _unless_exists(create: Any, **arguments: str) -> None:  # noqa: ANN401 - a boto3 method
    try:
        create(**arguments)
    except ClientError as error:
        if error.response["Error"]["Code"] not in EXISTS:
            raise


@contextmanager
def _wrapped(what: str) -> Iterator[None]:
    try:
        yield
    except ClientError as error:
        raise ProvisioningError(
            f"{what}: {error}", "Check the names and the permissions, then run it again."
        ) from error
    except BotoCoreError as error:
        raise ProvisioningError(
            f"{what}: {error}", "Set AWS_ENDPOINT_URL and credentials, then run it again."
        ) from error
