"""The nucleus's exception tree: leaves say which part failed and why.

Two of them steer: :class:`SourceUnavailableError` makes a deployment wait and try again, as Greengrass Lite does; every
other :class:`DeploymentFailedError` is a deployment's verdict.
"""

from typing import ClassVar

from simulator.errors import SimulatorError


class NucleusError(SimulatorError):
    """Root of everything the nucleus raises on purpose."""


class FrameError(NucleusError):
    """Bytes that are no event-stream frame; the connection cannot go on, since the next frame's start is unknown."""


class RootPathError(NucleusError):
    """The device's root folder cannot be used; nothing was started."""


class StateError(NucleusError):
    """The device's own state file cannot be read; nothing was started and nothing was overwritten."""


class CloudOfflineError(NucleusError):
    """There is no MQTT connection at this moment."""


class SourceUnavailableError(NucleusError):
    """The data plane or S3 did not answer; the same question may be asked again."""


class ProvisioningError(NucleusError):
    """A thing, its group or its certificate could not be made; running it again completes it."""


class DeviceRunningError(NucleusError):
    """The folder's device is running already; it was left alone."""


class ComponentSlotsError(NucleusError):
    """As many components as this nucleus can tell apart have had a token already; none was given."""


class ControlError(NucleusError):
    """A running device could not be told something over its control socket."""


class DeploymentFailedError(NucleusError):
    """Root of what makes a deployment FAILED; what is installed is as the failing phase left it.

    Attributes:
        code: what stands in the nucleus's log, kebab-case.
    """

    code: ClassVar[str] = "deployment-failed"


class DocumentError(DeploymentFailedError):
    """A deployment document lacks a field or has one of the wrong type."""

    code: ClassVar[str] = "document-invalid"


class RecipeError(DeploymentFailedError):
    """A recipe breaks a rule of the nucleus; the sentence names the field."""

    code: ClassVar[str] = "recipe-invalid"


class NoManifestError(RecipeError):
    """No manifest of the recipe is for this platform."""

    code: ClassVar[str] = "recipe-no-manifest"


class NotSimulatedError(RecipeError):
    """The real nucleus does what the recipe asks for, and this one does not: nothing is done rather than something else."""

    code: ClassVar[str] = "not-simulated"


class UnknownVariableError(RecipeError):
    """A ``{`` in a script or in Setenv that this nucleus cannot replace."""

    code: ClassVar[str] = "recipe-unknown-variable"


class VersionRangeError(DeploymentFailedError):
    """A version or a version requirement that is not semantic versioning."""

    code: ClassVar[str] = "version-range-invalid"


class ResolutionError(DeploymentFailedError):
    """No version of a component satisfies everything that is asked of it."""

    code: ClassVar[str] = "resolution-failed"


class SourceRefusedError(DeploymentFailedError):
    """The data plane or S3 answered no; asking again would not help."""

    code: ClassVar[str] = "source-refused"


class DigestMismatchError(DeploymentFailedError):
    """A downloaded artifact is not the one the recipe names; the bad file stays on disk, as Lite leaves it."""

    code: ClassVar[str] = "artifact-digest-mismatch"


class ArchiveError(DeploymentFailedError):
    """An artifact that should be a zip archive cannot be unpacked."""

    code: ClassVar[str] = "artifact-archive-invalid"


class ComponentBrokenError(DeploymentFailedError):
    """A component failed as often as the nucleus tries."""

    code: ClassVar[str] = "component-broken"


class ComponentNotReadyError(DeploymentFailedError):
    """A component reached neither RUNNING nor FINISHED in time."""

    code: ClassVar[str] = "component-not-ready"
