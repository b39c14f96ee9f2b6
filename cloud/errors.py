"""The cloud side's exception tree: one root, leaves named by phase and cause.

botocore's errors are wrapped once, in ``cloud.aws``; the domain knows no HTTP. The command line turns a leaf into its
sentence, its remedy and its exit code, and shows a stack trace for nothing in this tree.
"""

from typing import ClassVar


class EdgewrightError(Exception):
    """Root of everything the cloud side raises on purpose.

    Attributes:
        code: stable, kebab-case; shown by the command line and by the API's problem documents.
        exit_code: what the command line exits with (2 usage, 3 refused input, 4 conflict, 5 unavailable, 1 the rest).
        remedy: what the reader should do next; one sentence.
    """

    code: ClassVar[str] = "edgewright-error"
    exit_code: ClassVar[int] = 1

    def __init__(self, message: str, remedy: str = "") -> None:
        """Keep the sentence and its remedy apart, so that each surface can show them in its own way."""
        super().__init__(message)
        self.remedy = remedy


class InvalidInputError(EdgewrightError):
    """A file, field or argument that the user gave cannot be used; nothing was changed."""

    code: ClassVar[str] = "invalid-input"
    exit_code: ClassVar[int] = 3


class LocalFileError(EdgewrightError):
    """A file or folder of this machine cannot be read or written: permissions, a wrong path, a full disk."""

    code: ClassVar[str] = "local-file"


class ModelRefusedError(EdgewrightError):
    """A gate or a check refused a model; the report says which."""

    code: ClassVar[str] = "model-refused"
    exit_code: ClassVar[int] = 3


class ConflictError(EdgewrightError):
    """What is asked for contradicts what exists already, such as a version with other bytes."""

    code: ClassVar[str] = "conflict"
    exit_code: ClassVar[int] = 4


class NotFoundError(EdgewrightError):
    """The named thing does not exist."""

    code: ClassVar[str] = "not-found"
    exit_code: ClassVar[int] = 4


class DeniedError(EdgewrightError):
    """AWS does not know these credentials, or does not let them do this."""

    code: ClassVar[str] = "denied"


class UnavailableError(EdgewrightError):
    """A service did not answer; running the same command again completes it."""

    code: ClassVar[str] = "unavailable"
    exit_code: ClassVar[int] = 5
