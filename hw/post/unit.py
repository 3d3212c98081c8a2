"""POST: the epilogue after accumulation, and element-wise operations on stored tensors.

::

    accumulators ─┐                                     ┌► act
    act or wide  ─┴► + bias ► x mult >> shift ─┐        │
    act or wide  ──► x res_mult >> res_shift ──┴► + zero_point ► clip ► table ─┴► wide
"""

from __future__ import annotations

from amaranth.hdl import Cat, Module, Mux, Signal, signed
from amaranth.lib import data, wiring
from amaranth.lib.wiring import In, Out, connect, flipped

from intformer.config import CoreConfig
from intformer.hw.parts.streams import CreditFifo, delay
from intformer.hw.ports import (
    READ_LATENCY,
    NarrowReadPort,
    ParamReadPort,
    UnitPort,
    WritePort,
    operation_layout,
)
from intformer.hw.post.access import AccumulatorReader, GroupCounter, GroupReader, GroupWriter
from intformer.hw.post.requantize import Requantize
from intformer.isa import Op

__all__ = ["PostUnit"]

_SUM_BITS = 31
"""Terms are saturated to this width: the other terms are too small to bring them back in range."""
_RESULTS = 24
"""Places for results: more than the pipeline holds."""


class PostUnit(wiring.Component):
    """Runs POST_ACC and POST_MEM; see :func:`intformer.reference.post`.

    One lane group per cycle while ports are granted; one instruction at a time.

    Members
    -------
    unit: ``In(UnitPort)``.
    acc_addr: ``Out(12)``, acc_data: ``In(32*cols)``: accumulators, ``READ_LATENCY`` later.
    act_src, wide_src, act_res, wide_res: ``Out(NarrowReadPort)``: source and residual.
    param: ``Out(ParamReadPort)``.
    table_addr, table_data: activation tables, one address ``{index: 8, table: 2}`` and one entry
        per lane, ``READ_LATENCY`` later.
    act_write, wide_write: ``Out(WritePort)``.
    """

    def __init__(self, config: CoreConfig) -> None:
        self._config = config
        lanes = config.lanes
        address = data.StructLayout({"index": 8, "table": 2})
        super().__init__(
            {
                "unit": In(UnitPort()),
                "acc_addr": Out(12),
                "acc_data": In(32 * config.cols),
                "act_src": Out(NarrowReadPort(8 * lanes)),
                "wide_src": Out(NarrowReadPort(16 * lanes)),
                "act_res": Out(NarrowReadPort(8 * lanes)),
                "wide_res": Out(NarrowReadPort(16 * lanes)),
                "param": Out(ParamReadPort(config)),
                "table_addr": Out(data.ArrayLayout(address, lanes)),
                "table_data": In(data.ArrayLayout(8, lanes)),
                "act_write": Out(WritePort(config, bits=8)),
                "wide_write": Out(WritePort(config, bits=16)),
            }
        )

    @staticmethod
    def instruction_cycles(op: Op, *, groups: int) -> int:
        """Cycles from the acceptance of a command to ``done`` while every port is granted.

        ``groups``: rows times lane groups per row.
        """
        return groups + (24 if op == Op.POST_ACC else 23)

    def elaborate(self, _platform: object) -> Module:
        m = Module()
        config = self._config
        fields = Signal(operation_layout(Op.POST_MEM))
        from_acc, start = Signal(), Signal()
        m.submodules.acc = acc = AccumulatorReader(config)
        m.submodules.source = source = GroupReader(config)
        m.submodules.residual = residual = GroupReader(config)
        m.submodules.writer = writer = GroupWriter(config)
        m.submodules.joined = joined = GroupCounter()
        for part in (acc, source, residual, writer, joined):
            name = "load" if part is joined else "start"
            chosen = {acc: from_acc, source: ~from_acc, residual: fields.res_en}.get(part, 1)
            m.d.comb += [
                getattr(part, name).eq(start & chosen),
                part.rows.eq(fields.rows),
                part.groups.eq(fields.groups),
            ]
        self._control(m, fields, from_acc, start, (source, residual, writer))
        self._places(m, fields, acc, source, residual, writer)

        m.submodules.results = results = CreditFifo(16 * config.lanes, depth=_RESULTS)
        connect(m, results.o, writer.i)
        ready = Mux(from_acc, acc.o.valid, source.o.valid) & (residual.o.valid | ~fields.res_en)
        fire = Signal()
        m.d.comb += [
            # The readers deliver exactly the instruction's groups: nothing to count here.
            fire.eq(results.room & ready),
            results.take.eq(fire),
            joined.step.eq(fire),
            acc.o.ready.eq(fire & from_acc),
            source.o.ready.eq(fire & ~from_acc),
            residual.o.ready.eq(fire & fields.res_en),
        ]
        m.d.sync += self.param.addr.eq(fields.param + Mux(fields.param_step, joined.index, 0))
        self._lanes(m, fields, from_acc, fire, acc, source, residual, results)
        return m

    def _control(self, m: Module, fields, from_acc, start, parts) -> None:
        """Take a command, start the parts, report when the last write has been taken."""
        source, residual, writer = parts
        cmd = self.unit.cmd
        m.d.comb += self.unit.stall.eq(source.stall | residual.stall | writer.stall)
        with m.FSM():
            with m.State("IDLE"):
                m.d.comb += cmd.ready.eq(1)
                with m.If(cmd.valid):
                    m.d.sync += [
                        fields.eq(cmd.payload.body),
                        from_acc.eq(cmd.payload.op == Op.POST_ACC),
                    ]
                    m.next = "START"
            with m.State("START"):
                m.d.comb += [start.eq(1), self.unit.busy.eq(1)]
                m.next = "RUN"
            with m.State("RUN"):
                m.d.comb += self.unit.busy.eq(1)
                with m.If(~writer.active):
                    m.d.comb += self.unit.done.eq(1)
                    m.next = "IDLE"

    def _places(self, m: Module, fields, acc, source, residual, writer) -> None:
        """Tell the readers and the writer where their rows lie, and connect their ports."""
        for part, prefix in ((source, "src"), (residual, "res"), (writer, "dst")):
            m.d.comb += [
                part.place.mem.eq(fields[f"{prefix}_mem"]),
                part.place.word.eq(fields[prefix]),
                part.place.sub.eq(fields[f"{prefix}_sub"]),
                part.place.stride.eq(fields[f"{prefix}_stride"]),
            ]
        m.d.comb += [
            acc.first.eq(fields.src),
            self.acc_addr.eq(acc.acc_addr),
            acc.acc_data.eq(self.acc_data),
            writer.tail.eq(fields.tail),
        ]
        connect(m, source.act, flipped(self.act_src))
        connect(m, source.wide, flipped(self.wide_src))
        connect(m, residual.act, flipped(self.act_res))
        connect(m, residual.wide, flipped(self.wide_res))
        connect(m, writer.act, flipped(self.act_write))
        connect(m, writer.wide, flipped(self.wide_write))

    def _lanes(self, m: Module, fields, from_acc, fire, acc, source, residual, results) -> None:
        """The arithmetic, lane by lane; a result is pushed a fixed time after ``fire``."""
        lanes = self._config.lanes
        with_residual = Signal()
        m.d.comb += with_residual.eq(fields.res_en)
        outputs = []
        for k in range(lanes):
            stored = source.o.payload.word_select(k, 16).as_signed()
            x = Signal(signed(32), name=f"x_{k}")
            r = Signal(signed(16), name=f"r_{k}")
            m.d.sync += [
                x.eq(Mux(from_acc, acc.o.payload.word_select(k, 32).as_signed(), stored)),
                r.eq(residual.o.payload.word_select(k, 16)),
            ]
            output, cycles = self._lane(m, k, fields, with_residual, x, r)
            outputs.append(output)
        m.d.comb += [
            results.i.eq(Cat(outputs)),
            results.push.eq(delay(m, fire, 1 + cycles, name="fired")),
        ]

    def _lane(self, m: Module, k: int, fields, with_residual, x, r):
        """The result of lane ``k`` and its latency from ``x`` and ``r`` on."""
        main, side = Requantize(o_bits=_SUM_BITS), Requantize(x_bits=16, o_bits=_SUM_BITS)
        m.submodules[f"requantize_{k}"], m.submodules[f"rescale_{k}"] = main, side
        param = self.param.data.word_select(k, 64)
        m.d.comb += [
            main.x.eq(delay(m, x, READ_LATENCY, name=f"x_{k}")),
            main.bias.eq(param[:32]),
            main.mult.eq(param[32:48]),
            main.shift.eq(param[48:56]),
            side.x.eq(delay(m, r, READ_LATENCY, name=f"r_{k}")),
            side.mult.eq(fields.res_mult),
            side.shift.eq(fields.res_shift),
        ]
        total = Signal(signed(_SUM_BITS + 2), name=f"total_{k}")
        clipped = Signal(signed(16), name=f"clipped_{k}")
        m.d.sync += [
            total.eq(main.o + Mux(with_residual, side.o, 0) + fields.zero_point),
            clipped.eq(Mux(total < fields.lo, fields.lo, Mux(total > fields.hi, fields.hi, total))),
        ]
        m.d.comb += [
            self.table_addr[k].index.eq(clipped[:8]),
            self.table_addr[k].table.eq(fields.table),
        ]
        passed = delay(m, clipped, READ_LATENCY, name=f"clipped_{k}")
        output = Signal(16, name=f"output_{k}")
        m.d.sync += output.eq(Mux(fields.table_en, self.table_data[k], passed))
        return output, 2 * READ_LATENCY + main.latency + 3
