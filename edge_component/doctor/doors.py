"""Look at what the TCP doors of a device need: where they are told to listen, and the files of their keys as they are now.

The failure this exists for: a door that stayed shut, or a certificate about to end, of which only a log speaks. The runtime
names its doors' configuration in its lock; the files are looked at anew, so that a repair shows before the next start.
"""

import json
import pwd
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from edge_component.config import RuntimeConfig
from edge_component.doctor.diagnosis import DoorsSeen
from edge_component.errors import DeviceError, DoorKeysError
from edge_component.serving.exposure import KeyFiles, TcpAddress, check_exposure, key_files

OWNER_REMEDY = "chown it to the user whom the component runs as."


def examine_doors(work: Path, lock: Path) -> DoorsSeen | None:
    """What the last start's TCP doors have; ``None`` where it had none, or none is known."""
    config, _ = RuntimeConfig.from_document(_configured(lock))
    if not (config.oip_rest_port or config.oip_grpc_port):
        return None
    try:
        files = key_files(config, work)
        check_exposure("a door", TcpAddress(config.oip_host, 0), has_keys=files is not None)
        return DoorsSeen() if files is None else _with_keys(files, lock)
    except DeviceError as error:
        return DoorsSeen(str(error), error.remedy)


def _with_keys(files: KeyFiles, lock: Path) -> DoorsSeen:
    try:
        from edge_component.serving.door_keys import load_door_keys  # noqa: PLC0415 - cryptography may be what is missing
    except ImportError as error:
        return DoorsSeen(f"cannot be looked at: {error}", "Deploy the component com.edgewright.Runtime again.")
    loaded = load_door_keys(files)
    for secret in (files.private_key, files.token):
        _check_owner(secret, lock)
    return DoorsSeen(begins_at=loaded.begins_at, ends_at=loaded.ends_at)


def _check_owner(secret: Path, lock: Path) -> None:
    """Root can read what the component's user cannot; that user's the lock is."""
    try:
        owner, user = secret.stat().st_uid, lock.stat().st_uid
    except OSError:
        return
    if user not in (owner, 0):
        raise DoorKeysError(f"{secret}: it is {_name(owner)}'s, and {_name(user)} cannot read it", OWNER_REMEDY)


def _name(user_id: int) -> str:
    try:
        return pwd.getpwuid(user_id).pw_name
    except KeyError:
        return f"user {user_id}"


def _configured(lock: Path) -> Mapping[str, Any]:
    try:
        doors = json.loads(lock.read_bytes()).get("doors")
    except (OSError, ValueError, AttributeError):
        return {}
    return doors if isinstance(doors, dict) else {}
