"""Topic names and filters, as pure strings.

The failure this exists for: the broker that pip can install drops every client that subscribes to a filter beginning
with ``$`` (measured on iotcore 0.4.0), and everything Greengrass and IoT Jobs say goes through ``$aws/…``. So both ends
of the simulated hop carry ``$`` as another prefix, and nobody above the client sees it.
"""

DOLLAR = "$"


def to_wire(topic: str, dollar_prefix: str) -> str:
    """A topic or filter as the broker sees it: a leading ``$`` becomes ``dollar_prefix``."""
    return dollar_prefix + topic[1:] if topic.startswith(DOLLAR) else topic


def from_wire(topic: str, dollar_prefix: str) -> str:
    """The inverse of :func:`to_wire` for topics that begin with ``<dollar_prefix>aws/``; others are left alone."""
    return DOLLAR + topic[len(dollar_prefix) :] if topic.startswith(f"{dollar_prefix}aws/") else topic


def matches(topic_filter: str, topic: str) -> bool:
    """Whether a filter with ``+`` and ``#`` covers a topic (MQTT 3.1.1, 4.7).

    A wildcard in the first level never covers a topic that begins with ``$``.
    """
    if topic.startswith(DOLLAR) and topic_filter[:1] in {"+", "#"}:
        return False
    wanted, found = topic_filter.split("/"), topic.split("/")
    for level, part in enumerate(wanted):
        if part == "#":
            return level == len(wanted) - 1
        if level >= len(found) or part not in {"+", found[level]}:
            return False
    return len(wanted) == len(found)
