"""What decoded JSON is to a type checker.

Requests, documents and IoT payloads are checked here field by field; before that they may be anything at all, and a
narrower type would only be a cast in disguise.
"""

from typing import Any

Json = Any
"""A value of decoded JSON, not looked at yet: object, list, text, number, boolean or ``None``."""
