"""Judge what was seen of a device: which of it stops it from serving, which of it will hurt, and what to do. Pure.

The failure this exists for: a device that does not serve, and a person who reads five logs to learn that its clock says
1970. Each check says what was found and the remedy; :data:`STOPS` names those without which nothing serves.

It looks at nothing itself (examination.py does), and repairs nothing.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from edge_component.clock import earliest, is_believable
from edge_component.contracts.codec import format_moment
from edge_component.contracts.heartbeat import Heartbeat
from edge_component.contracts.unix_address import PATH_BYTES_MAX
from edge_component.serving.exposure import certificate_warning

OLDEST_PYTHON = (3, 11)
DISK_FREE_BYTES_MIN = 50_000_000
FILES_FREE_COUNT_MIN = 500
MEMORY_FREE_BYTES_MIN = 64_000_000
OPEN_FILES_MIN = 256
STOPS, HURTS = "stops", "hurts"


@dataclass(frozen=True, slots=True)
class DoorsSeen:
    """The TCP doors that the last start was to open: why they stay shut, if they do, and their certificate's validity."""

    problem: str = ""
    remedy: str = ""
    begins_at: datetime | None = None
    ends_at: datetime | None = None


@dataclass(frozen=True, slots=True)
class Seen:
    """What examination.py found; a ``_problem`` is a sentence, empty if there is none.

    Attributes:
        user_problem: why this user cannot see enough to tell; then what it could not read is no illness.
        packages: name to problem, of what the runtime imports.
        folder_mode, trust_mode: permission bits; 0 where there is no folder.
        trust_problem: ``None`` if nobody knows where the trust folder is.
        trusted_at: the latest time that a signed bundle has named here.
        lock_held: some process serves from the work folder.
        heartbeat: what the runtime says of itself, if it answers.
        doors: ``None`` where there are no TCP doors.
    """

    python: tuple[int, int]
    packages: Mapping[str, str]
    folder: str
    folder_problem: str
    folder_mode: int
    disk_free_bytes: int
    files_free_count: int
    memory_free_bytes: int
    open_files_max: int
    shared_memory_problem: str
    journal_problem: str
    reserve_problem: str
    trust_problem: str | None
    trust_mode: int
    now: datetime
    trusted_at: datetime | None
    socket_path_bytes: int
    lock_held: bool
    runtime_problem: str
    heartbeat: Heartbeat | None = None
    doors: DoorsSeen | None = None
    user_problem: str = ""
    read_only_problem: str = ""
    place_problem: str = ""
    owner_problem: str = ""
    bundle_problem: str = ""


@dataclass(frozen=True, slots=True)
class Check:
    """One thing that was looked at; ``found`` and ``remedy`` are empty where it is well."""

    name: str
    found: str = ""
    remedy: str = ""
    severity: str = STOPS

    @property
    def ok(self) -> bool:
        """Nothing is wrong."""
        return not self.found

    def to_document(self) -> dict[str, Any]:
        """For people and scripts."""
        if self.ok:
            return {"check": self.name, "ok": True}
        return {
            "check": self.name, "ok": False, "severity": self.severity, "found": self.found, "remedy": self.remedy,
        }  # fmt: skip


@dataclass(frozen=True, slots=True)
class Diagnosis:
    """All checks; ``ok`` unless one of them stops the device from serving."""

    checks: tuple[Check, ...] = field(default_factory=tuple)

    @property
    def ok(self) -> bool:
        """It can serve."""
        return all(check.ok or check.severity == HURTS for check in self.checks)

    def to_document(self) -> dict[str, Any]:
        """For people and scripts."""
        return {"ok": self.ok, "checks": [check.to_document() for check in self.checks]}


def diagnose(seen: Seen) -> Diagnosis:
    """Every check, in the order in which a person would repair them."""
    device = (*_software(seen), *_machine(seen))
    if seen.user_problem:
        remedy = "Run it as root or as the component's user: the rest is not for others to see."
        return Diagnosis((*device, Check("this user", seen.user_problem, remedy)))
    return Diagnosis((*device, *_folder(seen), *_trust(seen), *_doors(seen), *_runtime(seen)))


def _software(seen: Seen) -> Iterator[Check]:
    version = ".".join(map(str, seen.python))
    oldest = ".".join(map(str, OLDEST_PYTHON))
    yield Check(
        "python", "" if seen.python >= OLDEST_PYTHON else f"Python {version}", f"Install Python {oldest} or later."
    )
    for name, problem in seen.packages.items():
        yield Check(name, problem, "Deploy the component com.edgewright.Runtime again: its install step brings it.")


def _machine(seen: Seen) -> Iterator[Check]:
    yield Check(
        "disk", _below(seen.disk_free_bytes, DISK_FREE_BYTES_MIN, "bytes free"), "Free disk space on the device."
    )
    yield Check(
        "file system", seen.read_only_problem,
        "See dmesg: Linux does this to a disk with errors. Mount it writable again, or replace the disk.",
    )  # fmt: skip
    yield Check(
        "files", _below(seen.files_free_count, FILES_FREE_COUNT_MIN, "files can still be made"),
        "Remove small files: the file system has no inodes left.",
    )  # fmt: skip
    yield Check(
        "memory", _below(seen.memory_free_bytes, MEMORY_FREE_BYTES_MIN, "bytes available"),
        "Stop other programs, or set model_memory_bytes_max in the component's configuration.", HURTS,
    )  # fmt: skip
    yield Check(
        "open files", _below(seen.open_files_max, OPEN_FILES_MIN, "open files allowed"),
        "Raise the limit of open files (LimitNOFILE) for Greengrass's components.", HURTS,
    )  # fmt: skip
    yield Check(
        "shared memory", seen.shared_memory_problem, "Allow memfd_create to the component (seccomp, container)."
    )
    yield _clock(seen)


def _clock(seen: Seen) -> Check:
    behind = not is_believable(seen.now, seen.trusted_at)
    known = format_moment(earliest(seen.trusted_at))
    found = f"it says {format_moment(seen.now)}; it is later than {known}" if behind else ""
    return Check(
        "clock", found,
        "Set the clock (NTP): connections to the cloud and new bundles are refused. If it is right, a bundle was signed "
        "under a wrong one: `edgewright-edge lower-floor COMPONENT`.",
    )  # fmt: skip


def _folder(seen: Seen) -> Iterator[Check]:
    yield Check("work folder", seen.folder_problem, "Install the component com.edgewright.Runtime, or give --work.")
    yield Check(
        "work folder's permissions", _open_to_others(seen.folder_mode, seen.folder),
        f"chmod go-w {seen.folder}: others could replace what is served.", HURTS,
    )  # fmt: skip
    yield Check(
        "work folder's contents",
        seen.place_problem,
        "Move it out of the way; the runtime makes its own at its next start.",
    )
    yield Check(
        "work folder's owner",
        seen.owner_problem,
        f"chown -R that user {seen.folder}, then restart the component.",
        HURTS,
    )
    yield Check(
        "stored models", seen.bundle_problem,
        "Check the device's disk, and deploy the model again. A damaged previous version cannot be brought back.", HURTS,
    )  # fmt: skip
    yield Check("journal", seen.journal_problem, "Check the device's disk, then deploy the models again.")
    yield Check(
        "way back on a full disk", seen.reserve_problem,
        "Free disk space: a runtime that is up takes its reserve within a minute. Until then a full disk refuses a revert.",
        HURTS,
    )  # fmt: skip
    yield Check(
        "socket path", f"it takes {seen.socket_path_bytes} bytes" if seen.socket_path_bytes > PATH_BYTES_MAX else "",
        f"Our own clients cope; others need a work folder whose sockets take at most {PATH_BYTES_MAX} bytes.", HURTS,
    )  # fmt: skip


def _trust(seen: Seen) -> Iterator[Check]:
    if seen.trust_problem is None:
        yield Check(
            "trusted keys", "no runtime has named its trust folder here yet", "Give --trust to look at them.", HURTS
        )
        return
    yield Check(
        "trusted keys", seen.trust_problem, "Deploy the component com.edgewright.Runtime again: it carries the keys."
    )
    yield Check(
        "trusted keys' permissions", _open_to_others(seen.trust_mode, "the trust folder"),
        "chmod go-w on it: others could add a key of their own.", HURTS,
    )  # fmt: skip


def _doors(seen: Seen) -> Iterator[Check]:
    doors = seen.doors
    if doors is None:
        return
    yield Check(
        "TCP doors", doors.problem, f"{doors.remedy.rstrip('.')}; then restart the component if it is up.", HURTS
    )
    if doors.begins_at is None or doors.ends_at is None:
        return
    warning = certificate_warning(doors.begins_at, doors.ends_at, seen.now)
    yield Check(
        "TCP doors' certificate", warning,
        "Renew it in place: the runtime reads the files again when they change. Check the clock.", HURTS,
    )  # fmt: skip


def _runtime(seen: Seen) -> Iterator[Check]:
    held = "Its process is there and does not answer: see its log, and restart the component."
    away = "Start the component com.edgewright.Runtime, and see its log if it ends again."
    yield Check("runtime answers", seen.runtime_problem, held if seen.lock_held else away)
    if seen.heartbeat is None:
        return
    for reason in seen.heartbeat.reasons:
        yield Check("healthy", reason, "See the runtime's log.", HURTS)
    serving = [model for model in seen.heartbeat.models if model.state != "failed"]
    yield Check("a model serves", "" if serving else "none does", "Deploy a model component.")


def _below(found: int, least: int, what: str) -> str:
    return f"{found} {what}; at least {least} are needed" if found < least else ""


def _open_to_others(mode: int, what: str) -> str:
    return f"{what} may be written to by others (mode {mode:o})" if mode & 0o022 else ""
