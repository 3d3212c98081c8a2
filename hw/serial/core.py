"""The serial core: a microprogram that runs every instruction on one small datapath."""

from __future__ import annotations

from amaranth.hdl import Array, Cat, Const, Module, Mux, Signal
from amaranth.lib import wiring
from amaranth.lib.memory import Memory
from amaranth.lib.wiring import connect, flipped

from intformer.config import CoreConfig
from intformer.hw.serial.arithmetic import Arithmetic
from intformer.hw.serial.control import Control
from intformer.hw.serial.isa import Io, Micro, Source, TableBytes
from intformer.hw.serial.product import ProductEngine
from intformer.hw.serial.program import COUNTER_BASE, PROGRAM_COUNTER, microprogram
from intformer.hw.serial.scratchpads import Scratchpads
from intformer.hw.serial.stream import ByteStream
from intformer.hw.serial.tables import Tables
from intformer.isa import Unit

__all__ = ["SerialCore"]


class SerialCore(wiring.Component):
    """A core that runs one instruction after the other, in the order of the program.

    It runs the same programs as :class:`intformer.hw.core.Core` and has its ports. Tokens need no
    hardware: in the order of a program every instruction comes after those that it waits for.

    Parameters
    ----------
    config: the parameters of this core, within :data:`intformer.config.SERIAL_LIMITS`.
    members: the ports; see :class:`intformer.hw.core.Core`.
    target: ``"ice40"`` for primitives of iCE40 UltraPlus, else their behavioural twins.
    """

    def __init__(
        self, config: CoreConfig, members: wiring.Signature, *, target: str | None = None
    ) -> None:
        self._config = config
        self._target = target
        super().__init__(members)

    def elaborate(self, _platform: object) -> Module:
        m = Module()
        program = microprogram()
        m.submodules.control = control = Control(program.words())
        m.submodules.arithmetic = arithmetic = Arithmetic()
        m.submodules.stream = stream = ByteStream(self._config)
        m.submodules.engine = engine = ProductEngine(self._config, target=self._target)
        m.submodules.pads = pads = Scratchpads(self._config, target=self._target)
        m.submodules.tables = tables = Tables()
        connect(m, stream.mem, flipped(self.mem))

        # Registers. Their read port serves the counters while no program runs.
        registers = Memory(shape=32, depth=256, init=program.init)
        m.submodules.registers = registers
        read, write = registers.read_port(), registers.write_port()
        incremented, wrapped = Signal(24), Signal()
        m.d.comb += [
            read.addr.eq(
                Mux(
                    control.busy,
                    control.next_register,
                    Const(COUNTER_BASE, 8) | self.counter_addr[:5],
                )
            ),
            read.en.eq(control.moving | ~control.busy),
            Cat(incremented, wrapped).eq(read.data[:24] + 1),
            write.addr.eq(Mux(control.busy, control.register, PROGRAM_COUNTER)),
            write.en.eq(control.write_register | (self.start & ~control.busy)),
            write.data.eq(
                Mux(
                    control.busy,
                    Mux(control.store, arithmetic.a, Cat(incremented, read.data[24:])),
                    self.entry,
                )
            ),
        ]

        operand, element = Signal(32), Signal(32)
        loading, from_acc = Signal(), Signal()
        m.d.sync += loading.eq(control.act(Micro.LDM))
        with m.If(control.act(Micro.LDM)):
            m.d.sync += from_acc.eq(read.data[17])
        with m.If(loading):
            m.d.sync += element.eq(Mux(from_acc, engine.acc_data, pads.o))
        with m.Switch(control.source):
            with m.Case(Source.R):
                m.d.comb += operand.eq(read.data)
            with m.Case(Source.MEM):
                m.d.comb += operand.eq(element)
            with m.Case(Source.T):
                m.d.comb += operand.eq(tables.o)
        m.d.comb += [
            arithmetic.op.eq(control.op),
            arithmetic.step.eq(control.step),
            arithmetic.b.eq(operand),
            arithmetic.factor.eq(read.data),
            arithmetic.is_signed.eq(control.is_signed),
            arithmetic.last.eq(control.last),
            arithmetic.coarse.eq(control.coarse),
            arithmetic.far.eq(control.far),
            control.start.eq(self.start),
            control.operand.eq(operand),
            control.a.eq(arithmetic.a),
            control.conditions.eq(
                Cat(
                    Const(1, 1),
                    arithmetic.negative,
                    arithmetic.zero,
                    arithmetic.overflow,
                    arithmetic.carry,
                )
            ),
            control.wrapped.eq(wrapped),
        ]
        self._connect_stream(m, control, arithmetic, stream, engine)
        m.d.comb += [
            pads.element.eq(read.data),
            pads.read.eq(control.act(Micro.LDM) & ~read.data[17]),
            pads.write.eq(control.act(Micro.STM)),
            pads.data.eq(arithmetic.a),
            pads.word.eq(engine.act_addr),
            pads.read_word.eq(engine.act_read),
            engine.act_data.eq(pads.o_word),
            engine.acc_addr.eq(read.data),
            engine.acc_read.eq(control.act(Micro.LDM) & read.data[17]),
            tables.addr.eq(
                Cat(Mux(control.is_signed, arithmetic.a[:8], read.data[:8]), read.data[8:10])
            ),
            tables.read.eq(control.act(Micro.LDT)),
            tables.write.eq(control.act(Micro.STT)),
            tables.low.eq(control.source != TableBytes.HIGH),
            tables.high.eq(control.source != TableBytes.LOW),
            tables.data.eq(arithmetic.a),
        ]
        self._connect_host(m, control, read.data)
        if hasattr(self, "trace_act"):
            self._connect_trace(m, control, pads)
        return m

    def _connect_stream(self, m, control, arithmetic, stream, engine) -> None:
        place = Signal(3)
        bit_taken, flush = Signal(), Signal()
        m.d.comb += [
            bit_taken.eq(control.step & (control.op == Micro.GET)),
            # Bits of the last byte that no field needed.
            flush.eq(stream.set_count & (place != 0)),
            control.bit_valid.eq(stream.o.valid),
            arithmetic.bit.eq(stream.o.payload.bit_select(place, 1)),
            stream.addr.eq(control.operand),
            stream.count.eq(control.operand),
            stream.set_addr.eq(control.io(Io.XADDR)),
            stream.set_count.eq(control.io(Io.XCOUNT)),
            stream.push.eq(control.act(Micro.PUSH)),
            stream.write.eq(control.execute & (control.op == Micro.WRB)),
            stream.byte.eq(arithmetic.a),
            engine.weights.payload.eq(stream.o.payload),
            engine.weights.valid.eq(stream.o.valid),
            stream.o.ready.eq(
                (bit_taken & (place == 7)) | flush | (engine.weights.ready & engine.weights.valid)
            ),
            engine.load.eq(control.execute & (control.op == Micro.TILE)),
            engine.run.eq(control.execute & (control.op == Micro.RUN)),
            engine.value.eq(control.operand),
            engine.set_addr.eq(control.io(Io.MADDR)),
            engine.set_stride.eq(control.io(Io.MSTRIDE)),
            engine.set_acc.eq(control.io(Io.MACC)),
            engine.set_count.eq(control.io(Io.MCOUNT)),
            engine.set_flags.eq(control.io(Io.MFLAGS)),
            control.written.eq(stream.written),
            control.array_idle.eq(engine.idle),
        ]
        with m.If(flush):
            m.d.sync += place.eq(0)
        with m.Elif(bit_taken):
            m.d.sync += place.eq(place + 1)

    def _connect_host(self, m, control, counter) -> None:
        cycles = Signal(32)
        first = Signal()
        m.d.sync += [
            first.eq(self.counter_addr == 0),
            self.done.eq(control.end),
        ]
        with m.If(self.start & ~control.busy):
            m.d.sync += [cycles.eq(0), self.error.eq(0)]
        with m.Elif(control.busy):
            m.d.sync += cycles.eq(cycles + 1)
        with m.If(control.io(Io.ERROR)):
            m.d.sync += self.error.eq(1)
        m.d.comb += [
            self.busy.eq(control.busy),
            self.counter_data.eq(Mux(first, cycles, counter)),
        ]

    def _connect_trace(self, m, control, pads) -> None:
        unit = Signal(3)
        with m.If(control.io(Io.UNIT)):
            m.d.sync += unit.eq(control.register)
        units = Array(Const(1 << u, len(Unit)) for u in Unit)
        written = Signal()
        m.d.comb += [
            written.eq(pads.write),
            self.trace_done.eq(Mux(control.io(Io.DONE), units[unit], 0)),
            self.trace_busy.eq(Mux(control.busy, units[unit], 0)),
            self.trace_act_valid.eq(written & ~pads.element[16]),
            self.trace_act.unit.eq(unit),
            self.trace_act.item.word.eq(pads.element[2:16]),
            self.trace_act.item.sub.eq(pads.element[:2]),
            self.trace_act.item.mask.eq(1),
            self.trace_act.item.data.eq(pads.data),
            self.trace_wide_valid.eq(written & pads.element[16]),
            self.trace_wide.unit.eq(unit),
            self.trace_wide.item.word.eq(pads.element[:15]),
            self.trace_wide.item.mask.eq(1),
            self.trace_wide.item.data.eq(pads.data),
        ]
