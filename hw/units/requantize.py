"""Requantization of a stream: multiplier, rounding shift, zero point, saturation."""

from __future__ import annotations

from typing import Any

from amaranth.hdl import Module, Signal, Value, signed
from amaranth.lib import data, memory, stream
from amaranth.lib.wiring import In

from intformer.hw.units.pipeline import PipelinedUnit, check_range, code_shape, delay, register
from intformer.hw.units.product import ExactProduct, times
from intformer.hw.units.rounding import SHIFT_BITS, RoundClip
from intformer.reference.rescale import MULT_BITS

__all__ = ["Requantize"]

_TYPES = ("int4", "int8", "uint8", "int16", "uint16", "int32")
_READ = 2  # cycles of the parameter memory: block RAM, register


class Requantize(PipelinedUnit):
    """``y = clip(((x * mult + 2**(shift - 1)) >> shift) + zero_point)``; ``clip`` to ``o_type``.

    Rounds once, half toward +infinity: the single-rounding RESCALE of the TOSA specification.
    Equal to :func:`intformer.reference.rescale` for every operand.

    Parameters
    ----------
    o_type: ``int4``, ``int8``, ``uint8``, ``int16``, ``uint16`` or ``int32``.
    x_bits: width of ``x``, signed, 2 to 32.
    mult_bits: width of ``mult``, signed, 2 to 32. Up to 18 take two hardware multipliers for each
        lane, more take four.
    lanes: elements per beat.
    channels: 0: one multiplier and shift for the tensor, from ports. Otherwise one for each
        channel, from a memory in the unit; element ``k`` of the stream belongs to channel
        ``k % channels``, and ``channels`` is a multiple of ``lanes``.
    target: family whose multiplier blocks to use: ``ecp5``, ``gowin``, or ``None`` for any.

    Members
    -------
    i: ``In(stream)`` of ``lanes`` values ``x``.
    o: ``Out(stream)`` of ``lanes`` codes; :attr:`latency` cycles later.
    mult: ``In(signed(mult_bits))``; shift: ``In(6)``, 2 to 62. Without ``channels`` only;
        constant while elements are inside.
    zero_point: ``In``, a code; constant while elements are inside.
    parameters: ``In(stream)`` of ``{channel, mult, shift}``, with ``channels`` only; always
        ready. Written before the first element of their channel comes.

    Example
    -------
    >>> unit = Requantize(o_type="int8", lanes=4)
    >>> unit.latency, unit.throughput
    (14, 4)
    """

    def __init__(
        self,
        *,
        o_type: str = "int8",
        x_bits: int = 32,
        mult_bits: int = MULT_BITS,
        lanes: int = 1,
        channels: int = 0,
        target: str | None = None,
    ) -> None:
        o_shape = code_shape("o_type", o_type, _TYPES)
        check_range("x_bits", x_bits, 2, 32)
        check_range("mult_bits", mult_bits, 2, 32)
        check_range("lanes", lanes, 1, 64)
        check_range("channels", channels, 0, 65536)
        if channels % lanes:
            raise ValueError(f"channels must be a multiple of lanes, {lanes}, not {channels!r}")
        self._channels = channels
        self._entry = data.StructLayout({"mult": signed(mult_bits), "shift": SHIFT_BITS})
        self._products = [
            ExactProduct(a_bits=x_bits, b_bits=mult_bits, target=target) for _ in range(lanes)
        ]
        self._rounds = [RoundClip(bits=x_bits + mult_bits, o_shape=o_shape) for _ in range(lanes)]
        ports: dict[str, Any] = {"zero_point": In(o_shape)}
        if channels:
            write = data.StructLayout(
                {"channel": range(channels), "mult": signed(mult_bits), "shift": SHIFT_BITS}
            )
            ports["parameters"] = In(stream.Signature(write))
        else:
            ports |= {"mult": In(signed(mult_bits)), "shift": In(SHIFT_BITS)}
        super().__init__(
            i=data.ArrayLayout(signed(x_bits), lanes),
            o=data.ArrayLayout(o_shape, lanes),
            lanes=lanes,
            cycles=self._products[0].latency + self._rounds[0].latency + (_READ if channels else 0),
            ports=ports,
        )

    def transform(self, m: Module, beat: Any, taken: Value) -> Any:
        result = Signal(self.o.payload.shape())
        entries = self._parameters(m, taken)
        for lane, (product, rounding) in enumerate(zip(self._products, self._rounds, strict=True)):
            m.submodules[f"round_{lane}"] = rounding
            x = delay(m, beat[lane], _READ if self._channels else 0, name=f"x_{lane}")
            shift = entries[lane].shift
            if self._channels:
                shift = delay(m, shift, product.latency, name=f"shift_{lane}")
            m.d.comb += [
                rounding.x.eq(times(m, product, x, entries[lane].mult, name=f"product_{lane}")),
                rounding.shift.eq(shift),
                rounding.zero_point.eq(self.zero_point),
                result[lane].eq(rounding.o),
            ]
        return result

    def _parameters(self, m: Module, taken: Value) -> list[Any]:
        """Multiplier and shift of every lane, for the beat of two cycles ago if per channel."""
        if not self._channels:
            entry = Signal(self._entry)
            m.d.comb += [entry.mult.eq(self.mult), entry.shift.eq(self.shift)]
            return [entry] * self._lanes
        beats = self._channels // self._lanes
        place = Signal(range(beats))
        with m.If(taken):
            m.d.sync += place.eq(place + 1)
            with m.If(place == beats - 1):
                m.d.sync += place.eq(0)
        item = self.parameters.payload
        m.d.comb += self.parameters.ready.eq(1)
        row, bank = (
            (item.channel, 0)
            if self._lanes == 1
            else (item.channel // self._lanes, item.channel % self._lanes)
        )
        entries = []
        for lane in range(self._lanes):
            store = memory.Memory(shape=self._entry, depth=beats, init=[])
            m.submodules[f"parameters_{lane}"] = store
            write, read = store.write_port(), store.read_port()
            m.d.comb += [
                write.addr.eq(row),
                write.data.mult.eq(item.mult),
                write.data.shift.eq(item.shift),
                write.en.eq(self.parameters.valid & (bank == lane)),
                read.addr.eq(place),
            ]
            entries.append(register(m, read.data, name=f"entry_{lane}"))
        return entries
