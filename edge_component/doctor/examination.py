"""Look at the machine: everything that diagnosis.py judges. Changes nothing, and comes back whatever it meets.

The failure this exists for: a doctor that dies of the disease. What the runtime imports is imported in a child process,
since a wheel for another processor ends in a signal; every file is read with its errors caught and told.

It reads the journal without setting a damaged one aside (activation/journal.py does that, when the runtime starts).
"""

import json
import os
import resource
import shutil
import subprocess
import sys
from datetime import datetime
from pathlib import Path

from edge_component.client import ClientError
from edge_component.client.admin import AdminClient
from edge_component.clock import Clock
from edge_component.contracts.admin import SOCKET_NAME
from edge_component.contracts.codec import Fields
from edge_component.contracts.errors import ContractError
from edge_component.contracts.heartbeat import Heartbeat
from edge_component.doctor.contents import bundle_problem, owner_problem, place_problem
from edge_component.doctor.diagnosis import Seen
from edge_component.doctor.doors import examine_doors
from edge_component.reserved import ReservedFile
from edge_component.sealed import unseal

PACKAGES = ("numpy", "onnxruntime", "cryptography")
IMPORT_S_MAX = 60.0
MEMINFO_FILE, LOCKS_FILE = Path("/proc/meminfo"), Path("/proc/locks")
JOURNAL_FILE, JOURNAL_BYTES_MAX = "activation.json", 1_000_000
LOCK_FILE = "runtime.lock"
"""Both as the runtime writes them; named here anew, so that a doctor needs none of what the runtime imports."""


def examine(work: Path, trust: Path | None, clock: Clock) -> Seen:
    """Look at a work folder and the machine around it; ``trust`` if it is not the one that the last start has named."""
    existing = next(parent for parent in (work.absolute(), *work.absolute().parents) if _is_dir(parent))
    statistics = os.statvfs(existing)
    is_read_only = bool(statistics.f_flag & os.ST_RDONLY)
    journal_problem, trusted_at = _journal(work / JOURNAL_FILE)
    heartbeat, runtime_problem = _runtime(work)
    trust = trust or _trust_of_last_start(work)
    return Seen(
        python=sys.version_info[:2],
        packages={name: _import_problem(name) for name in PACKAGES},
        folder=str(work),
        folder_problem="" if is_read_only else _folder_problem(work),
        folder_mode=_mode(work),
        disk_free_bytes=shutil.disk_usage(existing).free,
        files_free_count=statistics.f_favail if statistics.f_files else sys.maxsize,
        memory_free_bytes=_memory_free_bytes(),
        open_files_max=_open_files_max(),
        shared_memory_problem=_shared_memory_problem(),
        journal_problem=journal_problem,
        reserve_problem=_reserve_problem(work / JOURNAL_FILE),
        trust_problem=None if trust is None else _trust_problem(trust),
        trust_mode=0 if trust is None else _mode(trust),
        now=clock.now(),
        trusted_at=trusted_at,
        socket_path_bytes=len(os.fsencode(work.absolute() / SOCKET_NAME)),
        lock_held=_lock_held(work / LOCK_FILE),
        runtime_problem=runtime_problem,
        heartbeat=heartbeat,
        doors=examine_doors(work, work / LOCK_FILE),
        user_problem=_user_problem(work, os.geteuid()),
        read_only_problem=f"the file system of {existing} is mounted read-only" if is_read_only else "",
        place_problem=place_problem(work),
        owner_problem=owner_problem(work),
        bundle_problem=bundle_problem(work),
    )


def _is_dir(path: Path) -> bool:
    try:
        return path.is_dir()
    except OSError:  # within a folder that this user may not look into
        return False


def _user_problem(work: Path, user_id: int) -> str:
    try:
        owner_id = work.stat().st_uid
    except PermissionError:
        return f"it may not look into {work}"
    except OSError:
        return ""
    return (
        "" if user_id in (0, owner_id) else f"it (id {user_id}) is neither root nor the owner of {work} (id {owner_id})"
    )


def _import_problem(name: str) -> str:
    environment = {**os.environ, "ORT_DISABLE_TELEMETRY": "1"}
    try:
        child = subprocess.run(
            [sys.executable, "-c", f"import {name}"],
            env=environment, stdin=subprocess.DEVNULL, capture_output=True, timeout=IMPORT_S_MAX, check=False,
        )  # fmt: skip
    except subprocess.TimeoutExpired:
        return f"importing {name} takes more than {IMPORT_S_MAX:g} s"
    except OSError as error:
        return f"{sys.executable} cannot be run: {error}"
    if child.returncode < 0:
        return f"importing {name} ends with signal {-child.returncode}: built for another processor?"
    lines = child.stderr.decode(errors="replace").strip().splitlines()
    return f"cannot be imported: {lines[-1] if lines else child.returncode}" if child.returncode else ""


def _folder_problem(work: Path) -> str:
    if not _is_dir(work):
        return f"{work} is no folder"
    return "" if os.access(work, os.R_OK | os.W_OK | os.X_OK) else f"this user may not write to {work}"


def _mode(folder: Path) -> int:
    try:
        return folder.stat().st_mode & 0o777
    except OSError:
        return 0


def _memory_free_bytes() -> int:
    try:
        lines = dict(line.split(":", 1) for line in MEMINFO_FILE.read_text().splitlines())
        return int(lines["MemAvailable"].split()[0]) * 1024
    except (OSError, KeyError, ValueError):
        return sys.maxsize  # nobody can tell


def _open_files_max() -> int:
    soft, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    return sys.maxsize if soft == resource.RLIM_INFINITY else soft


def _shared_memory_problem() -> str:
    try:
        os.close(os.memfd_create("edgewright-doctor", os.MFD_ALLOW_SEALING | os.MFD_CLOEXEC))
    except OSError as error:
        return f"memfd_create: {error.strerror}"
    return ""


def _journal(path: Path) -> tuple[str, datetime | None]:
    """What is wrong with it, and the trusted time that it holds."""
    try:
        fields = Fields(unseal(path.read_bytes(), JOURNAL_BYTES_MAX))
        fields.schema("activation-journal", 1)
        return "", fields.optional("trusted_at", fields.moment)
    except FileNotFoundError:
        return "", None
    except (OSError, ContractError) as error:
        return f"{path.name} cannot be read: {error}", None


def _reserve_problem(path: Path) -> str:
    return f"{path.name} has no room reserved for its next version" if ReservedFile(path).lacks_room() else ""


def _trust_of_last_start(work: Path) -> Path | None:
    try:
        named = json.loads((work / LOCK_FILE).read_bytes()).get("trust_path")
    except (OSError, ValueError, AttributeError):
        return None
    return Path(named) if isinstance(named, str) else None


def _trust_problem(trust: Path) -> str:
    try:
        from edge_component.bundles.signature import load_trust  # noqa: PLC0415 - cryptography may be what is missing
        from edge_component.errors import DeviceError  # noqa: PLC0415 - as above
    except ImportError as error:
        return f"cannot be looked at: {error}"
    try:
        load_trust(trust)
    except (DeviceError, OSError) as error:
        return str(error)
    return ""


def _lock_held(path: Path) -> bool:
    """As the kernel lists it: trying the lock could get in the way of a runtime that is just starting."""
    try:
        inode = str(path.stat().st_ino)
        locks = [line.split() for line in LOCKS_FILE.read_text().splitlines()]
    except OSError:
        return False
    return any("FLOCK" in words and words[-3].rpartition(":")[2] == inode for words in locks if len(words) > 3)


def _runtime(work: Path) -> tuple[Heartbeat | None, str]:
    try:
        return AdminClient(work / SOCKET_NAME, timeout_s=10.0).status(), ""
    except (ClientError, ContractError) as error:
        return None, str(error)
