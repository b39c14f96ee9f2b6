"""The route table: which version of a model answers whom, as an operator sets it and a runtime reports it.

The failure this exists for: a trial of a new version that needs a release of the application. Names, shares and shadows
are therefore data on the device, changed while it serves (admin command ``route``), and reported in the heartbeat.

It says what is *wanted*. What a device can do of it depends on the versions it holds; edge_component/inference/choice.py
decides that, and never answers with a version that is not there, or with one of a split whose tensors are others.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Self

from edge_component.contracts.codec import (
    DIGEST_PATTERN,
    NOTHING,
    VERSION_PATTERN,
    Document,
    Fields,
    Table,
    as_text,
    schema_name,
)
from edge_component.contracts.errors import MalformedError

ACTIVE = "active"
PREVIOUS = "previous"
SELECTORS = (ACTIVE, PREVIOUS)
"""Words for whichever version answers now, or answered before it; anything else is an exact version."""

PIN = "@"
"""``weather@1.2.0`` asks for exactly that version."""

WEIGHT_MAX = 1_000_000
ARMS_MAX = 8


@dataclass(frozen=True, slots=True)
class Arm:
    """One version's part of a split: its share is its weight over the sum of all weights."""

    version: str
    weight: int
    extra: Mapping[str, Any] = NOTHING

    @classmethod
    def read(cls, value: object, where: str) -> Self:
        """Decode one element of ``split``."""
        fields = Fields(value, where)
        return cls(_selector(fields, "version"), fields.integer("weight", maximum=WEIGHT_MAX), fields.rest())

    def to_document(self) -> Document:
        """Encode."""
        return {**self.extra, "version": self.version, "weight": self.weight}


@dataclass(frozen=True, slots=True)
class ShadowRule:
    """A version that is asked the same as the answering one, for comparison only: this share of the requests."""

    version: str
    sample_ratio: float
    extra: Mapping[str, Any] = NOTHING

    @classmethod
    def read(cls, value: object, where: str) -> Self:
        """Decode ``shadow``."""
        fields = Fields(value, where)
        version, sample_ratio = _selector(fields, "version"), fields.number("sample_ratio")
        if not 0 < sample_ratio <= 1:
            raise MalformedError("must be above 0 and at most 1", fields.path("sample_ratio"))
        return cls(version, sample_ratio, fields.rest())

    def to_document(self) -> Document:
        """Encode."""
        return {**self.extra, "version": self.version, "sample_ratio": self.sample_ratio}


@dataclass(frozen=True, slots=True)
class BatchRule:
    """Requests that arrive together are computed together: so many rows at most, waiting so long at most."""

    rows_max: int
    delay_us_max: int
    extra: Mapping[str, Any] = NOTHING

    @classmethod
    def read(cls, value: object, where: str) -> Self:
        """Decode ``batch``."""
        fields = Fields(value, where)
        return cls(
            fields.integer("rows_max", minimum=2, maximum=65_536),
            fields.integer("delay_us_max", maximum=1_000_000),
            fields.rest(),
        )

    def to_document(self) -> Document:
        """Encode."""
        return {**self.extra, "rows_max": self.rows_max, "delay_us_max": self.delay_us_max}


@dataclass(frozen=True, slots=True)
class StatePair:
    """A tensor that the runtime carries from one request of a sequence to the next: that output becomes that input."""

    input: str
    output: str
    extra: Mapping[str, Any] = NOTHING

    @classmethod
    def read(cls, value: object, where: str) -> Self:
        """Decode one element of ``states``."""
        fields = Fields(value, where)
        return cls(fields.text("input"), fields.text("output"), fields.rest())

    def to_document(self) -> Document:
        """Encode."""
        return {**self.extra, "input": self.input, "output": self.output}


@dataclass(frozen=True, slots=True)
class ModelRules:
    """What is set for one model name; the defaults are a model that nobody has set anything for.

    Attributes:
        split: who answers, by weight; empty: the active version alone.
        shadow: who is asked besides.
        batch: dynamic batching.
        states: tensors carried per sequence; they come before those that the bundle's manifest names.
        in_flight_max, queue_max: instead of the runtime's own limits.
    """

    split: tuple[Arm, ...] = ()
    shadow: ShadowRule | None = None
    batch: BatchRule | None = None
    states: tuple[StatePair, ...] = ()
    in_flight_max: int | None = None
    queue_max: int | None = None
    extra: Mapping[str, Any] = NOTHING

    @classmethod
    def read(cls, value: object, where: str) -> Self:
        """Decode one entry of ``models``."""
        fields = Fields(value, where)
        return cls(
            split=_split(fields),
            shadow=fields.optional("shadow", lambda name: fields.nested(name, ShadowRule.read)),
            batch=fields.optional("batch", lambda name: fields.nested(name, BatchRule.read)),
            states=fields.items("states", StatePair.read),
            in_flight_max=fields.optional("in_flight_max", lambda name: fields.integer(name, minimum=1)),
            queue_max=fields.optional("queue_max", fields.integer),
            extra=fields.rest(),
        )

    def to_document(self) -> Document:
        """Encode."""
        known: dict[str, Any] = {
            **self.extra,
            "split": [arm.to_document() for arm in self.split],
            "states": [pair.to_document() for pair in self.states],
        }
        for name in ("shadow", "batch"):
            rule: ShadowRule | BatchRule | None = getattr(self, name)
            if rule is not None:
                known[name] = rule.to_document()
        for name in ("in_flight_max", "queue_max"):
            if (limit := getattr(self, name)) is not None:
                known[name] = limit
        return known


@dataclass(frozen=True, slots=True)
class RouteTable:
    """``routes.json``, and what the admin command ``route`` shows and sets.

    Attributes:
        revision: counts changes. Whoever sets a table names the revision it was made from, and is refused if another
            came between.
        aliases: another name for a model (``weather``) or for one version of it (``weather@1.2.0``); never for an alias.
        models: rules by model name.
    """

    revision: int = 0
    aliases: Mapping[str, str] = NOTHING
    models: Mapping[str, ModelRules] = NOTHING
    extra: Mapping[str, Any] = NOTHING

    def rules(self, model_name: str) -> ModelRules:
        """A model's; the defaults where nothing is set."""
        return self.models.get(model_name, NO_RULES)

    @classmethod
    def read(cls, document: object) -> Self:
        """Decode.

        Raises:
            ContractError: naming the field.
        """
        fields = Fields(document)
        fields.schema("route-table", 1)
        revision = fields.integer("revision")
        aliases = fields.table("aliases", as_text)
        for alias, target in aliases.items():
            _check_alias(alias, target, aliases)
        return cls(revision, aliases, fields.table("models", ModelRules.read), fields.rest())

    def to_document(self) -> Document:
        """Encode; the inverse of :meth:`read`."""
        return {
            **self.extra,
            "schema": schema_name("route-table", 1),
            "revision": self.revision,
            "aliases": dict(self.aliases),
            "models": {name: rules.to_document() for name, rules in self.models.items()},
        }


NO_RULES = ModelRules()


@dataclass(frozen=True, slots=True)
class ArmReport:
    """One version that may answer, as the device resolved it; counts are since the process started."""

    version: str
    digest: str
    share_ratio: float
    answered_count: int
    failed_count: int
    extra: Mapping[str, Any] = NOTHING

    @classmethod
    def read(cls, value: object, where: str) -> Self:
        """Decode one element of ``arms``."""
        fields = Fields(value, where)
        return cls(
            fields.text("version", pattern=VERSION_PATTERN),
            fields.text("digest", pattern=DIGEST_PATTERN),
            fields.number("share_ratio"),
            fields.integer("answered_count"),
            fields.integer("failed_count"),
            fields.rest(),
        )

    def to_document(self) -> Document:
        """Encode."""
        return {
            **self.extra,
            "version": self.version,
            "digest": self.digest,
            "share_ratio": self.share_ratio,
            "answered_count": self.answered_count,
            "failed_count": self.failed_count,
        }


@dataclass(frozen=True, slots=True)
class ShadowReport:
    """How a shadow has compared, since it was set.

    Attributes:
        compared_count: requests that both versions answered.
        agreed_count: of those, the ones whose outputs lead to the same label (inference/agreement.py says how).
        dropped_count: sampled, and not compared because the queue was full.
        failed_count: not answered by the shadow.
        difference_max: the largest absolute difference of any output value.
    """

    version: str
    digest: str
    compared_count: int
    agreed_count: int
    dropped_count: int
    failed_count: int
    difference_max: float
    extra: Mapping[str, Any] = NOTHING

    @classmethod
    def read(cls, value: object, where: str) -> Self:
        """Decode ``shadow`` of a report."""
        fields = Fields(value, where)
        return cls(
            version=fields.text("version", pattern=VERSION_PATTERN),
            digest=fields.text("digest", pattern=DIGEST_PATTERN),
            compared_count=fields.integer("compared_count"),
            agreed_count=fields.integer("agreed_count"),
            dropped_count=fields.integer("dropped_count"),
            failed_count=fields.integer("failed_count"),
            difference_max=fields.number("difference_max"),
            extra=fields.rest(),
        )

    def to_document(self) -> Document:
        """Encode."""
        return {
            **self.extra,
            "version": self.version,
            "digest": self.digest,
            "compared_count": self.compared_count,
            "agreed_count": self.agreed_count,
            "dropped_count": self.dropped_count,
            "failed_count": self.failed_count,
            "difference_max": self.difference_max,
        }


@dataclass(frozen=True, slots=True)
class RoutingReport:
    """What became of one model's rules: optional part of the heartbeat, there only where rules are set."""

    revision: int
    arms: tuple[ArmReport, ...]
    shadow: ShadowReport | None = None
    extra: Mapping[str, Any] = NOTHING

    @classmethod
    def read(cls, value: object, where: str) -> Self:
        """Decode ``routing`` of a served model."""
        fields = Fields(value, where)
        return cls(
            fields.integer("revision"),
            fields.items("arms", ArmReport.read),
            fields.optional("shadow", lambda name: fields.nested(name, ShadowReport.read)),
            fields.rest(),
        )

    def to_document(self) -> Document:
        """Encode."""
        known: dict[str, Any] = {
            **self.extra,
            "revision": self.revision,
            "arms": [arm.to_document() for arm in self.arms],
        }
        if self.shadow is not None:
            known["shadow"] = self.shadow.to_document()
        return known


def split_name(asked: str) -> tuple[str, str]:
    """``weather@1.2.0`` as name and version; the version is empty where none is asked for."""
    name, _, version = asked.partition(PIN)
    return name, version


def _selector(fields: Fields, name: str) -> str:
    version = fields.text(name)
    if version not in SELECTORS and not VERSION_PATTERN.fullmatch(version):
        raise MalformedError(f"{version!r} is neither a version nor one of {', '.join(SELECTORS)}", fields.path(name))
    return version


def _split(fields: Fields) -> tuple[Arm, ...]:
    arms = fields.items("split", Arm.read)
    where = fields.path("split")
    if len(arms) > ARMS_MAX:
        raise MalformedError(f"has {len(arms)} arms; at most {ARMS_MAX} are allowed", where)
    if len({arm.version for arm in arms}) != len(arms):
        raise MalformedError("names a version twice", where)
    if arms and not any(arm.weight for arm in arms):
        raise MalformedError("has no weight above 0: nobody would answer", where)
    return arms


def _check_alias(alias: str, target: str, aliases: Mapping[str, str]) -> None:
    where = f"aliases.{alias}"
    name, version = split_name(target)
    if not alias or PIN in alias:
        raise MalformedError(f"an alias is a name without {PIN}", where)
    if name in aliases:
        raise MalformedError(f"leads to {name!r}, which is an alias itself", where)
    if not name or (PIN in target and not VERSION_PATTERN.fullmatch(version)):
        raise MalformedError(f"{target!r} is neither a name nor name{PIN}version", where)


def table_with(table: RouteTable, model_name: str, rules: ModelRules) -> RouteTable:
    """The next revision, with other rules for one model; the default rules remove its entry."""
    models = {name: kept for name, kept in table.models.items() if name != model_name}
    if rules != NO_RULES:
        models[model_name] = rules
    return RouteTable(table.revision, table.aliases, Table(models), table.extra)
