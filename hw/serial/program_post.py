"""Microprogram of POST_ACC and POST_MEM."""

from __future__ import annotations

from intformer.hw.serial.isa import COUNT_BIAS, Condition, Io, Micro, Source
from intformer.hw.serial.product import COLS
from intformer.hw.serial.routines import ACCUMULATOR, Routines
from intformer.isa import Op, Unit

__all__ = ["emit", "rescale"]

_MAX, _MIN = (1 << 31) - 1, -(1 << 31)


def emit(asm: Routines) -> None:
    """Append the operations."""
    for op in (Op.POST_ACC, Op.POST_MEM):
        asm.begin(op, Unit.POST, fields=Op.POST_MEM)  # there are no factors
        asm.op(Micro.LD, int(op is Op.POST_ACC))
        asm.op(Micro.ST, "post_flags")
        asm.goto("post_fields")
    _fields(asm)
    _rows(asm)
    _operand(asm)
    _saturated(asm)


def _fields(asm: Routines) -> None:
    asm.label("post_fields")
    asm.counter_field(12, "rows")
    asm.counter_field(10, "row_elements")
    asm.field(5, None)
    for role in ("source", "target", "residual"):
        if role == "residual":
            _flag(asm, 1)
        asm.call("post_operand")
        asm.op(Micro.ST, f"{role}_stride")
        asm.copy("operand", f"{role}_row")
    asm.field(16, "residual_mult", signed=True)
    # The shift where SETC looks for it.
    asm.op(Micro.LD, 0)
    asm.op(Micro.GET, count=6, counted=True)
    asm.op(Micro.SHR, count=10)
    asm.op(Micro.ST, "residual_shift")
    asm.field(12, None)
    asm.op(Micro.ST, "half")
    asm.op(Micro.ADD, "half")
    asm.op(Micro.ST, "first_param")
    _flag(asm, 3)
    _flag(asm, 2)
    asm.field(2, None)
    asm.call("block")
    asm.op(Micro.ST, "table")
    for name in ("low", "high", "zero_point"):
        asm.field(16, name, signed=True)
    asm.io(Io.FLAGS, "post_flags")
    # POST_ACC: elements of an accumulator row are next to each other.
    asm.jump_unless(Condition.F0, "post_row")
    asm.add("source_row", ACCUMULATOR)
    asm.op(Micro.LD, COLS)
    asm.op(Micro.ST, "source_stride")


def _operand(asm: Routines) -> None:
    """Subroutine: memory, word and lane group into ``operand``, stride into A."""
    asm.label("post_operand")
    asm.mem_field()
    asm.pointer("operand")
    asm.field(4, None)
    asm.op(Micro.ADD, "operand")
    asm.op(Micro.ST, "operand")
    asm.goto("stride")


def _flag(asm: Routines, place: int) -> None:
    """Add a one-bit field to the flags of the loop."""
    asm.flag_field(place)
    asm.op(Micro.ADD, "post_flags")
    asm.op(Micro.ST, "post_flags")


def _rows(asm: Routines) -> None:
    """F0: source in the accumulators, F1: residual, F2: table, F3: parameters move on."""
    asm.label("post_row")
    for role in ("source", "target", "residual"):
        asm.copy(f"{role}_row", role)
        asm.op(Micro.ADD, f"{role}_stride")
        asm.op(Micro.ST, f"{role}_row")
    asm.copy("row_elements", "elements")
    asm.copy("first_param", "param")

    asm.label("post_element")
    asm.load_element("source")
    asm.op(Micro.LDT, "param", inc=True)
    asm.op(Micro.ADD, Source.T)
    asm.op(Micro.ST, "value")
    asm.op(Micro.LDT, "param", inc=True)
    asm.op(Micro.LDQ, Source.T)
    asm.op(Micro.SETC, Source.T)
    rescale(asm)
    asm.jump_if(Condition.OVERFLOW, "post_overflow")
    asm.op(Micro.SWAP)
    asm.label("post_rounded")
    asm.op(Micro.AVG, 1)
    asm.jump_if(Condition.F1, "post_residual")
    asm.label("post_sum")
    asm.op(Micro.ADD, "zero_point")
    asm.op(Micro.MAX, "low")
    asm.op(Micro.MIN, "high")
    asm.jump_if(Condition.F2, "post_table")
    asm.label("post_write")
    asm.op(Micro.STM, "target", inc=True)
    asm.jump_unless(Condition.F3, "post_same")
    asm.label("post_next")
    asm.loop("elements", "post_element")
    asm.loop("rows", "post_row")
    asm.done()

    asm.label("post_residual")
    asm.op(Micro.ST, "main")
    asm.load_element("residual")
    asm.op(Micro.ST, "value")
    asm.op(Micro.LDQ, "residual_mult")
    asm.op(Micro.SETC, "residual_shift")
    rescale(asm)
    asm.op(Micro.SWAP)
    asm.op(Micro.AVG, 1)
    asm.op(Micro.ADD, "main")
    asm.goto("post_sum")
    asm.label("post_table")
    asm.op(Micro.LDT, "table", signed=True)
    asm.op(Micro.LD, Source.T)
    asm.goto("post_write")
    asm.label("post_same")
    asm.op(Micro.LD, "first_param")
    asm.op(Micro.ST, "param")
    asm.goto("post_next")


def rescale(asm: Routines) -> None:
    """``A:Q = value * Q[15:0] >> (shift - 1)``, the shift that of SETC."""
    assert COUNT_BIAS == 16 - 1  # the product is 16 places up
    asm.op(Micro.LD, 0)
    asm.op(Micro.MUL, "value", count=16, signed=True)
    asm.op(Micro.SHR, counted=True, signed=True)


def _saturated(asm: Routines) -> None:
    """Subroutine: A:Q does not fit 32 bits, A = the limit on that side."""
    asm.label("post_overflow")
    asm.call("saturated")
    asm.goto("post_rounded")
    asm.label("saturated")
    asm.jump_if(Condition.NEGATIVE, "saturated_low")
    asm.op(Micro.LD, _MAX)
    asm.op(Micro.RET)
    asm.label("saturated_low")
    asm.op(Micro.LD, _MIN)
    asm.op(Micro.RET)
