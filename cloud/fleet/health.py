"""Is a device well, and does it serve what is wanted of it? Pure.

The failure this exists for: Greengrass reports SUCCEEDED, fleet status says RUNNING with the new version, and the
activation never ran (measured on Greengrass Lite when its deployment daemon or the nucleus dies in mid-deployment). So a
deployment's status is only a claim; what counts is the version and digest in the runtime's own heartbeat.

Rules, first match wins:

1. never heard                                             → ``unheard``
2. last heard longer ago than ``silent_after_s``           → ``silent``
3. wanted ≠ serving, Greengrass says it failed             → ``failed``   (the old model serves on)
4. wanted ≠ serving, Greengrass says SUCCEEDED and a heartbeat from ``settle_s`` later still differs → ``diverged``
5. wanted ≠ serving otherwise                              → ``changing``
6. the runtime says degraded, or a model failed to restore → ``degraded``
7.                                                           ``ok``

A retirement is wanted of a device, too: it differs as long as the runtime still reports the model, unless another
component of the device has taken over the model's name. A model that a heartbeat has no room for is neither served nor
missing: it differs in nothing, and rule 6 says so. Only a difference under rule 4 is for ``repair``.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta

from cloud.fleet.desired import Wanted
from cloud.fleet.facts import IN_PROGRESS_STATUSES
from cloud.names import MODEL_PREFIX, RUNTIME_COMPONENT, is_retirement
from edge_component.contracts.heartbeat import left_out_count

STATUSES = ("ok", "changing", "diverged", "failed", "degraded", "silent", "unheard", "unjudged")
SUCCEEDED = "SUCCEEDED"


@dataclass(frozen=True, slots=True)
class HealthLimits:
    """When silence and difference begin to mean something.

    Attributes:
        silent_after_s: three default heartbeats.
        settle_s: how much later than the deployment's end a heartbeat must be to disprove it.
    """

    silent_after_s: float = 180.0
    settle_s: float = 5.0


@dataclass(frozen=True, slots=True)
class Serving:
    """What the runtime says it answers with."""

    version: str
    digest: str
    state: str


@dataclass(frozen=True, slots=True)
class Claim:
    """What Greengrass says of one deployment on this device."""

    status: str
    reason: str
    changed_at: datetime


@dataclass(frozen=True, slots=True)
class DeviceView:
    """Everything known of one device.

    Attributes:
        heard_at: when AWS IoT received its newest heartbeat; ``None`` if never.
        models: by model name.
        wanted: by component name.
        claims: by deployment id.
        installed: component to version, as the nucleus claims; informative.
        configuration: digest by JSON pointer of the runtime's configuration, as it reports; ``None`` where it does not.
    """

    thing_name: str
    heard_at: datetime | None
    runtime_version: str
    health: str
    reasons: tuple[str, ...]
    models: Mapping[str, Serving]
    wanted: Mapping[str, Wanted]
    claims: Mapping[str, Claim]
    installed: Mapping[str, str]
    configuration: Mapping[str, str] | None = None


@dataclass(frozen=True, slots=True)
class Difference:
    """Wanted is not what serves; ``kind`` is ``failed``, ``diverged`` or ``changing`` (rules 3 to 5)."""

    kind: str
    wanted: Wanted
    serving_version: str
    sentence: str


@dataclass(frozen=True, slots=True)
class Verdict:
    """One of ``STATUSES``, why, and what differs."""

    status: str
    sentence: str
    differences: tuple[Difference, ...] = ()


def judge(view: DeviceView, now: datetime, limits: HealthLimits = HealthLimits()) -> Verdict:
    """Apply the rules above."""
    if view.heard_at is None:
        return Verdict("unheard", "No heartbeat has come from this device yet.")
    if now - view.heard_at > timedelta(seconds=limits.silent_after_s):
        return Verdict("silent", f"No heartbeat for more than {limits.silent_after_s:.0f} s.")
    differences = tuple(_differences(view, limits))
    for kind in ("failed", "diverged", "changing"):
        for difference in differences:
            if difference.kind == kind:
                return Verdict(kind, difference.sentence, differences)
    return _by_own_account(view)


def _by_own_account(view: DeviceView) -> Verdict:
    failed = sorted(name for name, model in view.models.items() if model.state == "failed")
    if failed:
        return Verdict("degraded", f"The runtime could not restore {', '.join(failed)}.")
    if view.health == "degraded":
        return Verdict("degraded", " ".join(view.reasons) or "The runtime says it is degraded and gives no reason.")
    if not view.wanted:
        return Verdict("ok", "Serves; no deployment of ours targets it.")
    retired = sorted(_model_name(one) for name, one in view.wanted.items() if is_retirement(name, one.version))
    notes = ["Serves what is wanted."]
    if retired:
        notes.append(f"Retired here: {', '.join(retired)}.")
    if lacking := _not_as_configured(view):
        notes.append(
            f"Its runtime's configuration is not what was set for it: {', '.join(lacking)}. A device that joins later gets "
            "none; send it again with edgewright deploy --runtime-config."
        )
    return Verdict("ok", " ".join(notes))


def _not_as_configured(view: DeviceView) -> list[str]:
    """JSON pointers that were set for this runtime, and that it reports otherwise; none where it reports nothing."""
    runtime = view.wanted.get(RUNTIME_COMPONENT)
    if runtime is None or view.configuration is None:
        return []
    held = view.configuration
    return sorted(pointer for pointer, digest in runtime.configured.items() if held.get(pointer) != digest)


def _differences(view: DeviceView, limits: HealthLimits) -> Iterable[Difference]:
    served = {_model_name(one) for name, one in view.wanted.items() if not is_retirement(name, one.version)}
    is_partial = left_out_count(view.reasons) > 0
    for name, wanted in sorted(view.wanted.items()):
        if is_retirement(name, wanted.version):
            model = _model_name(wanted)
            if model in view.models and model not in served:
                yield _difference(view, wanted, view.models[model], limits)
            continue
        if name == RUNTIME_COMPONENT:
            serving = Serving(view.runtime_version, "", "")
        elif name.startswith(MODEL_PREFIX):
            model = _model_name(wanted)
            if model not in view.models and is_partial:
                continue
            serving = view.models.get(model, Serving("", "", ""))
        else:
            continue
        if not _is_wanted(serving, wanted):
            yield _difference(view, wanted, serving, limits)


def _is_wanted(serving: Serving, wanted: Wanted) -> bool:
    """By digest where both are bundles. A runtime says its version alone: an archive's digest is known to no archive."""
    is_bundle = bool(wanted.digest) and wanted.component_name.startswith(MODEL_PREFIX)
    return serving.version == wanted.version and (not is_bundle or serving.digest == wanted.digest)


def _difference(view: DeviceView, wanted: Wanted, serving: Serving, limits: HealthLimits) -> Difference:
    claim = view.claims.get(wanted.deployment_id)
    what = wanted.model_name or wanted.component_name
    does_serve = bool(serving.version) and serving.state != "failed"
    now_serves = f"{serving.version} serves" if does_serve else "nothing serves"
    if does_serve and serving.version == wanted.version:
        now_serves = f"other bytes of that version serve (digest {serving.digest[:12]}…)"
    kind = _kind(view, claim, limits)
    sentence = _sentences(what, wanted, serving, now_serves)[kind]
    if kind == "failed" and claim and claim.reason:
        sentence = f"{sentence[:-1]} ({claim.reason})."
    if kind == "failed" and _lacks_platform(wanted):
        sentence += " It was published without a bundle for this device's platform: publish a version that has one."
    return Difference(kind, wanted, serving.version, sentence)


def _lacks_platform(wanted: Wanted) -> bool:
    """The nucleus finds nothing to install, so no runtime ever gives its reason: the publication does."""
    is_published = bool(wanted.model_name) and not is_retirement(wanted.component_name, wanted.version)
    return is_published and not wanted.digest


def _sentences(what: str, wanted: Wanted, serving: Serving, now_serves: str) -> Mapping[str, str]:
    """By kind of difference."""
    if is_retirement(wanted.component_name, wanted.version):
        return {
            "failed": f"{what} could not be retired; {serving.version} still serves.",
            "diverged": f"Greengrass reports {what} as retired, but {serving.version} still serves.",
            "changing": f"{what} is being retired; {serving.version} still serves.",
        }
    return {
        "failed": f"{what} {wanted.version} failed to deploy; {now_serves}.",
        "diverged": f"Greengrass reports {what} {wanted.version} as SUCCEEDED, but {now_serves}.",
        "changing": f"{what} {wanted.version} is on its way; {now_serves}.",
    }


def _kind(view: DeviceView, claim: Claim | None, limits: HealthLimits) -> str:
    if claim is None or claim.status in IN_PROGRESS_STATUSES:
        return "changing"
    if claim.status != SUCCEEDED:
        return "failed"
    settled_at = claim.changed_at + timedelta(seconds=limits.settle_s)
    return "diverged" if view.heard_at is not None and view.heard_at >= settled_at else "changing"


def _model_name(wanted: Wanted) -> str:
    """Without a publication record, the component's last word, lower-cased: the convention of ``model.toml``."""
    return wanted.model_name or wanted.component_name.removeprefix(MODEL_PREFIX).lower()
