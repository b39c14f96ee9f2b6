"""What a deployment's tags keep for the next one: values by name, under a prefix for each of their subjects. Pure.

The failure this exists for: one name that AWS takes in no tag, and a deployment that is refused for it. Such a value is not
kept; nor is what is beyond a subject's share of the 50 tags that AWS takes.
"""

import re
from collections.abc import Mapping

KEY = re.compile(r"[\w .:/=+@-]{1,128}", re.ASCII)
"""AWS's characters for a tag's key, of ASCII."""


def tagged(values: Mapping[str, str], prefix: str, count_max: int) -> dict[str, str]:
    """The tags of these values, in the order of their names."""
    tags = {f"{prefix}{name}": value for name, value in sorted(values.items())}
    fitting = [key for key in tags if KEY.fullmatch(key)]
    return {key: tags[key] for key in fitting[:count_max]}


def untagged(tags: Mapping[str, str], prefix: str) -> dict[str, str]:
    """The values that were kept under this prefix; what else is tagged is passed over."""
    return {key.removeprefix(prefix): value for key, value in tags.items() if key.startswith(prefix)}
