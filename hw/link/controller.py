"""What the host asks for, carried out: frames in, memory and core, frames out."""

from __future__ import annotations

from amaranth.hdl import Module, Mux, Signal, Value
from amaranth.lib import stream, wiring
from amaranth.lib.memory import Memory
from amaranth.lib.wiring import In, Out

from intformer.config import CoreConfig
from intformer.host.identity import Identity, config_digest
from intformer.host.protocol import Command
from intformer.hw.link.answer import add_answer
from intformer.hw.link.commands import add_commands
from intformer.hw.link.crc import Crc32
from intformer.hw.link.frames import Deframer, Framer
from intformer.hw.link.receive import add_receiver
from intformer.hw.link.registers import BUFFER_BYTES, Registers, initial_buffer
from intformer.hw.link.share import MemoryShare
from intformer.hw.link.transfers import add_transfers
from intformer.hw.ports import BurstPort

__all__ = ["Controller", "Identity"]


class Controller(wiring.Component):
    """Carries out the commands of docs/protocol.md, one at a time.

    Nothing of a frame is carried out before all of it has arrived and its CRC is right. Every
    good command is answered; every broken frame is counted and answered with a notice. While a
    command is carried out or answered, what arrives is dropped and counted.

    Parameters
    ----------
    config: of the core.
    identity: what INFO tells the host; its clock sets the time-outs (see :attr:`silence_cycles`
        and :attr:`memory_cycles`). ``config_digest`` and ``bus_bytes`` must be those of ``config``.

    Members
    -------
    i: ``In(stream)`` of bytes from the line; always taken within forty cycles.
    o: ``Out(stream)`` of bytes for the line.
    line_error: ``In(1)``; for one cycle: the transport dropped a byte. Counted.
    mem: ``Out(BurstPort)`` to external memory.
    core_mem: ``In(BurstPort)`` from the core: handed through while a program runs.
        While ``busy`` is low nothing of the core's is under way there.
    start, entry: ``Out``, busy, done, error: ``In``: of the core; ``entry`` is right in the
        cycle of ``start``.
    counter_addr: ``Out(8)``, counter_data: ``In(32)``: of the core.
    base: ``Out(32)``; where an overlay begins; at first beyond all memory.
    reset: ``Out(1)``; for 16 cycles: reset the core and the memory's adapter,
        because the host asked for it or memory has not answered.
    """

    def __init__(self, config: CoreConfig, *, identity: Identity) -> None:
        if identity.config_digest != config_digest(config):
            raise ValueError(f"identity is not of configuration {config.name!r}")
        if identity.bus_bytes != config.bus_bytes:
            raise ValueError(
                f"bus_bytes of the identity must be {config.bus_bytes}, not {identity.bus_bytes!r}"
            )
        self._config = config
        self._identity = identity
        super().__init__(
            {
                "i": In(stream.Signature(8)),
                "o": Out(stream.Signature(8)),
                "line_error": In(1),
                "mem": Out(BurstPort(config)),
                "core_mem": In(BurstPort(config)),
                "start": Out(1),
                "entry": Out(32),
                "busy": In(1),
                "done": In(1),
                "error": In(1),
                "counter_addr": Out(8),
                "counter_data": In(32),
                "base": Out(32, init=0xFFFFFFFF),
                "reset": Out(1),
            }
        )

    @property
    def silence_cycles(self) -> int:
        """After so many cycles without a byte a frame that has begun is dropped: 50 to 100 ms."""
        return 1 << max(0.05 * self._identity.clock_hz, 1).__ceil__().bit_length()

    @property
    def memory_cycles(self) -> int:
        """After so many cycles without an answer from memory a command fails: 2 to 4 s."""
        return 1 << (2 * self._identity.clock_hz).bit_length()

    def elaborate(self, _platform: object) -> Module:
        m = Module()
        r = Registers(self._identity, silence=self.silence_cycles, memory=self.memory_cycles)
        step = 2 if self._config.bus_bytes == 1 else 4
        m.submodules.crc = r.crc = Crc32(step=step)
        m.submodules.deframer = r.deframer = Deframer()
        m.submodules.framer = r.framer = Framer()
        m.submodules.share = r.share = MemoryShare(self._config)
        init = initial_buffer(self._identity)
        m.submodules.buffer = buffer = Memory(shape=8, depth=BUFFER_BYTES, init=init)
        read, r.write = buffer.read_port(), buffer.write_port()
        wiring.connect(m, wiring.flipped(self.i), r.deframer.i)
        wiring.connect(m, r.framer.o, wiring.flipped(self.o))
        wiring.connect(m, wiring.flipped(self.core_mem), r.share.core)
        wiring.connect(m, r.share.mem, wiring.flipped(self.mem))
        tally = Signal.like(r.place)
        m.d.comb += [
            tally.eq(r.tally_address()),
            read.addr.eq(Mux(r.tallying, tally, r.place)),
            r.write.addr.eq(Mux(r.tallying, tally, r.place)),
            r.share.running.eq(r.running),
            r.share.clear.eq(self.reset),
        ]
        m.d.sync += [
            r.read.eq(read.data),  # block RAM is slow to answer
            r.timer.eq(Mux(r.waiting, r.timer + 1, 0)),
            r.end.eq(r.address + r.left),
            r.fits.eq(_at_most(r.end, self._identity.memory_size)),
            self.start.eq(r.go),
            self.reset.eq(r.resetting),
            r.running.eq((r.go | self.start | (r.running & self.busy)) & ~self.reset),
        ]
        with m.If(r.go | self.reset):
            m.d.sync += r.finished.eq(0)
        with m.Elif(self.done):
            m.d.sync += r.finished.eq(1)
        with m.If(r.set_base):
            m.d.sync += self.base.eq(r.address)
        m.d.comb += [
            self.entry.eq(r.address),
            self.counter_addr.eq(r.address),
            r.core_error.eq(self.error),
            r.counter.eq(self.counter_data),
            r.deframer.closed.eq(r.closed),
            r.share.want.eq(r.want),
            r.share.host.cmd.payload.addr.eq(r.address),
            r.share.host.cmd.payload.write.eq(r.command == Command.WRITE),
            r.share.host.cmd.payload.len.eq(r.burst),
            r.share.host.wdata.payload.eq(r.beat),
            r.share.host.rdata.ready.eq(1),
            # What goes into the buffer or comes from memory, unless an answer is being sent.
            r.crc.i.payload.eq(Mux(r.closed & ~r.want, r.framer.i.payload.data, r.write.data)),
        ]
        with m.If(~(r.tallying | r.high)):
            m.d.sync += r.pick.eq(r.first_event())
        with m.FSM():
            add_receiver(m, r)
            add_commands(m, r)
            add_transfers(m, r)
            add_answer(m, r)
        for event, happens in (("lost", r.deframer.lost), ("line", self.line_error)):
            with m.If(happens):
                m.d.sync += r.event(event).eq(1)
        return m


def _at_most(value: Value, limit: int) -> Value:
    """``value <= limit``, without comparing the zeros at the end of ``limit``."""
    zeros = (limit & -limit).bit_length() - 1
    high, least = value[zeros:], limit >> zeros
    return (high < least) | ((high == least) & ~value[:zeros].any())
