"""What the parts of the microprogram share: reading fields, pointers, loops."""

from __future__ import annotations

from intformer.hw.serial.isa import Assembler, Condition, Io, Micro, Source
from intformer.isa import OPERATIONS, Op, Unit

__all__ = ["ACCUMULATOR", "COUNTER_BASE", "INVERT", "WIDE", "Routines"]

INVERT = 16
"""Inverts a :class:`~intformer.hw.serial.isa.Condition`."""
WIDE = 1 << 16
"""Added to an element of ``wide`` in a pointer."""
ACCUMULATOR = 1 << 17
"""Added to an accumulator in a pointer."""
COUNTER_BASE = 224
"""Register of counter 0."""


class Routines(Assembler):
    """An assembler with the idioms of the serial core's microprogram.

    An *element pointer* is a number in ``act`` (word * 4 + lane), or :data:`WIDE` more than a
    number in ``wide``. Loop counters run from ``-n`` up to 0. Flag F0 says whether the operand
    whose fields are being read lies in ``wide``.
    """

    def begin(self, op: Op, unit: Unit, *, fields: Op | None = None) -> None:
        """Start of an operation: read the rest of the instruction, as far as ``fields`` has it."""
        bits = sum(field.width for field in OPERATIONS[op if fields is None else fields])
        self.label(op.name)
        self.io(Io.UNIT, unit=unit)
        self.io(Io.XCOUNT, -(-bits // 8))

    def done(self) -> None:
        """End of an operation."""
        self.goto("done")

    def field(self, width: int, register: str | None, *, signed: bool = False) -> None:
        """Read a field into A, and into ``register``."""
        self.op(Micro.GET, count=width, signed=signed)
        if register is not None:
            self.op(Micro.ST, register)

    def flag_field(self, place: int) -> None:
        """Read a one-bit field as bit ``place`` of A."""
        self.op(Micro.LD, 0)
        self.op(Micro.GET, count=1, counted=True)
        self.op(Micro.SHR, count=31 - place)

    def mem_field(self) -> None:
        """Read a one-bit memory field into F0."""
        self.field(1, "memory")
        self.io(Io.FLAGS, "memory")

    def pointer(self, register: str) -> None:
        """Read a word (18 bits); F0 tells the memory."""
        self.call("pointer")
        self.op(Micro.ST, register)

    def stride(self, register: str) -> None:
        """Read words from one row to the next (12 bits)."""
        self.call("stride")
        self.op(Micro.ST, register)

    def counter_field(self, width: int, register: str) -> None:
        """Read a count for a loop: its negative."""
        self.field(width, None)
        self.call("negative")
        self.op(Micro.ST, register)

    def copy(self, source: str, target: str) -> None:
        """Register to register."""
        self.op(Micro.LD, source)
        self.op(Micro.ST, target)

    def negated(self, source: str, target: str) -> None:
        """``target = -source``: a loop counter."""
        self.op(Micro.LD, 0)
        self.op(Micro.SUB, source)
        self.op(Micro.ST, target)

    def add(self, register: str, by: str | int) -> None:
        """``register += by``."""
        self.op(Micro.LD, register)
        self.op(Micro.ADD, by)
        self.op(Micro.ST, register)

    def goto(self, label: str) -> None:
        self.jump(Micro.JMP, label)

    def jump_if(self, condition: int, label: str) -> None:
        self.jump(Micro.JMP, label, condition)

    def jump_unless(self, condition: int, label: str) -> None:
        self.jump(Micro.JMP, label, condition | INVERT)

    def call(self, label: str) -> None:
        self.jump(Micro.CALL, label)

    def loop(self, counter: str, label: str) -> None:
        self.jump(Micro.LOOP, label, register=counter)

    def store_counter(self, index: int) -> None:
        """Performance counter ``index`` = A."""
        self._code.append((Micro.ST | (COUNTER_BASE + index) << 5, None))

    def load_element(self, pointer: str) -> None:
        """``A = element``; the pointer moves on."""
        self.op(Micro.LDM, pointer, inc=True)
        self.op(Micro.LD, Source.MEM)

    def shared(self) -> None:
        """Subroutines that fields need."""
        self.label("stride")
        self.field(12, None)
        # A = words of the memory that F0 tells, in elements: times 4 in `act`.
        self.label("scaled")
        self.jump_if(Condition.F0, "scaled_end")
        self.label("scaled_act")
        self.op(Micro.ST, "half")
        self.op(Micro.ADD, "half")
        self.op(Micro.ST, "half")
        self.op(Micro.ADD, "half")
        self.label("scaled_end")
        self.op(Micro.RET)
        # A = pointer to the first element of a word.
        self.label("pointer")
        self.field(18, None)
        self.label("placed")
        self.jump_unless(Condition.F0, "scaled_act")
        self.op(Micro.ADD, WIDE)
        self.op(Micro.RET)
        # A = -A
        self.label("negative")
        self.op(Micro.ST, "half")
        self.op(Micro.LD, 0)
        self.op(Micro.SUB, "half")
        self.op(Micro.RET)
