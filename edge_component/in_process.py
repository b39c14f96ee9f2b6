"""The third door: the runtime inside a Python program, for those who want no process boundary.

The failure this exists for: a program that loads ``model.onnx`` by itself to save the hop, and with it loses verification,
versions, limits and telemetry. This is the same router, store and activation as behind the sockets::

    with Runtime.own(work, trust) as runtime:               # a work folder of the program's own
        runtime.activate(bundle, "com.edgewright.model.Weather", "1.2.0")
        answer = runtime.infer("weather", {"input": rows})

    with Runtime.beside("/greengrass/v2/work/com.edgewright.Runtime") as runtime:
        answer = runtime.infer("weather", {"input": rows})  # the device's models, read only
        runtime.refresh()                                   # follow what the device's runtime has activated since

``own`` holds its work folder like the runtime's process does, and watches over probations by a thread. ``beside`` changes
nothing on the disk: it checks each bundle's bytes against the digest in the journal, which the device's runtime verified.

May be used from any number of threads. A child of ``fork`` has none of those that watch over deadlines and probations: there
the runtime answers nothing any more, and ``beside`` opens another one.
"""

import logging
import threading
import time
from collections.abc import Mapping
from pathlib import Path
from types import TracebackType
from typing import Self

import numpy as np
from numpy.typing import ArrayLike

from edge_component.activation.journal import Journal
from edge_component.bundles.store import Store
from edge_component.bundles.verification import Asked
from edge_component.client import Answer, InputError
from edge_component.client.channel import converted
from edge_component.client.forks import forget_in_children
from edge_component.clock import SystemClock
from edge_component.config import RuntimeConfig
from edge_component.contracts.activation import ActivationEvent
from edge_component.contracts.routes import RouteTable
from edge_component.core import Core, CoreParts, Inference
from edge_component.errors import DeviceError, StartError
from edge_component.inference.computing import compute
from edge_component.inference.deadline import Leash
from edge_component.inference.errors import InputTypeError, RunDeadlineError
from edge_component.inference.execution import session_options
from edge_component.inference.loading import AnnouncingLoader, StoreLoader
from edge_component.inference.router import ActiveModel, Route, Router, Tally
from edge_component.inference.routing import read_table
from edge_component.inference.session import Array, Tensors, tensor_dtype
from edge_component.inference.versions import NO_TURN, Turn
from edge_component.serving.failures import speaks_against_the_model
from edge_component.telemetry_sink import NullSink, Outcome, ShieldedSink, TelemetrySink

log = logging.getLogger(__name__)

TICK_S = 0.5
NO_TENSORS: Tensors = {}


class Runtime:
    """See the module's text; made by :meth:`own` or :meth:`beside`."""

    def __init__(self, inference: Inference, config: RuntimeConfig, sink: ShieldedSink) -> None:
        """Use :meth:`own` or :meth:`beside`."""
        self._inference = inference
        self._config = config
        self._sink = sink
        self._mine = threading.local()
        self._tallies_lock = threading.Lock()
        self._tallies: dict[int, Tally] = {}
        self._core: Core | None = None
        self._reader: _Reader | None = None
        self._ended = threading.Event()
        self._keeper = threading.Thread(target=self._keep, name="in-process runtime", daemon=True)
        self._is_parents = False
        forget_in_children(self)

    @classmethod
    def own(
        cls,
        work_path: str | Path,
        trust_path: str | Path,
        config: RuntimeConfig | None = None,
        sink: TelemetrySink | None = None,
    ) -> Self:
        """Over a work folder of this program's own, accepting bundles signed by a key in ``trust_path``.

        Raises:
            NoTrustError: no usable public key.
            AlreadyRunningError: another runtime serves from this work folder.
            StoreError, OSError: the work folder cannot be used.
        """
        config, shielded = config or RuntimeConfig(), ShieldedSink(sink or NullSink())
        core = Core(CoreParts(Path(work_path), Path(trust_path), config, shielded))
        for problem in core.start():
            log.warning("%s", problem)
        runtime = cls(core.inference, config, shielded)
        runtime._core = core
        runtime._keeper.start()
        return runtime

    @classmethod
    def beside(
        cls, work_path: str | Path, config: RuntimeConfig | None = None, sink: TelemetrySink | None = None
    ) -> Self:
        """Over the device's runtime's own work folder, read only.

        Raises:
            StartError: there is no such folder.
            StoreDamagedError: what serves there cannot be read.
            DeviceError: a model could not be loaded.
        """
        if not Path(work_path).is_dir():
            raise StartError(f"{work_path} is no folder", "Give the work folder of the device's runtime.")
        config, shielded = config or RuntimeConfig(), ShieldedSink(sink or NullSink())
        inference = Inference(config, SystemClock())
        runtime = cls(inference, config, shielded)
        runtime._reader = _Reader(Path(work_path), inference.router, config, shielded)
        runtime._reader.refresh()
        inference.watch.start()
        runtime._keeper.start()
        return runtime

    @property
    def router(self) -> Router:
        """Who answers; for looking, and for what has no method here."""
        return self._inference.router

    def infer(
        self,
        model: str,
        inputs: Mapping[str, ArrayLike],
        *,
        deadline_s: float | None = None,
        key: str = "",
        turn: Turn = NO_TURN,
    ) -> Answer:
        """Ask a model, in this thread.

        Args:
            model: its name, an alias, or ``name@version``.
            inputs: one array per input, of the model's dtype; lists are converted where they lose nothing by it.
            deadline_s: for waiting and computing together; without it the configuration's ``run_s_max``.
            key: whose request it is, where versions share the name.
            turn: of which sequence, where the model's state is carried.

        Raises:
            UnknownModelError: nothing serves under that name.
            RequestError: not answered; the leaf says why.
            StartError: in a child of ``fork``.
        """
        began_ns = time.perf_counter_ns()
        allowed_s = self._allowed_s(deadline_s)
        route = self.router.route(model)
        active = route.active or route.resolve(key)
        arrays: dict[str, Array] = {}
        try:
            arrays = _as_arrays(active, inputs)
            outputs = compute(active, arrays, self._leash(), allowed_s, turn)
        except DeviceError as error:
            against = speaks_against_the_model(error, allowed_s, self._config)
            self._settle(route, active, arrays, NO_TENSORS, began_ns, error.code, against_the_model=against)
            raise
        run_us = self._settle(route, active, arrays, outputs, began_ns, None, against_the_model=False)
        return Answer(outputs, active.ref, run_us)

    def activate(
        self, archive: str | Path, component_name: str, version: str, *, allowed_s: float = 60.0
    ) -> ActivationEvent:
        """Verify, try and serve a bundle; see :meth:`Activator.activate`.

        Raises:
            StartError: this runtime was opened beside another one, which activates what it serves.
            DeviceError: refused; what served before serves on.
        """
        if self._core is None:
            raise StartError("this runtime only reads", "Hand the bundle to the device's runtime, or use Runtime.own.")
        return self._core.activator.activate(Path(archive).absolute(), Asked(component_name, version), allowed_s)

    def set_routes(self, table: RouteTable) -> RouteTable:
        """Follow another route table; see :meth:`Routing.set`.

        Raises:
            StartError: this runtime was opened beside another one, whose table it follows.
            RouteError, StoreError: the table before holds.
        """
        if self._core is None:
            raise StartError("this runtime only reads", "Use `edgewright-edge route`, or Runtime.own.")
        return self._core.routing.set(table)

    def refresh(self) -> None:
        """Serve what the device's runtime serves by now (``beside``; else nothing happens).

        Raises:
            StoreDamagedError, ModelError: what could not be read or loaded is as before.
        """
        if self._reader is not None:
            self._reader.refresh()

    def close(self) -> None:
        """End its threads and let go of the work folder; no request may be under way, or follow."""
        self._ended.set()
        if self._keeper.ident is not None:
            self._keeper.join()
        if self._core is not None:
            self._core.stop()
        else:
            self._inference.stop()
        self._sink.stop()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _keep(self) -> None:
        while not self._ended.wait(TICK_S):
            try:
                (self._core or self.router).tick()
            except Exception:  # answering does not depend on it
                log.exception("watching over models failed; it will be tried again")

    def _forget(self) -> None:
        """In a child that was just forked; see client/forks.py."""
        self._is_parents = True

    def _allowed_s(self, deadline_s: float | None) -> float:
        if self._is_parents:
            raise StartError(
                "this runtime is the parent process's: nobody here watches over deadlines",
                "Open one in the child: Runtime.beside the same work folder.",
            )
        if deadline_s is None:
            return self._config.run_s_max
        if not deadline_s > 0:  # nor NaN, after which no run would be stopped
            raise RunDeadlineError(f"a deadline of {deadline_s:g} s leaves no time to ask")
        return min(deadline_s, self._config.run_s_max)

    def _leash(self) -> Leash:
        leash: Leash | None = getattr(self._mine, "leash", None)
        if leash is None:
            leash = self._mine.leash = self._inference.watch.leash()
        return leash

    def _settle(
        self,
        route: Route,
        active: ActiveModel,
        inputs: Tensors,
        outputs: Tensors,
        began_ns: int,
        code: str | None,
        *,
        against_the_model: bool,
    ) -> int:
        """Count, mirror and record; returns how long it took in µs."""
        run_us = (time.perf_counter_ns() - began_ns) // 1000
        with self._tallies_lock:
            tally = self._tallies.get(active.generation)
            if tally is None:
                tally = self._tallies[active.generation] = self.router.open_tally(route, active.generation)
            tally.answered_count += code is None
            tally.failed_count += against_the_model
        if active.mirror is not None and code is None:
            active.mirror.offer(inputs, outputs)
        try:
            self._sink.record(Outcome(active.ref, inputs, outputs, run_us, code))
        except Exception:  # telemetry must never cost an answer
            log.exception("telemetry failed")
        return run_us


class _Reader:
    """Another runtime's work folder, followed without touching it."""

    def __init__(self, work_path: Path, router: Router, config: RuntimeConfig, sink: ShieldedSink) -> None:
        self._work_path = work_path
        self._router = router
        self._sink = sink
        self._journal = Journal(work_path)
        self._loader = StoreLoader(Store(work_path), session_options(config))
        self._lock = threading.Lock()
        router.load_with(AnnouncingLoader(self._loader, sink))

    def refresh(self) -> None:
        with self._lock:
            slots = self._journal.peek().slots
            for name, slot in slots.items():
                self._router.hold(name, slot.answerable)
                if slot.wanted is not None and slot.wanted.ref != self._router.answering(name):
                    self._router.make_room(slot.wanted.ref)
                    loaded = self._loader.load(slot.wanted.ref)
                    self._router.switch(slot.wanted.ref, loaded.manifest, loaded.session, loaded.size_bytes)
                    self._sink.model_switched(slot.wanted.ref, loaded.baseline, loaded.manifest)
            for name in set(self._router.names()) - set(slots):
                self._router.remove(name)
            self._router.set_table(read_table(self._work_path))


def _as_arrays(active: ActiveModel, inputs: Mapping[str, ArrayLike]) -> dict[str, Array]:
    """Lists as arrays of the model's dtype; arrays as they are, for the session to check.

    Raises:
        InputTypeError: a list that is no array, or would not be the same in that dtype.
    """
    dtypes = {spec.name: tensor_dtype(spec.dtype) for spec in active.inputs}
    try:
        return {
            name: value if isinstance(value, np.ndarray) else converted(name, value, dtypes.get(name))
            for name, value in inputs.items()
        }
    except InputError as error:
        raise InputTypeError(str(error), error.remedy) from error
