"""The serial core's microprogram."""

from __future__ import annotations

from functools import cache

from intformer.hw.serial import (
    program_dma,
    program_norm,
    program_post,
    program_product,
    program_softmax,
)
from intformer.hw.serial.isa import Io, Micro
from intformer.hw.serial.routines import COUNTER_BASE, Routines
from intformer.isa import COUNTERS, HEADER_BITS, INSTRUCTION_BYTES, Op

__all__ = ["COUNTER_BASE", "PROGRAM_COUNTER", "microprogram"]

PROGRAM_COUNTER = 0
"""Register of the address of the next instruction."""
_CODES = 16
_OPERATIONS = set(Op) - {Op.ROWSCALE}  # a serial core has no row_scales


@cache
def microprogram() -> Routines:
    """The assembled microprogram."""
    asm = Routines()
    assert asm.register("pc") == PROGRAM_COUNTER
    _main(asm)
    asm.shared()
    program_dma.emit(asm)
    program_product.emit(asm)
    program_post.emit(asm)
    program_softmax.emit(asm)
    program_norm.emit(asm)
    assert len(asm.registers) <= COUNTER_BASE
    return asm


def _main(asm: Routines) -> None:
    """Read the first byte of each instruction, and go to its operation."""
    asm.op(Micro.LD, 0)
    asm.op(Micro.ST, "rows_fed")
    asm.goto("next")
    asm.label("done")
    asm.io(Io.DONE)
    asm.label("next")
    asm.io(Io.XADDR, "pc")
    asm.io(Io.XCOUNT, 1)
    asm.op(Micro.LD, "pc")
    asm.op(Micro.ADD, HEADER_BITS // 8)
    asm.op(Micro.ST, "body")
    asm.op(Micro.ADD, INSTRUCTION_BYTES - HEADER_BITS // 8)
    asm.op(Micro.ST, "pc")
    asm.field(8, None)
    asm.io(Io.XADDR, "body")
    asm.jump(Micro.JTAB, "operations")
    asm.align(_CODES)
    asm.label("operations")
    for code in range(_CODES):
        asm.goto(Op(code).name if code in _OPERATIONS else "unknown")
    asm.label(Op.END.name)
    # The counters that are kept in registers.
    asm.op(Micro.LD, "rows_fed")
    asm.store_counter(COUNTERS.index("array_rows"))
    asm.io(Io.END)
    asm.label("unknown")
    asm.io(Io.ERROR)
