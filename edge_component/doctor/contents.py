"""Look at what lies in the work folder: bundles that rotted, files that somebody else owns, files in a folder's place.

The failure this exists for: a device that fell back to an older model, or does not start, because of one file, and a log
that the next start has pushed away. Nothing is repaired; whatever cannot be read is the finding. Its time is that of reading
every stored model once.
"""

import pwd
from collections.abc import Iterator
from pathlib import Path

from edge_component.bundles.store import Store
from edge_component.contracts.codec import DIGEST_PATTERN
from edge_component.errors import StoreDamagedError

FOLDERS = ("store", "staging", "outbox")
FILES = ("runtime.lock", "activation.json", "committed.json", "routes.json", "configuration.json")
TOLD_MAX = 3
"""Of many problems of one kind, these say enough."""


def bundle_problem(work: Path) -> str:
    """Stored models that are no longer what was verified, the one that a revert would bring back included."""
    store, folder = Store(work), work / "store"
    found = []
    for digest in _names(folder):
        if DIGEST_PATTERN.fullmatch(digest):
            try:
                store.read(digest)
            except StoreDamagedError as error:
                found.append(str(error))
    return _told(found)


def place_problem(work: Path) -> str:
    """What stands in the place of a folder or a file that the runtime makes."""
    folders = [f"{name} is no folder" for name in FOLDERS if _exists(work / name) and not _is_dir(work / name)]
    files = [f"{name} is a folder" for name in FILES if _is_dir(work / name)]
    return _told(folders + files)


def owner_problem(work: Path) -> str:
    """Files of somebody else's, which the runtime's user cannot write: left by a start as root, or by a restored backup."""
    try:
        owner = work.stat().st_uid
    except OSError:
        return ""
    if owner == 0:
        return ""
    strange = [path for path in _files(work) if _owner(path) not in (owner, None)]
    return _told(
        [f"{path.relative_to(work)} is {_name(_owner(path))}'s, the folder {_name(owner)}'s" for path in strange]
    )


def _files(work: Path) -> Iterator[Path]:
    for name in (*FOLDERS, *FILES):
        if _exists(work / name):
            yield work / name
    for name in FOLDERS:
        for entry in _names(work / name):
            yield work / name / entry
            for inner in _names(work / name / entry):
                yield work / name / entry / inner


def _names(folder: Path) -> list[str]:
    try:
        return sorted(path.name for path in folder.iterdir())
    except OSError:  # not there, no folder, or not for this user: told by others
        return []


def _exists(path: Path) -> bool:
    return _owner(path) is not None


def _is_dir(path: Path) -> bool:
    try:
        return path.is_dir()
    except OSError:
        return False


def _owner(path: Path) -> int | None:
    try:
        return path.lstat().st_uid
    except OSError:
        return None


def _name(user_id: int | None) -> str:
    try:
        return pwd.getpwuid(user_id or 0).pw_name
    except KeyError:
        return f"user {user_id}"


def _told(found: list[str]) -> str:
    more = f" and {len(found) - TOLD_MAX} more" if len(found) > TOLD_MAX else ""
    return "; ".join(found[:TOLD_MAX]) + more
