"""The simulator's exception tree: one root, leaves named by part and cause."""


class SimulatorError(Exception):
    """Root of everything the simulator raises on purpose.

    Attributes:
        remedy: what the reader should do next; one sentence.
    """

    def __init__(self, message: str, remedy: str = "") -> None:
        """Keep the sentence and its remedy apart."""
        super().__init__(message)
        self.remedy = remedy
