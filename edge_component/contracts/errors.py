"""What can be wrong with a message or a file that crosses between device and cloud."""


class ContractError(Exception):
    """Root: the bytes are not a valid message of this contract. Nothing was changed by the reader.

    Attributes:
        field: dotted path of the offending field, such as ``inputs[0].dtype``; empty for the whole message.
    """

    def __init__(self, problem: str, field: str = "") -> None:
        """State the problem; ``field`` is put in front of it."""
        super().__init__(f"{field}: {problem}" if field else problem)
        self.field = field


class MalformedError(ContractError):
    """Not JSON, not an object, or a field that is missing, of the wrong type or out of its range."""


class UnsupportedVersionError(ContractError):
    """A message of another kind, or of a later major version than this reader knows."""


class TooLargeError(ContractError):
    """More bytes than the contract allows; see ``limits``."""
