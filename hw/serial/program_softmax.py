"""Microprogram of SOFTMAX."""

from __future__ import annotations

from intformer.hw.serial.isa import Condition, Io, Micro, Source
from intformer.hw.serial.routines import Routines
from intformer.isa import Op, Unit

__all__ = ["emit"]

_QUOTIENT_BITS = 10
"""Of ``(e << 9) // S``, at most ``2**9``."""


def emit(asm: Routines) -> None:
    """Append the operation."""
    asm.begin(Op.SOFTMAX, Unit.ROW)
    asm.io(Io.FLAGS, 0)
    asm.counter_field(12, "rows")
    asm.field(11, "count")
    for role in ("source", "target"):
        asm.pointer(f"{role}_row")
        asm.stride(f"{role}_stride")
    asm.flag_field(1)
    asm.op(Micro.ST, "memory")
    asm.pointer("mask_row")
    asm.stride("mask_stride")
    asm.io(Io.FLAGS, "memory")  # from here on F1: there is a mask
    asm.field(12, "length")
    asm.field(1, "length_step")
    asm.field(2, None)
    asm.call("block")
    asm.op(Micro.ST, "table")
    asm.label("softmax_row")
    # Elements that may be kept, and those after them.
    asm.op(Micro.LD, "count")
    asm.op(Micro.MIN, "length")
    asm.op(Micro.ST, "kept")
    asm.op(Micro.SUB, "count")
    asm.op(Micro.ST, "dropped")
    asm.negated("kept", "kept")
    asm.copy("target_row", "target")
    asm.op(Micro.LD, "kept")
    asm.jump_if(Condition.ZERO, "softmax_dropped")
    asm.copy(asm.constant(-128), "top")
    asm.copy(asm.constant(0), "total")
    _pass(asm, "top", _top)
    _pass(asm, "sum", _sum)
    _pass(asm, "share", _share, otherwise=_nothing)
    asm.label("softmax_dropped")
    asm.op(Micro.LD, "dropped")
    asm.jump_if(Condition.ZERO, "softmax_row_end")
    asm.op(Micro.LD, 0)
    asm.label("softmax_zero")
    asm.op(Micro.STM, "target", inc=True)
    asm.loop("dropped", "softmax_zero")
    asm.label("softmax_row_end")
    for role in ("source", "target", "mask"):
        asm.add(f"{role}_row", f"{role}_stride")
    asm.add("length", "length_step")
    asm.loop("rows", "softmax_row")
    asm.done()
    # Go back to the start of the row.
    asm.label("row_again")
    asm.copy("source_row", "source")
    asm.copy("mask_row", "mask")
    asm.copy("kept", "elements")
    asm.op(Micro.RET)


def _pass(asm, name, element, *, otherwise=None) -> None:
    """``element`` for each one that is kept; it has been read. ``otherwise`` for the others."""
    asm.call("row_again")
    asm.label(name)
    asm.jump_unless(Condition.F1, f"{name}_kept")
    asm.load_element("mask")
    asm.jump_unless(Condition.ZERO, f"{name}_kept")
    asm.op(Micro.LDM, "source", inc=True)
    if otherwise is not None:
        otherwise(asm)
    asm.goto(f"{name}_next")
    asm.label(f"{name}_kept")
    asm.op(Micro.LDM, "source", inc=True)
    element(asm)
    asm.label(f"{name}_next")
    asm.loop("elements", name)


def _top(asm: Routines) -> None:
    asm.op(Micro.LD, "top")
    asm.op(Micro.MAX, Source.MEM)
    asm.op(Micro.ST, "top")


def _exponential(asm: Routines) -> None:
    asm.op(Micro.LD, "top")
    asm.op(Micro.SUB, Source.MEM)
    asm.op(Micro.LDT, "table", signed=True)
    asm.op(Micro.LD, Source.T)
    asm.op(Micro.SHR, count=8)


def _sum(asm: Routines) -> None:
    _exponential(asm)
    asm.op(Micro.ADD, "total")
    asm.op(Micro.ST, "total")


def _share(asm: Routines) -> None:
    _exponential(asm)
    asm.op(Micro.LDQ, 0)
    asm.op(Micro.DIV, "total", count=_QUOTIENT_BITS)
    asm.op(Micro.SWAP)
    asm.op(Micro.AVG, 1)
    asm.op(Micro.MIN, 255)
    asm.op(Micro.STM, "target", inc=True)


def _nothing(asm: Routines) -> None:
    asm.op(Micro.LD, 0)
    asm.op(Micro.STM, "target", inc=True)
