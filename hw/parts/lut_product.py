"""Products without multiplier blocks: partial products in carry chains, then a pipelined tree."""

from __future__ import annotations

from amaranth.hdl import (
    Cat,
    Const,
    Instance,
    Module,
    Shape,
    ShapeLike,
    Signal,
    Value,
    signed,
    unsigned,
)
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out
from amaranth.utils import ceil_log2

from intformer.hw.parts.mul18 import TARGETS

__all__ = ["LutProduct"]

_WIDTH_MAX = 64
_ROWS_PER_COPY = 4
"""Rows that take the wide operand from the same register: many rows lie far from each other."""


class LutProduct(wiring.Component):
    """``a * b`` in LUTs and carry chains; exact for all operands.

    The operand with fewer bits is split into digits of two bits. Every digit makes one row: two
    partial products added in one carry chain. A tree adds the rows pairwise. There is a
    register after the operands, after the rows and after every level of the tree, so that no more
    than one addition of about ``max(a_bits, b_bits)`` bits lies between two registers. A result
    every cycle; nothing stalls.

    The top digit of a signed operand counts negative: ``-2*b[n-1] + b[n-2]`` (two's complement).

    Parameters
    ----------
    a, b: shapes of the operands: ``signed(n)`` or ``unsigned(n)``, ``n`` from 2 to 64.
    target: ``"ecp5"`` makes a row of two partial products in one LUT per bit, with CCU2C cells.
        Otherwise synthesis maps the rows.

    Members
    -------
    a, b: ``In``.
    o: ``Out``, ``a_bits + b_bits`` wide, signed if one of the operands is; :attr:`latency`
        cycles later.
    """

    def __init__(self, *, a: ShapeLike, b: ShapeLike, target: str | None = None) -> None:
        a_shape, b_shape = Shape.cast(a), Shape.cast(b)
        for name, shape in (("a", a_shape), ("b", b_shape)):
            if not 2 <= shape.width <= _WIDTH_MAX:
                raise ValueError(
                    f"{name} must have from 2 to {_WIDTH_MAX} bits, not {shape.width!r}"
                )
        if target not in TARGETS:
            raise ValueError(f"target must be one of {TARGETS}, not {target!r}")
        self._target = target
        self._rows = -(-min(a_shape.width, b_shape.width) // 2)
        o_shape = Shape(a_shape.width + b_shape.width, signed=a_shape.signed or b_shape.signed)
        super().__init__({"a": In(a_shape), "b": In(b_shape), "o": Out(o_shape)})

    @staticmethod
    def latency_of(a_bits: int, b_bits: int) -> int:
        """:attr:`latency` for operands of these widths."""
        return 2 + ceil_log2(-(-min(a_bits, b_bits) // 2))

    @property
    def latency(self) -> int:
        """Cycles from operands to product: operand, row and tree registers."""
        return self.latency_of(len(self.a), len(self.b))

    def elaborate(self, _platform: object) -> Module:
        m = Module()
        wide, narrow = (self.a, self.b) if len(self.a) >= len(self.b) else (self.b, self.a)
        attributes = {"keep": 1} if self._rows > _ROWS_PER_COPY else {}
        copies = [
            Signal(wide.shape(), name=f"x_{k}" if k else "x", reset_less=True, attrs=attributes)
            for k in range(-(-self._rows // _ROWS_PER_COPY))
        ]
        digits = Signal(Shape(2 * self._rows, signed=narrow.shape().signed), reset_less=True)
        m.d.sync += [*(x.eq(wide) for x in copies), digits.eq(narrow)]
        rows: list[Value] = []
        for index in range(self._rows):
            x = copies[index // _ROWS_PER_COPY]
            low, high = digits[2 * index], digits[2 * index + 1]
            negative = narrow.shape().signed and index == self._rows - 1
            shape = _shape(len(x) + 2, x.shape().signed or negative)
            row = Signal(shape, name=f"row_{index}", reset_less=True)
            if self._target == "ecp5":
                total = _row_in_ccu2c(m, x, low, high, negative=negative, name=f"row_{index}")
                m.d.sync += row.eq(total)
            else:
                first, second = _gated(x, low), _gated(x, high) << 1
                m.d.sync += row.eq(first - second if negative else first + second)
            rows.append(row)
        m.d.comb += self.o.eq(_tree(m, rows))
        return m


def _shape(width: int, is_signed: bool) -> Shape:
    return signed(width) if is_signed else unsigned(width)


def _gated(x: Value, bit: Value) -> Value:
    """``x`` if ``bit``, else 0."""
    gated = x.as_unsigned() & bit.replicate(len(x))
    return gated.as_signed() if x.shape().signed else gated


def _row_in_ccu2c(
    m: Module, x: Signal, low: Value, high: Value, *, negative: bool, name: str
) -> Value:
    """``x*low + 2*x*high``, or ``x*low - 2*x*high``, of ``len(x) + 2`` bits.

    A CCU2C cell adds two bits. For each it has a LUT of four inputs, A to D, in front of the
    carry logic: the sum without carry. Where that is 0, the carry is what the LUT gives with C and
    D at 0. So two products of bits, (A and B) + (C and D), take one LUT; and with the first
    inverted and a carry into the lowest bit, (C and D) - (A and B).
    """
    width = len(x) + 2
    sign = x[-1] if x.shape().signed else Const(0, 1)
    once = Cat(x, sign, sign, sign)
    twice = Cat(Const(0, 1), x, sign, sign)
    total = Signal(width + width % 2, name=f"{name}_total")
    init = Const(0x8777 if negative else 0x7888, 16)
    carry: Value = Const(int(negative), 1)
    for bit in range(0, width, 2):
        ports: dict[str, Value] = {"i_CIN": carry}
        for half in range(2):
            pairs = [(once[bit + half], low), (twice[bit + half], high)]
            (a, b), (c, d) = reversed(pairs) if negative else pairs
            inputs = {"A": a, "B": b, "C": c, "D": d}
            ports |= {f"i_{port}{half}": value for port, value in inputs.items()}
            ports[f"o_S{half}"] = total[bit + half]
        carry = Signal(name=f"{name}_carry_{bit}")
        m.submodules[f"{name}_{bit}"] = Instance(
            "CCU2C",
            p_INIT0=init,
            p_INIT1=init,
            p_INJECT1_0="NO",
            p_INJECT1_1="NO",
            o_COUT=carry,
            **ports,
        )
    return total[:width]


def _tree(m: Module, rows: list[Value]) -> Value:
    """``sum(row * 4**index)``, with a register after every level."""
    step, level = 2, 0  # bits from one value of this level to the next
    while len(rows) > 1:
        sums: list[Value] = []
        for index in range(0, len(rows), 2):
            name = f"sum_{level}_{index // 2}"
            low = rows[index]
            if index + 1 == len(rows):
                total = Signal(low.shape(), name=name, reset_less=True)
                m.d.sync += total.eq(low)
            else:
                high = rows[index + 1]
                shape = _shape(len(high) + step, high.shape().signed or low.shape().signed)
                total = Signal(shape, name=name, reset_less=True)
                # The low bits pass unchanged.
                m.d.sync += total.eq(Cat(low[:step], (low >> step) + high))
            sums.append(total)
        rows, step, level = sums, 2 * step, level + 1
    return rows[0]
