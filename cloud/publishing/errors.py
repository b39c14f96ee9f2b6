"""Why something was not signed, published or deployed. Each leaf says which phase refused, and leaves nothing changed."""

from typing import ClassVar

from cloud.errors import ConflictError, EdgewrightError, InvalidInputError, NotFoundError, UnavailableError


class CompilationIncompleteError(InvalidInputError):
    """A compilation folder lacks a file that a bundle needs, or names one outside of itself."""

    code: ClassVar[str] = "compilation-incomplete"


class SigningKeyError(InvalidInputError):
    """The signing key is absent, unreadable, disabled or not a P-256 key."""

    code: ClassVar[str] = "signing-key-unusable"


class KeyExistsError(ConflictError):
    """A key file exists already; it was not touched."""

    code: ClassVar[str] = "key-exists"


class StatementTooLargeError(InvalidInputError):
    """The statement to sign is larger than what AWS KMS signs whole."""

    code: ClassVar[str] = "statement-too-large"


class RecipeInvalidError(InvalidInputError):
    """A recipe, once filled, would not work on every nucleus that Edgewright supports."""

    code: ClassVar[str] = "recipe-invalid"


class VersionConflictError(ConflictError):
    """The version exists with other bytes, another key or another recipe; nothing was uploaded."""

    code: ClassVar[str] = "version-conflict"


class ComponentTakenError(ConflictError):
    """The component's earlier versions carry a model of another name."""

    code: ClassVar[str] = "component-taken"


class ComponentFailedError(EdgewrightError):
    """Greengrass took the component version but will not deploy it."""

    code: ClassVar[str] = "component-failed"


class ComponentPendingError(UnavailableError):
    """Greengrass has not said within the deadline whether it will deploy the component version."""

    code: ClassVar[str] = "component-pending"


class WheelsUnavailableError(UnavailableError):
    """The runtime's wheels are neither in the cache nor to be had from the package index."""

    code: ClassVar[str] = "wheels-unavailable"


class TargetNotFoundError(NotFoundError):
    """No thing group and no core device has this name."""

    code: ClassVar[str] = "target-not-found"


class TargetUnsupportedError(InvalidInputError):
    """The target exists but cannot receive this kind of deployment."""

    code: ClassVar[str] = "target-unsupported"


class DeploymentTooLargeError(InvalidInputError):
    """The job document would exceed what a Greengrass Lite device can receive."""

    code: ClassVar[str] = "deployment-too-large"


class DeploymentFailedError(EdgewrightError):
    """At least one device reports that the deployment failed."""

    code: ClassVar[str] = "deployment-failed"


class DeploymentReplacedError(ConflictError):
    """A later deployment of the same target has taken this one's place before every device had reported."""

    code: ClassVar[str] = "deployment-replaced"


class DeploymentPendingError(UnavailableError):
    """The deadline passed before every device had reported; the deployment itself goes on."""

    code: ClassVar[str] = "deployment-pending"
