"""``model.toml``: what a training job and its compilation are asked for, as one frozen value.

The failure this exists for: a misspelt key that silently becomes a default, and is noticed when the job has been paid
for. Every unknown key is refused, and every error names the file and the field. Nothing is contacted here; the sources
named must lie in the model's folder, or the job would miss them.
"""

import re
import tomllib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path

from cloud.errors import InvalidInputError
from cloud.jobs.processing import SMALL_MACHINE, Machine
from cloud.names import MODEL_COMPONENT_PATTERN, MODEL_NAME_PATTERN
from cloud.s3_uri import S3Uri
from edge_component.contracts.codec import Fields, as_text, schema_name
from edge_component.contracts.errors import ContractError, MalformedError
from edge_component.contracts.manifest import PLATFORMS

SPECIFICATION_FILE = "model.toml"
INSTANCE_PATTERN = re.compile(r"^ml\.[a-z0-9-]+\.[a-z0-9]+$")
METRIC_COUNT_MAX = 40
"""MetricDefinitions that CreateTrainingJob takes."""

HYPERPARAMETER_COUNT_MAX = 100
"""Hyperparameters that CreateTrainingJob takes."""


@dataclass(frozen=True, slots=True)
class Specification:
    """One model folder's ``model.toml``.

    Attributes:
        folder: where it was read.
        model_name: what clients ask for; also the prefix of job names.
        component_name: the Greengrass component that will carry it.
        entry_point: the training script, one of ``sources``.
        sources: files of the folder that the job gets as channel ``code``.
        hyperparameters: as strings, as SageMaker carries them.
        metrics: metric name to the regular expression that finds it in the script's output.
        training, compilation, publication: the jobs' machines; the last one is optional in the file.
        platforms: what is compiled for.
    """

    folder: Path
    model_name: str
    component_name: str
    entry_point: str
    sources: tuple[str, ...]
    hyperparameters: Mapping[str, str]
    metrics: Mapping[str, str]
    training: Machine
    compilation: Machine
    publication: Machine
    platforms: tuple[str, ...]

    @property
    def job_files(self) -> tuple[str, ...]:
        """What a training job gets as channel ``code``: its sources, and ``model.toml``, which later stages look up."""
        return tuple(dict.fromkeys((*self.sources, SPECIFICATION_FILE)))

    def check_hyperparameters(self, names: Iterable[str]) -> None:
        """Each is one that the model knows: an override that nobody reads is a misspelt one.

        Raises:
            InvalidInputError: naming the first that is not.
        """
        unknown = sorted(set(names) - set(self.hyperparameters))
        if unknown:
            raise InvalidInputError(
                f"{unknown[0]!r} is no hyperparameter of {self.model_name}",
                f"model.toml names {', '.join(sorted(self.hyperparameters)) or 'none'}.",
            )

    @classmethod
    def load(cls, folder: Path) -> "Specification":
        """Read ``model.toml`` from a model's folder.

        Raises:
            InvalidInputError: naming the file, and the field where there is one.
        """
        path = folder / SPECIFICATION_FILE
        try:
            data = path.read_bytes()
        except OSError as error:
            raise InvalidInputError(
                f"{path} cannot be read: {error.strerror}", "Give the folder that holds model.toml."
            ) from error
        specification = cls.from_bytes(data, path)
        try:
            _check_sources(specification)
        except ContractError as error:
            raise _refused(path, error) from error
        return specification

    @classmethod
    def from_bytes(cls, data: bytes, origin: Path | S3Uri) -> "Specification":
        """Read a ``model.toml`` that came from ``origin``, without looking whether its sources are there.

        Raises:
            InvalidInputError: naming the origin, and the field where there is one.
        """
        try:
            document = tomllib.loads(data.decode())
        except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
            raise InvalidInputError(f"{origin} is not TOML: {error}", "Correct the named line.") from error
        try:
            return _read(origin.parent if isinstance(origin, Path) else Path(), document)
        except ContractError as error:
            raise _refused(origin, error) from error


def _refused(origin: Path | S3Uri, error: ContractError) -> InvalidInputError:
    return InvalidInputError(f"{origin}: {error}", "Correct the named field.")


def _read(folder: Path, document: object) -> Specification:
    fields = Fields(document)
    found = fields.text("schema")
    if found != schema_name("training", 1):
        raise MalformedError(f"is {found!r}; this reader knows {schema_name('training', 1)!r}", "schema")
    model = fields.nested("model", Fields)
    training = fields.nested("training", Fields)
    compilation = fields.nested("compilation", Fields)
    specification = Specification(
        folder=folder,
        model_name=model.text("name", pattern=MODEL_NAME_PATTERN),
        component_name=model.text("component", pattern=MODEL_COMPONENT_PATTERN),
        entry_point=training.text("entry_point"),
        sources=training.items("sources", as_text),
        hyperparameters=training.table("hyperparameters", _as_hyperparameter),
        metrics=training.table("metrics", _as_pattern),
        training=replace(
            _machine(training),
            instance_count=training.optional("instance_count", lambda name: training.integer(name, minimum=1)) or 1,
        ),
        compilation=_machine(compilation),
        publication=fields.optional("publication", lambda name: _whole_machine(fields.nested(name, Fields)))
        or SMALL_MACHINE,
        platforms=compilation.items("platforms", _as_platform),
    )
    for section in (fields, model, training, compilation):
        for unknown in section.rest():
            raise MalformedError("is not a field of model.toml", section.path(unknown))
    _check(specification)
    return specification


def _check_sources(specification: Specification) -> None:
    for source in specification.sources:
        if Path(source).name != source or not (specification.folder / source).is_file():
            raise MalformedError(f"{source!r} is not a file in {specification.folder}", "training.sources")


def _check(specification: Specification) -> None:
    if specification.entry_point not in specification.sources:
        raise MalformedError(f"{specification.entry_point!r} is not among the sources", "training.entry_point")
    if not specification.platforms:
        raise MalformedError(f"is empty; known are {', '.join(PLATFORMS)}", "compilation.platforms")
    for name, table, limit in (
        ("training.metrics", specification.metrics, METRIC_COUNT_MAX),
        ("training.hyperparameters", specification.hyperparameters, HYPERPARAMETER_COUNT_MAX),
    ):
        if len(table) > limit:
            raise MalformedError(f"has {len(table)} entries; SageMaker takes {limit}", name)


def _machine(fields: Fields) -> Machine:
    return Machine(
        instance_type=fields.text("instance_type", pattern=INSTANCE_PATTERN),
        volume_gb=fields.integer("volume_gb", minimum=1, maximum=16_384),
        max_runtime_s=fields.integer("max_runtime_s", minimum=1, maximum=2_419_200),
    )


def _whole_machine(fields: Fields) -> Machine:
    machine = _machine(fields)
    for unknown in fields.rest():
        raise MalformedError("is not a field of model.toml", fields.path(unknown))
    return machine


def _as_hyperparameter(value: object, where: str) -> str:
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, str | int | float):
        return str(value)
    raise MalformedError("must be a string, a number, or true or false", where)


def _as_pattern(value: object, where: str) -> str:
    text = as_text(value, where)
    try:
        groups = re.compile(text).groups
    except re.error as error:
        raise MalformedError(f"is not a regular expression: {error}", where) from error
    if groups != 1:
        raise MalformedError(f"must hold one group, the number; it holds {groups}", where)
    return text


def _as_platform(value: object, where: str) -> str:
    text = as_text(value, where)
    if text not in PLATFORMS:
        raise MalformedError(f"{text!r} is none of {', '.join(PLATFORMS)}", where)
    return text
