"""Setting the route table: checked against what this device holds, persisted, then followed; and reported.

The failures this exists for: a table that answers nobody because it names a version that is not here; one that is
forgotten by the next start; and two operators who overwrite each other (the second is told, by the table's revision).

A table that is *set* must be one that can be followed now: its versions are loaded before it is accepted, and take and give
the same tensors. A table that is *restored* is followed as far as it can be, and what cannot is a reason in the heartbeat,
since the versions held change under it with every deployment: no rule keeps a version from being activated. What belongs to a
version that has gone, or has other tensors than the one that is active now, goes to that one until it fits again. choice.py
decides; the router acts. Setting is one at a time; reading needs no lock.
"""

import logging
import threading
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

from edge_component.bundles.unpack import store_error
from edge_component.contracts.codec import Document
from edge_component.contracts.errors import ContractError
from edge_component.contracts.heartbeat import ModelRef
from edge_component.contracts.routes import NO_RULES, ArmReport, ModelRules, RouteTable, RoutingReport, split_name
from edge_component.durable import replace_file
from edge_component.errors import DeviceError, RouteConflictError, RouteError
from edge_component.inference.choice import Held, missing, shadow_of, shares
from edge_component.inference.equipment import problem
from edge_component.inference.router import Router
from edge_component.sealed import seal, unseal

log = logging.getLogger(__name__)

ROUTES_FILE = "routes.json"
ROUTES_BYTES_MAX = 60_000
"""The table crosses the admin socket in one line of 65,536 bytes."""
OTHER_TENSORS = "Have such a version asked for by its own name: an alias, or `NAME@VERSION`."


class Routing:
    """See the module's text."""

    def __init__(self, work_path: Path, router: Router) -> None:
        """The router follows the empty table until :meth:`restore`."""
        self._path = work_path / ROUTES_FILE
        self._router = router
        self._lock = threading.Lock()

    @property
    def table(self) -> RouteTable:
        """What is followed."""
        return self._router.table

    def restore(self) -> tuple[str, ...]:
        """Follow what was last set; called once, when the models have been restored. Returns what is amiss."""
        with self._lock:
            try:
                table = read_table(self._path.parent)
            except (OSError, ContractError) as error:
                return (self._set_aside(error),)
            self._router.set_table(table)
            for ref in _ruled(table, self._router.held()):
                try:
                    self._router.wake(ref)
                except DeviceError as error:
                    log.warning("%s %s is routed to, and cannot be loaded yet: %s", ref.name, ref.version, error)
        return ()

    def set(self, table: RouteTable) -> RouteTable:
        """Follow another table from the next request on, and after every start; returns it with its new revision.

        Raises:
            RouteConflictError: it was made from another revision than the one that is followed.
            RouteError: it names a model or a version that is not here, or one that cannot be loaded.
            StoreError: it could not be persisted. In every case the table before holds.
        """
        with self._lock:
            followed = self._router.table
            if table.revision != followed.revision:
                raise RouteConflictError(f"made from revision {table.revision}; {followed.revision} is followed")
            self._check(table)
            following = replace(table, revision=table.revision + 1)
            self._persist(following)
            self._router.set_table(following)
            log.info("route table %d is followed", following.revision)
            return following

    def missing(self) -> tuple[str, ...]:
        """One sentence for each rule that cannot be followed with what is held now."""
        return missing(self.table, self._router.held())

    def report(self, name: str) -> RoutingReport | None:
        """What became of a model's rules; ``None`` where none are set."""
        table = self.table
        held = self._router.held().get(name)
        rules = table.rules(name)
        if rules == NO_RULES or held is None:
            return None
        return RoutingReport(table.revision, self._arms(rules, held), self._router.shadow_report(name))

    def to_document(self) -> Document:
        """The table with what of it cannot be followed, and the versions held; the admin command's result."""
        held = self._router.held()
        return {
            "table": self.table.to_document(),
            "missing": list(missing(self.table, held)),
            "held": {
                name: [ref.version for ref in (found.active, *found.others)] for name, found in sorted(held.items())
            },
        }

    def _arms(self, rules: ModelRules, held: Held) -> tuple[ArmReport, ...]:
        among = shares(rules.split, held)
        whole = sum(share.weight for share in among)
        generations = {version.ref: version.generation for version in self._router.versions(held.active.name)}
        reports: list[ArmReport] = []
        for share in among:
            totals = self._router.totals(share.ref.name, generations.get(share.ref, 0))
            ratio = share.weight / whole
            reports.append(
                ArmReport(share.ref.version, share.ref.digest, ratio, totals.answered_count, totals.failed_count)
            )
        return tuple(reports)

    def _check(self, table: RouteTable) -> None:
        held = {name: Held(found.active, found.others) for name, found in self._router.held().items()}
        named = {split_name(target)[0] for target in table.aliases.values()} | set(table.models)
        unknown = sorted(named - set(held))
        if unknown:
            raise RouteError(f"no model named {unknown[0]!r} serves here; there are {sorted(held)}")
        taken = sorted(set(table.aliases) & set(held))
        if taken:
            raise RouteError(f"{taken[0]!r} is a model's own name, and cannot be an alias")
        for alias, target in table.aliases.items():
            name, version = split_name(target)
            if version and held[name].find(version) is None:
                raise RouteError(f"{alias}: version {version} of {name} is not on this device")
        problems = missing(table, held)
        if problems:
            raise RouteError("; ".join(problems))
        for ref in _ruled(table, held):
            try:
                manifest = self._router.wake(ref).manifest
            except DeviceError as error:
                raise RouteError(f"{ref.name} {ref.version} cannot be loaded: {error}", error.remedy) from error
            amiss = problem(manifest, table.rules(ref.name))
            if amiss:
                raise RouteError(f"{ref.name} {ref.version}: {amiss}")
        problems = missing(table, self._router.held(table))
        if problems:
            raise RouteError("; ".join(problems), OTHER_TENSORS)

    def _persist(self, table: RouteTable) -> None:
        content = seal(table.to_document())
        if len(content) > ROUTES_BYTES_MAX:
            raise RouteError(f"the table takes {len(content)} bytes; at most {ROUTES_BYTES_MAX} are allowed")
        try:
            replace_file(self._path, content)
        except OSError as error:
            raise store_error(error, f"writing {ROUTES_FILE}") from error

    def _set_aside(self, error: Exception) -> str:
        aside = self._path.with_name(f"{ROUTES_FILE}.damaged")
        sentence = f"{ROUTES_FILE} cannot be read ({error}); it is kept as {aside.name}, and no rules are followed"
        try:
            self._path.replace(aside)
        except OSError as refusal:
            log.warning("%s could not be set aside: %s", ROUTES_FILE, refusal)
        log.error("%s", sentence)
        return sentence


def read_table(work_path: Path) -> RouteTable:
    """What was last set in a work folder; the empty table if nothing ever was.

    Raises:
        OSError, ContractError: it cannot be read.
    """
    try:
        return RouteTable.read(unseal((work_path / ROUTES_FILE).read_bytes(), ROUTES_BYTES_MAX))
    except FileNotFoundError:
        return RouteTable()


def _ruled(table: RouteTable, held: dict[str, Held]) -> Iterator[ModelRef]:
    """Every version, of those held, that a rule names."""
    for name, rules in table.models.items():
        if name in held:
            yield from (share.ref for share in shares(rules.split, held[name]))
            ref = shadow_of(rules, held[name])
            if ref is not None:
                yield ref
