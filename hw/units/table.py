"""Any function of one code, by table: correctly rounded for 8 bits, quadratic for 16."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from amaranth.hdl import Cat, Module, Mux, Signal, Value, signed
from amaranth.lib import data, memory
from numpy.typing import NDArray

from intformer.hw.units.functions import (
    RANGES,
    Coding,
    Function,
    code_table,
    find_function,
    quadratic_coefficients,
)
from intformer.hw.units.pipeline import (
    PipelinedUnit,
    check_range,
    code_shape,
    delay,
    register,
)
from intformer.hw.units.product import ExactProduct, times
from intformer.reference.integers import IntArray
from intformer.reference.tables import (
    COEFFICIENT_BITS,
    CONSTANT_BITS,
    GUARD_BITS,
    SEGMENT_BITS,
    QuadraticTable,
    quadratic_table,
    table_lookup,
)

__all__ = ["TableFunction"]

_ENTRY = data.StructLayout(
    {
        "constant": signed(CONSTANT_BITS),
        "slope": signed(COEFFICIENT_BITS),
        "curvature": signed(COEFFICIENT_BITS),
    }
)
_T_BITS = SEGMENT_BITS + 2
_CYCLES_8, _CYCLES_16 = 2, 7  # without the two products


class TableFunction(PipelinedUnit):
    """``y = f(x)`` on integer codes, one table in block RAM for every (second) lane.

    With real values ``x_scale * (x - x_zero_point)`` and ``y_scale * (y - y_zero_point)``:

    - 8-bit: 256 entries, each ``clip(floor(f / y_scale + y_zero_point + 1/2))`` of the exact
      value; :func:`intformer.reference.table_lookup`.
    - 16-bit: a quadratic with integer coefficients in each of 512 segments, 10 guard bits;
      :func:`intformer.reference.quadratic_table`. Where the derivative jumps (``hard_swish``)
      a segment is split at the jump.

    Parameters
    ----------
    function: ``gelu`` (erf), ``gelu_tanh``, ``silu``, ``sigmoid``, ``tanh``, ``exp``,
        ``hard_swish``, a :class:`~intformer.hw.units.functions.Function`, or any Python function
        from float to float.
    x_scale, y_scale: positive.
    x_type, y_type: ``int8``, ``uint8``, ``int16`` or ``uint16``; both of 8 bits, or both of 16.
    x_zero_point, y_zero_point: codes.
    lanes: elements per beat.
    target: family whose multiplier blocks to use: ``ecp5``, ``gowin``, or ``None`` for any.

    Members
    -------
    i: ``In(stream)`` of ``lanes`` codes ``x``.
    o: ``Out(stream)`` of ``lanes`` codes ``y``; :attr:`latency` cycles later.

    Example
    -------
    >>> unit = TableFunction("gelu", x_scale=1 / 16, y_scale=1 / 32, lanes=2)
    >>> unit.latency, unit.throughput
    (4, 2)
    >>> unit.reference([-16, 0, 16])
    array([-5,  0, 27])
    """

    def __init__(
        self,
        function: str | Function | Callable[[float], float],
        *,
        x_scale: float,
        y_scale: float,
        x_type: str = "int8",
        y_type: str = "int8",
        x_zero_point: int = 0,
        y_zero_point: int = 0,
        lanes: int = 1,
        target: str | None = None,
    ) -> None:
        check_range("lanes", lanes, 1, 64)
        for name, scale in (("x_scale", x_scale), ("y_scale", y_scale)):
            if not 0 < scale < float("inf"):
                raise ValueError(f"{name} must be positive and finite, not {scale!r}")
        x_shape = code_shape("x_type", x_type, list(RANGES))
        bits = x_shape.width
        same = [name for name in RANGES if name.endswith(f"int{bits}")]
        y_shape = code_shape("y_type", y_type, same)
        check_range("x_zero_point", x_zero_point, *RANGES[x_type])
        check_range("y_zero_point", y_zero_point, *RANGES[y_type])
        self.function = find_function(function)
        self.x = Coding(x_type, x_scale, x_zero_point)
        self.y = Coding(y_type, y_scale, y_zero_point)
        build: Callable[..., Any] = code_table if bits == 8 else quadratic_coefficients
        self._table: NDArray[np.int64] | QuadraticTable = build(self.function, self.x, self.y)
        products = 0 if bits == 8 else 2 * lanes
        self._products = [
            ExactProduct(a_bits=COEFFICIENT_BITS, b_bits=_T_BITS, target=target)
            for _ in range(products)
        ]
        super().__init__(
            i=data.ArrayLayout(x_shape, lanes),
            o=data.ArrayLayout(y_shape, lanes),
            lanes=lanes,
            cycles=_CYCLES_16 + 2 * self._products[0].latency if products else _CYCLES_8,
        )

    @property
    def table(self) -> NDArray[np.int64] | QuadraticTable:
        """The table, as the reference functions take it."""
        return self._table

    def reference(self, x: IntArray) -> NDArray[np.int64]:
        """What the unit answers to the codes ``x``."""
        if isinstance(self._table, QuadraticTable):
            return quadratic_table(x, table=self._table)
        return table_lookup(x, table=self._table)

    def transform(self, m: Module, beat: Any, taken: Value) -> Any:
        result = Signal(self.o.payload.shape())
        if isinstance(self._table, QuadraticTable):
            for lane in range(self._lanes):
                m.d.comb += result[lane].eq(self._quadratic(m, beat[lane], self._table, lane))
            return result
        for first in range(0, self._lanes, 2):
            rom = memory.Memory(
                shape=8,
                depth=256,
                init=[int(y) & 0xFF for y in self._table],
                attrs={"ram_style": "block"},
            )
            m.submodules[f"rom_{first}"] = rom
            for lane in range(first, min(first + 2, self._lanes)):
                port = rom.read_port()
                m.d.comb += [
                    port.addr.eq(beat[lane]),
                    result[lane].eq(register(m, port.data, name=f"y_{lane}")),
                ]
        return result

    def _quadratic(self, m: Module, x: Value, table: QuadraticTable, lane: int) -> Value:
        u = x.as_unsigned() ^ (table.x_lo & 0xFFFF)
        segment, offset = u[SEGMENT_BITS:], u[:SEGMENT_BITS]
        beyond = Signal(name=f"beyond_{lane}")
        for position in table.breaks:
            start = position & ((1 << SEGMENT_BITS) - 1)
            with m.If((segment == position >> SEGMENT_BITS) & (offset >= start)):
                m.d.comb += beyond.eq(1)
        beyond = register(m, beyond, name=f"beyond_{lane}_d")
        segment = register(m, segment, name=f"segment_{lane}")
        offset = register(m, offset, name=f"offset_{lane}")
        # offset - 64 is the offset with its top bit turned to a sign.
        t = Cat(offset[:-1], ~offset[-1]).as_signed() - (beyond << SEGMENT_BITS)
        t = register(m, t, name=f"t_{lane}", shape=signed(_T_BITS))
        index = register(m, (segment + beyond)[: len(segment)], name=f"index_{lane}")
        entry = delay(m, self._rom(m, table, index, lane), 1, name=f"entry_{lane}")
        t = delay(m, t, 2, name=f"t_{lane}_rom")
        first, second = self._products[2 * lane : 2 * lane + 2]
        bend = times(m, first, entry.curvature, t, name=f"bend_{lane}")
        slope = delay(m, entry.slope, first.latency, name=f"slope_{lane}")
        total = register(
            m,
            slope + (bend >> table.curvature_shift),
            name=f"total_{lane}",
            shape=signed(COEFFICIENT_BITS),
        )
        t = delay(m, t, first.latency + 1, name=f"t_{lane}_slope")
        rise = times(m, second, total, t, name=f"rise_{lane}")
        cycles = first.latency + 1 + second.latency
        constant = delay(m, entry.constant, cycles, name=f"constant_{lane}")
        y = register(
            m,
            constant + (rise >> table.slope_shift),
            name=f"sum_{lane}",
            shape=signed(CONSTANT_BITS + 1),
        )
        y = y >> GUARD_BITS
        clipped = Mux(y < table.lo, table.lo, Mux(y > table.hi, table.hi, y))
        return register(m, clipped, name=f"y_{lane}", shape=signed(17))

    @staticmethod
    def _rom(m: Module, table: QuadraticTable, index: Value, lane: int) -> Any:
        columns = zip(table.constant, table.slope, table.curvature, strict=True)
        init = [{"constant": int(c), "slope": int(s), "curvature": int(q)} for c, s, q in columns]
        rom = memory.Memory(shape=_ENTRY, depth=len(init), init=init, attrs={"ram_style": "block"})
        m.submodules[f"rom_{lane}"] = rom
        port = rom.read_port()
        m.d.comb += port.addr.eq(index)
        return port.data
