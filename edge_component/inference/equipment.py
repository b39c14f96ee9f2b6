"""What rules ask for beside a session: a way to share runs, a state to carry, another version to compare with.

The failure this exists for: a rule that is accepted and silently does nothing. :func:`problem` says, before a table is
followed, why a model cannot do what its rules ask; for a model that comes later, what it cannot do is left out and logged.

A mirror is made once for each rule and pair of versions, so that its counts outlive a swap of anything else.
"""

import logging
import random
from collections.abc import Callable

from edge_component.contracts.manifest import Manifest
from edge_component.contracts.routes import ModelRules, ShadowRule
from edge_component.inference.batching import Batcher, is_batchable
from edge_component.inference.sequences import SequenceLimits, Sequences, state_pairs, states_problem
from edge_component.inference.session import Session
from edge_component.inference.shadow import Shadowing, ShadowMirror
from edge_component.inference.versions import ActiveModel, Detour, Mirror, Version, Wake

log = logging.getLogger(__name__)

MIRRORS_MAX = 64


def problem(manifest: Manifest, rules: ModelRules) -> str:
    """One sentence on why this model cannot follow its rules, or an empty string."""
    pairs = state_pairs(manifest, rules)
    if pairs and rules.shadow is not None:
        return "a model whose state is carried cannot be shadowed: the shadow has no state to begin with"
    if pairs and rules.batch is not None:
        return "a model whose state is carried cannot be batched"
    if rules.batch is not None and not is_batchable(manifest):
        return "it cannot be batched: not every input and output has a free first axis of numbers"
    return states_problem(manifest, pairs)


class RuledEquipment:
    """An :class:`~edge_component.inference.versions.Equipment`; called under the router's lock."""

    def __init__(self, shadowing: Shadowing, limits: SequenceLimits, draw: Callable[[], float] = random.random) -> None:
        """Nothing made yet."""
        self._shadowing = shadowing
        self._limits = limits
        self._draw = draw
        self._mirrors: dict[tuple[ShadowRule, int, int], ShadowMirror] = {}

    def detour(self, manifest: Manifest, session: Session, rules: ModelRules) -> Detour | None:
        """Carried state, else batching, else none."""
        amiss = problem(manifest, rules)
        if amiss:
            log.warning("%s %s does not follow its rules: %s", manifest.model_name, manifest.version, amiss)
            return None
        pairs = state_pairs(manifest, rules)
        if pairs:
            return Sequences(session, pairs, self._limits)
        return Batcher(session, rules.batch) if rules.batch is not None else None

    def mirror(self, answering: ActiveModel, rule: ShadowRule, shadow: Version, wake: Wake) -> Mirror | None:
        """The same one for the same rule and versions."""
        key = (rule, answering.generation, shadow.generation)
        known = self._mirrors.get(key)
        if known is None:
            if len(self._mirrors) >= MIRRORS_MAX:
                self._mirrors.pop(next(iter(self._mirrors)))
            known = self._mirrors[key] = ShadowMirror(
                rule, shadow, answering.manifest, self._shadowing, wake, self._draw
            )
        return known
