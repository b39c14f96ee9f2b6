"""What models and components are called: one place for every name that training, compiling, publishing and the fleet share.

The failure this exists for: a name that one stage takes and a later one refuses, when the training has been paid for.
Nothing is contacted; which components are published is another question (publishing/component_names.py).
"""

import re

RUNTIME_COMPONENT = "com.edgewright.Runtime"
MODEL_PREFIX = "com.edgewright.model."

DEAD_SUFFIX = "-dead"
"""What the dead-letter queue is called beside its queue."""

RETIRED_PREFIX = "0.0."
"""Versions of a model component that carry no model: whoever runs one lets go of what it served (publishing/retirement.py)."""

MODEL_NAME_PATTERN = re.compile(r"(?!runtime\Z)[a-z][a-z0-9-]{0,30}")
"""What clients ask for; also the prefix of job names, which SageMaker ends at 63 characters.

`edgewright deploy runtime` deploys the runtime itself, so no model is called that.
"""

MODEL_COMPONENT_PATTERN = re.compile(r"com\.edgewright\.model\.[A-Za-z][A-Za-z0-9]{0,39}")
"""The component that carries a model. SageMaker's names of package groups end at 63 characters, this prefix included."""


def is_ours(component_name: str) -> bool:
    """Whether a component is the runtime or carries a model."""
    return component_name == RUNTIME_COMPONENT or component_name.startswith(MODEL_PREFIX)


def is_retirement(component_name: str, version: str) -> bool:
    """Whether a component version stands for a model's removal."""
    return component_name.startswith(MODEL_PREFIX) and version.startswith(RETIRED_PREFIX)


def retraining_machine(prefix: str, model_name: str) -> str:
    """The state machine that retrains a model; ``prefix`` is the installation's (settings)."""
    return f"{prefix}-{model_name}"


def model_component(model_name: str) -> str:
    """The component of a model that names none of its own: ``silero-vad`` is ``com.edgewright.model.SileroVad``."""
    return MODEL_PREFIX + "".join(part.capitalize() for part in model_name.split("-"))
