"""The core's LayerNorm: rows of int16 codes, parameters from the core's memory."""

from __future__ import annotations

from amaranth.hdl import Module, signed
from amaranth.lib import data, stream, wiring
from amaranth.lib.wiring import In, Out

from intformer.hw.parts.streams import CreditFifo, delay
from intformer.hw.ports import READ_LATENCY
from intformer.hw.row.layernorm_lane import PARAMETERS, ScaleLane
from intformer.hw.row.normalize_rows import NormalizeRows, norm_timing
from intformer.hw.row.timing import RowTiming

__all__ = ["RowLayerNorm"]


class RowLayerNorm(wiring.Component):
    """LayerNorm of int16 codes; :func:`intformer.reference.layernorm`.

    :class:`NormalizeRows`, then a :class:`ScaleLane` per lane and a FIFO. One beat per cycle;
    consecutive rows overlap. See :attr:`timing`.

    Parameters
    ----------
    lanes: elements per beat.
    row_max: longest row, in elements.
    multipliers, target: as in :class:`NormalizeRows`.

    Members
    -------
    i: ``In(stream)`` of ``{x: lanes x signed(16), valid: lanes, last: 1}``. ``valid`` is 0 past
        the row's end; ``last`` marks the last beat of a row.
    o: ``Out(stream)`` of ``{y: lanes x signed(16), last: 1}``; undefined in lanes that were not
        valid.
    n: ``In``; number of elements of each row, ``1..row_max``. Constant while rows are inside,
        like the other parameters here:
    eps: ``In(40)``.
    zero_point, lo, hi: ``In(signed(16))``.
    param_index: ``Out``; the beat of the row whose parameters are wanted.
    param_data: ``In``, ``lanes`` entries ``{bias: signed(32), mult: signed(16), shift: 8,
        zero: 8}`` (beta, gamma, shift), ``READ_LATENCY`` cycles after their index.
    """

    def __init__(
        self, *, lanes: int, row_max: int, multipliers: str = "dsp", target: str | None = None
    ) -> None:
        self._rows = NormalizeRows(
            lanes=lanes,
            row_max=row_max,
            param_latency=READ_LATENCY,
            multipliers=multipliers,
            target=target,
        )
        self._scales = [ScaleLane(row_max=row_max, target=target) for _ in range(lanes)]
        self._timing = self.timing_of(lanes=lanes, row_max=row_max, multipliers=multipliers)
        self._y_layout = data.StructLayout({"y": data.ArrayLayout(signed(16), lanes), "last": 1})
        members = self._rows.signature.members
        super().__init__(
            {
                **{name: members[name] for name in ("i", "n", "eps", "param_index")},
                "o": Out(stream.Signature(self._y_layout)),
                "zero_point": In(signed(16)),
                "lo": In(signed(16)),
                "hi": In(signed(16)),
                "param_data": In(data.ArrayLayout(PARAMETERS, lanes)),
            }
        )

    @staticmethod
    def timing_of(*, lanes: int, row_max: int, multipliers: str = "dsp") -> RowTiming:
        """:attr:`timing` of a unit with these parameters."""
        return norm_timing(lanes=lanes, row_max=row_max, multipliers=multipliers)

    @property
    def timing(self) -> RowTiming:
        """Latency and throughput."""
        return self._timing

    def elaborate(self, _platform: object) -> Module:
        m = Module()
        m.submodules.rows = rows = self._rows
        latency = self._scales[0].latency
        # As deep as the cycles from a reserved place to its release.
        depth = rows.latency + latency + 5
        m.submodules.y_fifo = fifo = CreditFifo(self._y_layout, depth=depth, registered=True)
        wiring.connect(m, wiring.flipped(self.i), rows.i)
        wiring.connect(m, wiring.flipped(self.o), fifo.o)
        m.d.comb += [
            rows.n.eq(self.n),
            rows.eps.eq(self.eps),
            rows.room.eq(fifo.room),
            fifo.take.eq(rows.fire),
            self.param_index.eq(rows.param_index),
            fifo.push.eq(delay(m, rows.o_valid, latency, name="y_valid")),
            fifo.i.last.eq(delay(m, rows.last, latency, name="y_last")),
        ]
        for k, scale in enumerate(self._scales):
            m.submodules[f"scale_{k}"] = scale
            m.d.comb += [
                scale.a.eq(rows.a[k]),
                scale.z.eq(rows.z[k]),
                scale.parameters.eq(self.param_data[k]),
                scale.zero_point.eq(self.zero_point),
                scale.lo.eq(self.lo),
                scale.hi.eq(self.hi),
                fifo.i.y[k].eq(scale.y),
            ]
        return m
