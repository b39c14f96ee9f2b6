"""The registry's port in memory, as plain objects. Not thread-safe."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any


@dataclass(slots=True)
class MemoryPackages:
    """A :class:`~cloud.registry.packages.PackageStore`; ``groups`` is name to the requests of its packages, in order."""

    groups: dict[str, list[Mapping[str, Any]]] = field(default_factory=dict)

    def ensure_group(self, name: str, description: str) -> None:
        """See the port."""
        del description
        self.groups.setdefault(name, [])

    def packages(self, group: str) -> Mapping[str, str]:
        """See the port."""
        return {
            request["ModelPackageDescription"]: _arn(group, number)
            for number, request in enumerate(self.groups[group], start=1)
        }

    def create(self, request: Mapping[str, Any]) -> str:
        """See the port."""
        group: str = request["ModelPackageGroupName"]
        self.groups[group].append(request)
        return _arn(group, len(self.groups[group]))


def _arn(group: str, number: int) -> str:
    return f"arn:aws:sagemaker:us-east-1:123456789012:model-package/{group}/{number}"
