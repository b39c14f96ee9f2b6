"""What a core device must know after a power cut: one JSON file, replaced as a whole.

The failure it exists for: a nucleus that comes back and has forgotten what it runs, or believes half of a write.

What a component's ``version`` says and what its unit runs are two fields on purpose: Lite writes the version before it
activates anything, and that is how a killed deployment daemon later reports SUCCEEDED for a startup that never ran.

Concurrency: belongs to the device's event loop; :meth:`StateFile.save` blocks for one small fsync.
"""

import json
import os
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from simulator.nucleus.configuration import Configuration
from simulator.nucleus.errors import StateError

SCHEMA = 1


@dataclass(slots=True)
class Installed:
    """One component.

    Attributes:
        version: what the device says it has.
        arn: of that version, as the data plane named it.
        unit_version: whose startup or run the unit executes; ``None`` before the first one was linked.
        install_version: whose install step is on disk; stays when a later version has none (Lite).
        fleet_configuration_arns: deployments that list it as a root component.
    """

    version: str
    arn: str = ""
    unit_version: str | None = None
    install_version: str | None = None
    fleet_configuration_arns: list[str] = field(default_factory=list)


@dataclass(slots=True)
class DeviceState:
    """Everything that outlives the process.

    Attributes:
        installed: by component name.
        roots: per deployment target, its root components and their requirements.
        configurations: by component name.
        status_sequence: of the last fleet-status message.
        clean_stop: whether the nucleus stopped in order; otherwise the next start is a boot after a power cut.
    """

    installed: dict[str, Installed] = field(default_factory=dict)
    roots: dict[str, dict[str, str]] = field(default_factory=dict)
    configurations: dict[str, Configuration] = field(default_factory=dict)
    status_sequence: int = 0
    clean_stop: bool = True


class StateFile:
    """Reads and replaces the file."""

    def __init__(self, path: Path) -> None:
        """Nothing is read yet."""
        self._path = path

    def load(self) -> DeviceState:
        """What was saved last; a new device's state if nothing was.

        Raises:
            StateError: the file is there and cannot be read.
        """
        try:
            document = json.loads(self._path.read_bytes())
            return _read(document)
        except FileNotFoundError:
            return DeviceState()
        except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
            raise StateError(
                f"{self._path} cannot be read ({error!r})", "Move it away to start as a new device."
            ) from error

    def save(self, state: DeviceState) -> None:
        """Replace the file: write, fsync, rename, fsync the folder."""
        self._path.parent.mkdir(parents=True, exist_ok=True)
        temporary = self._path.with_suffix(".tmp")
        with temporary.open("w") as stream:
            json.dump(_document(state), stream)
            stream.flush()
            os.fsync(stream.fileno())
        temporary.replace(self._path)
        folder = os.open(self._path.parent, os.O_RDONLY)
        try:
            os.fsync(folder)
        finally:
            os.close(folder)


def _document(state: DeviceState) -> dict[str, Any]:
    return {
        "schema": SCHEMA,
        "installed": {
            name: {attribute: getattr(component, attribute) for attribute in Installed.__slots__}
            for name, component in state.installed.items()
        },
        "roots": state.roots,
        "configurations": {name: tree.to_document() for name, tree in state.configurations.items()},
        "status_sequence": state.status_sequence,
        "clean_stop": state.clean_stop,
    }


def _read(document: dict[str, Any]) -> DeviceState:
    if document["schema"] != SCHEMA:
        raise ValueError(f"schema {document['schema']}")
    return DeviceState(
        installed={name: Installed(**component) for name, component in document["installed"].items()},
        roots=document["roots"],
        configurations={name: Configuration.read(tree) for name, tree in document["configurations"].items()},
        status_sequence=document["status_sequence"],
        clean_stop=document["clean_stop"],
    )
