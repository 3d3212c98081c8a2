"""What the stream units share: a pipeline that never stalls, behind a FIFO with reserved places."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Mapping, Sequence
from typing import Any

from amaranth.hdl import Module, Shape, ShapeLike, Signal, Value, signed, unsigned
from amaranth.lib import stream, wiring
from amaranth.lib.wiring import In, Out
from amaranth.utils import ceil_log2

from intformer.hw.parts.streams import CreditFifo

__all__ = [
    "FIFO_LATENCY",
    "PipelinedUnit",
    "check_choice",
    "check_range",
    "code_shape",
    "delay",
    "fifo_depth",
    "register",
]

FIFO_LATENCY = 2
"""Cycles from a push to ``valid`` at the other end of a FIFO."""

_SHAPES = {
    "int4": signed(4),
    "int8": signed(8),
    "uint8": unsigned(8),
    "int16": signed(16),
    "uint16": unsigned(16),
    "int32": signed(32),
}


def check_range(name: str, value: int, low: int, high: int) -> None:
    """``ValueError`` unless ``value`` is an integer from ``low`` to ``high``."""
    if not isinstance(value, int) or not low <= value <= high:
        raise ValueError(f"{name} must be an integer from {low} to {high}, not {value!r}")


def check_choice(name: str, value: object, choices: Sequence[object]) -> None:
    """``ValueError`` unless ``value`` is one of ``choices``."""
    if value not in choices:
        allowed = ", ".join(repr(choice) for choice in choices)
        raise ValueError(f"{name} must be one of {allowed}, not {value!r}")


def code_shape(name: str, code: str, choices: Sequence[str]) -> Shape:
    """The shape of the code type ``code``; ``ValueError`` unless it is one of ``choices``."""
    check_choice(name, code, choices)
    return _SHAPES[code]


def register(
    m: Module, value: Any, *, name: str, shape: ShapeLike | None = None, reset: bool = False
) -> Any:
    """``value`` one cycle later; registers of data need no ``reset``."""
    held = Signal(value.shape() if shape is None else shape, name=name, reset_less=not reset)
    m.d.sync += held.eq(value)
    return held


def delay(m: Module, value: Any, cycles: int, *, name: str, reset: bool = False) -> Any:
    """``value`` as it was ``cycles`` cycles ago."""
    for index in range(cycles):
        value = register(m, value, name=f"{name}_d{index + 1}", reset=reset)
    return value


def fifo_depth(cycles: int) -> int:
    """Places that keep a pipeline of ``cycles`` cycles and its FIFO moving every cycle.

    A place is held from the transfer at ``i`` to the transfer at ``o``. A power of two, as the
    memory is.
    """
    return 1 << ceil_log2(cycles + FIFO_LATENCY + 1)


class PipelinedUnit(wiring.Component):
    """Base of the units that give one beat for every beat.

    ::

        i ─► pipeline of registers, never stalls ─► FIFO ─► o
        ready ◄──── places left in the FIFO ─────────┘

    A beat enters only when a place for its result is left. So ``ready`` comes from a register
    and nothing else, and the pipeline's registers have no enables.

    Parameters
    ----------
    i, o: shapes of the payloads.
    lanes: elements per beat.
    cycles: registers from ``i`` to the FIFO: what :meth:`transform` takes.
    ports: further members.
    """

    def __init__(
        self,
        *,
        i: ShapeLike,
        o: ShapeLike,
        lanes: int,
        cycles: int,
        ports: Mapping[str, Any] | None = None,
    ) -> None:
        self._lanes, self._cycles = lanes, cycles
        members = {"i": In(stream.Signature(i)), "o": Out(stream.Signature(o)), **(ports or {})}
        super().__init__(members)

    @property
    def lanes(self) -> int:
        """Elements per beat."""
        return self._lanes

    @property
    def latency(self) -> int:
        """Cycles from a transfer at ``i`` to its result at ``o``, without stalls."""
        return self._cycles + FIFO_LATENCY

    @property
    def throughput(self) -> int:
        """Elements per cycle, sustained."""
        return self._lanes

    @abstractmethod
    def transform(self, m: Module, beat: Any, taken: Value) -> Any:
        """The result for ``beat``, ``cycles`` cycles after it; ``taken``: a beat is there."""

    def elaborate(self, _platform: object) -> Module:
        m = Module()
        shape = self.o.payload.shape()
        m.submodules.fifo = fifo = CreditFifo(shape, depth=fifo_depth(self._cycles))
        taken = Signal()
        m.d.comb += [
            self.i.ready.eq(fifo.room),
            taken.eq(self.i.valid & fifo.room),
            fifo.take.eq(taken),
            fifo.push.eq(delay(m, taken, self._cycles, name="taken", reset=True)),
            fifo.i.eq(self.transform(m, self.i.payload, taken)),
        ]
        wiring.connect(m, wiring.flipped(self.o), fifo.o)
        return m
