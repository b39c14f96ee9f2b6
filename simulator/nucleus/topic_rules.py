"""Which topics AWS IoT Core bears; for others it hangs up, and the whole device is offline for a moment. Pure.

The failure it exists for: a component that publishes to ``telemetry/#`` and is told that all is well. Source: AWS IoT Core
quotas (message broker), and the Java nucleus's IotCoreTopicValidator, which refuses the same before it is sent.
"""

import re

TOPIC_BYTES_MAX = 256
SLASHES_MAX = 7
_BASIC_INGEST = re.compile(r"\$aws/rules/[^/]+/")


def publish_problem(topic: str) -> str:
    """Why nothing can be published there, as one sentence; empty if it can."""
    if "+" in topic or "#" in topic:
        return f"{topic} has a wildcard; a publish names one topic"
    return _size_problem(topic)


def subscribe_problem(topic_filter: str) -> str:
    """Why it is no filter; empty if it is one."""
    levels = topic_filter.split("/")
    for at, level in enumerate(levels):
        if level == "#" and at < len(levels) - 1:
            return f"{topic_filter} goes on after #"
        if level not in {"+", "#"} and ("+" in level or "#" in level):
            return f"{topic_filter} has a wildcard that is not a whole level"
    return _size_problem(topic_filter)


def _size_problem(topic: str) -> str:
    """Basic Ingest's prefix does not count; what else AWS reserves has rules of its own."""
    counted = _BASIC_INGEST.sub("", topic, count=1)
    if counted.startswith("$"):
        return ""
    if len(counted.encode()) > TOPIC_BYTES_MAX:
        return f"the topic has {len(counted.encode())} bytes; {TOPIC_BYTES_MAX} fit"
    if counted.count("/") > SLASHES_MAX:
        return f"the topic has {counted.count('/')} slashes; {SLASHES_MAX} are allowed"
    return ""
