"""One generation of a model bound to one slot of shared memory: inputs read, and outputs written, where they lie.

The failure this exists for: a copy and a page of Python for each tensor of each request. What can be settled once, for
one model and one set of input shapes, is settled when the binding is made; a request then runs it, and nothing else.

Belongs to one connection's thread. It holds for exactly the generation and shapes it was made for; channel.py makes
another when either changes.
"""

from collections.abc import Callable
from functools import partial
from typing import Any, Protocol

from edge_component.contracts.fastpath import Region
from edge_component.inference.deadline import Leash
from edge_component.inference.errors import RequestError, RunDeadlineError, RunFailedError
from edge_component.inference.router import ActiveModel
from edge_component.inference.session import Array, refuse_nan
from edge_component.serving.detoured import Memory, copied_in, packed_dimensions
from edge_component.serving.layout import fixed_bytes

Outputs = tuple[dict[str, Array], bytes]
"""Outputs as views on the slot, and their dimensions as an answer carries them."""


class BindableMemory(Memory, Protocol):
    """The channel, as far as a binding needs it."""

    def address(self, region: Region, slot: int) -> int:
        """Where a tensor begins in this process."""


class Binding:
    """One generation of the model bound to one slot, for one set of input shapes.

    Outputs whose shape is known are written where the client reads them. The shape of a dynamic output is first learned
    from a run that computes into ONNX Runtime's own memory; from then on it counts as known. If a later run has another
    shape for the same input shapes (it depends on the values), ONNX Runtime refuses it, the run is repeated the first
    way, and the binding stays with that way.
    """

    __slots__ = (
        "_io", "_layout", "_may_settle", "_memory", "_settled", "_shapes_are_fixed", "_slot",
        "active", "checks_nan", "dimensions", "inputs", "run_bound",
    )  # fmt: skip

    def __init__(
        self, active: ActiveModel, inputs: dict[str, Array], dimensions: bytes, memory: BindableMemory, slot: int
    ) -> None:
        """Bind the inputs; outputs follow with the first run."""
        self.active = active
        self.inputs = inputs
        self.dimensions = dimensions
        self._memory = memory
        self._slot = slot
        self._layout = memory.layout
        self.checks_nan = active.session.nan_policy == "refuse"
        self._io = active.session.ort_session.io_binding()
        self.run_bound = bound_run(active.session.ort_session, self._io)
        for region in self._layout.inputs:
            view = inputs[region.spec.name]
            self._io.bind_input(region.spec.name, "cpu", 0, view.dtype.type, view.shape, memory.address(region, slot))
        self._may_settle = True
        self._settled: Outputs | None = None
        self._shapes_are_fixed = all(fixed_bytes(region.spec) is not None for region in self._layout.outputs)
        if self._shapes_are_fixed:
            self._settle({region.spec.name: region.spec.shape for region in self._layout.outputs})

    @property
    def settled(self) -> Outputs | None:
        """Where each run writes the outputs, as long as :attr:`run_bound` does not raise; ``None`` before that is known."""
        return self._settled

    def check(self) -> None:
        """Refuse what the model refuses to be asked; raises InputNanError."""
        for region in self._layout.inputs:
            refuse_nan(region.spec, self.inputs[region.spec.name])

    def run(self, leash: Leash, allowed_s: float) -> Outputs:
        """Compute.

        Raises:
            RequestError: NaN refused, failed, stopped by its deadline, or an answer that does not fit.
        """
        if self.checks_nan:
            self.check()
        settled = self._settled
        if settled is None:
            return self._run_unsettled(leash, allowed_s)
        leash.start(allowed_s)
        try:
            self.run_bound(leash.options)
        except Exception as error:  # noqa: BLE001 - onnxruntime raises a dozen unrelated classes from C++
            return self.recover(error, leash, allowed_s, was_stopped=leash.end())
        leash.end()
        return settled

    def recover(self, error: Exception, leash: Leash, allowed_s: float, *, was_stopped: bool) -> Outputs:
        """After a settled run that raised, and its leash's end: computes again where only the outputs' shapes were wrong.

        Raises:
            RequestError: as :meth:`run`.
        """
        failure = _failure(error, allowed_s, was_stopped=was_stopped)
        if self._shapes_are_fixed or isinstance(failure, RunDeadlineError):
            raise failure from error
        self._settled, self._may_settle = None, False
        return self._run_unsettled(leash, allowed_s)

    def _run_unsettled(self, leash: Leash, allowed_s: float) -> Outputs:
        for region in self._layout.outputs:
            self._io.bind_output(region.spec.name, "cpu")
        leash.start(allowed_s)
        try:
            self.run_bound(leash.options)
        except Exception as error:  # as in run
            raise _failure(error, allowed_s, was_stopped=leash.end()) from error
        leash.end()
        outputs = {
            region.spec.name: copied_in(self._memory, region, value.numpy(), self._slot)
            for region, value in zip(self._layout.outputs, self._io.get_outputs(), strict=True)
        }
        if self._may_settle:
            self._settle({name: array.shape for name, array in outputs.items()})
        return outputs, packed_dimensions(outputs)

    def _settle(self, shapes: dict[str, tuple[int, ...]]) -> None:
        """From now on write the outputs where the client reads them."""
        views: dict[str, Array] = {}
        for region in self._layout.outputs:
            name = region.spec.name
            view = views[name] = self._memory.view(region, shapes[name], self._slot)
            address = self._memory.address(region, self._slot)
            self._io.bind_output(name, "cpu", 0, view.dtype.type, view.shape, address)
        echoes = tuple((view, self.inputs[name]) for name, view in views.items() if name in self.inputs)
        if echoes and self._settled is None:
            self.run_bound = partial(_run_and_echo, self.run_bound, echoes)
        self._settled = views, packed_dimensions(views)


def _run_and_echo(run: Callable[[Any], None], echoes: tuple[tuple[Array, Array], ...], options: Any) -> None:  # noqa: ANN401 - onnxruntime ships no types
    """Run, and copy what is an output and an input of the graph at once: ONNX Runtime leaves its bound memory untouched."""
    run(options)
    for output, given in echoes:
        output[...] = given


def _failure(error: Exception, allowed_s: float, *, was_stopped: bool) -> RequestError:
    """What a run that raised has ended in."""
    if was_stopped:
        return RunDeadlineError(f"stopped after {allowed_s:g} s")
    return RunFailedError(f"ONNX Runtime failed in mid-run: {str(error)[:300]}")


def bound_run(ort_session: Any, io: Any) -> Callable[[Any], None]:  # noqa: ANN401 - onnxruntime ships no types
    """What runs a bound session, given run options.

    ONNX Runtime 1.31's public method asks about captured GPU graphs before each run, for a third of a small model's own
    time; so its C++ entry is taken where it is to be found, and the public method elsewhere.
    """
    try:
        return partial(ort_session._sess.run_with_iobinding, io._iobinding)  # noqa: SLF001 - see above
    except AttributeError:
        return partial(ort_session.run_with_iobinding, io)
