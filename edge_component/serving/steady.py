"""One slot of a channel in its steady state: all that one request after another needs, settled once.

The failure this exists for: a door that costs more than the model. What a model leaves of a core's caches makes every
further object and call of a request cost microseconds instead of a tenth of one (measured after a run of 60 us). So
what can be known before a request is kept here in the form in which it is used, and the connection's shortest way
(fastpath_connection.py) touches little else.

It holds for one generation, one set of input shapes and one listener of telemetry. When any of them changes, or the
request is out of the ordinary, the general way answers, and makes another. Belongs to one connection's thread; only
:meth:`SteadySlots.forget` may be called by another, when a switch lets go of what served before.
"""

import struct

from edge_component.contracts.fastpath import ANSWER_HEAD, REQUEST_HEAD, Kind
from edge_component.serving.binding import Binding
from edge_component.serving.channel import Channel
from edge_component.serving.detoured import Detoured
from edge_component.telemetry_sink import TelemetrySink

KEY = struct.Struct("<I")
"""A request's kind, slot and channel as one number."""
REPLY = struct.Struct("<III")
"""What differs from one answer to the next: sequence, generation, run_us."""
REPLY_AT = 4


class Steady:
    """See the module's text.

    Attributes:
        channel, active, binding: whose steady state this is.
        size, unpack: of a request's message; ``unpack`` gives key, sequence, deadline_us and ``dimensions``.
        take_place, leave: the model's admission, without waiting.
        run: computes, given run options; raises what ONNX Runtime raises.
        check: looks for NaN first, where the model refuses that.
        reply: the answer's message, to be completed with ``REPLY``.
        listener: who is told of the answer; ``tell(run_us)`` does it.
        tells_first: before the answer leaves, since the client may then overwrite its input.
    """

    __slots__ = (
        "active", "binding", "channel", "check", "dimensions", "leave", "listener", "reply", "route", "run", "size",
        "take_place", "tell", "tells_first", "unpack",
    )  # fmt: skip

    def __init__(self, channel: Channel, binding: Binding, sink: TelemetrySink) -> None:
        """Of a binding that is settled."""
        assert binding.settled is not None, "only what is settled is steady"
        outputs, packed = binding.settled
        active = binding.active
        self.channel, self.route, self.active, self.binding = channel, channel.route, active, binding
        self.dimensions = binding.dimensions
        self.size = REQUEST_HEAD.size + len(binding.dimensions)
        self.unpack = struct.Struct(f"<III{len(binding.dimensions)}s").unpack_from
        self.take_place, self.leave = active.gate.places.pop, active.gate.leave
        self.run = binding.run_bound
        self.check = binding.check if binding.checks_nan else None
        self.reply = bytearray(ANSWER_HEAD.pack(Kind.ANSWER, 0, channel.number, 0, 0, 0) + packed)
        self.listener = sink.record
        self.tell = sink.bound_record(active.ref, binding.inputs, outputs)
        self.tells_first = channel.layout.slot_count == 1


class SteadySlots:
    """Those of one connection, by ``KEY``."""

    def __init__(self, sink: TelemetrySink) -> None:
        """None yet."""
        self._sink = sink
        self.by_key: dict[int, Steady] = {}

    def keep(self, key: int, channel: Channel, binding: Binding | Detoured) -> None:
        """After an answer: what follows it may go the shortest way, if it is that simple."""
        active = binding.active
        if not isinstance(binding, Binding) or binding.settled is None or active.mirror is not None:
            return
        if channel.route.active is not active:  # one of several that may answer
            return
        self.by_key[key] = Steady(channel, binding, self._sink)
        if channel.route.active is not active:  # switched meanwhile, and perhaps forgotten just before it was kept
            self.by_key.pop(key, None)

    def forget(self, channel: Channel) -> None:
        """Let go of a channel's; may be called by any thread."""
        for key, steady in list(self.by_key.items()):
            if steady.channel is channel:
                self.by_key.pop(key, None)
