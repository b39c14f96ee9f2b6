"""Bad models, twenty of each kind, handed to a real runtime under load: each refused or reverted, the reason reported.

Five kinds must not get past their trial; the sixth is right, quick on its golden samples and slow on what the device is
really asked, so that only probation can find it. Meanwhile a client asks without pause: every answer must be right.
"""

import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

from edge_component.client import ClientError
from edge_component.contracts.manifest import Caps, Manifest
from tests.edge_component.bundle_factory import Bundle, BundleFactory, scale_golden, scale_model
from tests.edge_component.graphs import endless_model, hungry_model
from tests.faults.evil_graphs import crashing, slow_on_large_values
from tests.faults.served import Served, served
from tests.faults.strikes import Tally
from tests.faults.subject import Outcome

CONFIG = {"probation_s": 60, "probation_requests_min": 5, "probation_latency_ms_max": 20}
REVERT_WITHIN_S = 10.0


@dataclass(frozen=True)
class Kind:
    """``expected`` is the last event that each of them must have left."""

    model: Callable[[], bytes]
    expected: Outcome
    caps: Caps = Caps(load_timeout_ms=20_000)  # noqa: RUF009 - frozen


KINDS: dict[str, Kind] = {
    "NaN output": Kind(lambda: scale_model(float("nan")), ("refused", "golden", "golden-not-finite")),
    "wrong golden": Kind(lambda: scale_model(2.01), ("refused", "golden", "golden-mismatch")),
    "crash in load": Kind(crashing, ("refused", "load", "trial-crashed")),
    "out of memory": Kind(
        hungry_model, ("refused", "warm-up", "trial-out-of-memory"), Caps(20_000, memory_bytes_max=400_000_000)
    ),
    "hang": Kind(
        endless_model, ("refused", "warm-up", "trial-timeout"), Caps(load_timeout_ms=3_000)
    ),  # a busy machine loads in 1.5
    "too slow": Kind(lambda: slow_on_large_values(3_000), ("reverted", "probation", "probation-slow")),
}


def bad_models(folder: Path, each_count: int) -> Tally:
    """Hand them over, one by one."""
    tally, wanted = Tally(0, [], Counter()), Counter({("activated", "switch", ""): 1})
    with served(folder / "bad", CONFIG) as at:
        for number, (name, kind) in enumerate((n, k) for n, k in KINDS.items() for _ in range(each_count)):
            tally.points += 1
            wanted[kind.expected] += 1
            wanted["activated", "switch", ""] += kind.expected[0] == "reverted"
            failure = hand_over(at, make(at.bundles, kind, number), kind)
            if failure:
                tally.failures.append(f"{name}: {failure}")
            else:
                tally.seen[name] += 1
        if at.client.wrong or at.client.failed:
            tally.failures.append(f"the client was answered {at.client.wrong[:3]}, or failed: {at.client.failed[:3]}")
        tally.seen["right answers meanwhile"] = at.client.answered
    reported = at.reported()
    if reported != wanted:
        tally.failures.append(f"reported: {dict(reported - wanted)} too much, {dict(wanted - reported)} missing")
    return tally


def make(bundles: BundleFactory, kind: Kind, number: int) -> Bundle:
    def capped(manifest: Manifest) -> Manifest:
        return replace(manifest, caps=kind.caps)

    files = {"model.onnx": kind.model(), "golden.npz": scale_golden(2.0)}
    return bundles.scale(f"1.1.{number}", 2.0, release=number + 2, files=files, change=capped)


def hand_over(at: Served, bundle: Bundle, kind: Kind) -> str:
    """What went otherwise than it should, if anything did."""
    outcome, _, code = kind.expected
    try:
        at.runtime.admin.activate(bundle.archive, bundle.component, bundle.version)
    except ClientError as error:
        found = error.code
    else:
        found = ""
    if found != (code if outcome == "refused" else ""):
        return f"{found or 'activated'} instead of {code}"
    ends_at_s = time.monotonic() + REVERT_WITHIN_S
    while at.serving() != "1.0.0":
        if time.monotonic() > ends_at_s:
            return f"{at.serving()} still serves after {REVERT_WITHIN_S:g} s"
        time.sleep(0.05)
    return ""
