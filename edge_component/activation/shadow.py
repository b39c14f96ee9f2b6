"""The shadow stage: before the switch, a candidate is asked what the active model is asked, and the answers are compared.

The failure this exists for: a model that passes its golden samples and answers nonsense to what *this* device sees. It
answers nobody meanwhile: requests are mirrored through a bounded queue after the active model has answered, and what does
not fit the queue is not compared.

What agreeing means is inference/agreement.py's: both lead to the same label. A candidate that fails, or has to be
stopped, disagrees. An operator's own shadow of a version that stays beside the active one is inference/shadow.py's.

The comparing is done by the activator's own thread, and ends by itself.
"""

import queue
from collections.abc import Iterator
from contextlib import contextmanager, suppress

from edge_component.activation.live import LiveRequests
from edge_component.clock import Clock
from edge_component.config import RuntimeConfig
from edge_component.contracts.manifest import Manifest, TensorSpec
from edge_component.errors import ShadowDisagreedError
from edge_component.inference.agreement import Agreement, compare
from edge_component.inference.deadline import DeadlineWatch, Leash
from edge_component.inference.session import Array, Session
from edge_component.inference.versions import ActiveModel
from edge_component.telemetry_sink import Tensors

QUEUE_MAX = 32
"""Requests; each is a copy of its tensors."""
FAILED = Agreement(compared_count=1)
"""One request that the candidate did not answer."""


def comparable(active: ActiveModel, candidate: Manifest) -> bool:
    """Both take and give the same tensors; a version with another signature cannot be asked another's requests.

    Nor can one whose state the runtime carries: what callers give is not all that the graph takes.
    """
    if _forms(active.inputs) != _forms(candidate.inputs) or _forms(active.outputs) != _forms(candidate.outputs):
        return False
    sizes = (
        pair
        for one, other in zip(active.inputs, candidate.inputs, strict=True)
        for pair in zip(one.shape, other.shape, strict=True)
    )
    return all(size == other or -1 in (size, other) for size, other in sizes)


def objection(compared: Agreement, config: RuntimeConfig) -> ShadowDisagreedError | None:
    """Why the candidate must not be switched to, if so. Too few requests speak neither for nor against it."""
    asked, agreed = compared.compared_count, compared.agreed_count
    if asked < max(config.probation_requests_min, 1) or agreed >= config.shadow_agreement_min * asked:
        return None
    return ShadowDisagreedError(
        f"it agreed with the active version on {agreed} of {asked} live requests; "
        f"{config.shadow_agreement_min:.0%} are asked for"
    )


def compare_live(
    live: LiveRequests, active: ActiveModel, candidate: Session, config: RuntimeConfig, clock: Clock, allowed_s: float
) -> Agreement:
    """Ask the candidate what ``active`` is asked, until enough was compared or time is up."""
    asked: queue.Queue[tuple[Tensors, Tensors]] = queue.Queue(QUEUE_MAX)

    def mirror(inputs: Tensors, outputs: Tensors) -> None:
        if asked.full():
            return
        with suppress(queue.Full):  # another connection was faster
            asked.put_nowait((_copies(inputs), _copies(outputs)))

    compared, ends_at_s = Agreement(), clock.monotonic_s() + allowed_s
    with _watched(clock) as leash:
        live.mirror(active.ref.digest, mirror)
        try:
            while compared.compared_count < config.shadow_requests_max and clock.monotonic_s() < ends_at_s:
                try:
                    inputs, outputs = asked.get(timeout=max(ends_at_s - clock.monotonic_s(), 0))
                except queue.Empty:
                    break
                left_s = max(ends_at_s - clock.monotonic_s(), 0)
                answer = _answer(candidate, inputs, leash, min(left_s, config.run_s_max))
                compared = compared.plus(FAILED if answer is None else compare(outputs, answer, active.manifest))
        finally:
            live.stop_mirroring()
    return compared


def _answer(candidate: Session, inputs: Tensors, leash: Leash, allowed_s: float) -> Tensors | None:
    """What the candidate says; ``None`` if it fails or takes too long."""
    names = [spec.name for spec in candidate.outputs]
    leash.start(allowed_s)
    try:
        arrays = candidate.ort_session.run(names, dict(inputs), leash.options)
    except Exception:  # noqa: BLE001 - onnxruntime raises a dozen unrelated classes; any of them is a failed answer
        return None
    finally:
        leash.end()
    return dict(zip(names, arrays, strict=True))


@contextmanager
def _watched(clock: Clock) -> Iterator[Leash]:
    watch = DeadlineWatch(clock)
    watch.start()
    try:
        yield watch.leash()
    finally:
        watch.stop()


def _copies(tensors: Tensors) -> dict[str, Array]:
    return {name: array.copy() for name, array in tensors.items()}


def _forms(specs: tuple[TensorSpec, ...]) -> list[tuple[str, str, int]]:
    return [(spec.name, spec.dtype, len(spec.shape)) for spec in specs]
