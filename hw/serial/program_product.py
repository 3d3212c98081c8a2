"""Microprogram of FETCH_STREAM, FETCH_ACT and MATMUL.

A FETCH only notes what to fetch: each MATMUL takes its tiles from there. So a FETCH must come
after the last MATMUL that takes columns of the one before.
"""

from __future__ import annotations

from intformer.hw.serial.isa import Condition, Io, Micro, Source
from intformer.hw.serial.product import COLS, ROWS
from intformer.hw.serial.routines import INVERT, Routines
from intformer.isa import Op, Unit

__all__ = ["emit"]

_UNSIGNED, _INT4, _OVERWRITE = 1, 2, 4


def emit(asm: Routines) -> None:
    """Append the operations."""
    _fetch(asm)
    _matmul(asm)
    _tile_of_act(asm)


def _fetch(asm: Routines) -> None:
    asm.begin(Op.FETCH_STREAM, Unit.FETCH)
    asm.field(32, "weights")
    asm.field(24, None)
    asm.flag_field(1)
    asm.op(Micro.ST, "weight_format")
    asm.field(28, None)  # scales of groups: this core has none
    asm.copy(asm.constant(0), "from_act")
    # Bytes of a tile: 16, or 8.
    asm.op(Micro.LD, ROWS * COLS)
    asm.op(Micro.ST, "tile_bytes")
    asm.op(Micro.LD, "weight_format")
    asm.jump_if(Condition.ZERO, "fetch_end")
    asm.op(Micro.LD, ROWS * COLS // 2)
    asm.op(Micro.ST, "tile_bytes")
    asm.label("fetch_end")
    asm.done()

    asm.begin(Op.FETCH_ACT, Unit.FETCH)
    asm.io(Io.FLAGS, 0)
    asm.pointer("column")
    asm.stride("column_stride")
    asm.field(16, "columns")
    asm.field(12, None)
    asm.counter_field(12, "contraction_tiles")
    asm.op(Micro.ST, "tile_number")
    asm.counter_field(7, "last_lanes")
    asm.copy(asm.constant(0), "weight_format")
    asm.copy(asm.constant(1), "from_act")
    # The number of a tile's last column, minus the number of columns: negative if it is one.
    asm.op(Micro.LD, COLS - 1)
    asm.op(Micro.SUB, "columns")
    asm.op(Micro.ST, "column_number")
    asm.op(Micro.LD, "column")
    for _ in range(COLS - 1):
        asm.op(Micro.ADD, "column_stride")
    asm.op(Micro.ST, "column")
    asm.done()


def _matmul(asm: Routines) -> None:
    asm.begin(Op.MATMUL, Unit.MATMUL)
    asm.field(18, "base")
    asm.field(12, "row_stride")
    asm.field(12, "count")
    asm.field(12, "tiles")
    asm.field(12, "sums")
    asm.field(1, None)
    asm.op(Micro.ADD, "weight_format")
    asm.op(Micro.ST, "format")
    asm.op(Micro.ADD, _OVERWRITE)
    asm.op(Micro.ST, "first_format")
    asm.io(Io.MFLAGS, "first_format")
    asm.io(Io.MSTRIDE, "row_stride")
    # Count the words fed; from a stream, ask for all tiles.
    asm.op(Micro.LDQ, "tiles")
    asm.op(Micro.LD, 0)
    asm.op(Micro.MUL, "count", count=16)
    asm.op(Micro.SHR, count=16)
    asm.op(Micro.SWAP)
    asm.op(Micro.ADD, "rows_fed")
    asm.op(Micro.ST, "rows_fed")
    asm.op(Micro.LD, "from_act")
    asm.io(Io.FLAGS, "from_act")
    asm.io(Io.XCOUNT, 0)
    asm.jump_if(Condition.F0, "matmul_ready")
    asm.op(Micro.LDQ, "tiles")
    asm.op(Micro.LD, 0)
    asm.op(Micro.MUL, "tile_bytes", count=16)
    asm.op(Micro.SHR, count=16)
    asm.op(Micro.SWAP)
    asm.op(Micro.ST, "bytes")
    asm.io(Io.XADDR, "weights")
    asm.io(Io.XCOUNT, "bytes")
    asm.op(Micro.ADD, "weights")
    asm.op(Micro.ST, "weights")
    asm.label("matmul_ready")
    asm.negated("tiles", "tiles")
    asm.label("matmul_tile")
    asm.io(Io.MADDR, "base")
    asm.io(Io.MACC, "sums")
    asm.io(Io.MCOUNT, "count")
    asm.jump(Micro.CALL, "tile_of_act", Condition.F0)
    asm.op(Micro.TILE)
    asm.op(Micro.RUN)
    asm.io(Io.MFLAGS, "format")
    asm.add("base", 1)
    asm.loop("tiles", "matmul_tile")
    asm.done()


def _tile_of_act(asm: Routines) -> None:
    """Subroutine: push the next tile of FETCH_ACT into the weight stream."""
    asm.label("tile_of_act")
    asm.copy("column", "next_column")
    asm.copy("column_number", "number")
    asm.op(Micro.LD, -COLS)
    asm.op(Micro.ST, "columns_left")
    asm.label("act_column")
    asm.copy("next_column", "place")
    asm.op(Micro.SUB, "column_stride")
    asm.op(Micro.ST, "next_column")
    asm.op(Micro.LD, "number")
    asm.op(Micro.SUB, 1)
    asm.op(Micro.ST, "number")
    asm.op(Micro.ADD, 1)
    asm.jump(Micro.JMP, "act_zeros", Condition.NEGATIVE | INVERT)
    # Lanes of this word: all, or those of the last one.
    asm.op(Micro.LD, "tile_number")
    asm.op(Micro.ADD, 1)
    asm.jump_if(Condition.ZERO, "act_last")
    asm.op(Micro.LD, -ROWS)
    asm.goto("act_lanes")
    asm.label("act_last")
    asm.op(Micro.LD, "last_lanes")
    asm.label("act_lanes")
    asm.op(Micro.ST, "lanes_left")
    asm.op(Micro.ST, "lanes")
    asm.label("act_lane")
    asm.op(Micro.LDM, "place", inc=True)
    asm.op(Micro.LD, Source.MEM)
    asm.op(Micro.PUSH)
    asm.loop("lanes_left", "act_lane")
    # As many zeros as lanes lack.
    asm.op(Micro.LD, -ROWS)
    asm.op(Micro.SUB, "lanes")
    asm.jump_if(Condition.ZERO, "act_column_end")
    asm.goto("act_fill")
    asm.label("act_zeros")
    asm.op(Micro.LD, -ROWS)
    asm.label("act_fill")
    asm.op(Micro.ST, "lanes_left")
    asm.op(Micro.LD, 0)
    asm.label("act_zero")
    asm.op(Micro.PUSH)
    asm.loop("lanes_left", "act_zero")
    asm.label("act_column_end")
    asm.loop("columns_left", "act_column")
    # On to the next word of these columns, or to the next columns.
    asm.add("column", ROWS)
    asm.loop("tile_number", "act_end")
    asm.copy("contraction_tiles", "tile_number")
    asm.op(Micro.LD, "contraction_tiles")  # negative: back to the first word
    for _ in range(2):
        asm.op(Micro.ST, "half")
        asm.op(Micro.ADD, "half")
    asm.op(Micro.ADD, "column")
    for _ in range(COLS):
        asm.op(Micro.ADD, "column_stride")
    asm.op(Micro.ST, "column")
    asm.add("column_number", COLS)
    asm.label("act_end")
    asm.op(Micro.RET)
