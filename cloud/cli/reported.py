"""What devices truly serve, asked of the fleet status API: a :class:`~cloud.publishing.deploy.ServingSource`.

The failure this exists for: a model that became active after the nucleus had given its deployment up. Greengrass says
FAILED; only the runtime's heartbeat knows better. Where the API is away nobody knows, and Greengrass's word stands.
"""

from collections.abc import Iterable, Mapping
from typing import Any
from urllib.parse import quote

from cloud.cli.api_client import api_client, fetched
from cloud.errors import EdgewrightError
from cloud.names import model_component
from cloud.publishing.deploy import Target
from cloud.settings import Settings

PAGE_COUNT = 500


class ReportedVersions:
    """The fleet status API that the settings name; contacted only when it is asked."""

    def __init__(self, settings: Settings) -> None:
        """Nothing is contacted yet."""
        self._settings = settings

    def serves(self, target: Target, component_name: str, version: str) -> bool | None:
        """See the port."""
        try:
            return any(is_served(device, component_name, version) for device in self._devices(target, version))
        except EdgewrightError:
            return None

    def _devices(self, target: Target, version: str) -> Iterable[Mapping[str, Any]]:
        with api_client(self._settings) as client:
            if ":thing/" in target.arn:
                yield fetched(client, f"/v1/devices/{quote(target.name, safe='')}", {})
                return
            asked: dict[str, str | int] = {"group": target.name, "version": version, "limit": PAGE_COUNT}
            while True:
                page = fetched(client, "/v1/devices", asked)
                yield from page["items"]
                if page["next_cursor"] is None:
                    return
                asked["cursor"] = page["next_cursor"]


def is_served(device: Mapping[str, Any], component_name: str, version: str) -> bool:
    """Whether a device, as the API tells of it, serves a version of the model that a component carries."""
    components = {one["model_name"]: one["component_name"] for one in device["wanted"] if one["model_name"]}
    return any(
        model["version"] == version
        and components.get(model["model_name"], model_component(model["model_name"])) == component_name
        for model in device["models"]
    )
