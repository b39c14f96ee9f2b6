"""The branch of the device's exception tree that a stream can meet.

::

    DeviceError
    └── StreamError
        ├── SampleError          one sample is unfit; the stream goes on with the next
        └── HeldError            nothing is wrong with the sample: it waits, and is tried again
            └── SourceFailedError  SinkFailedError  ExtraMissingError  NucleusMissingError
"""

from edge_component.errors import DeviceError


class StreamError(DeviceError):
    """A stream could not do its next step."""

    code = "stream-failed"


class SampleError(StreamError):
    """A file, message or frame that cannot be turned into the model's inputs."""

    code = "stream-sample"
    usual_remedy = "Compare it with the model's inputs (`edgewright-edge models MODEL`)."


class HeldError(StreamError):
    """The stream waits until this passes; its queue fills meanwhile, and its drop policy decides what is lost."""

    code = "stream-held"


class SourceFailedError(HeldError):
    """The source cannot be read: a folder that is not there, a camera that gives no frames."""

    code = "stream-source"
    usual_remedy = "Check the path and who may read it; the stream tries on by itself."


class SinkFailedError(HeldError):
    """The sink does not take the result now: a full disk, a nucleus that is away or offline."""

    code = "stream-sink"
    usual_remedy = "Free disk space, or see that Greengrass runs; the stream tries on by itself."


class ExtraMissingError(HeldError):
    """A Python package that this kind of source needs is not installed on this device."""

    code = "stream-extra-missing"


class NucleusMissingError(HeldError):
    """Topics need a Greengrass nucleus, and this runtime was not started by one."""

    code = "stream-no-nucleus"
    usual_remedy = "Run the runtime as a Greengrass component, or use folders and files."
