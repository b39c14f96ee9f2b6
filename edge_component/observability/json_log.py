"""Log records as JSON lines, for whoever collects them by machine.

The failure this exists for: a stack trace that becomes forty records in a log store, none of which says which model it
was. One record is one line; what the call gave as ``extra`` becomes fields of its own.
"""

import json
import logging
from datetime import UTC, datetime

TEXT_FORMAT = "%(asctime)s %(levelname)s %(name)s: %(message)s"
TRACE_CHARS_MAX = 8_000
_STANDARD = frozenset(vars(logging.makeLogRecord({}))) | {"message", "asctime", "taskName"}


class JsonFormatter(logging.Formatter):
    """``{"at", "level", "logger", "message", "thread", …extra, "trace"}``."""

    def format(self, record: logging.LogRecord) -> str:
        """One line, without a newline in it."""
        document: dict[str, object] = {
            "at": datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds"),
            "level": record.levelname.lower(),
            "logger": record.name,
            "message": record.getMessage(),
            "thread": record.threadName,
        }
        extra = {name: value for name, value in vars(record).items() if name not in _STANDARD and value != ""}
        document |= {name: value for name, value in extra.items() if name not in document}
        if record.exc_info:
            document["trace"] = self.formatException(record.exc_info)[-TRACE_CHARS_MAX:]
        return json.dumps(document, ensure_ascii=False, default=repr)


def use_log_format(name: str) -> None:
    """Let every handler of the root logger write ``text`` or ``json`` from now on."""
    formatter = JsonFormatter() if name == "json" else logging.Formatter(TEXT_FORMAT)
    for handler in logging.getLogger().handlers:
        handler.setFormatter(formatter)
