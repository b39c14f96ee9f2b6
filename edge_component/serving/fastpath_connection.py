"""One client's connection on the fast path: the conversation, from hello to hang-up, on one thread.

A request touches no lock that a swap holds, no file and no policy: it reads the route's active model once, binds if it
must, runs, answers, and then tells telemetry. With one slot the order is telemetry first, since the client may overwrite
its input as soon as it has the answer.

There is a general way (:meth:`FastpathConnection._answer`) and a shortest one for what is as it was a moment ago
(:meth:`FastpathConnection._answer_steadily`, steady.py); they do the same.

Whatever a client sends is answered with a typed error or ends its own connection; it cannot reach another's.
"""

import logging
import os
import socket
import struct
from time import perf_counter_ns
from typing import NamedTuple

from edge_component.contracts.codec import Fields, to_bytes
from edge_component.contracts.errors import ContractError
from edge_component.contracts.fastpath import (
    ANSWER_HEAD,
    MESSAGE_BYTES_MAX,
    MODEL_NAMED,
    REQUEST_HEAD,
    VERSIONS,
    Hello,
    Kind,
    Open,
    Welcome,
    pack_control,
    pack_failed,
    unpack_control,
)
from edge_component.cores import ThreadOf
from edge_component.errors import DeviceError
from edge_component.inference.errors import (
    AnswerTooLargeError,
    ChannelLimitError,
    ProtocolViolationError,
    StaleChannelError,
    UnknownChannelError,
    UnsupportedProtocolError,
)
from edge_component.inference.router import ActiveModel, Route
from edge_component.serving.binding import Binding, Outputs
from edge_component.serving.channel import Channel
from edge_component.serving.core_follower import (
    LOOKS_APART_COUNT,
    PAUSE_NS,
    CoreFollower,
    look_every_count,
    peer_process_id,
)
from edge_component.serving.detoured import Detoured
from edge_component.serving.failures import as_cancelled, failure_of, speaks_against_the_model
from edge_component.serving.layout import Layout, plan_layout
from edge_component.serving.listener import has_hung_up
from edge_component.serving.serving import NO_TENSORS, Serving
from edge_component.serving.steady import KEY, REPLY, REPLY_AT, Steady, SteadySlots
from edge_component.telemetry_sink import Outcome, Tensors

log = logging.getLogger(__name__)

REQUEST, ANSWER = int(Kind.REQUEST), int(Kind.ANSWER)  # an enumeration's member takes longer to look up and compare
NEGOTIATION = (StaleChannelError.code, AnswerTooLargeError.code)
"""No outcomes of a request: the client opens another channel and asks again."""


class Trouble(NamedTuple):
    """A binding that was run for a request, what it raised, and whether its deadline had stopped it."""

    binding: Binding
    error: Exception
    was_stopped: bool


class FastpathConnection:
    """Serves one accepted socket until the client hangs up; see :meth:`serve`."""

    def __init__(self, connection: socket.socket, serving: Serving) -> None:
        """Take over the socket."""
        self._socket = connection
        self._descriptor = connection.fileno()
        self._serving = serving
        self._leash = serving.watch.leash(lambda: not has_hung_up(connection))
        self._channels: dict[int, Channel] = {}
        self._opened_count = 0
        self._sink = serving.sink
        self._steady = SteadySlots(serving.sink)
        self._buffer = bytearray(MESSAGE_BYTES_MAX + 1)
        self._sink_failed = False
        self._follower: CoreFollower | None = None
        self._until_look_count = 1
        self._before_ns = perf_counter_ns()
        self._longest_us = int(serving.config.run_s_max * 1_000_000)

    def serve(self) -> None:
        """Greet, then answer until the client hangs up or breaks the protocol."""
        asking: ThreadOf | None = None
        try:
            hello = self._greet()
            if hello is not None:
                asking = self._follow(hello)
                self._converse()
        except OSError as error:
            log.debug("a fast-path client went away: %s", error)
        finally:
            for channel in self._channels.values():
                channel.close()
            self._channels.clear()
            self._socket.close()
            if asking is not None:
                asking.close()
            if self._follower is not None:
                self._follower.stop()

    def _greet(self) -> Hello | None:
        self._wait_at_most(self._serving.config.hello_s_max)  # whoever is silent holds a place that others want
        try:
            _, document = unpack_control(self._receive(), Kind.HELLO)
            hello = Hello.read(document)
        except (ContractError, ProtocolViolationError) as error:
            self._refuse(ProtocolViolationError(f"the first message must be a hello: {error}"))
            return None
        shared = set(hello.versions) & set(VERSIONS)
        if not shared:
            self._refuse(
                UnsupportedProtocolError(f"the client speaks {list(hello.versions)}, the runtime {list(VERSIONS)}")
            )
            return None
        welcome = Welcome(max(shared), self._serving.runtime_version, os.getpid())
        self._socket.send(pack_control(Kind.WELCOME, welcome.to_document()))
        self._wait_at_most(0)  # from here on a client may think for as long as it likes
        return hello

    def _wait_at_most(self, wait_s: float) -> None:
        """Bound every wait for the client; 0 is no bound. ``settimeout`` would cost a system call per request."""
        limit = struct.pack("@ll", int(wait_s), int(wait_s % 1 * 1_000_000))
        self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVTIMEO, limit)

    def _follow(self, hello: Hello) -> ThreadOf | None:
        """Serve the client on its own core from now on, where that is worth it and the client says which thread it is."""
        config = self._serving.config
        threads_count = max(config.intra_op_threads, config.inter_op_threads)
        if hello.thread_id is None or not config.follow_run_us_max or threads_count > 1:
            return None
        asking = ThreadOf(peer_process_id(self._socket), hello.thread_id)
        self._follower = CoreFollower(asking, config.follow_run_us_max, self._serving.long_runs)
        return asking

    def _receive(self) -> memoryview:
        size = self._socket.recv_into(self._buffer)
        if size > MESSAGE_BYTES_MAX:
            raise ProtocolViolationError(f"a message of more than {MESSAGE_BYTES_MAX} bytes")
        return memoryview(self._buffer)[:size]

    def _converse(self) -> None:
        """Answer message by message until the conversation is over."""
        receive_into, buffer, steady_at, key_in = (
            self._socket.recv_into,
            self._buffer,
            self._steady.by_key.get,
            KEY.unpack_from,
        )
        while True:
            size = receive_into(buffer)
            started_ns = perf_counter_ns()
            (key,) = key_in(buffer)
            # Kept in no variable here: while this thread waits, a switch must be able to free what served before.
            if self._answer_steadily(steady_at(key), size, started_ns):
                continue
            if not self._next(size, started_ns):
                return

    def _next(self, size: int, started_ns: int) -> bool:
        """Answer one message in the general way; whether the conversation goes on."""
        if size >= REQUEST_HEAD.size and self._buffer[0] == REQUEST and size <= MESSAGE_BYTES_MAX:
            self._answer(size, started_ns)
            return True
        if not size:
            return False
        if size > MESSAGE_BYTES_MAX:
            return self._refuse(ProtocolViolationError(f"a message of more than {MESSAGE_BYTES_MAX} bytes"))
        return self._control(size)

    def _answer_steadily(self, steady: Steady | None, size: int, started_ns: int) -> bool:
        """The shortest way: every line here is paid for by every request. Whether the request was answered.

        Where not, nothing has happened yet: it is not as steady as it looked, or looked like nothing known.
        """
        if steady is None:
            return False
        _, sequence, deadline_us, dimensions = steady.unpack(self._buffer)
        if (
            size != steady.size
            or dimensions != steady.dimensions
            or steady.route.active is not steady.active
            or steady.listener != self._sink.record
        ):
            return False
        try:
            steady.take_place()
        except IndexError:  # others have them all, and waiting is the general way's
            return False
        leash = self._leash
        try:
            if steady.check is not None:
                steady.check()
            leash.start((deadline_us if 0 < deadline_us < self._longest_us else self._longest_us) * 1e-6)
            steady.run(leash.options)
        except Exception as error:  # noqa: BLE001 - onnxruntime raises a dozen unrelated classes from C++
            was_stopped = leash.end()  # now: the general way may be refused before it looks at the leash
            steady.leave()
            self._steady.forget(steady.channel)
            trouble = None if isinstance(error, DeviceError) else Trouble(steady.binding, error, was_stopped)
            self._answer(size, started_ns, trouble)
            return True
        leash.end()
        steady.leave()
        run_us = (perf_counter_ns() - started_ns) // 1000
        reply = steady.reply
        REPLY.pack_into(reply, REPLY_AT, sequence, steady.active.generation, run_us)
        steady.channel.tally.answered_count += 1
        try:
            if not steady.tells_first:
                os.write(self._descriptor, reply)  # cheaper than the socket's own send
        finally:  # also when the client gave up waiting
            try:
                steady.tell(run_us)
            except Exception as error:  # noqa: BLE001 - telemetry must never cost an answer, whatever is wrong with it
                self._sink_broke(error)
        if steady.tells_first:
            os.write(self._descriptor, reply)
        self._until_look_count -= 1
        if not self._until_look_count or started_ns - self._before_ns > PAUSE_NS:
            self._look(run_us)
        self._before_ns = started_ns
        return True

    def _answer(self, size: int, started_ns: int, trouble: Trouble | None = None) -> None:
        """The general way. ``trouble`` is what the shortest one ended in."""
        buffer = self._buffer
        _, slot, number, sequence, deadline_us = REQUEST_HEAD.unpack_from(buffer)
        channel = self._channels.get(number)
        if channel is None:
            error = UnknownChannelError(f"channel {number} is not open")
            self._socket.send(pack_failed(number, sequence, failure_of(error)))
            return
        bindings = channel.bindings  # read before the model: a switch after that throws away just this table
        active = channel.route.active
        allowed_us = deadline_us if 0 < deadline_us < self._longest_us else self._longest_us
        inputs = outputs = NO_TENSORS
        code: str | None = None
        try:
            if active is None:
                active = channel.route.resolve(channel.key)
            channel.count_for(active)
            binding = bindings.get(slot)
            dimensions = buffer[REQUEST_HEAD.size : size]
            is_new = binding is None or binding.active is not active or binding.dimensions != dimensions
            if binding is None or is_new:
                binding = bindings[slot] = channel.bind(active, slot, bytes(dimensions))
            inputs = binding.inputs
            outputs, packed = self._compute(active, binding, allowed_us * 1e-6, trouble)
            run_us = (perf_counter_ns() - started_ns) // 1000
            reply = ANSWER_HEAD.pack(ANSWER, 0, number, sequence, active.generation, run_us) + packed
            if channel.named_generation != active.generation:
                reply = self._named(channel, active, reply)
            channel.tally.answered_count += 1
            if not is_new:  # asked twice alike: probably a third time
                self._steady.keep(KEY.unpack_from(buffer)[0], channel, binding)
        except DeviceError as error:
            run_us = (perf_counter_ns() - started_ns) // 1000
            failure = as_cancelled(error, run_us / 1_000_000, allowed_us / 1_000_000)
            code = failure.code
            reply = pack_failed(number, sequence, failure_of(failure))
            if speaks_against_the_model(failure, allowed_us / 1_000_000, self._serving.config):
                channel.tally.failed_count += 1
        if channel.layout.slot_count > 1:
            try:
                self._socket.send(reply)
            finally:  # also when the client gave up waiting
                self._record(active, inputs, outputs, run_us, code)
        else:
            self._record(active, inputs, outputs, run_us, code)
            self._socket.send(reply)
        self._until_look_count -= 1
        if not self._until_look_count or started_ns - self._before_ns > PAUSE_NS:
            self._look(run_us)
        self._before_ns = started_ns

    def _compute(
        self,
        active: ActiveModel,
        binding: Binding | Detoured,
        allowed_s: float,
        trouble: Trouble | None,
    ) -> Outputs:
        allowed_s = active.gate.enter(allowed_s)
        try:
            if trouble is not None and trouble.binding is binding:
                return trouble.binding.recover(trouble.error, self._leash, allowed_s, was_stopped=trouble.was_stopped)
            return binding.run(self._leash, allowed_s)
        finally:
            active.gate.leave()

    def _named(self, channel: Channel, active: ActiveModel, reply: bytes) -> bytes:
        """The first answer of another generation, with its model's name."""
        channel.named_generation = active.generation
        return reply[:1] + bytes((MODEL_NAMED,)) + reply[2:] + to_bytes(active.ref.to_document())

    def _record(
        self, active: ActiveModel | None, inputs: Tensors, outputs: Tensors, run_us: int, code: str | None
    ) -> None:
        if active is None or code in NEGOTIATION:
            return
        if active.mirror is not None and code is None:
            active.mirror.offer(inputs, outputs)
        try:
            self._sink.record(Outcome(active.ref, inputs, outputs, run_us, code))
        except Exception as error:  # noqa: BLE001 - telemetry must never cost an answer, whatever is wrong with it
            self._sink_broke(error)

    def _sink_broke(self, error: Exception) -> None:
        if not self._sink_failed:
            log.error("telemetry failed; serving goes on, and this connection will not say so again", exc_info=error)
        self._sink_failed = True

    def _look(self, run_us: int) -> None:
        """Now and then, and after a pause, in which it may have been moved: where the client runs."""
        every_count = look_every_count(run_us)
        if self._until_look_count > every_count - LOOKS_APART_COUNT:
            return  # a client that always pauses would pay for it each time
        self._until_look_count = every_count
        if self._follower is not None:
            self._follower.look(run_us)

    def _control(self, size: int) -> bool:
        try:
            kind, document = unpack_control(memoryview(self._buffer)[:size], Kind.OPEN, Kind.CLOSE)
            if kind is Kind.OPEN:
                self._open(Open.read(document))
            else:
                self._close(Fields(document).integer("channel"))
        except ContractError as error:
            return self._refuse(ProtocolViolationError(str(error)))
        except ProtocolViolationError as error:
            return self._refuse(error)
        except DeviceError as error:  # unknown, too large, not to be loaded: the conversation goes on
            self._refuse(error)
        return True

    def _open(self, asked: Open) -> None:
        config = self._serving.config
        if len(self._channels) >= config.channels_max:
            raise ChannelLimitError(f"{config.channels_max} channels are open on this connection")
        route = self._serving.router.route(asked.model)
        active = route.active or route.resolve(asked.key or "")
        layout = plan_layout(active.inputs, active.outputs, asked, config.channel_bytes_max)
        channel = self._new_channel(layout, active, route, asked)
        self._channels[channel.number] = (
            channel  # before it is told: whoever asked may be gone, and it must be let go of
        )
        try:
            message = pack_control(Kind.OPENED, channel.describe(active).to_document())
            socket.send_fds(self._socket, [message], [channel.descriptor])
        finally:
            os.close(channel.descriptor)

    def _new_channel(self, layout: Layout, active: ActiveModel, route: Route, asked: Open) -> Channel:
        while (number := self._opened_count & 0xFFFF) in self._channels:
            self._opened_count += 1
        self._opened_count += 1
        try:
            return Channel(number, route, self._serving.router, active, layout, asked, self._steady.forget)
        except OSError as error:
            raise ChannelLimitError(f"no shared memory: {error}") from error

    def _close(self, number: int) -> None:
        channel = self._channels.pop(number, None)
        if channel is None:
            raise UnknownChannelError(f"channel {number} is not open")
        channel.close()
        self._socket.send(pack_control(Kind.CLOSED, {"channel": number}))

    def _refuse(self, error: DeviceError) -> bool:
        self._socket.send(pack_control(Kind.REFUSED, failure_of(error).to_document()))
        return False
