"""What stands around the epilogue unit, and random instructions with their results."""

from __future__ import annotations

import random
from collections import deque
from collections.abc import Callable, Iterable
from typing import Any

import numpy as np
from models import ReadPortModel, StreamSink
from numpy.typing import NDArray

from intformer import reference
from intformer.config import CoreConfig
from intformer.function_layout import pack_function
from intformer.hw.ports import ACC_LATENCY, READ_LATENCY, WriteItem
from intformer.isa import Instruction, Mem, Op

__all__ = ["AnsweredPort", "Memories", "PostCases", "inputs", "ports", "random_function"]

_INPUTS = (
    "unit__cmd__valid", "unit__cmd__payload", "acc_data", "param__data", "table_data",
    *(f"{port}__{part}" for port in ("act_src", "wide_src", "act_res", "wide_res")
      for part in ("req__ready", "data")),
    "act_write__req__ready", "wide_write__req__ready",
)  # fmt: skip
_FUNCTION_INPUTS = ("function_limits", "function_data")
WORDS = 1024
"""Words of each scratchpad: sources in the first, results in the second half."""


def inputs(config: CoreConfig) -> tuple[str, ...]:
    """The unit's input ports."""
    return _INPUTS + (_FUNCTION_INPUTS if config.functions else ())


def random_function(rng: np.random.Generator) -> reference.QuadraticTable:
    """A legal table of noise: all coefficients, shifts, breaks and limits anywhere."""
    slope, curvature = (rng.integers(-top, top, 512) for top in (1 << 16, 1 << 14))
    slope[rng.random(512) < 0.2] = 0
    lo, hi = np.sort(rng.integers(-32768, 32768, 2))
    shift = int(rng.integers(8, 17))
    if rng.integers(2):
        curvature, shift = rng.integers(-(1 << 17), 1 << 17, 512), 16
    places = rng.choice(511, int(rng.integers(0, 3)), replace=False)
    breaks = tuple(int(128 * place + rng.integers(1, 128)) for place in places)
    table = reference.QuadraticTable(
        constant=rng.integers(-(1 << 27), 1 << 27, 512) >> rng.integers(0, 12, 512),
        slope=slope,
        curvature=curvature,
        slope_shift=int(rng.integers(0, 11)),
        curvature_shift=shift,
        breaks=breaks,
        x_lo=-32768,
        lo=int(lo),
        hi=int(hi),
    )
    reference.check_function(table)
    return table


def _word(values: Iterable[int], bits: int) -> int:
    return sum((int(v) & ((1 << bits) - 1)) << (bits * k) for k, v in enumerate(values))


class Memories:
    """The on-chip memories around the unit; scratchpads hold unsigned codes."""

    def __init__(self, config: CoreConfig, *, seed: int) -> None:
        rng = np.random.default_rng(seed)
        self.config = config
        self.act = rng.integers(0, 256, WORDS * config.rows)
        self.wide = rng.integers(0, 1 << 16, WORDS * config.lanes)
        self.wide[rng.random(self.wide.size) < 0.1] = 0x8000
        self.acc = rng.integers(-(1 << 31), 1 << 31, (config.acc_depth, config.cols))
        self.tables = rng.integers(0, 256, 256 * config.act_tables)
        self.functions = [random_function(rng) for _ in range(config.functions)]
        if config.row_scales:
            first = self.wide[:: config.lanes]  # of each word: where factors lie
            corners = rng.random(first.size) < 0.4
            factors = rng.choice([0, 1, 0xFFFF, 0x1000, 0x7FFF, 0x8000], int(corners.sum()))
            first[corners] = factors
        self._segments = [
            np.frombuffer(pack_function(table), "<u8").tolist() for table in self.functions
        ]
        channels = config.param_groups * config.lanes
        mult = rng.integers(-(1 << 15), 1 << 15, channels)
        corners = rng.random(channels) < 0.3
        mult[corners] = rng.choice([-32768, 32767, 1, -1, 1 << 14, 0], int(corners.sum()))
        top = (1 << 31) - (1 << 15)  # a 16-bit source is added to it
        self.param = np.stack(
            [
                rng.integers(-top, top, channels) >> rng.integers(0, 31, channels),
                mult,
                rng.choice([*range(2, 24), *range(2, 48)], channels),
            ],
            axis=1,
        )

    def read(self, mem: Mem, request: int) -> int:
        """The answer of a scratchpad to a request ``{word: 18, sub: 4}``."""
        word, sub = request & 0x3FFFF, request >> 18
        config = self.config
        if mem == Mem.ACT:
            assert sub < config.groups_per_word, f"act has no lane group {sub}"
            first = word * config.rows + sub * config.lanes
            return _word(self.act[first : first + config.lanes], 8)
        assert sub == 0, f"wide has no lane group {sub}"
        return _word(self.wide[word * config.lanes :][: config.lanes], 16)

    def write(self, mem: Mem, request: int) -> None:
        """Carry out a write of ``WriteItem``."""
        config, bits = self.config, 8 if mem == Mem.ACT else 16
        item = WriteItem(config, bits=bits).from_bits(request)
        assert mem == Mem.ACT or item.sub == 0, f"wide has no lane group {item.sub}"
        memory, width = (self.act, config.rows) if bits == 8 else (self.wide, config.lanes)
        for lane in range(config.lanes):
            if item.mask >> lane & 1:
                code = item.data >> (bits * lane) & ((1 << bits) - 1)
                memory[item.word * width + item.sub * config.lanes + lane] = code

    def accumulators(self, row: int) -> int:
        return _word(self.acc[row % self.config.acc_depth], 32)

    def parameters(self, group: int) -> int:
        first = group % self.config.param_groups * self.config.lanes
        entries = self.param[first : first + self.config.lanes]
        noise = 0xA5  # the entry's last byte means nothing
        words = [
            bias & 0xFFFFFFFF | (mult & 0xFFFF) << 32 | shift << 48 | noise << 56
            for bias, mult, shift in entries.tolist()
        ]
        return _word(words, 64)

    def table_entries(self, addresses: int) -> int:
        lanes = range(self.config.lanes)
        index = np.array([addresses >> 10 * lane & 0x3FF for lane in lanes])
        return _word(self.tables[index % self.tables.size], 8)

    def segments(self, addresses: int) -> int:
        """The entries at one address ``{segment: 9, table: 2}`` per lane."""
        entries = []
        for lane in range(self.config.lanes):
            segment, table = addresses >> 11 * lane & 0x1FF, addresses >> (11 * lane + 9) & 3
            entries.append(self._segments[table % len(self._segments)][segment])
        return _word(entries, 64)

    def limits(self, table: int) -> int:
        """The layout of ``limits_layout``."""
        function = self.functions[table % len(self.functions)]
        breaks = [*function.breaks, 0, 0][:2]
        values = (function.slope_shift, function.curvature_shift, function.lo, function.hi, *breaks)
        word = at = 0
        for value, bits in zip(values, (4, 5, 16, 16, 16, 16), strict=True):
            word |= (value & ((1 << bits) - 1)) << at
            at += bits
        return word


class AnsweredPort:
    """A memory that answers every address, ``latency`` cycles later."""

    def __init__(
        self, addr: Any, data: Any, read: Callable[[int], int], latency: int = READ_LATENCY
    ) -> None:
        self._addr, self._data, self._read = addr, data, read
        self._coming: deque[int | None] = deque([None] * latency)

    def drive(self) -> None:
        value = self._coming.popleft()
        if value is not None:
            self._data.value = value

    def sample(self) -> None:
        addr = self._addr.value
        self._coming.append(self._read(int(addr)) if addr.is_resolvable else None)


def ports(dut: Any, memories: Memories, *, rng: random.Random, stall: float) -> list[Any]:
    """Models of all ports of the unit except ``unit``."""
    models: list[Any] = [
        AnsweredPort(dut.acc_addr, dut.acc_data, memories.accumulators, ACC_LATENCY),
        AnsweredPort(dut.param__addr, dut.param__data, memories.parameters),
        AnsweredPort(dut.table_addr, dut.table_data, memories.table_entries),
    ]
    if memories.config.functions:
        models += [
            AnsweredPort(dut.function_addr, dut.function_data, memories.segments),
            AnsweredPort(dut.function_table, dut.function_limits, memories.limits, latency=1),
        ]
    for mem in (Mem.ACT, Mem.WIDE):
        name = mem.name.lower()

        def read(request: int, mem: Mem = mem) -> int:
            return memories.read(mem, request)

        def write(request: int, mem: Mem = mem) -> None:
            memories.write(mem, request)

        for use in ("src", "res"):
            models.append(ReadPortModel(dut, f"{name}_{use}", read, rng=rng, stall=stall))
        models.append(StreamSink(dut, f"{name}_write__req", write, rng=rng, stall=stall))
    return models


class PostCases:
    """Random instructions; ``expected[i]`` are both scratchpads after instruction ``i``.

    An instruction reads the first half of a scratchpad and writes the second. Accumulator rows are
    used once each, so that they can be chosen to give interesting results.
    """

    def __init__(self, memories: Memories, *, rng: random.Random) -> None:
        self.memories = memories
        self.rng = rng
        self.instructions: list[Instruction] = []
        self.expected: list[dict[str, NDArray[np.int64]]] = []
        self._now = {"act": memories.act.copy(), "wide": memories.wide.copy()}
        self._acc_row = rng.randrange(8)

    def add(self, *, op: Op, rows: int, n: int, **forced: int) -> None:
        """Append an instruction for ``rows`` rows of ``n`` elements."""
        config, rng = self.memories.config, self.rng
        groups = -(-n // config.lanes)
        step = int(rng.random() < 0.8)
        fields = {
            "rows": rows, "groups": groups, "tail": n - (groups - 1) * config.lanes,
            "param_step": step,
            "param": rng.randint(0, config.param_groups - (groups if step else 1)),
            "res_en": rng.randrange(2), "res_mult": rng.choice([-32768, 32767, 1, 20000, -9]),
            "res_shift": rng.choice([2, 47, 8, 15, 15, 16]),
            "zero_point": rng.choice([0, 0, -128, 127, -32768, 32767]),
            "table_en": int(rng.random() < 0.3), "table": rng.randrange(config.act_tables),
            **self._place("src", n), **self._place("res", n), **self._place("dst", n, rows=rows),
        }  # fmt: skip
        fields.update(forced)
        if fields.get("function_en"):
            fields["table"] = rng.randrange(config.functions)
        low, high = rng.choice([(-128, 127), (0, 127), (-128, 127), (-77, 55), (5, 5)])
        if not fields["table_en"] and rng.random() < 0.7:
            wide = [(-32768, 32767), (-32768, 32767), (-20000, 300)]
            is_wide = fields["dst_mem"] or fields.get("function_en")
            low, high = rng.choice(wide if is_wide else [(0, 255), (-128, 127)])
        fields.update(lo=low, hi=high)
        if op == Op.POST_ACC:
            has_factors = forced.get("src_mem", rng.randrange(2))
            has_factors *= self.memories.config.row_scales > 0
            place = {"acc" if has_factors else "src": self._acc_row}
            fields.update(src_sub=0, src_mem=has_factors, **place)
            self._acc_row += rows
        self._complete(Instruction(op, fields), n)

    def _place(self, operand: str, n: int, *, rows: int = 0) -> dict[str, int]:
        """Memory, position and stride; the rows of ``dst`` do not overlap."""
        config, rng = self.memories.config, self.rng
        mem = rng.randrange(2)
        sub = 0 if mem else rng.randrange(config.groups_per_word)
        words = -(-(sub * config.lanes + n) // (config.lanes if mem else config.rows))
        stride = words + rng.randrange(3)
        if operand == "dst":
            first = rng.randrange(WORDS // 2, WORDS - rows * stride + 1)
        else:
            stride = rng.choice([0, 1, stride])
            first = rng.randrange(WORDS // 4)
        return {
            f"{operand}_mem": mem,
            f"{operand}": first,
            f"{operand}_sub": sub,
            f"{operand}_stride": stride,
        }

    def _index(self, ins: Instruction, operand: str, n: int) -> tuple[str, NDArray[np.int64]]:
        """Memory and element positions of an operand."""
        config, mem = self.memories.config, ins[f"{operand}_mem"]
        word = ins[operand] + np.arange(ins["rows"])[:, None] * ins[f"{operand}_stride"]
        width = config.lanes if mem else config.rows
        first = word * width + ins[f"{operand}_sub"] * config.lanes
        return ("act", "wide")[mem], first + np.arange(n)

    def _codes(self, ins: Instruction, operand: str, n: int) -> NDArray[np.int64]:
        name, index = self._index(ins, operand, n)
        kind = np.int8 if name == "act" else np.int16
        return getattr(self.memories, name)[index].astype(kind).astype(np.int64)

    def _complete(self, ins: Instruction, n: int) -> None:
        memories = self.memories
        lanes = memories.config.lanes
        channel = ins["param"] * lanes + (
            np.arange(n) if ins["param_step"] else np.arange(n) % lanes
        )
        bias, mult, shift = memories.param[channel].T
        residual = self._codes(ins, "res", n) if ins["res_en"] else None
        factor = None
        if ins.op == Op.POST_ACC:
            added = np.full((ins["rows"], n), ins["zero_point"])
            if residual is not None:
                scale = np.array(ins["res_mult"]), np.array(ins["res_shift"])
                added = added + reference.requantize(residual, *scale)
            edges = [ins["lo"] - 1, ins["lo"], ins["hi"], ins["hi"] + 1]
            x = self._sums(added, bias, mult, shift, edges)
            if memories.config.row_scales and ins["src_mem"]:
                factor = self._codes(ins, "src", 1)
                x = self._before_factor(x, factor, bias)
            first = ins["acc" if ins["src_mem"] else "src"]
            memories.acc[first : first + ins["rows"], :n] = x
        else:
            x = self._codes(ins, "src", n)
        first = 256 * ins["table"]
        codes = reference.post(
            x,
            factor=factor,
            bias=bias,
            mult=mult,
            shift=shift,
            residual=residual,
            res_mult=ins["res_mult"],
            res_shift=ins["res_shift"],
            zero_point=ins["zero_point"],
            lo=ins["lo"],
            hi=ins["hi"],
            table=memories.tables[first : first + 256] if ins["table_en"] else None,
            function=memories.functions[ins["table"]] if ins["function_en"] else None,
        )
        name, index = self._index(ins, "dst", n)
        self._now[name][index] = codes & (0xFF if name == "act" else 0xFFFF)
        self.instructions.append(ins)
        self.expected.append({key: value.copy() for key, value in self._now.items()})

    def _sums(
        self, added: NDArray[Any], bias: Any, mult: Any, shift: Any, edges: list[int]
    ) -> NDArray[np.int64]:
        """Accumulators whose results are mostly neither zero nor saturated, and extremes.

        Half of them cancel what is ``added`` to their term, however large, and half of these
        aim at one of ``edges``: the limits of saturation and the values next to them.
        """
        shape = added.shape
        bits = np.random.default_rng(self.rng.getrandbits(32))
        target = bits.integers(-40000, 40000, shape) >> bits.integers(0, 16, shape)
        target = np.where(bits.random(shape) < 0.5, bits.choice(edges, shape), target)
        target = np.where(bits.random(shape) < 0.5, target - added, target)
        most = (1 << 62) >> shift
        total = (np.clip(target, -most, most) << shift) // np.where(mult == 0, 1, mult)
        extreme = bits.choice([-(1 << 31), (1 << 31) - 1, 0, 1, -1], shape)
        total = np.where(bits.random(shape) < 0.2, extreme, total)
        # Neither the accumulator nor its sum with the bias may leave 32 bits.
        total = np.clip(total, -(1 << 31), (1 << 31) - 1)
        return np.clip(total - bias, -(1 << 31), (1 << 31) - 1)

    def _before_factor(
        self, wanted: NDArray[np.int64], factor: NDArray[np.int64], bias: NDArray[np.int64]
    ) -> NDArray[np.int64]:
        """Accumulators that the rows' factors bring near ``wanted``, and extremes; the results,
        and their sums with the bias, fit 32 bits.
        """
        bits = np.random.default_rng(self.rng.getrandbits(32))
        low, high = -(1 << 31), (1 << 31) - 1
        divisor = np.where(factor == 0, 1, factor)
        near = np.clip((wanted << reference.FACTOR_SHIFT) // divisor, low, high)
        extreme = bits.choice([low, high, low + 1, 2047, 2048, -2048, -2049, 1, -1], near.shape)
        mixed = np.where(bits.random(near.shape) < 0.3, extreme, near)
        chosen = np.zeros_like(near)
        for x in (near, mixed):
            product = reference.requantize(x, factor, np.array(reference.FACTOR_SHIFT))
            fits = np.ones(x.shape, bool)
            for total in (product, product + bias):
                fits &= (low <= total) & (total <= high)
            chosen = np.where(fits, x, chosen)
        return chosen

    def check(self, number: int) -> None:
        """Compare both scratchpads with what stands there after instruction ``number``."""
        for name, expected in self.expected[number].items():
            found = getattr(self.memories, name)
            wrong = np.flatnonzero(found != expected)
            assert not wrong.size, (
                f"{self.instructions[number]}: {name}[{wrong[0]}] is {found[wrong[0]]}, "
                f"not {expected[wrong[0]]}; {wrong.size} wrong"
            )
