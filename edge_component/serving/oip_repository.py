"""The repository, statistics and readiness calls, which both doors answer alike.

Load and unload: on this device what serves is what a signed deployment brought, and the fleet is told so. A local client
must not be able to change that by a call that needs no proof of who it is. So *load* says whether the model serves
(clients that load before they ask go on working), and *unload* is refused, with the way that does it.
"""

from collections.abc import Collection
from dataclasses import dataclass, replace
from typing import Any, Self

from edge_component.errors import DeviceError
from edge_component.polling import Polling
from edge_component.serving.oip_documents import (
    model_config,
    model_metadata,
    repository_index,
    server_metadata,
    takes_batches,
)
from edge_component.serving.oip_errors import OipUnsupportedError
from edge_component.serving.oip_service import OipService
from edge_component.serving.regions import Regions
from edge_component.serving.serving import Serving

Document = dict[str, Any]


class Repository:
    """May be used from any thread."""

    def __init__(self, service: OipService, *, shared_memory: bool) -> None:
        """``shared_memory``: whether that extension is on."""
        self._service = service
        self._shared_memory = shared_memory

    def server_metadata(self) -> Document:
        """Who serves, and which extensions there are."""
        return server_metadata(self._service.serving.runtime_version, shared_memory=self._shared_memory)

    def model_metadata(self, name: str, version: str) -> Document:
        """A model's tensors.

        Raises:
            UnknownModelError, UnknownVersionError: it does not serve.
        """
        return model_metadata(self._service.find(name, version)[1])

    def model_config(self, name: str, version: str) -> Document:
        """Triton's configuration of it.

        Raises:
            UnknownModelError, UnknownVersionError: it does not serve.
        """
        return model_config(self._service.find(name, version)[1])

    def is_ready(self, name: str, version: str) -> bool:
        """Whether it answers now, or is loaded as soon as somebody asks: asking whether it is ready loads nothing."""
        try:
            plan = self._service.route(name, version).plan
        except DeviceError:
            return False
        return plan is not None and any(known.loaded is not None or known.failure is None for known in plan.versions)

    def index(self) -> list[Document]:
        """Everything that serves, in memory or not."""
        router = self._service.serving.router
        found = (router.answering(name) for name in router.names())
        return repository_index(ref for ref in found if ref is not None)

    def statistics(self, name: str, version: str) -> Document:
        """Of one model in one version, or in all that may answer for its name; of all models if the name is empty.

        Versions go by their release numbers, unless one was asked for by its name: Triton's own client for measuring
        reads them as whole numbers.

        Raises:
            UnknownModelError, UnknownVersionError: it does not serve.
        """
        if name:
            found = [self._service.find(name, version)[1]] if version else self._service.answering(name)
        else:
            router = self._service.serving.router
            found = [active for known in router.names() if (active := router.active(known)) is not None]
        document = self._service.statistics.document
        return {
            "model_stats": [
                document(active.ref, version or str(active.manifest.release), batched=takes_batches(active))
                for active in found
            ]
        }

    def load(self, name: str, overrides: Collection[str] = ()) -> None:
        """Make sure that it serves.

        Raises:
            UnknownModelError: it does not; a deployment of its component brings it.
            OipUnsupportedError: the client brings a configuration or files of its own.
        """
        self._service.find(name, "")
        if overrides:
            raise OipUnsupportedError(
                f"{name} serves as it was signed; {', '.join(sorted(overrides))} cannot be put in its place here",
                "Publish it anew, or set rules with `edgewright-edge route`.",
            )

    def unload(self, name: str) -> None:
        """Refuse.

        Raises:
            UnknownModelError: there is none of that name.
            OipUnsupportedError: always else; see the module's text.
        """
        self._service.find(name, "")
        raise OipUnsupportedError(
            f"{name} serves because a deployment brought it; no client of this door may take it away",
            "Remove its component from the deployment.",
        )


@dataclass(frozen=True, slots=True)
class Behind:
    """What is behind every door of the protocol; ``regions`` is ``None`` where shared memory is switched off."""

    service: OipService
    repository: Repository
    regions: Regions | None
    polling: Polling

    @classmethod
    def make(cls, serving: Serving, *, shared_memory: bool, tensor_bytes_max: int) -> Self:
        """One for all doors of a runtime, so that a region registered at one is known at the other."""
        service = OipService(serving)
        regions = Regions(tensor_bytes_max) if shared_memory else None
        return cls(service, Repository(service, shared_memory=shared_memory), regions, serving.polling)

    def without_shared_memory(self) -> Self:
        """The same for a door beyond loopback: another machine shares no memory, and has no business in this one's."""
        return replace(self, repository=Repository(self.service, shared_memory=False), regions=None)
