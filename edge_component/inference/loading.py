"""From a verified bundle in the store to a warm session: the one way in, whoever asks for it.

The failures this exists for: a model that is loaded one way when it is activated and another way when it is woken; a first
request that pays for what ONNX Runtime puts off until the first run; a memory budget that believes in file sizes; and a
graph that draws random numbers, had luck in its trial, and loops for ever here, where no change could follow it.

What loading takes is measured as the growth of this process, and is never less than the graph's file: the allocator may
have had the room already, and other threads allocate too. It is an estimate; what it is for bears that.
"""

import os
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from edge_component.bundles.store import Store
from edge_component.contracts.errors import ContractError
from edge_component.contracts.heartbeat import ModelRef
from edge_component.contracts.manifest import MANIFEST_FILE, MODEL_FILE, Manifest
from edge_component.errors import StoreDamagedError, TrialTimeoutError, UnloadableModelError
from edge_component.inference.deadline import run_options
from edge_component.inference.errors import RunFailedError
from edge_component.inference.execution import SessionOptions
from edge_component.inference.golden_file import load_golden
from edge_component.inference.session import Session
from edge_component.inference.versions import Loaded
from edge_component.telemetry_sink import TelemetrySink

STATM_FILE = Path("/proc/self/statm")
GROWTH_FACTOR = 3
"""Of memory over file size, before a model has ever been loaded here (measured: 2 for a pre-optimised graph, 3.3 else)."""
NO_MEMORY_REMEDY = "Free memory on the device, remove a model, or use a smaller one."
WARM_UP_S_MAX = 600.0
"""Of the first run, whatever the manifest's cap; that it took less in the trial is no promise."""


@dataclass(frozen=True, slots=True)
class StoreLoader:
    """A :class:`~edge_component.inference.versions.Loader` over the runtime's own store."""

    store: Store
    options: SessionOptions

    def load(self, ref: ModelRef) -> Loaded:
        """Check every byte, load, and answer one golden sample.

        Raises:
            StoreDamagedError: it is gone, or not what was verified.
            ModelError, RequestError: it cannot be loaded, or does not answer.
        """
        try:
            return self._load(ref)
        except MemoryError as error:
            raise UnloadableModelError("there is not enough memory to load it", NO_MEMORY_REMEDY) from error

    def _load(self, ref: ModelRef) -> Loaded:
        manifest = self.store.read(ref.digest)
        before_bytes = resident_bytes()
        session = warm_session(self.store.path(ref.digest), manifest, self.options)
        size_bytes = max(resident_bytes() - before_bytes, graph_bytes(manifest))
        try:
            return Loaded(manifest, session, size_bytes, self.store.baseline(ref.digest, manifest))
        except OSError as error:
            raise StoreDamagedError(f"the baseline of bundle {ref.digest[:12]} cannot be read: {error}") from error

    def needed_bytes(self, ref: ModelRef) -> int:
        """From the size of the graph's file; 0 if it cannot be read, since loading it will say why."""
        try:
            manifest = Manifest.from_bytes((self.store.path(ref.digest) / MANIFEST_FILE).read_bytes())
        except (OSError, ContractError):
            return 0
        return GROWTH_FACTOR * graph_bytes(manifest)


@dataclass(frozen=True, slots=True)
class AnnouncingLoader:
    """Tells telemetry what is loaded on demand: a version that is woken answers from then on, beside the active one."""

    loader: StoreLoader
    sink: TelemetrySink

    def load(self, ref: ModelRef) -> Loaded:
        """See :class:`StoreLoader`."""
        loaded = self.loader.load(ref)
        self.sink.model_switched(ref, loaded.baseline, loaded.manifest)
        return loaded

    def needed_bytes(self, ref: ModelRef) -> int:
        """See :class:`StoreLoader`."""
        return self.loader.needed_bytes(ref)


def warm_session(folder: Path, manifest: Manifest, options: SessionOptions) -> Session:
    """Load a bundle's graph and answer its first golden sample.

    Raises:
        ModelError, RequestError: it cannot be loaded, or does not answer.
    """
    session = Session.load(folder / MODEL_FILE, manifest, options)
    allowed_s = min(manifest.caps.load_timeout_ms / 1000, WARM_UP_S_MAX)
    with _stopped_after(allowed_s) as stoppable:
        try:
            session.run(load_golden(folder, manifest).first().inputs, stoppable)
        except RunFailedError as error:
            if not stoppable.terminate:
                raise
            raise TrialTimeoutError(f"its first sample took longer than {allowed_s:g} s, after its trial") from error
    return session


@contextmanager
def _stopped_after(allowed_s: float) -> Iterator[Any]:
    """Run options that end their run by then. Loads are few, and nobody watches over runs yet when the first ones are made."""
    options = run_options()
    timer = threading.Timer(allowed_s, setattr, (options, "terminate", True))
    timer.daemon = True
    with suppress(RuntimeError):  # no thread to be had: as good as it was
        timer.start()
    try:
        yield options
    finally:
        timer.cancel()


def graph_bytes(manifest: Manifest) -> int:
    """Size of the graph's file, as the manifest lists it."""
    listed = manifest.files.get(MODEL_FILE)
    return listed.size_bytes if listed is not None else 0


def resident_bytes() -> int:
    """What this process has in memory now; 0 where the kernel does not tell: no load fails for want of an estimate."""
    try:
        return int(STATM_FILE.read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")
    except OSError:
        return 0
