"""The instruction set: the one definition shared by compiler, simulators and RTL decoder.

An instruction is :data:`INSTRUCTION_BYTES` bytes, little endian. Its first
:data:`HEADER_BITS` bits are the header, the same for every operation; the fields of the
operation follow, least significant first, in the order of :data:`OPERATIONS`.

Dependency tokens. There is a counter of tokens for every ordered pair of units. An instruction
for unit ``u`` waits until, for each bit ``v`` of its ``pop`` mask, the counter ``v -> u`` is
not zero, takes one token from each of those, and runs; when it has completed (everything that
it writes can be read), it adds one token to the counter ``u -> v`` for each bit ``v`` of its
``push`` mask. Units run their own instructions in order and otherwise independently.

Addresses. ``act`` (activation scratchpad) is addressed in words of ``rows`` bytes, ``wide`` in
words of ``lanes`` 16-bit codes, ``param`` in groups of ``lanes`` channels, ``exp`` and ``table``
in tables of 256 entries, ``function`` in tables (:mod:`intformer.function_layout`). External
addresses are bytes, multiples of ``bus_bytes``.
An *element position* is a pair (word, lane), ``0 <= lane < lanes of that memory's word``; adding
positions carries from lane to word.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from enum import IntEnum

__all__ = [
    "COUNTERS",
    "HEADER_BITS",
    "INSTRUCTION_BYTES",
    "OPERATIONS",
    "PREFETCH",
    "TOKEN_MAX",
    "Field",
    "Instruction",
    "Mem",
    "Op",
    "Unit",
    "decode",
    "field_offsets",
]

INSTRUCTION_BYTES = 32
PREFETCH = 4
"""Instructions that the sequencer reads ahead: it may read that many past END."""
HEADER_BITS = 24
TOKEN_MAX = 255
"""Largest value of a token counter; the compiler keeps every program below it."""


class Unit(IntEnum):
    """The units; each has its own queue. The value is the bit in token masks."""

    DMA = 0
    FETCH = 1
    MATMUL = 2
    POST = 3
    ROW = 4
    MOVE = 5


class Op(IntEnum):
    """Operation codes. The unit of an operation is ``Op.unit``."""

    END = 0
    LOAD = 1
    STORE = 2
    GATHER = 3
    FETCH_STREAM = 4
    FETCH_ACT = 5
    MATMUL = 6
    POST_ACC = 7
    POST_MEM = 8
    SOFTMAX = 9
    LAYERNORM = 10
    MOVE = 11
    ROWSCALE = 12

    @property
    def unit(self) -> Unit | None:
        """The unit that runs this operation; ``None`` for END, the sequencer's own."""
        return _UNIT_OF[self]


_UNIT_OF = {
    Op.END: None,
    Op.LOAD: Unit.DMA,
    Op.STORE: Unit.DMA,
    Op.GATHER: Unit.DMA,
    Op.FETCH_STREAM: Unit.FETCH,
    Op.FETCH_ACT: Unit.FETCH,
    Op.MATMUL: Unit.MATMUL,
    Op.POST_ACC: Unit.POST,
    Op.POST_MEM: Unit.POST,
    Op.SOFTMAX: Unit.ROW,
    Op.LAYERNORM: Unit.ROW,
    Op.MOVE: Unit.MOVE,
    Op.ROWSCALE: Unit.ROW,
}


class Mem(IntEnum):
    """On-chip memories, as encoded in ``mem`` fields (single-bit ones hold ACT or WIDE)."""

    ACT = 0
    WIDE = 1
    PARAM = 2
    EXP = 3
    TABLE = 4
    FUNCTION = 5


@dataclass(frozen=True)
class Field:
    """A bit field: name, width in bits, and whether it is two's complement."""

    name: str
    width: int
    signed: bool = False


COUNTERS = (
    "cycles",
    *(f"{unit.name.lower()}_{what}" for unit in Unit for what in ("busy", "wait", "stall")),
    "array_rows",
    "read_beats",
    "write_beats",
)
"""Performance counters, in the order of their addresses.

Per unit: ``busy`` cycles with an instruction in the unit, ``wait`` cycles in which the unit is
empty and the next instruction waits for tokens, ``stall`` cycles in which the unit holds an
instruction but waits for a port, a FIFO or memory. ``array_rows`` counts activation words fed to
the array (each is rows x cols MACs); ``read_beats`` and ``write_beats`` count beats of external
memory."""

HEADER = (
    Field("op", 4),
    Field("reserved", 4),
    Field("pop", 8),
    Field("push", 8),
)

_ADDR = 18  # word address in a scratchpad
_ROWS = 12  # number of rows
_STRIDE = 12  # words from one row to the next
_SUB = 4  # lane group within an activation word
_LANE = 6  # lane within a word, for MOVE

_POST = (
    Field("rows", _ROWS),
    Field("groups", 10),  # lane groups per row
    Field("tail", 5),  # valid lanes in the last group, 1..lanes
    # POST_MEM: where the codes lie. POST_ACC: with src_mem 0 `src` is the first accumulator row;
    # with 1 (wide) they say where the rows' factors lie, each in the first lane of its word.
    Field("src_mem", 1),
    Field("src", _ADDR),
    Field("src_sub", _SUB),
    Field("src_stride", _STRIDE),
    Field("dst_mem", 1),
    Field("dst", _ADDR),
    Field("dst_sub", _SUB),
    Field("dst_stride", _STRIDE),
    Field("res_en", 1),
    Field("res_mem", 1),
    Field("res", _ADDR),
    Field("res_sub", _SUB),
    Field("res_stride", _STRIDE),
    Field("res_mult", 16, signed=True),
    Field("res_shift", 6),
    Field("param", 12),  # first parameter group
    Field("param_step", 1),  # 1: next group for each lane group; 0: the same for all
    Field("table_en", 1),
    Field("table", 2),
    Field("lo", 16, signed=True),
    Field("hi", 16, signed=True),
    Field("zero_point", 16, signed=True),
    Field("function_en", 1),  # `table`: number of the function
)

OPERATIONS: dict[Op, tuple[Field, ...]] = {
    Op.END: (),
    # ext -> mem, `count` entries (lane groups; table entries for EXP and TABLE) from `addr`.
    # Entries are packed without gaps from `ext`: act L bytes, wide 2L bytes, param 8L bytes
    # (per channel: bias int32, mult int16, shift uint8, 0), exp 4 bytes, table 1 byte, function 8.
    Op.LOAD: (
        Field("mem", 3),
        # word (act, wide), group (param), number of the table (exp, table, function)
        Field("addr", _ADDR),
        Field("count", 22),
        Field("ext", 32),
    ),
    # mem (act or wide) -> ext, `count` lane groups; the last beat is padded with zeros.
    Op.STORE: (
        Field("mem", 3),
        Field("addr", _ADDR),
        Field("count", 22),
        Field("ext", 32),
    ),
    # Embedding: for j < n: id = wide element j of word `idx` on; row `id` of a table in external
    # memory (`row_groups` lane groups, rows `ext_stride` bytes apart) -> mem at addr + j*stride.
    Op.GATHER: (
        Field("mem", 3),
        Field("addr", _ADDR),
        Field("stride", _STRIDE),
        Field("idx", _ADDR),
        Field("n", 12),
        Field("row_groups", 10),
        Field("ext_stride", 16),
        Field("ext", 32),
    ),
    # Static weights: `columns` columns of `rows` weights, each column padded to whole beats.
    # A tile is `cols` columns, the last column of the tile first. int4: two weights per byte,
    # low nibble first. The number of beats is columns * ceil(rows / weights per beat).
    # With `scales` above 0, before every `group_tiles` tiles there are `cols` bytes more, padded to
    # whole beats: the factor of each column's sums of these tiles, the first column's first;
    # `scales` such blocks in all.
    Op.FETCH_STREAM: (
        Field("ext", 32),
        Field("columns", 24),
        Field("int4", 1),
        Field("group_tiles", 8),
        Field("scales", 20),
    ),
    # Stationary operand from act: for nt, for kt, for c = cols-1 .. 0: column = the word at
    # base + (nt*cols + c)*stride + kt, all zero if nt*cols + c >= n; if kt is the last, lanes
    # from k_last on are zero.
    Op.FETCH_ACT: (
        Field("base", _ADDR),
        Field("stride", _STRIDE),
        Field("n", 16),
        Field("n_tiles", 12),
        Field("k_tiles", 12),
        Field("k_last", 7),  # 1..rows
    ),
    # For kt < k_tiles: take the next weight tile; for t < rows: acc[acc + t] (+)= tile * the word
    # at base + t*stride + kt. kt = 0 overwrites. `unsigned`: the codes are uint8. The sums of a
    # tile that came with scales are multiplied by them.
    Op.MATMUL: (
        Field("base", _ADDR),
        Field("stride", _STRIDE),
        Field("rows", _ROWS),
        Field("k_tiles", 12),
        Field("acc", 12),
        Field("unsigned", 1),
    ),
    Op.POST_ACC: (
        *_POST,
        Field("acc", 12),  # first accumulator row, with factors
    ),
    Op.POST_MEM: _POST,
    # Rows of `n` int8 codes in act -> uint8 codes in act. Element j of row i is kept if
    # j < len0 + i*len_step, and, if mask_en, the byte at the same place of the mask is not 0.
    Op.SOFTMAX: (
        Field("rows", _ROWS),
        Field("n", 11),
        Field("src", _ADDR),
        Field("src_stride", _STRIDE),
        Field("dst", _ADDR),
        Field("dst_stride", _STRIDE),
        Field("mask_en", 1),
        Field("mask", _ADDR),
        Field("mask_stride", _STRIDE),
        Field("len0", 12),
        Field("len_step", 1),
        Field("table", 2),
    ),
    # Rows of `n` int16 codes in wide -> int8 codes in act or int16 codes in wide. Parameters
    # (beta as bias, gamma as mult, shift) from group `param` on.
    Op.LAYERNORM: (
        Field("rows", _ROWS),
        Field("n", 11),
        Field("src", _ADDR),
        Field("src_stride", _STRIDE),
        Field("dst_mem", 1),
        Field("dst", _ADDR),
        Field("dst_stride", _STRIDE),
        Field("param", 12),
        Field("eps", 40),
        Field("lo", 16, signed=True),
        Field("hi", 16, signed=True),
        Field("zero_point", 16, signed=True),
    ),
    # Rows of `n` int16 codes in wide -> int8 codes in act, each row at a scale of its own, and the
    # row's factor, an int16 code, in the first lane of the word at factor + row*factor_stride.
    Op.ROWSCALE: (
        Field("rows", _ROWS),
        Field("n", 13),
        Field("src", _ADDR),
        Field("src_stride", _STRIDE),
        Field("dst", _ADDR),
        Field("dst_stride", _STRIDE),
        Field("factor", _ADDR),
        Field("factor_stride", _STRIDE),
    ),
    # for i0 < n0, i1 < n1, i2 < n2: dst element (d + i0*d0 + i1*d1 + i2*d2) = src element
    # (s + i0*s0 + i1*s1 + i2*s2), both in memory `mem`. Positions and strides are (word, lane)
    # pairs; words of strides are signed.
    Op.MOVE: (
        Field("mem", 1),
        Field("n0", 12),
        Field("n1", 12),
        Field("n2", 12),
        Field("src", _ADDR),
        Field("src_lane", _LANE),
        Field("s0", 14, signed=True),
        Field("s0_lane", _LANE),
        Field("s1", 14, signed=True),
        Field("s1_lane", _LANE),
        Field("s2", 14, signed=True),
        Field("s2_lane", _LANE),
        Field("dst", _ADDR),
        Field("dst_lane", _LANE),
        Field("d0", 14, signed=True),
        Field("d0_lane", _LANE),
        Field("d1", 14, signed=True),
        Field("d1_lane", _LANE),
        Field("d2", 14, signed=True),
        Field("d2_lane", _LANE),
    ),
}


def field_offsets(op: Op) -> Iterator[tuple[Field, int]]:
    """Yield each field of ``op``, header included, with its bit offset."""
    offset = 0
    for field in (*HEADER, *OPERATIONS[op]):
        yield field, offset
        offset += field.width
    assert offset <= 8 * INSTRUCTION_BYTES, f"{op.name} needs {offset} bits"


@dataclass(frozen=True)
class Instruction:
    """One instruction: an operation, its field values, and its token masks.

    Fields that are not given are 0. A value outside its field raises ``ValueError``.
    """

    op: Op
    fields: dict[str, int]
    pop: int = 0
    push: int = 0

    def encode(self) -> bytes:
        """The :data:`INSTRUCTION_BYTES` bytes of this instruction."""
        values = {"op": int(self.op), "pop": self.pop, "push": self.push, **self.fields}
        word = 0
        for field, offset in field_offsets(self.op):
            value = int(values.pop(field.name, 0))
            low = -(1 << (field.width - 1)) if field.signed else 0
            high = (1 << (field.width - field.signed)) - 1
            if not low <= value <= high:
                raise ValueError(
                    f"{self.op.name}.{field.name} must be from {low} to {high}, not {value}"
                )
            word |= (value & ((1 << field.width) - 1)) << offset
        if values:
            raise ValueError(f"{self.op.name} has no field {next(iter(values))!r}")
        return word.to_bytes(INSTRUCTION_BYTES, "little")

    def __getitem__(self, name: str) -> int:
        return self.fields.get(name, 0)


def decode(data: bytes) -> Instruction:
    """Inverse of :meth:`Instruction.encode`; ``ValueError`` for an unknown operation code."""
    word = int.from_bytes(data, "little")
    op = Op(word & 0xF)
    values: dict[str, int] = {}
    for field, offset in field_offsets(op):
        value = (word >> offset) & ((1 << field.width) - 1)
        if field.signed and value >> (field.width - 1):
            value -= 1 << field.width
        values[field.name] = value
    values.pop("op")
    values.pop("reserved")
    return Instruction(op, pop=values.pop("pop"), push=values.pop("push"), fields=values)
