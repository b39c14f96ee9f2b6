"""From a rule's text to a :class:`~simulator.aws.iot_sql.Statement`, or to a refusal that names the piece.

What the pieces mean is :mod:`simulator.aws.iot_sql`'s. Pure; a parser object lives for one text.
"""

import json
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from simulator.aws.iot_sql import (
    FUNCTIONS,
    UNDEFINED,
    Column,
    Expression,
    Incoming,
    Path,
    SqlError,
    SqlNotRealError,
    Statement,
    as_text,
    decoded,
)
from simulator.aws.json_types import Json

COMPARISONS: Mapping[str, Callable[[Any, Any], bool]] = {
    "=": lambda left, right: left == right,
    "<>": lambda left, right: left != right,
    "<": lambda left, right: left < right,
    "<=": lambda left, right: left <= right,
    ">": lambda left, right: left > right,
    ">=": lambda left, right: left >= right,
}

_TOKEN = re.compile(
    r"\s*(?:(?P<number>-?\d+(?:\.\d+)?)|'(?P<text>(?:[^']|'')*)'|(?P<word>[A-Za-z_][A-Za-z0-9_]*)"
    r"|(?P<mark><>|<=|>=|[*,.()\[\]=<>+/%-]))"
)
_RESERVED = frozenset({"select", "from", "where", "as", "and", "or", "not"})


def parse(text: str) -> Statement:
    """Parse a rule.

    Raises:
        SqlNotRealError: it uses a piece outside the subset.
        SqlError: it is malformed.
    """
    return _Parser(_tokens(text)).statement()


def parse_template(text: str) -> Callable[[Incoming], str]:
    """A substitution template, such as ``raw/${topic(3)}/${timestamp()}``, as a function of the message.

    Raises:
        SqlNotRealError, SqlError: as :func:`parse`, for an expression within ``${…}``.
    """
    pieces = re.split(r"\$\{([^}]*)\}", text)
    expressions = [_Parser(_tokens(piece)).whole_expression() for piece in pieces[1::2]]

    def fill(message: Incoming) -> str:
        values = (as_text(expression(message, decoded(message.payload))) for expression in expressions)
        return "".join(piece for pair in zip(pieces[::2], [*values, ""], strict=True) for piece in pair)

    return fill


@dataclass(frozen=True, slots=True)
class _Token:
    kind: str
    text: str

    @property
    def key(self) -> str:
        return self.text.lower() if self.kind == "word" else self.text if self.kind == "mark" else ""


def _tokens(text: str) -> list[_Token]:
    found, position = [], 0
    stripped = text.rstrip()
    while position < len(stripped):
        match = _TOKEN.match(stripped, position)
        if match is None:
            raise SqlError(f"cannot read {stripped[position : position + 20]!r}", "See the AWS IoT SQL reference.")
        kind = str(match.lastgroup)
        found.append(_Token(kind, match[kind].replace("''", "'") if kind == "text" else match[kind]))
        position = match.end()
    return found


class _Parser:
    """Recursive descent over the tokens; lives for one parse."""

    def __init__(self, tokens: Sequence[_Token]) -> None:
        self._left = list(tokens)

    def statement(self) -> Statement:
        self._expect("select")
        columns = [self._column()]
        while self._take(","):
            columns.append(self._column())
        topic_filter = self._literal_text("FROM") if self._take("from") else None
        condition = self._disjunction() if self._take("where") else None
        self._end()
        return Statement(tuple(columns), topic_filter, condition)

    def whole_expression(self) -> Expression:
        expression = self._disjunction()
        self._end()
        return expression

    def _column(self) -> Column:
        if self._take("*"):
            return Column((), None)
        first = self._left[0].text if self._left else ""
        value = self._disjunction()
        if self._take("as"):
            return Column(self._path_names(), value)
        return Column((_last_name(value, first),), value)

    def _disjunction(self) -> Expression:
        left = self._conjunction()
        while self._take("or"):
            left = _either(left, self._conjunction())
        return left

    def _conjunction(self) -> Expression:
        left = self._negation()
        while self._take("and"):
            left = _both(left, self._negation())
        return left

    def _negation(self) -> Expression:
        if self._take("not"):
            inner = self._negation()
            return lambda message, document: inner(message, document) is False
        return self._comparison()

    def _comparison(self) -> Expression:
        left = self._primary()
        for sign, holds in COMPARISONS.items():
            if self._take(sign):
                return _compared(left, self._primary(), holds)
        return left

    def _primary(self) -> Expression:
        if self._take("("):
            inner = self._disjunction()
            self._expect(")")
            return inner
        token = self._next("an expression")
        if token.kind in {"number", "text"}:
            return _constant(json.loads(token.text) if token.kind == "number" else token.text)
        if token.kind != "word" or token.key in _RESERVED:
            raise SqlNotRealError(f"{token.text!r} here is outside the SQL subset")
        if token.key in {"true", "false", "null"}:
            return _constant(json.loads(token.key))
        if self._take("("):
            return self._call(token.key)
        return Path((token.text, *self._path_rest()))

    def _call(self, name: str) -> Expression:
        if name not in FUNCTIONS:
            raise SqlNotRealError(f"function {name}() is outside the SQL subset; there are {', '.join(FUNCTIONS)}")
        arguments: list[Expression] = []
        while not self._take(")"):
            if arguments:
                self._expect(",")
            arguments.append(_raw_payload if self._take("*") else self._disjunction())
        fewest, most, function = FUNCTIONS[name]
        if not fewest <= len(arguments) <= most:
            raise SqlError(f"{name}() takes {fewest} to {most} arguments, not {len(arguments)}")
        return lambda message, document: function(message, *(argument(message, document) for argument in arguments))

    def _path_names(self) -> tuple[str, ...]:
        names = [self._name()]
        while self._take("."):
            names.append(self._name())
        return tuple(names)

    def _path_rest(self) -> list[str | int]:
        rest: list[str | int] = []
        while True:
            if self._take("."):
                rest.append(self._name())
            elif self._take("["):
                rest.append(self._index())
                self._expect("]")
            else:
                return rest

    def _name(self) -> str:
        token = self._next("a name")
        if token.kind != "word" or token.key in _RESERVED:
            raise SqlError(f"expected a name, found {token.text!r}")
        return token.text

    def _index(self) -> int:
        token = self._next("an index")
        if token.kind != "number" or not token.text.isdigit():
            raise SqlError(f"expected an index, found {token.text!r}")
        return int(token.text)

    def _literal_text(self, clause: str) -> str:
        token = self._next("a topic filter")
        if token.kind != "text":
            raise SqlNotRealError(f"{clause} {token.text!r}: only a topic filter in quotes is in the SQL subset")
        return token.text

    def _take(self, key: str) -> bool:
        if self._left and self._left[0].key == key:
            del self._left[0]
            return True
        return False

    def _expect(self, key: str) -> None:
        if not self._take(key):
            found = self._left[0].text if self._left else "the end"
            raise SqlError(f"expected {key.upper()}, found {found!r}")

    def _next(self, what: str) -> _Token:
        if not self._left:
            raise SqlError(f"expected {what}, found the end")
        return self._left.pop(0)

    def _end(self) -> None:
        if self._left:
            raise SqlNotRealError(f"{self._left[0].text!r} is outside the SQL subset")


def _raw_payload(message: Incoming, document: Json) -> Json:
    del document
    return message.payload


def _constant(value: Json) -> Expression:
    return lambda _message, _document: value


def _either(left: Expression, right: Expression) -> Expression:
    return lambda message, document: left(message, document) is True or right(message, document) is True


def _both(left: Expression, right: Expression) -> Expression:
    return lambda message, document: left(message, document) is True and right(message, document) is True


def _compared(left: Expression, right: Expression, holds: Callable[[Any, Any], bool]) -> Expression:
    def compare(message: Incoming, document: Json) -> bool:
        one, other = left(message, document), right(message, document)
        if one is UNDEFINED or other is UNDEFINED:
            return False
        try:
            return holds(one, other)
        except TypeError:
            return False

    return compare


def _last_name(value: Expression, first: str) -> str:
    """The name of a column without ``AS``: a path's last name, else the function's."""
    names = [step for step in value.steps if isinstance(step, str)] if isinstance(value, Path) else []
    return names[-1] if names else first
