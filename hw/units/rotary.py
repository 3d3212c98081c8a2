"""Rotary position embedding of rows, with cosines and sines in block RAM."""

from __future__ import annotations

from typing import Any

import numpy as np
from amaranth.hdl import Array, Cat, Module, Mux, Signal, Value, signed
from amaranth.lib import data, memory, stream, wiring
from amaranth.lib.wiring import In, Out
from amaranth.utils import ceil_log2
from numpy.typing import NDArray

from intformer.hw.parts.streams import CreditFifo
from intformer.hw.units.pipeline import (
    FIFO_LATENCY,
    check_choice,
    check_range,
    code_shape,
    delay,
    fifo_depth,
    register,
)
from intformer.hw.units.product import ExactProduct, times
from intformer.hw.units.rounding import shape_limits
from intformer.reference.rotary import ROTARY_FRACTION

__all__ = ["RotaryEmbedding", "rotary_angles"]

_CYCLES = 6  # address, table and its register, sum, rounding, clip; without the products

_FRACTION_16 = 20
"""Fraction bits of the angles for 16-bit codes."""


def rotary_angles(
    *, dim: int, positions: int, base: float = 10000.0, fraction: int = ROTARY_FRACTION
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Cosines and sines of ``position * base**(-2j / dim)``, rounded to ``2**-fraction``.

    Two arrays ``[positions, dim // 2]``.
    """
    frequencies = base ** (-2 * np.arange(dim // 2) / dim)
    angles = np.arange(positions)[:, None] * frequencies
    cos, sin = (np.rint(f(angles) * 2**fraction).astype(np.int64) for f in (np.cos, np.sin))
    return cos, sin


class RotaryEmbedding(wiring.Component):
    """Rotary position embedding; :func:`intformer.reference.rotary`.

    ::

        y1 = clip((x1 * cos - x2 * sin + 2**(fraction - 1)) >> fraction)
        y2 = clip((x2 * cos + x1 * sin + 2**(fraction - 1)) >> fraction)

    for each pair ``j`` of a row at its position, with the angle ``position * base**(-2j / dim)``
    (Su et al., RoFormer, 2021). Cosines and sines are those of
    :func:`rotary_angles`. Rounds half toward +infinity; ``clip`` is to the type of the codes.
    Scale and type stay.

    Parameters
    ----------
    dim: elements of a row: the width of a head.
    positions: length of the table.
    pairs: ``interleaved``: elements ``2j`` and ``2j + 1``; each beat is turned as it comes.
        ``halves``: elements ``j`` and ``j + dim/2``; a row is stored before it is turned.
    base: of the frequencies.
    x_type: ``int8`` or ``int16``, in and out.
    lanes: elements per beat. Even and a divisor of ``dim`` if interleaved, otherwise a divisor
        of ``dim / 2``.
    fraction: fraction bits of cosines and sines, 8 to 22; 16 for int8 and 20 for int16 if not
        given. With 16, two hardware multipliers for each lane; with more, four.
    target: family whose multiplier blocks to use: ``ecp5``, ``gowin``, or ``None`` for any.

    Members
    -------
    i: ``In(stream)`` of ``{x: lanes codes, position, last: 1}``; ``position`` is the same in all
        beats of a row, ``last`` marks the last of its ``dim / lanes`` beats.
    o: ``Out(stream)`` of ``{y: lanes codes, last: 1}``.

    Example
    -------
    >>> unit = RotaryEmbedding(dim=32, positions=64, pairs="halves", x_type="int8", lanes=2)
    >>> unit.latency, unit.throughput, unit.row_cycles(32)
    (13, 2, 16)
    """

    def __init__(
        self,
        *,
        dim: int,
        positions: int,
        pairs: str = "interleaved",
        base: float = 10000.0,
        x_type: str = "int16",
        lanes: int = 2,
        fraction: int | None = None,
        target: str | None = None,
    ) -> None:
        check_range("dim", dim, 2, 4096)
        check_range("positions", positions, 1, 65536)
        check_choice("pairs", pairs, ("interleaved", "halves"))
        self._shape = code_shape("x_type", x_type, ("int8", "int16"))
        check_range("lanes", lanes, 1, 64)
        if not 1 < base < float("inf"):
            raise ValueError(f"base must be above 1 and finite, not {base!r}")
        if fraction is None:
            fraction = ROTARY_FRACTION if x_type == "int8" else _FRACTION_16
        check_range("fraction", fraction, 8, 22)
        self._fraction = fraction
        self._products = [
            ExactProduct(a_bits=self._shape.width + 1, b_bits=fraction + 2, target=target)
            for _ in range(2 * lanes)
        ]
        self._cycles = _CYCLES + self._products[0].latency
        self._halves = pairs == "halves"
        if (dim if not self._halves else dim // 2) % lanes or (lanes % 2 and not self._halves):
            what = "a divisor of dim / 2" if self._halves else "an even divisor of dim"
            raise ValueError(f"lanes must be {what}, {dim}, not {lanes!r}")
        if dim % 2:
            raise ValueError(f"dim must be even, not {dim!r}")
        self._dim, self._positions, self._base, self._lanes = dim, positions, base, lanes
        # Beats for which a table has an entry at each position.
        self._beats = dim // lanes // (2 if self._halves else 1)
        codes = data.ArrayLayout(self._shape, lanes)
        beat = data.StructLayout({"x": codes, "position": range(positions), "last": 1})
        super().__init__(
            {
                "i": In(stream.Signature(beat)),
                "o": Out(stream.Signature(data.StructLayout({"y": codes, "last": 1}))),
            }
        )

    @property
    def lanes(self) -> int:
        """Elements per beat."""
        return self._lanes

    @property
    def fraction(self) -> int:
        """Fraction bits of cosines and sines."""
        return self._fraction

    @property
    def latency(self) -> int:
        """Cycles from a transfer at ``i`` to its result; of halves, from a row's last beat to
        the first of its result."""
        return self._cycles + FIFO_LATENCY + (1 if self._halves else 0)

    @property
    def throughput(self) -> int:
        """Elements per cycle, sustained."""
        return self._lanes

    def row_cycles(self, n: int) -> int:
        """Cycles from one row of ``n`` elements (``dim``) to the next."""
        return n // self._lanes

    def elaborate(self, _platform: object) -> Module:
        m = Module()
        m.submodules.fifo = fifo = CreditFifo(
            self.o.payload.shape(), depth=fifo_depth(self._cycles)
        )
        wiring.connect(m, wiring.flipped(self.o), fifo.o)
        front = self._stored if self._halves else self._direct
        fire, last, place, elements, partners = front(m, fifo.room)
        m.d.comb += [
            fifo.take.eq(fire),
            fifo.push.eq(delay(m, fire, self._cycles, name="fire", reset=True)),
            fifo.i.last.eq(delay(m, last, self._cycles, name="last")),
        ]
        place = register(m, place, name="place")
        angles = self._angles(m, place)
        for lane in range(self._lanes):
            angle = angles[lane if self._halves else lane // 2]
            y = self._turn(m, elements[lane], partners[lane], angle, lane)
            m.d.comb += fifo.i.y[lane].eq(y)
        return m

    def _direct(self, m: Module, room: Value) -> tuple[Value, Value, Value, Any, Any]:
        """Beats as they come: fire, last, place in the table; elements, partners 3 cycles on."""
        beat = self.i.payload
        fire, place = Signal(), Signal(range(self._beats))
        m.d.comb += [self.i.ready.eq(room), fire.eq(self.i.valid & room)]
        with m.If(fire):
            m.d.sync += place.eq(Mux(beat.last, 0, place + 1))
        elements, partners = [], []
        for lane in range(self._lanes):
            own = delay(m, beat.x[lane], 3, name=f"x_{lane}")
            other = register(m, beat.x[lane ^ 1], name=f"other_{lane}")
            other = register(m, other if lane % 2 else -other, name=f"partner_{lane}")
            elements.append(own)
            partners.append(delay(m, other, 1, name=f"partner_{lane}"))
        address = Cat(place[: ceil_log2(self._beats)], beat.position)
        return fire, beat.last, address, elements, partners

    def _stored(self, m: Module, room: Value) -> tuple[Value, Value, Value, Any, Any]:
        """Rows through two buffers; as :meth:`_direct`."""
        beat, beats = self.i.payload, self._beats
        full = Signal(range(3))
        taken, fire, last = Signal(), Signal(), Signal()
        m.d.comb += [
            self.i.ready.eq(full != 2),
            taken.eq(self.i.valid & (full != 2)),
            fire.eq((full != 0) & room),
        ]
        begun, done = taken & beat.last, fire & last
        m.d.sync += full.eq(full + begun - done)
        place, into, upper = Signal(range(beats)), Signal(), Signal()
        positions = [Signal(beat.position.shape(), name=f"position_{k}") for k in range(2)]
        with m.If(taken):
            m.d.sync += [place.eq(place + 1), Array(positions)[into].eq(beat.position)]
            with m.If(place == beats - 1):
                m.d.sync += [place.eq(0), upper.eq(~upper)]
            with m.If(beat.last):
                m.d.sync += [into.eq(~into), place.eq(0), upper.eq(0)]
        at, out_of, second = Signal(range(beats)), Signal(), Signal()
        m.d.comb += last.eq(second & (at == beats - 1))
        with m.If(fire):
            m.d.sync += at.eq(at + 1)
            with m.If(at == beats - 1):
                m.d.sync += [at.eq(0), second.eq(~second), out_of.eq(out_of ^ second)]
        bits = ceil_log2(beats)
        stored = []
        for name, enable in (("low", taken & ~upper), ("high", taken & upper)):
            store = memory.Memory(shape=beat.x.shape(), depth=2 << bits, init=[])
            m.submodules[name] = store
            write, read = store.write_port(), store.read_port()
            m.d.comb += [
                write.addr.eq(Cat(place[:bits], into)),
                write.data.eq(beat.x),
                write.en.eq(enable),
                read.addr.eq(Cat(at[:bits], out_of)),
            ]
            stored.append(register(m, read.data, name=f"{name}_data"))
        low, high = stored
        turn = delay(m, second, 2, name="second")
        elements, partners = [], []
        for k in range(self._lanes):
            elements.append(register(m, Mux(turn, high[k], low[k]), name=f"x_{k}"))
            partners.append(register(m, Mux(turn, low[k], -high[k]), name=f"partner_{k}"))
        address = Cat(at[:bits], Array(positions)[out_of])
        return fire, last, address, elements, partners

    def _angles(self, m: Module, place: Value) -> list[Any]:
        """Cosine and sine of every pair of a beat, two cycles after ``place``."""
        cos, sin = rotary_angles(
            dim=self._dim, positions=self._positions, base=self._base, fraction=self._fraction
        )
        angle = signed(self._fraction + 2)
        layout = data.StructLayout({"cos": angle, "sin": angle})
        pairs = self._lanes if self._halves else self._lanes // 2
        row = 1 << ceil_log2(self._beats)
        angles = []
        for k in range(pairs):
            init = []
            for position in range(self._positions):
                entries = [
                    {"cos": int(cos[position, j]), "sin": int(sin[position, j])}
                    for j in range(k, self._dim // 2, pairs)
                ]
                init += entries + [{"cos": 0, "sin": 0}] * (row - len(entries))
            rom = memory.Memory(
                shape=layout, depth=len(init), init=init, attrs={"ram_style": "block"}
            )
            m.submodules[f"angles_{k}"] = rom
            port = rom.read_port()
            m.d.comb += port.addr.eq(place)
            angles.append(register(m, port.data, name=f"angle_{k}"))
        return angles

    def _turn(self, m: Module, x: Value, partner: Value, angle: Any, lane: int) -> Value:
        """``clip((x * cos + partner * sin + 2**(fraction - 1)) >> fraction)``."""
        low, high = shape_limits(self._shape)
        along, across = self._products[2 * lane : 2 * lane + 2]
        total = register(
            m,
            times(m, along, x, angle.cos, name=f"along_{lane}")
            + times(m, across, partner, angle.sin, name=f"across_{lane}"),
            name=f"sum_{lane}",
        )
        half = (total >> (self._fraction - 1)) + 1
        y = register(m, half >> 1, name=f"rounded_{lane}")
        return register(m, Mux(y < low, low, Mux(y > high, high, y)), name=f"y_{lane}")
