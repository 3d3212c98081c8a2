"""A stand-in for a core: the same ports, one trick. It exercises the bench around cores.

From the program's first four words it takes a source, a destination, a number of beats (at
most 16) and a mode; it reads the beats, adds 1 to each, writes them, and is done. Each beat
also counts as one MOVE, which writes the beat's low lanes to ``act`` and ``wide``.
"""

from amaranth.hdl import Cat, Const, Module, Signal
from amaranth.lib import fifo, wiring
from amaranth.lib.wiring import In, Out

from intformer.config import CoreConfig
from intformer.hw.ports import BurstPort, WriteItem
from intformer.isa import Unit

NORMAL, HANG, ERROR, ASTRAY = range(4)
"""Modes: work; stop in the middle; raise ``error``; read past the end of memory."""


class ToyCore(wiring.Component):
    def __init__(self, config: CoreConfig) -> None:
        self.config = config
        members = {
            "start": In(1),
            "entry": In(32),
            "busy": Out(1),
            "done": Out(1),
            "error": Out(1),
            "counter_addr": In(8),
            "counter_data": Out(32),
            "mem": Out(BurstPort(config)),
            "trace_done": Out(len(Unit)),
            "trace_busy": Out(len(Unit)),
        }
        for name, bits in (("act", 8), ("wide", 16)):
            members[f"trace_{name}"] = Out(3 + WriteItem(config, bits=bits).size)
            members[f"trace_{name}_valid"] = Out(1)
        super().__init__(members)

    def elaborate(self, platform: object) -> Module:
        m = Module()
        bits = 8 * self.config.bus_bytes
        m.submodules.queue = queue = fifo.SyncFIFO(width=bits, depth=16)
        words = [Signal(bits, name=f"word_{i}") for i in range(4)]
        source, destination, beats, mode = words
        index = Signal(5)
        cycles = Signal(32)
        cmd = self.mem.cmd
        m.d.comb += [
            self.mem.rdata.ready.eq(1),
            self.busy.eq(1),
            self.trace_busy.eq(1 << Unit.MOVE),
            self.mem.wdata.payload.eq(queue.r_data + 1),
        ]
        m.d.sync += [
            cycles.eq(cycles + 1),
            self.done.eq(0),
            self.counter_data.eq(cycles + self.counter_addr),
        ]

        def ask(address: object, length: object, write: int, following: str) -> None:
            m.d.comb += [
                cmd.valid.eq(1),
                cmd.payload.addr.eq(address),
                cmd.payload.len.eq(length),
                cmd.payload.write.eq(write),
            ]
            with m.If(cmd.ready):
                m.d.sync += index.eq(0)
                m.next = following

        with m.FSM():
            with m.State("IDLE"):
                m.d.comb += [self.busy.eq(0), self.trace_busy.eq(0)]
                with m.If(self.start):
                    m.d.sync += [cycles.eq(0), index.eq(0)]
                    m.next = "ASK_PROGRAM"
            with m.State("ASK_PROGRAM"):
                ask(self.entry, 3, 0, "PROGRAM")
            with m.State("PROGRAM"), m.If(self.mem.rdata.valid):
                m.d.sync += [Cat(words).eq(Cat(*words[1:], self.mem.rdata.payload))]
                m.d.sync += index.eq(index + 1)
                with m.If(index == 3):
                    m.next = "ASK_READ"
            with m.State("ASK_READ"):
                with m.If(mode == HANG):
                    m.next = "HANG"
                with m.Elif(mode == ERROR):
                    m.d.sync += self.error.eq(1)
                with m.Else():
                    ask(source | ((mode == ASTRAY) << 20), beats - 1, 0, "READ")
            with m.State("HANG"):
                pass
            with m.State("READ"):
                m.d.comb += [
                    queue.w_data.eq(self.mem.rdata.payload),
                    queue.w_en.eq(self.mem.rdata.valid),
                ]
                with m.If(self.mem.rdata.valid):
                    m.d.sync += index.eq(index + 1)
                    with m.If(index == beats - 1):
                        m.next = "ASK_WRITE"
            with m.State("ASK_WRITE"):
                ask(destination, beats - 1, 1, "WRITE")
            with m.State("WRITE"):
                m.d.comb += self.mem.wdata.valid.eq(1)
                with m.If(self.mem.wdata.ready):
                    self._trace(m, index, self.mem.wdata.payload)
                    m.d.comb += queue.r_en.eq(1)
                    m.d.sync += index.eq(index + 1)
                    with m.If(index == beats - 1):
                        m.d.sync += self.done.eq(1)
                        m.next = "IDLE"
        return m

    def _trace(self, m: Module, index: Signal, value: object) -> None:
        """One MOVE has written ``value``: even lanes of ``act``, all of ``wide``."""
        lanes = self.config.lanes
        m.d.comb += [
            self.trace_done.eq(1 << Unit.MOVE),
            self.trace_act_valid.eq(1),
            self.trace_act.eq(
                _item(index, sub=1, mask=0x5555 & ((1 << lanes) - 1), lanes=lanes, data=value)
            ),
            self.trace_wide_valid.eq(1),
            self.trace_wide.eq(_item(index, sub=0, mask=(1 << lanes) - 1, lanes=lanes, data=value)),
        ]


def _item(word: Signal, *, sub: int, mask: int, lanes: int, data: object) -> Cat:
    low = Cat(word, Const(0, 18 - len(word)))
    return Cat(Const(Unit.MOVE, 3), low, Const(sub, 4), Const(mask, lanes), data)
