"""The device's exception tree: one root, leaves named by phase and cause.

Foreign errors (ONNX Runtime, cryptography, awscrt, the file system) are wrapped once, at the port that meets them, with
``from``. Every leaf carries a stable ``code``, which crosses the admin socket and reaches the fleet manager, and a
``remedy``: what a person should do about it.

::

    DeviceError
    ├── BundleError          what was handed over cannot be accepted; nothing was changed
    │   ├── ArchiveError  ManifestError  UnsignedError  SignatureError  UntrustedKeyError  TamperedError
    │   └── WrongComponentError  WrongVersionError  WrongPlatformError  ExpiredError  OlderReleaseError
    ├── StoreError           the disk would not take or give it
    │   └── StoreFullError  StoreDamagedError
    ├── ModelError           the graph itself is unfit to serve
    │   ├── UnloadableModelError  SignatureMismatchError  UnsupportedTensorError  GoldenUnusableError
    │   ├── GoldenMismatchError  NotFiniteError
    │   └── TrialCrashedError  TrialTimeoutError  TrialMemoryError  MemoryBudgetError
    ├── ActivationError      a change of what is served could not be made
    │   ├── UnknownVersionError  RouteConflictError  RouteError  NothingToLowerError
    │   └── UnknownModelError  NothingToRevertError  ActivationDeadlineError  ProbationFailedError
    │       ShadowDisagreedError  ProbationSlowError  TooManyStartsError  InterruptedActivationError
    ├── RequestError         one prediction could not be answered: inference/errors.py
    ├── StreamError          a stream could not do its next step: streams/errors.py
    ├── TelemetryError       something cannot be told to the cloud, or not yet: telemetry/errors.py
    ├── NucleusError         the Greengrass nucleus did not do as asked: nucleus_errors.py
    └── StartError           the runtime cannot start
        └── AlreadyRunningError  NoTrustError  ConfigurationError
            ExposedDoorError  DoorKeysError
"""

from typing import ClassVar


class DeviceError(Exception):
    """Root of everything the device raises on purpose.

    Attributes:
        code: stable, kebab-case; part of the contract with the fleet manager, never renamed.
        remedy: what the reader should do next; one sentence.
    """

    code: ClassVar[str] = "device-error"
    usual_remedy: ClassVar[str] = ""

    def __init__(self, message: str, remedy: str = "") -> None:
        """Keep the sentence and its remedy apart, so that each door can show them in its own way."""
        super().__init__(message)
        self.remedy = remedy or self.usual_remedy


SENTENCE_CHARS_MAX = 2_000
"""Of a message: it may name what a client has sent, which may be as large as a request."""


def sentence_of(error: DeviceError) -> str:
    """The message, and what to do about it."""
    message = str(error)
    if len(message) > SENTENCE_CHARS_MAX:
        message = f"{message[:SENTENCE_CHARS_MAX]}…"
    return f"{message}{'' if message.endswith('.') else '.'} {error.remedy}".rstrip()


class BundleError(DeviceError):
    """A handed-over bundle cannot be accepted; what served before serves on."""

    code = "bundle-refused"


class ArchiveError(BundleError):
    """Not a zip, or one with links, escaping names, too many entries or more bytes than it may have."""

    code = "bundle-archive"
    usual_remedy = "Publish the bundle again with `edgewright publish`; do not build its zip by hand."


class ManifestError(BundleError):
    """``manifest.json`` is missing or does not follow its contract."""

    code = "bundle-manifest"
    usual_remedy = "Publish the bundle again with a matching version of Edgewright."


class UnsignedError(BundleError):
    """There is no ``model.sig``."""

    code = "bundle-unsigned"
    usual_remedy = "Sign the bundle: publish it with `edgewright publish`."


class SignatureError(BundleError):
    """``model.sig`` is not a valid OpenSSF Model Signing bundle, or its signature does not verify."""

    code = "bundle-signature"
    usual_remedy = "Publish the bundle again, signed by a key that this device trusts."


class UntrustedKeyError(BundleError):
    """Signed, but by no key in the runtime's trust folder."""

    code = "bundle-untrusted-key"
    usual_remedy = "Sign with a trusted key, or ship the new public key with a new version of the runtime component."


class TamperedError(BundleError):
    """A file differs from what was signed, or is missing, or was added."""

    code = "bundle-tampered"
    usual_remedy = "Publish the bundle again and find out who changed it on the way."


class WrongComponentError(BundleError):
    """A bundle of another component than the one whose script handed it over."""

    code = "bundle-wrong-component"
    usual_remedy = "Deploy the component with the artifacts it was published with."


class WrongVersionError(BundleError):
    """A bundle of another version than the one whose script handed it over."""

    code = "bundle-wrong-version"
    usual_remedy = "Deploy the component with the artifacts it was published with."


class WrongPlatformError(BundleError):
    """Compiled for another operating system or processor."""

    code = "bundle-wrong-platform"
    usual_remedy = "Compile and publish the model for this device's platform."


class ExpiredError(BundleError):
    """Past its ``expires_at``: it may go on serving where it serves, but is not activated any more."""

    code = "bundle-expired"
    usual_remedy = "Publish the model again: that renews its expiry."


class OlderReleaseError(BundleError):
    """Its release number is below the highest that this device has committed, or equal with other bytes."""

    code = "bundle-older-release"
    usual_remedy = "Publish what should serve as a new version: a release number never goes back."


class StoreError(DeviceError):
    """The file system refused; what served before serves on."""

    code = "store-failed"
    usual_remedy = "Check the device's disk (`edgewright-edge doctor`)."


class StoreFullError(StoreError):
    """No room for the bundle; nothing of it was kept."""

    code = "store-full"
    usual_remedy = "Free disk space on the device, then deploy again."


class StoreDamagedError(StoreError):
    """A stored bundle is gone or no longer has the bytes that were verified."""

    code = "store-damaged"
    usual_remedy = "Deploy the model again, and check the device's disk."


class ModelError(DeviceError):
    """The graph is unfit to serve."""

    code = "model-unfit"


class UnloadableModelError(ModelError):
    """ONNX Runtime refuses the file: not ONNX, or operators and opsets that it does not have."""

    code = "model-unloadable"
    usual_remedy = "Compile the model again; its gates load it with ONNX Runtime before it is published."


class SignatureMismatchError(ModelError):
    """The graph's inputs or outputs are not what the manifest says."""

    code = "model-signature-mismatch"
    usual_remedy = "Publish the model again from its own compilation."


class UnsupportedTensorError(ModelError):
    """A tensor type that the door asked does not carry (strings, bfloat16 on the fast path), or a mixture of the two."""

    code = "model-unsupported-tensor"
    usual_remedy = "Export the model with numeric inputs and outputs."


class GoldenUnusableError(ModelError):
    """``golden.npz`` is missing, unreadable, or lacks a tensor."""

    code = "golden-unusable"
    usual_remedy = "Publish the model again with golden samples for every input and output."


class GoldenMismatchError(ModelError):
    """The outputs on this device differ from the expected ones by more than the manifest allows."""

    code = "golden-mismatch"
    usual_remedy = "Compile for this platform again; if it persists, keep this variant off the device."


class NotFiniteError(ModelError):
    """An output is NaN or infinite where the golden samples expect a number."""

    code = "golden-not-finite"
    usual_remedy = "Train or quantise the model again: it answers NaN or infinity on ordinary input."


class TrialCrashedError(ModelError):
    """The child process that loaded the model first died."""

    code = "trial-crashed"
    usual_remedy = "Keep this variant off the device and report the model file."


class TrialTimeoutError(ModelError):
    """Loading or answering the golden samples took longer than allowed; the child was killed."""

    code = "trial-timeout"
    usual_remedy = "Use a smaller model, or raise caps.load_timeout_ms when publishing."


class TrialMemoryError(ModelError):
    """Loading or answering the golden samples needed more memory than allowed."""

    code = "trial-out-of-memory"
    usual_remedy = (
        "Use a smaller model, or raise caps.memory_bytes_max when publishing (or the device's memory_bytes_max)."
    )


class MemoryBudgetError(ModelError):
    """Even with every idle model unloaded, this one would not fit ``model_memory_bytes_max``."""

    code = "memory-budget"
    usual_remedy = "Raise model_memory_bytes_max in the component's configuration, or remove a model."


class ActivationError(DeviceError):
    """What is served could not be changed as asked."""

    code = "activation-failed"


class UnknownModelError(ActivationError):
    """No model of that name serves here."""

    code = "unknown-model"
    usual_remedy = "See what serves with `edgewright-edge models`, or deploy the model's component."


class UnknownVersionError(UnknownModelError):
    """The model serves here, but the exact version that was asked for is not on this device."""

    code = "unknown-version"
    usual_remedy = "Ask for the name alone, or for a version that `edgewright-edge route` lists."


class RouteError(ActivationError):
    """A route table that this device cannot follow; the one before holds."""

    code = "route-refused"
    usual_remedy = "See what this device holds with `edgewright-edge route`."


class RouteConflictError(RouteError):
    """The route table was changed by somebody else since it was read."""

    code = "route-conflict"
    usual_remedy = "Read it again, and make the change anew."


class NothingToRevertError(ActivationError):
    """There is no previous version on this device."""

    code = "nothing-to-revert"
    usual_remedy = "Deploy the version that should serve."


class NothingToLowerError(ActivationError):
    """The release floor is that of what is committed now, and the time that signed bundles have named is past."""

    code = "nothing-to-lower"
    usual_remedy = "Look for the reason of the refusal elsewhere: `edgewright-edge doctor`."


class ActivationDeadlineError(ActivationError):
    """The command's deadline passed before the new model could be switched to; nothing changed."""

    code = "activation-deadline"
    usual_remedy = "Try again; raise the hand-over's timeout if the model is large."


class ProbationFailedError(ActivationError):
    """The new model failed too many requests after the switch; the old one was brought back."""

    code = "probation-failed"
    usual_remedy = "Look at the failures in the telemetry of that version; fix the model and publish it anew."


class ProbationSlowError(ActivationError):
    """The new model answered too slowly after the switch; the old one was brought back."""

    code = "probation-slow"
    usual_remedy = "Use a smaller or quantised model, or raise the probation_latency_ bounds in the configuration."


class ShadowDisagreedError(ActivationError):
    """On live requests the candidate answered too often otherwise than the active model, which serves on."""

    code = "shadow-disagreed"
    usual_remedy = "Compare both versions on recorded requests; raise the shadow_ bounds if the new one is the better."


class TooManyStartsError(ActivationError):
    """The runtime was started too often while the new model was on probation; the old one was brought back."""

    code = "probation-restarts"
    usual_remedy = "The new version may be what kills the runtime: test it on one device."


class InterruptedActivationError(ActivationError):
    """The runtime died while the candidate was on trial or compared; the old model serves on."""

    code = "activation-interrupted"
    usual_remedy = "Deploy again; if it dies again, the candidate is the likely cause."


class StartError(DeviceError):
    """The runtime cannot start."""

    code = "start-failed"


class AlreadyRunningError(StartError):
    """Another process serves from this work folder."""

    code = "already-running"
    usual_remedy = "Stop it first, or give this one its own --work folder."


class NoTrustError(StartError):
    """The trust folder holds no usable public key, so that no bundle could ever be accepted."""

    code = "no-trust"
    usual_remedy = "Put the P-256 public key of your signing key there as a .pem file."


class ExposedDoorError(StartError):
    """A TCP door would be reachable from other machines without TLS and a token; it was not opened."""

    code = "door-exposed"
    usual_remedy = "Set oip_host to 127.0.0.1, or oip_certificate_file, oip_key_file and oip_token_file to its keys."


class DoorKeysError(StartError):
    """A door's certificate, private key or token cannot be used; it was not opened."""

    code = "door-keys"
    usual_remedy = "Give PEM files that belong together and a token file, readable by the component's user alone."


class ConfigurationError(StartError):
    """The configuration file that was named cannot be read."""

    code = "configuration-unreadable"
    usual_remedy = 'Give a JSON object such as {"probation_s": 30}, or leave --config out.'
