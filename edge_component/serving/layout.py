"""Where tensors lie in a channel's shared memory: a pure function of the model's tensors and what the client asked for.

A tensor of fixed size gets exactly its size. One with a dynamic dimension gets what the client asked for, or a default
(an output at least as much as all inputs together): memory that nobody touches costs nothing, since the file behind it is
sparse.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import prod

import numpy as np

from edge_component.contracts.codec import to_bytes
from edge_component.contracts.fastpath import MESSAGE_BYTES_MAX, Open, Region, aligned
from edge_component.contracts.manifest import TensorSpec
from edge_component.errors import UnsupportedTensorError
from edge_component.inference.errors import ChannelLimitError
from edge_component.inference.session import STAND_INS

DYNAMIC_INPUT_BYTES = 4_096
DYNAMIC_OUTPUT_BYTES = 65_536
REGIONS_TOLD_BYTES_MAX = MESSAGE_BYTES_MAX - 4_096
"""Of the JSON that describes them; the rest is for what else stands in that message."""
TWO_SLOTS_BYTES_MAX = 262_144
"""Up to here a channel has two slots: the answer of one request stays readable, and recordable, during the next. Above,
a second slot would cost more in caches than the overlap saves."""


@dataclass(frozen=True, slots=True)
class Layout:
    """See :class:`edge_component.contracts.fastpath.Opened`, which carries it to the client."""

    inputs: tuple[Region, ...]
    outputs: tuple[Region, ...]
    slot_bytes: int
    slot_count: int

    @property
    def size_bytes(self) -> int:
        """Of the whole shared memory."""
        return self.slot_bytes * self.slot_count


def plan_layout(
    inputs: Sequence[TensorSpec], outputs: Sequence[TensorSpec], asked: Open, size_bytes_max: int
) -> Layout:
    """Give every tensor its region.

    Raises:
        ChannelLimitError: it would take more than ``size_bytes_max``.
        UnsupportedTensorError: a tensor that cannot lie in shared memory, or whose type numpy clients have not; or more
            tensors than the message that opens a channel can tell of.
    """
    for spec in (*inputs, *outputs):
        if spec.dtype in STAND_INS:
            raise UnsupportedTensorError(
                f"{spec.name} is of type {spec.dtype}, which the fast path does not carry",
                "Ask this model through the Open Inference Protocol's door.",
            )
    rooms = [_input_bytes(spec, asked.input_bytes) for spec in inputs]
    rooms += [_output_bytes(spec, max(asked.output_bytes, sum(asked.input_bytes.values()))) for spec in outputs]
    regions: list[Region] = []
    offset = 0
    for spec, room in zip((*inputs, *outputs), rooms, strict=True):
        regions.append(Region(spec, offset, room))
        offset += aligned(max(room, 1))
    slot_count = 2 if offset <= TWO_SLOTS_BYTES_MAX else 1
    if offset * slot_count > size_bytes_max:
        raise ChannelLimitError(f"{offset * slot_count} bytes of shared memory; at most {size_bytes_max} are allowed")
    if len(to_bytes({"regions": [region.to_document() for region in regions]})) > REGIONS_TOLD_BYTES_MAX:
        raise UnsupportedTensorError(
            f"its {len(regions)} inputs and outputs are more than the fast path can tell a client of in one message",
            "Join them into fewer, or ask this model through the Open Inference Protocol's door.",
        )
    return Layout(tuple(regions[: len(inputs)]), tuple(regions[len(inputs) :]), offset, slot_count)


def fixed_bytes(spec: TensorSpec) -> int | None:
    """The tensor's size, or ``None`` if a dimension is dynamic."""
    if -1 in spec.shape:
        return None
    return prod(spec.shape) * np.dtype(spec.dtype).itemsize


def _input_bytes(spec: TensorSpec, asked: Mapping[str, int]) -> int:
    fixed = fixed_bytes(spec)
    return max(asked.get(spec.name, 0), DYNAMIC_INPUT_BYTES) if fixed is None else fixed


def _output_bytes(spec: TensorSpec, asked: int) -> int:
    fixed = fixed_bytes(spec)
    return max(asked, DYNAMIC_OUTPUT_BYTES) if fixed is None else fixed
