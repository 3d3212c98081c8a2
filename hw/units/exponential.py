"""``exp(-scale * d)`` of integer distances, to 24 bits, from tables in block RAM."""

from __future__ import annotations

import math

import numpy as np
from amaranth.hdl import Module, Mux, Value, unsigned
from amaranth.lib import data, memory, wiring
from amaranth.lib.wiring import In, Out

from intformer.hw.parts.mul18 import Mul18
from intformer.hw.parts.wide_product import WideProduct
from intformer.hw.units.pipeline import delay, register
from intformer.reference.softmax import (
    EXP_BITS,
    FACTOR_BITS,
    PRODUCT_BITS,
    SLOPE_BITS,
    ExpTables,
)

__all__ = ["Exponential", "exp_tables"]

_DIGIT = 9  # bits of an index: 512 entries of up to 36 bits are one block RAM
_SINGLE = 11  # bits of an index up to which one table does
_BLOCK = 128  # entries from which a table goes to block RAM
_SLOPE_MOST = 1 << 17
_GUARD = PRODUCT_BITS - EXP_BITS
_G_LOW = 12  # bits of the product that do not count in its product with the slope


def exp_tables(scale: float, *, d_bits: int) -> ExpTables:
    """Tables of ``exp(-scale * d)`` for distances of ``d_bits`` bits."""
    # From here on all are less than half of a unit.
    nothing = min(math.ceil((EXP_BITS + 1) * math.log(2) / scale), 1 << d_bits)
    bits = (nothing - 1).bit_length()
    limit = 1 << bits
    top = (1 << EXP_BITS) - 1
    if bits <= _SINGLE:
        high = np.rint(top * np.exp(-scale * np.arange(1 << bits))).astype(np.int64)
        return ExpTables(limit=limit, high=high, low=np.zeros(0, np.int64))
    rest = max(bits - 2 * _DIGIT, 0)
    index = np.arange(1 << (bits - _DIGIT - rest)) * 2.0 ** (_DIGIT + rest)
    high = np.rint(top * 2.0 ** (FACTOR_BITS - EXP_BITS) * np.exp(-scale * index))
    # The middle of what the rest can be; half of the error of the straight line at its ends.
    centre = 2.0 ** (rest - 1) if rest else 0.0
    index = np.arange(1 << _DIGIT) * 2.0**rest + centre
    low = ((1 << FACTOR_BITS) - 1) * np.exp(-scale * index + (scale * centre) ** 2 / 4)
    tables = {"high": high.astype(np.int64), "low": np.rint(low).astype(np.int64)}
    if not rest:
        return ExpTables(limit=limit, **tables)
    shift = math.floor(math.log2((_SLOPE_MOST - 1) / (scale * 2.0**SLOPE_BITS)))
    slope = round(scale * 2.0 ** (SLOPE_BITS + shift))
    return ExpTables(limit=limit, **tables, rest_bits=rest, slope=slope, slope_shift=shift)


class Exponential(wiring.Component):
    """:func:`intformer.reference.exponential` for every lane, a result per lane and cycle.

    Parameters
    ----------
    tables: from :func:`exp_tables`.
    d_bits: width of a distance.
    lanes: results per cycle.
    target: family whose multiplier blocks to use; see :class:`intformer.hw.parts.mul18.Mul18`.

    Members
    -------
    d: ``In``, ``lanes`` distances.
    e: ``Out``, ``lanes`` exponentials of ``EXP_BITS`` bits; :attr:`latency` cycles later.
    """

    def __init__(
        self, tables: ExpTables, *, d_bits: int, lanes: int, target: str | None = None
    ) -> None:
        self._tables = tables
        self._target = target
        super().__init__(
            {
                "d": In(data.ArrayLayout(unsigned(d_bits), lanes)),
                "e": Out(data.ArrayLayout(EXP_BITS, lanes)),
            }
        )

    @property
    def latency(self) -> int:
        """Cycles from distance to exponential."""
        if not len(self._tables.low):
            return 2 + self._masked
        return (
            2 + self._product().latency + (Mul18.latency + 2 if self._tables.rest_bits else 0) + 1
        )

    def _product(self) -> WideProduct:
        bits = FACTOR_BITS + 1
        return WideProduct(a_bits=bits, b_bits=bits, drop=FACTOR_BITS, target=self._target)

    def elaborate(self, _platform: object) -> Module:
        m = Module()
        for lane, d in enumerate(self.d):
            far = d[self._tables.limit.bit_length() - 1 :].any()
            far = delay(m, far, self.latency - 1, name=f"far_{lane}")
            if len(self._tables.low):
                e = self._two_tables(m, d, lane)
            else:
                entry = self._rom(m, self._tables.high, d, EXP_BITS, f"table_{lane}")
                e = register(m, entry, name=f"entry_{lane}")
            if len(self._tables.low) or self._masked:
                e = register(m, Mux(far, 0, e), name=f"e_{lane}", shape=EXP_BITS)
            m.d.comb += self.e[lane].eq(e)
        return m

    @property
    def _masked(self) -> bool:
        """Whether there are distances beyond the tables."""
        return self._tables.limit < 1 << len(self.d[0])

    @staticmethod
    def _rom(m: Module, entries: np.ndarray, index: Value, bits: int, name: str) -> Value:
        """The entry at ``index``, one cycle later."""
        init = [int(v) for v in entries]
        attrs = {"ram_style": "block"} if len(init) >= _BLOCK else {}
        rom = memory.Memory(shape=bits, depth=len(init), init=init, attrs=attrs)
        m.submodules[name] = rom
        port = rom.read_port()
        m.d.comb += port.addr.eq(index[: len(port.addr)])
        return port.data

    def _two_tables(self, m: Module, d: Value, lane: int) -> Value:
        """The exponential before its last register."""
        tables = self._tables
        rest = tables.rest_bits
        m.submodules[f"product_{lane}"] = product = self._product()
        for factor, entries, name, first in (
            (product.a, tables.high, "high", rest + _DIGIT),
            (product.b, tables.low, "low", rest),
        ):
            entry = self._rom(m, entries, d[first:], FACTOR_BITS, f"{name}_{lane}")
            m.d.comb += factor.eq(register(m, entry, name=f"{name}_{lane}"))
        g = product.o[FACTOR_BITS - PRODUCT_BITS :][:PRODUCT_BITS]
        if rest:
            z = self._slope(m, delay(m, d[:rest], 2, name=f"rest_{lane}"), product.latency, lane)
            m.submodules[f"bend_{lane}"] = bend = Mul18(
                a_bits=PRODUCT_BITS - _G_LOW + 1, b_bits=18, target=self._target
            )
            m.d.comb += [bend.a.eq(g[_G_LOW:]), bend.b.eq(z)]
            change = register(m, bend.p >> (SLOPE_BITS - _G_LOW), name=f"change_{lane}")
            g = delay(m, g, bend.latency + 1, name=f"g_{lane}")
            g = register(m, (g - change)[:PRODUCT_BITS], name=f"bent_{lane}")
        return (g + (1 << (_GUARD - 1))) >> _GUARD

    def _slope(self, m: Module, rest: Value, cycles: int, lane: int) -> Value:
        """The exponent's part below the tables, ``cycles`` cycles after ``rest``."""
        offset = (rest - (1 << (len(rest) - 1)))[: len(rest)].as_signed()
        m.submodules[f"slope_{lane}"] = slope = Mul18(
            a_bits=max(len(rest), 2), b_bits=18, target=self._target
        )
        m.d.comb += [slope.a.eq(offset), slope.b.eq(self._tables.slope)]
        z = slope.p >> self._tables.slope_shift
        return delay(m, z[:18].as_signed(), cycles - slope.latency, name=f"z_{lane}")
