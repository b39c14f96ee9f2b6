"""Whether two versions of a model take and give the same tensors, as their callers see them. Pure.

The failure this exists for: a split whose arms take different tensors. Every caller fails for the share of the other arm's,
or reads an output that another version would not give it; and a shadow that is shown what it cannot take only counts
failures. Inputs are alike if name, dtype and shape are; of an output's shape, a dimension that one version leaves open is
like any. What the runtime carries from one request of a sequence to the next (sequences.py) is each version's own affair.
"""

from collections.abc import Mapping, Sequence

from edge_component.contracts.manifest import Manifest, TensorSpec
from edge_component.contracts.routes import ModelRules
from edge_component.inference.sequences import state_pairs

TOLD_MAX = 3
NAME_CHARS_MAX = 60
_Specs = Mapping[str, TensorSpec]


def unlike(one: Manifest, other: Manifest, rules: ModelRules, *, may_give_more: bool = False) -> str:
    """How the other's tensors differ, by name, in one sentence without its full stop; empty if they do not.

    ``may_give_more``: outputs that only the other has do not count.
    """
    if one == other:
        return ""
    taken, given = _seen(one, rules)
    other_taken, other_given = _seen(other, rules)
    if may_give_more:
        other_given = {name: spec for name, spec in other_given.items() if name in given}
    found = [
        *_differences("input", taken, other_taken, one.version, other.version),
        *_differences("output", given, other_given, one.version, other.version),
    ]
    more = f"; and {len(found) - TOLD_MAX} more" if len(found) > TOLD_MAX else ""
    return "; ".join(found[:TOLD_MAX]) + more


def _seen(manifest: Manifest, rules: ModelRules) -> tuple[_Specs, _Specs]:
    """Inputs and outputs but for those that are carried."""
    pairs = state_pairs(manifest, rules)
    carried, becomes = {pair.input for pair in pairs}, {pair.output for pair in pairs}
    return (
        {spec.name: spec for spec in manifest.inputs if spec.name not in carried},
        {spec.name: spec for spec in manifest.outputs if spec.name not in becomes},
    )


def _differences(kind: str, some: _Specs, others: _Specs, version: str, other_version: str) -> list[str]:
    names = [*some, *(name for name in others if name not in some)]
    return [
        f"{kind} {name[:NAME_CHARS_MAX]!r} is {_said(one)} in {version}, {_said(other)} in {other_version}"
        for name in names
        if not _alike(one := some.get(name), other := others.get(name), may_be_open=kind == "output")
    ]


def _alike(one: TensorSpec | None, other: TensorSpec | None, *, may_be_open: bool) -> bool:
    if one is None or other is None or one.dtype != other.dtype:
        return False
    if not may_be_open:
        return one.shape == other.shape
    return len(one.shape) == len(other.shape) and all(map(_fits, one.shape, other.shape))


def _fits(size: int, other: int) -> bool:
    return size == other or -1 in (size, other)


def _said(spec: TensorSpec | None) -> str:
    return "not there" if spec is None else f"{spec.dtype} {_shape(spec.shape)}"


def _shape(shape: Sequence[int]) -> str:
    return f"[{', '.join(map(str, shape))}]"
