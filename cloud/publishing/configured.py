"""What a target's deployments have set of the runtime's configuration, kept as tags on the latest of them. Pure.

The failure this exists for: a configuration that only those devices have which were in the group when it was set. It
cannot be carried from deployment to deployment: Greengrass Lite reinstalls and restarts a component whenever a document
holds a ``configurationUpdate`` for it, an identical one too (it looks whether the key is there, and compares nothing), so
that each model rollout would restart every runtime. So each deployment carries what was set as digests in tags, which no
device receives; the fleet compares them with the digests that heartbeats report, and says which devices differ.

One tag for each value, under its JSON pointer. What AWS takes in no tag, or beyond ``LIMITS.configuration_values_max``
values, is not tracked.
"""

from collections.abc import Iterable, Mapping
from typing import Any

from cloud.publishing.deployment_tags import tagged, untagged
from edge_component.contracts.configuration import merged, without
from edge_component.contracts.limits import LIMITS

TAG_PREFIX = "edgewright:configured:"


def configured_tags(
    before: Mapping[str, str], merge: Mapping[str, Any] | None, reset: Iterable[str] = ()
) -> dict[str, str]:
    """The tags of the next deployment of a target whose latest has the tags ``before``: resets first, as on devices."""
    known = digests_in(before)
    for pointer in reset:
        known = without(known, pointer)
    return tagged(merged(known, merge or {}), TAG_PREFIX, LIMITS.configuration_values_max)


def digests_in(tags: Mapping[str, str]) -> dict[str, str]:
    """JSON pointer to digest, out of a deployment's tags."""
    return untagged(tags, TAG_PREFIX)
