"""Microprogram of LOAD, STORE, GATHER and MOVE."""

from __future__ import annotations

from intformer.hw.serial.isa import Condition, Io, Micro, Source, TableBytes
from intformer.hw.serial.routines import WIDE, Routines
from intformer.hw.serial.tables import TABLE_BASE
from intformer.isa import Op, Unit

__all__ = ["emit"]


def emit(asm: Routines) -> None:
    """Append the operations."""
    _copies(asm)
    _load(asm)
    _store(asm)
    _gather(asm)
    _move(asm)


def _copies(asm: Routines) -> None:
    """Subroutine ``fill``: ``elements`` (negative) of the stream to ``target``; F0 tells where."""
    asm.label("fill")
    asm.jump_if(Condition.F0, "fill_wide")
    asm.label("fill_act")
    asm.field(8, None)
    asm.op(Micro.STM, "target", inc=True)
    asm.loop("elements", "fill_act")
    asm.op(Micro.RET)
    asm.label("fill_wide")
    asm.field(16, None)
    asm.op(Micro.STM, "target", inc=True)
    asm.loop("elements", "fill_wide")
    asm.op(Micro.RET)


def _load(asm: Routines) -> None:
    asm.begin(Op.LOAD, Unit.DMA)
    asm.field(3, "memory")
    asm.io(Io.FLAGS, "memory")
    asm.field(18, "address")
    asm.field(22, "count")
    asm.field(32, "external")
    asm.negated("count", "elements")
    asm.io(Io.XADDR, "external")
    asm.op(Micro.LD, "memory")
    asm.jump(Micro.JTAB, "memories")
    asm.align(16)
    asm.label("memories")
    for label in ("load_pads", "load_pads", "load_param", "load_exp", "load_table"):
        asm.goto(label)

    asm.label("load_pads")
    asm.op(Micro.LD, "address")
    asm.call("placed")
    asm.op(Micro.ST, "target")
    asm.op(Micro.LD, "count")
    asm.jump_unless(Condition.F0, "load_count")
    asm.op(Micro.ADD, "count")
    asm.label("load_count")
    asm.op(Micro.ST, "count")
    asm.io(Io.XCOUNT, "count")
    asm.call("fill")
    asm.done()

    asm.label("load_param")
    asm.op(Micro.LD, "address")
    asm.op(Micro.ADD, "address")
    asm.op(Micro.ST, "target")
    _double(asm, "count", times=3)
    asm.io(Io.XCOUNT, "count")
    asm.label("load_param_next")
    for _ in range(2):
        asm.op(Micro.GET, count=32, counted=True)
        asm.op(Micro.STT, "target", inc=True)
    asm.loop("elements", "load_param_next")
    asm.done()

    asm.label("load_exp")
    _double(asm, "count", times=2)
    asm.io(Io.XCOUNT, "count")
    asm.call("table_target")
    asm.label("load_exp_next")
    asm.op(Micro.GET, count=24, counted=True)
    asm.op(Micro.STT, "target", inc=True, part=TableBytes.HIGH)
    asm.op(Micro.GET, count=8, counted=True)
    asm.loop("elements", "load_exp_next")
    asm.done()

    asm.label("load_table")
    asm.io(Io.XCOUNT, "count")
    asm.call("table_target")
    asm.label("load_table_next")
    asm.field(8, None)
    asm.op(Micro.STT, "target", inc=True, part=TableBytes.LOW)
    asm.loop("elements", "load_table_next")
    asm.done()

    # target = first word of table `address`
    asm.label("table_target")
    asm.op(Micro.LD, "address")
    asm.call("block")
    asm.op(Micro.ST, "target")
    asm.op(Micro.RET)
    # A = first word of table A
    asm.label("block")
    asm.op(Micro.LDQ, 0)
    asm.op(Micro.SHL, count=8)
    asm.op(Micro.ADD, TABLE_BASE)
    asm.op(Micro.RET)


def _double(asm: Routines, register: str, *, times: int) -> None:
    asm.op(Micro.LD, register)
    for _ in range(times):
        asm.op(Micro.ST, register)
        asm.op(Micro.ADD, register)
    asm.op(Micro.ST, register)


def _store(asm: Routines) -> None:
    asm.begin(Op.STORE, Unit.DMA)
    asm.field(3, "memory")
    asm.io(Io.FLAGS, "memory")
    asm.pointer("source")
    asm.field(22, "count")
    asm.field(32, "external")
    asm.negated("count", "elements")
    asm.io(Io.XADDR, "external")
    asm.label("store_next")
    asm.load_element("source")
    asm.op(Micro.WRB)
    asm.jump_unless(Condition.F0, "store_one")
    asm.op(Micro.SHR, count=8)
    asm.op(Micro.WRB)
    asm.label("store_one")
    asm.loop("elements", "store_next")
    asm.done()


def _gather(asm: Routines) -> None:
    asm.begin(Op.GATHER, Unit.DMA)
    asm.field(3, "memory")
    asm.io(Io.FLAGS, "memory")
    asm.pointer("target_row")
    asm.stride("target_stride")
    asm.field(18, None)
    asm.op(Micro.ADD, WIDE)
    asm.op(Micro.ST, "source")
    asm.counter_field(12, "rows")
    asm.field(10, "count")
    asm.field(16, "row_bytes")
    asm.field(32, "external")
    asm.negated("count", "row_elements")
    asm.op(Micro.LD, "count")
    asm.jump_unless(Condition.F0, "gather_bytes")
    asm.op(Micro.ADD, "count")
    asm.label("gather_bytes")
    asm.op(Micro.ST, "count")
    asm.label("gather_next")
    asm.op(Micro.LDM, "source", inc=True)
    asm.op(Micro.LDQ, Source.MEM)
    asm.op(Micro.LD, 0)
    asm.op(Micro.MUL, "row_bytes", count=16)
    asm.op(Micro.SHR, count=16)
    asm.op(Micro.SWAP)
    asm.op(Micro.ADD, "external")
    asm.op(Micro.ST, "row_address")
    asm.io(Io.XADDR, "row_address")
    asm.io(Io.XCOUNT, "count")
    asm.copy("target_row", "target")
    asm.op(Micro.ADD, "target_stride")
    asm.op(Micro.ST, "target_row")
    asm.copy("row_elements", "elements")
    asm.call("fill")
    asm.loop("rows", "gather_next")
    asm.done()


def _move(asm: Routines) -> None:
    asm.begin(Op.MOVE, Unit.MOVE)
    asm.mem_field()
    for level in range(3):
        asm.counter_field(12, f"turns{level}")
    for side in ("source", "target"):
        asm.call("pointer")
        asm.call("move_lane")
        asm.op(Micro.ST, f"{side}0")
        for level in range(3):
            asm.call("move_step")
            asm.op(Micro.ST, f"{side}_step{level}")
    names = ("source", "target")
    for level in range(2):
        asm.copy(f"turns{level}", f"turn{level}")
        asm.label(f"move{level}")
        for side in names:
            asm.copy(f"{side}{level}", f"{side}{level + 1}")
    asm.copy("turns2", "turn2")
    asm.label("move2")
    asm.op(Micro.LDM, "source2")
    asm.op(Micro.LD, Source.MEM)
    asm.op(Micro.STM, "target2")
    for level in (2, 1, 0):
        for side in names:
            asm.add(f"{side}{level}", f"{side}_step{level}")
        asm.loop(f"turn{level}", f"move{level}")
    asm.done()

    # A = stride in elements
    asm.label("move_step")
    asm.field(14, None, signed=True)
    asm.call("scaled")
    # A = A + lane
    asm.label("move_lane")
    asm.op(Micro.ST, "word")
    asm.field(6, None)
    asm.op(Micro.ADD, "word")
    asm.op(Micro.RET)
