"""Why compiling refused a model: leaves of ``ModelRefusedError``, each with the sentence that the report shows."""

from typing import ClassVar

from cloud.errors import ModelRefusedError


class NotOnnxError(ModelRefusedError):
    """The bytes are no ONNX model."""

    code: ClassVar[str] = "not-onnx"


class ModelTooLargeError(ModelRefusedError):
    """More bytes than are admitted; they were not parsed."""

    code: ClassVar[str] = "model-too-large"


class UnsupportedOpsetError(ModelRefusedError):
    """An operator set outside the range that every supported ONNX Runtime runs."""

    code: ClassVar[str] = "unsupported-opset"


class UnsupportedDomainError(ModelRefusedError):
    """An operator of a domain that devices have no code for, such as a custom operator."""

    code: ClassVar[str] = "unsupported-domain"


class ExternalDataError(ModelRefusedError):
    """Weights outside of the file, which a bundle could not vouch for."""

    code: ClassVar[str] = "external-data"


class InvalidGraphError(ModelRefusedError):
    """A graph that breaks ONNX's rules, or that ONNX Runtime does not load."""

    code: ClassVar[str] = "invalid-graph"


class SignatureError(ModelRefusedError):
    """Inputs or outputs that cannot cross to a client: no tensors, or without name, type or rank."""

    code: ClassVar[str] = "unsupported-signature"


class SamplesError(ModelRefusedError):
    """Samples that are missing, or that do not fit the model."""

    code: ClassVar[str] = "samples"


class ArtifactError(ModelRefusedError):
    """What training left is not what compiling reads: a file is missing or malformed."""

    code: ClassVar[str] = "training-artifact"


class GateError(ModelRefusedError):
    """Not even the fp32 variant passed the gates."""

    code: ClassVar[str] = "gate"


class CompilationRefusedError(ModelRefusedError):
    """What the whole stage answers with, here or out of a job: the report's sentence."""

    code: ClassVar[str] = "compilation-refused"
