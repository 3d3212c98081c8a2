"""Accumulator memories: one per column of the array."""

from __future__ import annotations

from amaranth.hdl import Module, Mux, Shape, Signal, signed, unsigned
from amaranth.lib import data, wiring
from amaranth.lib.memory import Memory
from amaranth.lib.wiring import In, Out
from amaranth.utils import ceil_log2

from intformer.config import CoreConfig
from intformer.hw.parts.streams import delay
from intformer.hw.ports import ACC_LATENCY
from intformer.reference import ACC_BITS

__all__ = ["ACCUMULATE_SPACING", "AccumulatorColumn", "AccumulatorControl", "Accumulators"]

ACCUMULATE_SPACING = 4
"""Least distance, in cycles, of two accumulations into the same address."""


class AccumulatorControl(data.StructLayout):
    """What to do with a sum that leaves the array.

    ``valid``: accumulate; ``last``: the instruction's last; ``overwrite``: store instead of add;
    ``addr``: address in the accumulator memory.
    """

    def __init__(self, config: CoreConfig) -> None:
        super().__init__(
            {"valid": 1, "last": 1, "overwrite": 1, "addr": ceil_log2(config.acc_depth)}
        )


class AccumulatorColumn(wiring.Component):
    """The accumulator memory of one column.

    Parameters
    ----------
    config: the core's parameters.
    psum: shape of the array's sums.

    Members
    -------
    i: ``In(AccumulatorControl)``, two cycles before ``psum``.
    o: ``Out(AccumulatorControl)``; ``i`` one cycle later, for the next column.
    psum: ``In(signed)``; the sum that leaves the array.
    done: ``Out(1)``; in this cycle the instruction's last sum is written: reads of the next
        cycle see it.
    read_addr, read_data: read port for others, :data:`~intformer.hw.ports.ACC_LATENCY` cycles.

    Notes
    -----
    Three cycles after ``i`` the new sum is written, so that accumulations into the same address
    must be :data:`ACCUMULATE_SPACING` cycles apart. Overwriting needs no distance.
    """

    def __init__(self, config: CoreConfig, *, psum: Shape) -> None:
        self._depth = config.acc_depth
        control = AccumulatorControl(config)
        super().__init__(
            {
                "i": In(control),
                "o": Out(control),
                "psum": In(psum),
                "done": Out(1),
                "read_addr": In(ceil_log2(config.acc_depth)),
                "read_data": Out(signed(ACC_BITS)),
            }
        )

    def elaborate(self, platform: object) -> Module:
        m = Module()
        # No sum is read that is being written, or it is overwritten: no logic for that is needed.
        memory = Memory(
            shape=unsigned(ACC_BITS), depth=self._depth, init=[], attrs={"no_rw_check": 1}
        )
        m.submodules.memory = memory
        fetch = memory.read_port(domain="comb")
        read = memory.read_port(domain="comb")
        write = memory.write_port()

        fetched = Signal(self.i.shape())  # in the cycle of the fetched data
        adding = Signal(self.i.shape())
        answer = Signal(ACC_BITS, reset_less=True)
        old = Signal(signed(ACC_BITS), reset_less=True)
        m.d.sync += [
            fetched.eq(self.i),
            answer.eq(fetch.data),
            old.eq(answer),
            adding.eq(fetched),
            write.en.eq(adding.valid),
            write.addr.eq(adding.addr),
            write.data.eq(Mux(adding.overwrite, 0, old) + self.psum),
            self.done.eq(adding.valid & adding.last),
        ]
        m.d.comb += [
            self.o.eq(fetched),
            fetch.addr.eq(self.i.addr),
            self.read_data.eq(delay(m, read.data, 2, name="answer", reset_less=True)),
            read.addr.eq(delay(m, self.read_addr, ACC_LATENCY - 2, name="read_addr")),
        ]
        return m


class Accumulators(wiring.Component):
    """The accumulator memories of all columns, each as late as its column of the array.

    Parameters
    ----------
    config: the core's parameters.
    psum: shape of the array's sums.
    together: columns whose sums leave the array in the same cycle.

    Members
    -------
    i: ``In(AccumulatorControl)``, two cycles before ``psum`` of column 0.
    psum: ``In``; the sums at the foot of the array, column ``c`` ``c // together`` cycles late.
    done: ``Out(1)``; the last column's ``done``.
    read_addr: ``In(12)``, read_data: ``Out``; a row of all columns, in the same cycle,
        :data:`~intformer.hw.ports.ACC_LATENCY` cycles after the address.
    """

    def __init__(self, config: CoreConfig, *, psum: Shape, together: int = 1) -> None:
        self._config = config
        self._psum = psum
        self._together = together
        super().__init__(
            {
                "i": In(AccumulatorControl(config)),
                "psum": In(data.ArrayLayout(psum, config.cols)),
                "done": Out(1),
                "read_addr": In(12),
                "read_data": Out(data.ArrayLayout(signed(ACC_BITS), config.cols)),
            }
        )

    def elaborate(self, platform: object) -> Module:
        m = Module()
        control = self.i
        for index in range(self._config.cols):
            column = AccumulatorColumn(self._config, psum=self._psum)
            m.submodules[f"column_{index}"] = column
            m.d.comb += [
                column.i.eq(control),
                column.psum.eq(self.psum[index]),
                column.read_addr.eq(self.read_addr),
                self.read_data[index].eq(column.read_data),
            ]
            if (index + 1) % self._together == 0:
                control = column.o
        m.d.comb += self.done.eq(column.done)
        return m
