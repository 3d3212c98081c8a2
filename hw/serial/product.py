"""The serial core's array: a 4x4 tile of weights on eight dual multipliers, and its sums."""

from __future__ import annotations

from amaranth.hdl import Array, Cat, Const, Module, Mux, Signal, signed
from amaranth.lib import stream, wiring
from amaranth.lib.memory import Memory
from amaranth.lib.wiring import In, Out

from intformer.config import CoreConfig
from intformer.hw.serial.mac import DualMac

__all__ = ["ACCUMULATORS", "COLS", "ROWS", "ProductEngine"]

ROWS, COLS = 4, 4
ACCUMULATORS = 255
"""Rows of sums; the row after them is 0 for ever."""


class ProductEngine(wiring.Component):
    """Takes a tile of weights, then adds its products with rows of activations to sums.

    One activation word per cycle: two cycles in the multipliers, one for the sum of a column's
    products, one to add that to the accumulator.

    Parameters
    ----------
    target: see :class:`intformer.hw.serial.mac.DualMac`.

    Members
    -------
    load: ``In(1)``; take a tile from ``weights``, the last column first, each from row 0 on.
    run: ``In(1)``; feed the rows. Both are held until ``idle`` comes (``Out(1)``, not in
        the first cycle); the flags hold still from ``load`` on.
    weights: ``In(stream)`` of bytes.
    value: ``In(32)``; what the ``set_`` signals take: set_addr, set_stride, set_acc, set_count,
        set_flags (bit 0: uint8 activations, 1: int4 weights, 2: overwrite the sums).
    act_addr: ``Out(14)``, act_read: ``Out(1)``; act_data: ``In(32)``, one cycle later.
    acc_addr: ``In(10)``, acc_read: ``In(1)``, while not running; acc_data: ``Out(32)``, one cycle
        later, kept.
    """

    def __init__(self, config: CoreConfig, *, target: str | None = None) -> None:
        self._target = target
        super().__init__(
            {
                "load": In(1),
                "run": In(1),
                "idle": Out(1),
                "weights": In(stream.Signature(8)),
                "value": In(32),
                "set_addr": In(1),
                "set_stride": In(1),
                "set_acc": In(1),
                "set_count": In(1),
                "set_flags": In(1),
                "act_addr": Out(14),
                "act_read": Out(1),
                "act_data": In(32),
                "acc_addr": In(10),
                "acc_read": In(1),
                "acc_data": Out(32),
            }
        )

    def elaborate(self, _platform: object) -> Module:
        m = Module()
        macs = {}
        for column in range(COLS):
            for half in range(ROWS // 2):
                macs[column, half] = mac = DualMac(target=self._target)
                m.submodules[f"mac_{column}_{half}"] = mac
        unsigned, int4, overwrite = (
            Signal(name=name) for name in ("unsigned", "int4", "overwrite")
        )
        with m.If(self.set_flags):
            m.d.sync += Cat(unsigned, int4, overwrite).eq(self.value[:3])
        loaded = self._weights(m, macs, unsigned, int4)
        valid = self._feed(m)
        for (_, half), mac in macs.items():
            for lane in range(2):
                code = self.act_data.word_select(2 * half + lane, 8)
                m.d.comb += getattr(mac, f"a{lane}").eq(Cat(code[:7], code[7] ^ unsigned))
        self._sums(m, macs, valid, overwrite)
        m.d.comb += self.idle.eq(Mux(self.load, loaded, ~Cat(valid).any()))
        return m

    def _weights(self, m: Module, macs: dict, unsigned: Signal, int4: Signal) -> Signal:
        """Pass weights to the multipliers, two at a time; high with the last."""
        place = Signal(range(ROWS * COLS))
        before = Signal(8)
        upper = Signal()
        nibble = Signal(4)
        weight = Signal(8)
        byte = self.weights.payload
        taking = Signal()
        m.d.comb += [
            taking.eq(self.load & self.weights.valid),
            self.weights.ready.eq(self.load & (~int4 | upper)),
            nibble.eq(Mux(upper, byte[4:], byte[:4])),
            weight.eq(Mux(int4, Cat(nibble, nibble[3].replicate(4)), byte)),
        ]
        with m.If(taking):
            m.d.sync += [
                place.eq(place + 1),
                before.eq(weight),
                upper.eq(int4 & ~upper),
            ]
        gate = unsigned.replicate(8)
        for (column, half), mac in macs.items():
            pair = (COLS - 1 - column) * (ROWS // 2) + half
            m.d.comb += [
                mac.load.eq(taking & (place == 2 * pair + 1)),
                mac.w0.eq(before.as_signed()),
                mac.w1.eq(weight.as_signed()),
                mac.c0.eq(Cat(Const(0, 7), before & gate, before[7] & unsigned)),
                mac.c1.eq(Cat(Const(0, 7), weight & gate, weight[7] & unsigned)),
            ]
        last = Signal()
        m.d.comb += last.eq(taking & (place == ROWS * COLS - 1))
        return last

    def _feed(self, m: Module) -> list[Signal]:
        """Read activation words; return where in the pipeline there are some."""
        address, stride, count = Signal(14), Signal(14), Signal(9)
        running = Signal()
        m.d.comb += [
            running.eq(self.run & (count != 0)),
            self.act_addr.eq(address),
            self.act_read.eq(running),
        ]
        with m.If(self.set_stride):
            m.d.sync += stride.eq(self.value)
        with m.If(self.set_addr):
            m.d.sync += address.eq(self.value)
        with m.Elif(running):
            m.d.sync += address.eq(address + stride)
        with m.If(self.set_count):
            m.d.sync += count.eq(self.value)
        with m.Elif(running):
            m.d.sync += count.eq(count - 1)
        valid = [running]
        for stage in range(1, 5):
            flag = Signal(name=f"valid_{stage}")
            m.d.sync += flag.eq(valid[-1])
            valid.append(flag)
        return valid

    def _sums(self, m: Module, macs: dict, valid: list[Signal], overwrite: Signal) -> None:
        row, written = Signal(8), Signal(8)
        with m.If(self.set_acc):
            m.d.sync += row.eq(self.value)
        with m.Elif(valid[3]):
            m.d.sync += row.eq(row + 1)
        m.d.sync += written.eq(row)
        read_row = Signal(8)
        m.d.comb += read_row.eq(Mux(self.acc_read, self.acc_addr[2:], row | overwrite.replicate(8)))
        columns = []
        for column in range(COLS):
            memory = Memory(shape=signed(32), depth=256, init=[])
            m.submodules[f"acc_{column}"] = memory
            read, write = memory.read_port(), memory.write_port()
            dot = Signal(signed(18), name=f"dot_{column}")
            products = [
                getattr(macs[column, half], f"o{lane}")
                for half in range(ROWS // 2)
                for lane in range(2)
            ]
            m.d.sync += dot.eq((products[0] + products[1]) + (products[2] + products[3]))
            m.d.comb += [
                read.addr.eq(read_row),
                read.en.eq(valid[3] | self.acc_read),
                write.addr.eq(written),
                write.en.eq(valid[4]),
                write.data.eq(read.data + dot),
            ]
            columns.append(read.data)
        chosen = Signal(2)
        with m.If(self.acc_read):
            m.d.sync += chosen.eq(self.acc_addr[:2])
        m.d.comb += self.acc_data.eq(Array(columns)[chosen])
