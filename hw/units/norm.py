"""LayerNorm and RMSNorm of a stream of rows, to int8 and int16 at once."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from amaranth.hdl import Module, Signal, signed
from amaranth.lib import data, memory, stream, wiring
from amaranth.lib.wiring import In, Out

from intformer.hw.parts.streams import CreditFifo, delay, row_beats
from intformer.hw.row.layernorm_lane import ScaleLane
from intformer.hw.row.normalize_rows import NormalizeRows, norm_timing
from intformer.hw.units.pipeline import check_choice, check_range

__all__ = ["LayerNorm", "RMSNorm"]

_BITS = {"int8": 8, "int16": 16}
_READ = 2  # cycles of the parameter memory: block RAM, register
_ENTRY = data.StructLayout({"gamma": signed(16), "beta": signed(32), "shift": 6})


class _Norm(wiring.Component):
    """Normalization of rows; see :class:`LayerNorm`."""

    _centered: bool

    def __init__(
        self,
        *,
        lanes: int = 1,
        row_max: int = 1024,
        outputs: Sequence[str] = ("int8", "int16"),
        constants: Mapping[str, Mapping[str, Sequence[int]]] | None = None,
        multipliers: str = "dsp",
        target: str | None = None,
    ) -> None:
        check_choice("lanes", lanes, (1, 2, 4, 8, 16))
        check_range("row_max", row_max, 2, 1024)
        check_choice("multipliers", multipliers, ("dsp", "luts"))
        if not outputs or len(set(outputs)) < len(outputs):
            raise ValueError(f"outputs must name one or more code types once, not {outputs!r}")
        for name in outputs:
            check_choice("outputs", name, tuple(_BITS))
        self._entries = None if constants is None else _entries(constants, outputs, row_max)
        self._lanes, self._beats = lanes, row_beats(row_max, lanes)
        self._rows = NormalizeRows(
            lanes=lanes,
            row_max=row_max,
            param_latency=_READ,
            centered=self._centered,
            multipliers=multipliers,
            target=target,
        )
        self._scales = {
            name: [
                ScaleLane(row_max=row_max, o_bits=_BITS[name], target=target) for _ in range(lanes)
            ]
            for name in outputs
        }
        self._timing = norm_timing(lanes=lanes, row_max=row_max, multipliers=multipliers)
        codes = {name: data.ArrayLayout(signed(_BITS[name]), lanes) for name in outputs}
        self._o_layout = data.StructLayout({**codes, "valid": lanes, "last": 1})
        members: dict[str, Any] = {
            **{name: self._rows.signature.members[name] for name in ("i", "n", "eps")},
            "zero_point": In(data.StructLayout({name: signed(_BITS[name]) for name in outputs})),
            "o": Out(stream.Signature(self._o_layout)),
        }
        if constants is None:
            fields = {"output": range(len(outputs)), "channel": range(row_max), "entry": _ENTRY}
            members["parameters"] = In(stream.Signature(data.StructLayout(fields)))
        super().__init__(members)

    @property
    def latency(self) -> int:
        """Cycles from the transfer of a row's last beat to ``valid`` of its first result."""
        return self._timing.latency_of_beat

    @property
    def throughput(self) -> int:
        """Elements per cycle, sustained, of rows that are not shorter than :meth:`row_cycles`."""
        return self._lanes

    def row_cycles(self, n: int) -> int:
        """Cycles from one row of ``n`` elements to the next: a beat each, at least 40."""
        return self._timing.row_cycles(n)

    def elaborate(self, _platform: object) -> Module:
        m = Module()
        m.submodules.rows = rows = self._rows
        latency = next(iter(self._scales.values()))[0].latency
        # As deep as the cycles from a reserved place to its release.
        depth = rows.latency + latency + 5
        m.submodules.fifo = fifo = CreditFifo(self._o_layout, depth=depth, registered=True)
        wiring.connect(m, wiring.flipped(self.i), rows.i)
        wiring.connect(m, wiring.flipped(self.o), fifo.o)
        mask = delay(m, rows.lanes_valid, latency, name="o_lanes", reset_less=True)
        m.d.comb += [
            rows.n.eq(self.n),
            rows.eps.eq(self.eps),
            rows.room.eq(fifo.room),
            fifo.take.eq(rows.fire),
            fifo.push.eq(delay(m, rows.o_valid, latency, name="o_valid")),
            fifo.i.last.eq(delay(m, rows.last, latency, name="o_last")),
            fifo.i.valid.eq(mask),
        ]
        if self._entries is None:
            m.d.comb += self.parameters.ready.eq(1)
        for index, (name, scales) in enumerate(self._scales.items()):
            bits = _BITS[name]
            for lane, scale in enumerate(scales):
                m.submodules[f"{name}_{lane}"] = scale
                entry = self._parameters(m, index, name, lane)
                m.d.comb += [
                    scale.a.eq(rows.a[lane]),
                    scale.z.eq(rows.z[lane]),
                    scale.parameters.bias.eq(entry.beta),
                    scale.parameters.mult.eq(entry.gamma),
                    scale.parameters.shift.eq(entry.shift),
                    scale.zero_point.eq(self.zero_point[name]),
                    scale.lo.eq(-(1 << bits - 1)),
                    scale.hi.eq((1 << bits - 1) - 1),
                    fifo.i[name][lane].eq(scale.y),
                ]
        return m

    def _parameters(self, m: Module, output: int, name: str, lane: int) -> Any:
        """The entry for the results of ``_READ`` cycles after ``param_index``."""
        init: Any = [] if self._entries is None else self._entries[name][lane :: self._lanes]
        m.submodules[f"{name}_parameters_{lane}"] = store = memory.Memory(
            shape=_ENTRY, depth=self._beats, init=init
        )
        read = store.read_port()
        entry = Signal(_ENTRY, name=f"{name}_entry_{lane}", reset_less=True)
        m.d.comb += read.addr.eq(self._rows.param_index)
        m.d.sync += entry.eq(read.data)
        if self._entries is None:
            item, bits = self.parameters.payload, (self._lanes - 1).bit_length()
            mine = (item.output == output) & (item.channel[:bits] == lane)
            write = store.write_port()
            m.d.comb += [
                write.addr.eq(item.channel[bits:]),
                write.data.eq(item.entry),
                write.en.eq(self.parameters.valid & mine),
            ]
        return entry


class LayerNorm(_Norm):
    """LayerNorm of rows of int16 codes; :func:`intformer.reference.layernorm`.

    ::

        y = clip(round((c * gamma * 2**16 / sqrt(D) + beta * 2**8) / 2**shift) + zero_point)
        c = n*x - sum(x),  D = n*sum(x**2) - sum(x)**2 + eps

    for each of the ``outputs``, with its own ``gamma``, ``beta``, ``shift`` (per channel) and
    ``zero_point``. Rounds half up. ``round`` errs only for values less than ``2**-36`` of their
    distance from ``beta`` below a tie. One beat per cycle; consecutive rows overlap.

    Parameters
    ----------
    lanes: elements per beat: 1, 2, 4, 8 or 16.
    row_max: longest row, in elements, 2 to 1024.
    outputs: ``"int8"``, ``"int16"`` or both.
    constants: for each of the outputs a dictionary of ``gamma``, ``beta`` and ``shift``, each of
        at most ``row_max`` integers: the parameters are in the bitstream. Otherwise they are
        written to the unit.
    multipliers: ``"dsp"`` or ``"luts"``: what computes squares and ``n*x``. In both cases the
        product with the reciprocal takes four multiplier blocks per lane, and that with gamma
        none.
    target: family whose multiplier blocks to use; see :class:`intformer.hw.parts.mul18.Mul18`.

    Members
    -------
    i: ``In(stream)`` of ``{x: lanes x signed(16), valid: lanes, last: 1}``. Element ``k`` of a row
        is in lane ``k % lanes``; ``valid`` is 0 in lanes past the row's end; ``last`` marks the
        last beat of a row.
    o: ``Out(stream)`` of ``{int8: lanes x signed(8), int16: lanes x signed(16), valid: lanes,
        last: 1}``, those of the outputs that there are; undefined in lanes that are not valid.
    n: ``In``; number of elements of each row, ``1..row_max``. Constant while rows are inside,
        like the other parameters:
    eps: ``In(40)``; ``n**2 * epsilon / input_scale**2``.
    zero_point: ``In`` of a structure with a signed member for each of the outputs.
    parameters: ``In(stream)`` of ``{output, channel, entry: {gamma: signed(16), beta: signed(32),
        shift: 6}}``, without ``constants`` only; always ready. ``output`` is the place in
        ``outputs``; ``shift`` 2 to 47. No rows may be inside.

    Example
    -------
    >>> unit = LayerNorm(lanes=4, row_max=512)
    >>> unit.throughput, unit.row_cycles(512), unit.row_cycles(64)
    (4, 128, 44)
    """

    _centered = True


class RMSNorm(_Norm):
    """RMSNorm of rows of int16 codes; :func:`intformer.reference.rmsnorm`.

    :class:`LayerNorm` without the terms of ``sum(x)``: ``c = n*x``, ``D = n*sum(x**2) + eps``.
    Parameters, members and timing are the same.

    Example
    -------
    >>> constants = {"int8": {"gamma": [16384] * 8, "beta": [0] * 8, "shift": [25] * 8}}
    >>> unit = RMSNorm(row_max=8, outputs=["int8"], constants=constants)
    >>> unit.throughput
    1
    """

    _centered = False


def _entries(
    constants: Mapping[str, Mapping[str, Sequence[int]]], outputs: Sequence[str], row_max: int
) -> dict[str, list[dict[str, int]]]:
    """The parameter memory's entries by output; ``ValueError`` if they do not fit."""
    if set(constants) != set(outputs):
        raise ValueError(f"constants must be given for {list(outputs)}, not {list(constants)}")
    ranges = {"gamma": (-(1 << 15), (1 << 15) - 1), "beta": (-(1 << 31), (1 << 31) - 1)}
    ranges["shift"] = (2, 47)
    entries = {}
    for output, vectors in constants.items():
        if set(vectors) != set(ranges):
            raise ValueError(f"constants must be {', '.join(ranges)}, not {list(vectors)}")
        if len({len(values) for values in vectors.values()}) > 1 or len(vectors["gamma"]) > row_max:
            raise ValueError(f"constants must be vectors of one length, at most {row_max}")
        for name, values in vectors.items():
            for value in values:
                check_range(f"{name} in constants", int(value), *ranges[name])
        entries[output] = [
            {name: int(values[k]) for name, values in vectors.items()}
            for k in range(len(vectors["gamma"]))
        ]
    return entries
