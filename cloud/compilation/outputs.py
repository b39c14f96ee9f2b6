"""What a model's outputs truly are: the shapes that come out, where its file declares others.

The failure this exists for: exporters make output shapes up. LightGBM's labels are declared as [1], CatBoost's predictions
as [N] where [N, 1] comes out, a text recogniser's scores as [1, N] where [T, 1, N] does. ONNX Runtime only warns; a device,
which promises shapes to clients, would refuse each such answer, the first of them perhaps a batch, long after publishing.

So the model is asked one sample, and, where it takes batches, that sample's first row twice; an axis that answers
otherwise than it is declared is promised as free. It judges no value: that is for the gates (gates.py).
"""

from collections.abc import Iterator
from contextlib import suppress
from dataclasses import replace

import numpy as np

from cloud.compilation.admission import Admitted
from cloud.compilation.errors import InvalidGraphError
from cloud.compilation.inference import Session
from cloud.compilation.samples import Samples
from edge_component.contracts.manifest import TensorSpec

Shape = tuple[int, ...]


def as_answered(admitted: Admitted, session: Session, samples: Samples) -> Admitted:
    """The same model with outputs as they come out; its inputs' samples must fit.

    Raises:
        InvalidGraphError: the first sample fails.
    """
    first = Samples({name: array[:1] for name, array in samples.inputs.items()}, {})
    answers = [session.answer(first)]
    if all(spec.shape[:1] == (-1,) for spec in admitted.inputs):
        with suppress(InvalidGraphError):  # then these rows are no batch
            answers.append(session.answer(_two_rows(first)))
    outputs = (_told(spec, [answer[spec.name].shape[1:] for answer in answers]) for spec in admitted.outputs)
    return replace(admitted, outputs=tuple(outputs))


def corrections(declared: Admitted, answered: Admitted) -> Iterator[str]:
    """A sentence for each output that is promised otherwise than its file declares it."""
    for before, after in zip(declared.outputs, answered.outputs, strict=True):
        if before != after:
            yield (
                f"output {before.name} is declared as {before.shape} and answers otherwise: "
                f"{after.shape} is promised to clients (-1 is free)"
            )


def _two_rows(first: Samples) -> Samples:
    return Samples({name: np.repeat(array[:, :1], 2, axis=1) for name, array in first.inputs.items()}, {})


def _told(spec: TensorSpec, found: list[Shape]) -> TensorSpec:
    """``found``: of the sample, which decides over the rank, then of the batch."""
    rank = len(found[0])
    if len(spec.shape) != rank:
        return replace(spec, shape=(-1,) * rank)
    shapes = [shape for shape in found if len(shape) == rank]
    axes = (size if all(shape[axis] == size for shape in shapes) else -1 for axis, size in enumerate(spec.shape))
    return replace(spec, shape=tuple(axes))
