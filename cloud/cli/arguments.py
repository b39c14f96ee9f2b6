"""What several commands take on their command line, read in one way. Pure but for the import check."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager

from cloud.errors import InvalidInputError
from edge_component.contracts.manifest import PLATFORMS

PRECISION_HELP = "auto (int8 where it passes every gate, else fp32), or fp32 (no int8 is tried)."
PLATFORM_HELP = f"{' or '.join(PLATFORMS)}; repeat for several."


def name_value_pairs(entries: Sequence[str] | None, option: str) -> dict[str, str]:
    """``name=value`` entries of a repeatable option; the last one of a name counts.

    Raises:
        InvalidInputError: naming option and entry.
    """
    for entry in entries or ():
        if not entry.partition("=")[0] or "=" not in entry:
            raise InvalidInputError(f"{option} {entry!r} is not name=value", f"Write {option} alpha=0.1.")
    return dict(entry.partition("=")[::2] for entry in entries or ())


def chosen(wanted: Sequence[str] | None, allowed: tuple[str, ...], option: str) -> tuple[str, ...]:
    """What a repeatable option chose, or everything that is allowed where it is absent.

    Raises:
        InvalidInputError: naming option and value.
    """
    for value in wanted or ():
        if value not in allowed:
            raise InvalidInputError(f"{option} {value!r} is none of {', '.join(allowed)}", "Choose one of these.")
    return tuple(dict.fromkeys(wanted)) if wanted else allowed


@contextmanager
def compile_extra() -> Iterator[None]:
    """Around imports that only compiling on this machine needs: what is missing is said in one line.

    Raises:
        InvalidInputError: naming the module and the extra that brings it.
    """
    try:
        yield
    except ModuleNotFoundError as error:
        raise InvalidInputError(
            f"compiling on this machine needs {error.name}", "Install it: pip install 'edgewright[compile]'."
        ) from error
