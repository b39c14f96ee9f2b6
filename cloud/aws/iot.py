"""AWS IoT's registry: which thing groups and things there are. It reads only; who joins which group is an operator's.

Thread-safe, as boto3's clients are. What Greengrass knows of the same devices is in greengrass.py and control_plane.py.
"""

from cloud.aws.session import AwsSession, translated
from cloud.errors import NotFoundError


class ThingRegistry:
    """Looks up thing groups and things; a :class:`~cloud.publishing.deploy.ThingDirectory`."""

    def __init__(self, session: AwsSession) -> None:
        """Nothing is contacted until a method is called."""
        self._client = session.client("iot")

    def group_arn(self, name: str) -> str | None:
        """A thing group's ARN; ``None`` if there is no such group."""
        try:
            with translated(f"looking for thing group {name}"):
                arn: str = self._client.describe_thing_group(thingGroupName=name)["thingGroupArn"]
        except NotFoundError:
            return None
        return arn

    def thing_arn(self, name: str) -> str | None:
        """A thing's ARN; ``None`` if there is no such thing."""
        try:
            with translated(f"looking for thing {name}"):
                arn: str = self._client.describe_thing(thingName=name)["thingArn"]
        except NotFoundError:
            return None
        return arn

    def members(self, group_name: str) -> tuple[str, ...]:
        """Every thing in a group and in the groups below it, by name."""
        with translated(f"listing the things in {group_name}"):
            pages = self._client.get_paginator("list_things_in_thing_group").paginate(
                thingGroupName=group_name, recursive=True
            )
            return tuple(sorted(thing for page in pages for thing in page["things"]))

    def group_names(self) -> tuple[str, ...]:
        """Every thing group, by name."""
        with translated("listing thing groups"):
            pages = self._client.get_paginator("list_thing_groups").paginate()
            return tuple(sorted(entry["groupName"] for page in pages for entry in page["thingGroups"]))
