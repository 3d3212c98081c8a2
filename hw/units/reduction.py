"""Row units that reduce: the maximum of a row, and its place."""

from __future__ import annotations

from typing import Any

from amaranth.hdl import Cat, Const, Module, Mux, Shape, Signal, Value
from amaranth.lib import data, stream, wiring
from amaranth.lib.wiring import In, Out

from intformer.hw.parts.arithmetic import tree_latency
from intformer.hw.parts.streams import CreditFifo, row_beats
from intformer.hw.units.pipeline import (
    FIFO_LATENCY,
    check_choice,
    check_range,
    code_shape,
    delay,
    fifo_depth,
    register,
)

__all__ = ["ArgMax", "RowMaximum", "row_layout"]

_TYPES = ("int8", "uint8", "int16", "int32")
_LANES = (1, 2, 4, 8, 16, 32, 64)


def row_layout(shape: Shape, lanes: int) -> data.StructLayout:
    """A beat of a row: ``{x: lanes codes, keep: lanes, last: 1}``."""
    return data.StructLayout({"x": data.ArrayLayout(shape, lanes), "keep": lanes, "last": 1})


class _MaximumUnit(wiring.Component):
    """Keeps the largest key of the row and its place.

    A key is the code, moved to unsigned, below a bit that says that the element is kept; 0 for
    one that is not. So any kept element beats all others.
    """

    def __init__(self, *, x_type: str, lanes: int, row_max: int, indexed: bool) -> None:
        self._shape = code_shape("x_type", x_type, _TYPES)
        check_choice("lanes", lanes, _LANES)
        check_range("row_max", row_max, 1, 65536)
        self._lanes, self._beats = lanes, row_beats(row_max, lanes)
        self._indexed = indexed
        members = {"index": range(max(row_max, 2))} if indexed else {}
        result = data.StructLayout({"maximum": self._shape, **members})
        super().__init__(
            {
                "i": In(stream.Signature(row_layout(self._shape, lanes))),
                "o": Out(stream.Signature(result)),
            }
        )

    @property
    def lanes(self) -> int:
        """Elements per beat."""
        return self._lanes

    @property
    def latency(self) -> int:
        """Cycles from the transfer of a row's last beat to its result at ``o``."""
        return self._cycles + FIFO_LATENCY

    @property
    def throughput(self) -> int:
        """Elements per cycle, sustained."""
        return self._lanes

    def row_cycles(self, n: int) -> int:
        """Cycles from one row of ``n`` elements to the next."""
        return row_beats(n, self._lanes)

    @property
    def _cycles(self) -> int:
        return 2 + tree_latency(self._lanes)

    def elaborate(self, _platform: object) -> Module:
        m = Module()
        beat = self.i.payload
        m.submodules.fifo = fifo = CreditFifo(
            self.o.payload.shape(), depth=fifo_depth(self._cycles)
        )
        taken = Signal()
        m.d.comb += [
            self.i.ready.eq(fifo.room),
            taken.eq(self.i.valid & fifo.room),
            fifo.take.eq(taken & beat.last),
        ]
        wiring.connect(m, wiring.flipped(self.o), fifo.o)
        cycles = self._cycles - 1
        valid = delay(m, taken, cycles, name="taken", reset=True)
        last = delay(m, beat.last, cycles, name="last")
        key, lane = self._best_of_beat(m, beat)
        self._best_of_row(m, fifo, valid=valid, last=last, key=key, lane=lane)
        return m

    def _best_of_beat(self, m: Module, beat: Any) -> tuple[Value, Value]:
        """The largest key of a beat and the first lane that has it."""
        bias = Const(self._shape.signed << (self._shape.width - 1), self._shape.width)
        items: list[tuple[Value, Value]] = []
        for k in range(self._lanes):
            code = beat.x[k].as_unsigned() if self._shape.signed else beat.x[k]
            key = Mux(beat.keep[k], Cat(code ^ bias, Const(1, 1)), 0)
            items.append((register(m, key, name=f"key_{k}"), Const(0, 0)))
        level = 0
        while len(items) > 1:
            row = []
            for k in range(0, len(items), 2):
                key, lane = items[k]
                place = Cat(lane, Const(0, 1))
                if k + 1 < len(items):
                    other, other_lane = items[k + 1]
                    better = other > key
                    key = Mux(better, other, key)
                    place = Cat(Mux(better, other_lane, lane)[:level], better)
                name = f"{level}_{k // 2}"
                row.append(
                    (
                        register(m, key, name=f"best_{name}"),
                        register(m, place, name=f"lane_{name}"),
                    )
                )
            items = row
            level += 1
        return items[0]

    def _best_of_row(
        self, m: Module, fifo: CreditFifo, *, valid: Value, last: Value, key: Value, lane: Value
    ) -> None:
        """The best so far; the row's result goes to ``fifo``."""
        best = Signal(key.shape())
        better = key > best
        now = Signal.like(best)
        result = Signal.like(fifo.i)
        bias = Const(self._shape.signed << (self._shape.width - 1), self._shape.width)
        m.d.comb += [now.eq(Mux(better, key, best)), result.maximum.eq(now[:-1] ^ bias)]
        if self._indexed:
            place = Signal.like(result.index)
            number = Signal(range(self._beats))
            m.d.comb += result.index.eq(Mux(better, Cat(lane, number), place))
            with m.If(valid):
                m.d.sync += [place.eq(result.index), number.eq(number + 1)]
                with m.If(last):
                    m.d.sync += [place.eq(0), number.eq(0)]
        with m.If(valid):
            m.d.sync += best.eq(Mux(last, 0, now))
        m.d.comb += [
            fifo.i.eq(register(m, result, name="result")),
            fifo.push.eq(register(m, valid & last, name="complete", reset=True)),
        ]


class RowMaximum(_MaximumUnit):
    """The largest kept code of each row; :func:`intformer.reference.row_maximum`.

    A row without kept elements gives the lowest code of its type. Nothing is rounded.

    Parameters
    ----------
    x_type: ``int8``, ``uint8``, ``int16`` or ``int32``.
    lanes: elements per beat; a power of two up to 64.

    Members
    -------
    i: ``In(stream)`` of ``{x: lanes codes, keep: lanes, last: 1}``. ``keep`` is 0 for elements
        that are masked or past the row's end; ``last`` marks the last beat of a row.
    o: ``Out(stream)`` of ``{maximum}``, one for each row, :attr:`latency` cycles after its last
        beat.

    Example
    -------
    >>> unit = RowMaximum(x_type="int16", lanes=4)
    >>> unit.latency, unit.throughput, unit.row_cycles(10)
    (6, 4, 3)
    """

    def __init__(self, *, x_type: str = "int8", lanes: int = 1) -> None:
        super().__init__(x_type=x_type, lanes=lanes, row_max=1, indexed=False)


class ArgMax(_MaximumUnit):
    """The largest kept code of each row and the first place where it stands.

    :func:`intformer.reference.argmax` and :func:`intformer.reference.row_maximum`. A row without
    kept elements gives place 0 and the lowest code of its type. Nothing is rounded.

    Parameters
    ----------
    x_type: ``int8``, ``uint8``, ``int16`` or ``int32``.
    lanes: elements per beat; a power of two up to 64.
    row_max: longest row, in elements; at most 65536.

    Members
    -------
    i: ``In(stream)`` of ``{x: lanes codes, keep: lanes, last: 1}``. ``keep`` is 0 for elements
        that are masked or past the row's end; ``last`` marks the last beat of a row.
    o: ``Out(stream)`` of ``{maximum, index}``, one for each row, :attr:`latency` cycles after
        its last beat.

    Example
    -------
    >>> unit = ArgMax(x_type="int16", lanes=2, row_max=1000)
    >>> unit.latency, unit.throughput, unit.row_cycles(1000)
    (5, 2, 500)
    """

    def __init__(self, *, x_type: str = "int8", lanes: int = 1, row_max: int = 1024) -> None:
        super().__init__(x_type=x_type, lanes=lanes, row_max=row_max, indexed=True)
