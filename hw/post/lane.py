"""One lane of the epilogue: both rescaled terms, their sum, saturation and the table."""

from __future__ import annotations

from amaranth.hdl import Module, Mux, Signal, signed
from amaranth.lib import data, wiring
from amaranth.lib.wiring import In, Out

from intformer.config import CoreConfig
from intformer.hw.memory.functions import SEGMENT, limits_layout
from intformer.hw.parts.streams import delay
from intformer.hw.ports import READ_LATENCY
from intformer.hw.post.factor import FactorLane
from intformer.hw.post.function import FunctionLane
from intformer.hw.post.requantize import Requantize
from intformer.reference import MULT_BITS, SHIFT_MIN

__all__ = ["PostLane", "constants_layout"]

_MAIN_BITS = 31
"""The main term is saturated to this width: the others are too small to bring it in range."""
_SIDE_BITS = 16 + MULT_BITS - SHIFT_MIN
"""Bits of the residual's term."""


def constants_layout() -> data.StructLayout:
    """What is the same for all values of an instruction; ``mult`` and ``shift`` for the residual.

    Without a residual ``mult`` is 0.
    """
    return data.StructLayout(
        {
            "mult": signed(16),
            "shift": 6,
            "zero_point": signed(16),
            "lo": signed(16),
            "hi": signed(16),
            "table_en": 1,
            "function_en": 1,
        }
    )


class PostLane(wiring.Component):
    """``clip(((x + bias) * mult >> shift) + (r * res_mult >> res_shift) + zero_point, lo, hi)``,
    then, with ``table_en``, the table's entry for its low byte; both shifts round half up. With
    ``function_en``, if the core has functions, :class:`~intformer.hw.post.function.FunctionLane`
    of it instead. If the core has scales of rows, :class:`~intformer.hw.post.factor.FactorLane`
    of ``x`` takes the place of ``x``.

    A pipeline: takes a value per cycle, never stalls.

    Parameters
    ----------
    config: its ``multipliers`` says what multiplies the residual. The main product, wide, takes
        two multiplier blocks.
    target: family whose multiplier blocks to use; see :class:`intformer.hw.parts.mul18.Mul18`.

    Members
    -------
    constants: ``In`` of :func:`constants_layout`.
    x: ``In(signed(32))``; with ``row_scales`` only, factor: ``In(signed(16))``.
    param: ``In(64)``: ``{bias: signed(32), mult: signed(16), shift: 8, zero: 8}``;
        :attr:`param_latency` cycles after ``x``.
    r: ``In(signed(16))``; :attr:`residual_latency` cycles after ``x``.
    index: ``Out(8)``; for the table.
    entry: ``In(8)``; ``READ_LATENCY`` cycles after ``index``.
    limits, segment, function_entry: with ``functions`` only: see ``FunctionLane``.
    o: ``Out(16)``; :attr:`latency` cycles after ``x``.
    """

    def __init__(self, config: CoreConfig, *, target: str | None = None) -> None:
        self._main = Requantize(o_bits=_MAIN_BITS, target=target)
        self._side = Requantize(
            x_bits=16,
            o_bits=_SIDE_BITS,
            with_bias=False,
            multipliers=config.multipliers,
            target=target,
        )
        members = {
            "constants": In(constants_layout()),
            "x": In(signed(32)),
            "param": In(64),
            "r": In(signed(16)),
            "index": Out(8),
            "entry": In(8),
            "o": Out(16),
        }
        self._function = FunctionLane(config, target=target) if config.functions else None
        if self._function is not None:
            members |= {
                "limits": In(limits_layout()),
                "segment": Out(self._function.segment.shape()),
                "function_entry": In(SEGMENT),
            }
        self._factor = FactorLane(target=target) if config.row_scales else None
        if self._factor is not None:
            members["factor"] = In(self._factor.factor.shape())
        super().__init__(members)

    @property
    def param_latency(self) -> int:
        """Cycles from ``x`` to ``param``."""
        return 0 if self._factor is None else self._factor.latency

    @property
    def residual_latency(self) -> int:
        """Cycles from ``x`` to ``r``."""
        return self.param_latency + self._main.latency - self._side.latency - 1

    @property
    def latency(self) -> int:
        """Cycles from ``x`` to ``o``."""
        clipped = self.param_latency + self._main.latency + 3
        table = READ_LATENCY if self._function is None else self._function.latency
        return clipped + table + 1

    def elaborate(self, _platform: object) -> Module:
        m = Module()
        m.submodules.main = main = self._main
        m.submodules.side = side = self._side
        constants = self.constants
        x = self.x
        if self._factor is not None:
            m.submodules.factor = factor = self._factor
            m.d.comb += [factor.x.eq(x), factor.factor.eq(self.factor)]
            x = factor.o
        m.d.comb += [
            main.x.eq(x),
            main.bias.eq(self.param[:32]),
            main.mult.eq(self.param[32:48]),
            main.shift.eq(self.param[48:56]),
            side.x.eq(self.r),
            side.mult.eq(constants.mult),
            side.shift.eq(constants.shift),
        ]
        others = Signal(signed(_SIDE_BITS + 1), reset_less=True)
        total = Signal(signed(_MAIN_BITS + 1), reset_less=True)
        m.d.sync += [others.eq(side.o + constants.zero_point), total.eq(main.o + others)]
        clipped = self._clip(m, total)
        m.d.comb += self.index.eq(clipped[:8])
        passed = delay(m, clipped, READ_LATENCY, name="clipped", reset_less=True)
        output = Signal(16, reset_less=True)
        m.d.sync += output.eq(Mux(constants.table_en, self.entry, passed))
        if self._function is not None:
            output = self._add_function(m, self._function, clipped, output)
        m.d.comb += self.o.eq(output)
        return m

    def _add_function(
        self, m: Module, function: FunctionLane, clipped: Signal, output: Signal
    ) -> Signal:
        """The function's result, or what else leaves the lane, both as late as the function."""
        m.submodules.function = function
        m.d.comb += [
            function.x.eq(clipped),
            function.limits.eq(self.limits),
            function.entry.eq(self.function_entry),
            self.segment.eq(function.segment),
        ]
        cycles = function.latency - READ_LATENCY - 1
        waiting = delay(m, output, cycles, name="output", reset_less=True)
        chosen = Signal.like(output, name="chosen", reset_less=True)
        m.d.sync += chosen.eq(Mux(self.constants.function_en, function.o, waiting))
        return chosen

    def _clip(self, m: Module, total: Signal) -> Signal:
        """``total`` between the limits, two cycles later."""
        lo, hi = self.constants.lo, self.constants.hi
        # The low bits compare right if they are all that counts.
        low, rest = total[:17].as_signed(), total[16:]
        small, negative = Signal(reset_less=True), Signal(reset_less=True)
        below, above = Signal(reset_less=True), Signal(reset_less=True)
        value = Signal(16, reset_less=True)
        clipped = Signal(16, reset_less=True)
        m.d.sync += [
            small.eq(rest.all() | ~rest.any()),
            negative.eq(total[-1]),
            below.eq(low < lo),
            above.eq(low > hi),
            value.eq(total),
        ]
        m.d.sync += clipped.eq(
            Mux(Mux(small, below, negative), lo, Mux(Mux(small, above, ~negative), hi, value))
        )
        return clipped
