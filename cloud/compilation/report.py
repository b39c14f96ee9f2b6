"""What compiling did and why, for people (``report.txt``) and programs (``report.json``). Pure.

A refused model has a report too: it is the report that is refused with, never a stack trace.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from cloud.compilation.errors import CompilationRefusedError
from cloud.compilation.result import Variant
from cloud.errors import ModelRefusedError
from edge_component.contracts.codec import schema_name

REPORT_FILE = "report.json"
REPORT_TEXT_FILE = "report.txt"


@dataclass(frozen=True, slots=True)
class Report:
    """The outcome.

    Attributes:
        model_name: empty where compiling did not come to know it.
        refused_code: empty, or the stable code of the refusal.
        sentence: the outcome in one sentence.
        remedy: what to do about a refusal.
        notes: what was worth saying on the way, such as a simplifier that failed.
        variants: what was chosen, with every gate's verdict.
        duration_s: of the whole stage.
    """

    model_name: str
    refused_code: str
    sentence: str
    remedy: str = ""
    notes: tuple[str, ...] = ()
    variants: tuple[Variant, ...] = ()
    duration_s: float = 0.0

    @property
    def was_refused(self) -> bool:
        """Whether there is no compilation."""
        return bool(self.refused_code)

    def require_compiled(self) -> None:
        """Raise what refused the model, if something did.

        Raises:
            CompilationRefusedError: with the report's sentence and remedy.
        """
        if self.was_refused:
            raise CompilationRefusedError(self.sentence, self.remedy)

    def to_document(self) -> Mapping[str, Any]:
        """``report.json``."""
        return {
            "schema": schema_name("compilation-report", 1),
            "model_name": self.model_name,
            "outcome": "refused" if self.was_refused else "compiled",
            "code": self.refused_code,
            "sentence": self.sentence,
            "remedy": self.remedy,
            "notes": list(self.notes),
            "variants": [variant.to_document() for variant in self.variants],
            "duration_s": round(self.duration_s, 3),
        }

    def lines(self) -> Iterator[str]:
        """What was chosen and why, without the verdicts that led there."""
        for variant in self.variants:
            yield _choice(variant)
        yield from (f"note: {note}" for note in self.notes)

    def to_text(self) -> str:
        """``report.txt``."""
        lines = [self.sentence, *([f"remedy: {self.remedy}"] if self.remedy else []), ""]
        for variant in self.variants:
            lines += [_choice(variant)]
            lines += [f"  {'pass' if verdict.passed else 'FAIL'}  {verdict.sentence}" for verdict in variant.verdicts]
        lines += [f"note: {note}" for note in self.notes]
        return "\n".join(lines).rstrip() + f"\ntook {self.duration_s:.1f} s\n"


def _choice(variant: Variant) -> str:
    return f"{variant.platform}: {variant.precision}" + (f" ({variant.reason})" if variant.reason else "")


def refusal_report(model_name: str, error: ModelRefusedError, notes: tuple[str, ...], duration_s: float) -> Report:
    """The report of a refused model."""
    name = model_name or "the model"
    return Report(model_name, error.code, f"{name} is refused: {error}", error.remedy, notes, (), duration_s)


def compiled_report(
    model_name: str, variants: tuple[Variant, ...], notes: tuple[str, ...], duration_s: float
) -> Report:
    """The report of a compiled model."""
    chosen = ", ".join(f"{variant.precision} for {variant.platform}" for variant in variants)
    return Report(model_name, "", f"{model_name} is compiled: {chosen}", "", notes, variants, duration_s)
