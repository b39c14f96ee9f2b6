"""What a device was before a deployment, to go back to. Values only; who goes back is ``deployment.py``.

The failure it exists for: a rollback that restores the versions and forgets the rest. A device is its installed versions,
the wishes of its targets and every component's configuration; the three come back together or not at all.

Source: the Java nucleus takes a snapshot of its whole configuration before it merges a deployment, and reads it back.
"""

from collections.abc import Mapping
from copy import deepcopy
from dataclasses import dataclass
from typing import Self

from simulator.nucleus.configuration import Configuration
from simulator.nucleus.services import ConfigurationStore
from simulator.nucleus.state import DeviceState, Installed


@dataclass(frozen=True, slots=True)
class Snapshot:
    """A copy: later changes of the device do not reach it."""

    installed: Mapping[str, Installed]
    roots: Mapping[str, Mapping[str, str]]
    configurations: Mapping[str, Configuration]

    @classmethod
    def of(cls, state: DeviceState, configurations: ConfigurationStore) -> Self:
        """As the device is now."""
        return cls(deepcopy(state.installed), deepcopy(state.roots), configurations.all())

    def restore(self, state: DeviceState, configurations: ConfigurationStore) -> None:
        """Make all three what they were; running components hear of configurations that are others again."""
        state.installed.clear()
        state.installed.update(deepcopy(dict(self.installed)))
        state.roots.clear()
        state.roots.update({target: dict(wanted) for target, wanted in self.roots.items()})
        configurations.restore(self.configurations)
