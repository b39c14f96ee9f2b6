"""The heartbeat: what this process is, and what it truly serves, small enough to be sent.

The failure this exists for: a device with so much to say (many models, long error texts) that its heartbeat no longer
fits a publish, so that the sickest device is the silent one. A heartbeat that is too large is shortened in a fixed order
and says so.

Reading the machine (:func:`read_machine`) is apart from building the message (:func:`build_heartbeat`, pure).
"""

import os
import shutil
from collections.abc import Mapping
from dataclasses import dataclass, replace
from datetime import datetime
from pathlib import Path

from edge_component.contracts.codec import to_bytes
from edge_component.contracts.heartbeat import LEFT_OUT, Heartbeat, OutboxState, ServedModel
from edge_component.contracts.limits import LIMITS

BOOT_ID_FILE = Path("/proc/sys/kernel/random/boot_id")
STATM_FILE = Path("/proc/self/statm")
REASONS_MAX = 5


@dataclass(frozen=True, slots=True)
class ProcessIdentity:
    """What does not change while the process lives; see :class:`Heartbeat` for the fields."""

    runtime_version: str
    process_id: int
    started_at: datetime
    boot_id: str
    platform: str


@dataclass(frozen=True, slots=True)
class Machine:
    """What changes: memory of this process, and room beside the model store."""

    rss_bytes: int
    disk_free_bytes: int


@dataclass(frozen=True, slots=True)
class Snapshot:
    """What the runtime holds at one moment.

    ``reasons`` are sentences, and any of them means degraded; an outbox that keeps nothing is one more. ``configuration`` is
    the digest of each of its values, ``None`` where it is not known.
    """

    models: tuple[ServedModel, ...]
    outbox: OutboxState
    reasons: tuple[str, ...] = ()
    configuration: Mapping[str, str] | None = None


def identify_process(runtime_version: str, platform: str, started_at: datetime) -> ProcessIdentity:
    """This process. ``boot_id`` is empty where the kernel does not tell."""
    return ProcessIdentity(runtime_version, os.getpid(), started_at, _first_line(BOOT_ID_FILE), platform)


def read_machine(store: Path) -> Machine:
    """Look at this process and at the file system that ``store`` is on; what cannot be read is 0."""
    pages = _first_line(STATM_FILE).split()
    rss_bytes = int(pages[1]) * os.sysconf("SC_PAGE_SIZE") if len(pages) > 1 else 0
    try:
        disk_free_bytes = shutil.disk_usage(store).free
    except OSError:
        disk_free_bytes = 0
    return Machine(rss_bytes, disk_free_bytes)


def build_heartbeat(identity: ProcessIdentity, machine: Machine, snapshot: Snapshot, body_bytes_max: int) -> Heartbeat:
    """The message, shortened to ``body_bytes_max`` where it must be.

    Shortened in this order: each reason to ``LIMITS.text_chars_max`` characters and all to the first five; the
    configuration; the ``previous`` and ``routing`` of each model; reasons to one; then models from the end, the number of
    those left out being a reason more.
    """
    told = snapshot.reasons
    if snapshot.outbox.problem:
        told = (f"what this device has to tell is not kept on its disk: {snapshot.outbox.problem}", *told)
    reasons = tuple(reason[: LIMITS.text_chars_max] for reason in told[:REASONS_MAX])
    whole = Heartbeat(
        runtime_version=identity.runtime_version,
        process_id=identity.process_id,
        started_at=identity.started_at,
        boot_id=identity.boot_id,
        platform=identity.platform,
        models=snapshot.models,
        outbox=snapshot.outbox,
        disk_free_bytes=machine.disk_free_bytes,
        rss_bytes=machine.rss_bytes,
        health="degraded" if reasons else "healthy",
        reasons=reasons,
        configuration=snapshot.configuration,
    )
    if _fits(whole, body_bytes_max):
        return whole
    whole = replace(whole, configuration=None)
    if _fits(whole, body_bytes_max):
        return whole
    brief = replace(whole, models=tuple(replace(model, previous=None, routing=None) for model in whole.models))
    if _fits(brief, body_bytes_max):
        return brief
    return _without_last_models(replace(brief, reasons=brief.reasons[:1]), body_bytes_max)


def _without_last_models(heartbeat: Heartbeat, body_bytes_max: int) -> Heartbeat:
    """What has failed and what is new is kept before what has long been known."""
    ordered = sorted(heartbeat.models, key=lambda model: model.since_at, reverse=True)
    kept = heartbeat = replace(heartbeat, models=tuple(sorted(ordered, key=lambda model: model.state != "failed")))
    for left_out_count in range(1, len(heartbeat.models) + 1):
        if _fits(kept, body_bytes_max):
            break
        kept = replace(
            heartbeat,
            models=heartbeat.models[:-left_out_count],
            health="degraded",
            reasons=(*heartbeat.reasons, f"{left_out_count} {LEFT_OUT}"),
        )
    return kept


def _fits(heartbeat: Heartbeat, body_bytes_max: int) -> bool:
    return len(to_bytes(heartbeat.to_document())) <= body_bytes_max


def _first_line(path: Path) -> str:
    try:
        return path.read_text().split("\n", 1)[0].strip()
    except OSError:
        return ""
