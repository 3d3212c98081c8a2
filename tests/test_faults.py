"""Deliberate faults: in the hardware, in the program and in its data; each is found and named."""

from __future__ import annotations

import functools
import importlib
from collections.abc import Iterator
from dataclasses import replace

import numpy as np
import pytest
from graphs import CONFIGS, hand_made, random_inputs

from intformer.compiler.backend import build_program
from intformer.compiler.integer_graph import execute
from intformer.errors import IntformerError, Mismatch
from intformer.hw.core import Core
from intformer.hw.parts import rounding
from intformer.isa import INSTRUCTION_BYTES, Instruction, Mem, Op, Unit
from intformer.program import Program, RunResult
from intformer.sim.iss.array import column_beats
from intformer.sim.iss.simulator import Iss, SimulationError
from intformer.sim.rtl import RtlError, RtlSimulator
from intformer.sim.verify import Report, check

CONFIG = CONFIGS[0]
GRAPH = hand_made("mlp")
HIDDEN, OUTPUT = GRAPH.nodes[0].output, GRAPH.nodes[1].output
INPUTS = random_inputs(GRAPH, 7)
VALUES = execute(GRAPH, INPUTS)

both_levels = pytest.mark.parametrize("level", ["iss", pytest.param("rtl", marks=pytest.mark.rtl)])


@functools.cache
def healthy() -> Program:
    return build_program(GRAPH, CONFIG)


def run(program: Program, level: str, *, core: Core | None = None) -> RunResult:
    if level == "iss":
        return Iss(program, seed=3).run(INPUTS)
    rtl = RtlSimulator(CONFIG, core=core, idle_limit=2000)
    return rtl.run(program, [INPUTS])[0]


def verify(program: Program, level: str, *, core: Core | None = None) -> Report:
    return check(program, VALUES, run(program, level, core=core), level=level)


def assert_names_place(report: Report, *, level: str, tensor: str, op: str = "POST_ACC") -> None:
    """The message names level, tensor, element, values, instruction, operation and cycle."""
    place = rf"tensor '{tensor}' element \[\d+, \d+\]: wrong, expected -?\d+, got -?\d+"
    with pytest.raises(
        Mismatch, match=rf"(?s)^{level}: .*{place}; step \d+ \({op}, node 'n\d'\), cycle \d+$"
    ):
        report.raise_if_different()
    first = report.first
    assert first is not None and first.index is not None
    assert first.expected == VALUES[tensor][first.index] != first.got


def with_image(change: np.ndarray, at: int) -> Program:
    """The healthy program with the bytes ``change`` at address ``at`` of its image."""
    program = healthy()
    image = program.image.copy()
    image[at : at + change.size] = change
    assert (image != program.image).any()
    return replace(program, image=image)


def with_instructions(changes: dict[int, Instruction]) -> Program:
    """The healthy program with other instructions at some of its steps."""
    program = healthy()
    steps, image = list(program.steps), program.image.copy()
    for number, instruction in changes.items():
        steps[number] = replace(steps[number], instruction=instruction)
        start = program.entry + INSTRUCTION_BYTES * number
        code = np.frombuffer(instruction.encode(), np.uint8)
        image[start : start + INSTRUCTION_BYTES] = code
    return replace(program, steps=steps, image=image)


def first_token(source: Unit, target: Unit) -> tuple[int, int]:
    """The steps that push and pop the first token from ``source`` to ``target``."""
    steps = [(i, step.instruction) for i, step in enumerate(healthy().steps)]
    push = next(i for i, ins in steps if ins.op.unit == source and ins.push >> target & 1)
    pop = next(i for i, ins in steps if ins.op.unit == target and ins.pop >> source & 1)
    return push, pop


def find(op: Op, node: str, **fields: int) -> Instruction:
    """The first instruction ``op`` of ``node`` with these field values."""
    return next(
        step.instruction
        for step in healthy().steps
        if step.instruction.op == op
        and step.node == node
        and all(step.instruction[name] == value for name, value in fields.items())
    )


@both_levels
def test_healthy_run_is_equal(level):
    assert verify(healthy(), level).ok


@pytest.fixture
def rounding_down(monkeypatch) -> Iterator[None]:
    """Every rounding shift of the hardware and of the simulator lacks its rounding constant."""
    rescale = importlib.import_module("intformer.reference.rescale")
    exact = rescale.requantize

    def requantize(x, mult, shift):
        return exact(x, mult, shift) - ((x * mult >> (np.asarray(shift) - 1)) & 1)

    monkeypatch.setattr(rescale, "requantize", requantize)
    monkeypatch.setattr(rounding, "_HALF", 0)


@both_levels
def test_wrong_rounding_constant_is_caught(level, rounding_down):
    core = Core(CONFIG, trace=True) if level == "rtl" else None
    report = verify(healthy(), level, core=core)
    assert_names_place(report, level=level, tensor=HIDDEN)
    # All values with a fraction of one half or more differ: about half of them.
    assert report.counts[OUTPUT] > VALUES[OUTPUT].size // 5


@both_levels
def test_dropped_token_is_caught(level):
    """The second product starts before the first one's results are written."""
    push, pop = first_token(Unit.POST, Unit.MATMUL)
    steps = healthy().steps
    giver, taker = steps[push].instruction, steps[pop].instruction
    program = with_instructions(
        {
            push: replace(giver, push=giver.push & ~(1 << Unit.MATMUL)),
            pop: replace(taker, pop=taker.pop & ~(1 << Unit.POST)),
        }
    )
    assert_names_place(verify(program, level), level=level, tensor=OUTPUT)


@both_levels
def test_token_that_never_comes_is_caught(level):
    push, pop = first_token(Unit.POST, Unit.MATMUL)
    giver = healthy().steps[push].instruction
    program = with_instructions({push: replace(giver, push=giver.push & ~(1 << Unit.MATMUL))})
    node = healthy().steps[pop].node
    if level == "iss":
        error: type[IntformerError] = SimulationError
        message = rf"(?s)^deadlock in cycle \d+.*MATMUL holds back step {pop} .*from: POST"
    else:
        error = RtlError
        message = rf"(?s)hang in sample 0, cycle \d+.*MATMUL: .*; next is {pop}, MATMUL of {node}"
    with pytest.raises(error, match=message):
        run(program, level)


def test_token_that_nobody_takes_is_caught():
    push, pop = first_token(Unit.POST, Unit.MATMUL)
    taker = healthy().steps[pop].instruction
    program = with_instructions({pop: replace(taker, pop=taker.pop & ~(1 << Unit.POST))})
    with pytest.raises(SimulationError, match="1 tokens from POST to MATMUL were never taken"):
        run(program, "iss")
    assert push < pop


def swapped(node: str, *, columns: int) -> Program:
    """The first two runs of ``columns`` weight columns of ``node``, exchanged."""
    stream = find(Op.FETCH_STREAM, node)
    size = columns * column_beats(CONFIG, int4=bool(stream["int4"])) * CONFIG.bus_bytes
    assert stream["columns"] >= 2 * columns
    weights = healthy().image[stream["ext"] : stream["ext"] + 2 * size]
    return with_image(np.roll(weights, size), stream["ext"])


@both_levels
def test_swapped_tile_is_caught(level):
    report = verify(swapped("n0", columns=CONFIG.cols), level)
    assert_names_place(report, level=level, tensor=HIDDEN)


@both_levels
def test_swapped_columns_are_caught(level):
    report = verify(swapped("n1", columns=1), level)
    assert_names_place(report, level=level, tensor=OUTPUT)
    # The last column of a tile comes first; only these two channels differ.
    first = report.first
    assert first is not None and first.index is not None
    assert first.index[1] in (CONFIG.cols - 2, CONFIG.cols - 1)
    assert HIDDEN not in report.counts


@both_levels
def test_wrong_table_entry_is_caught(level):
    table = GRAPH.nodes[0].post.table
    codes, counts = np.unique(VALUES[HIDDEN], return_counts=True)
    entry = next(
        int(np.flatnonzero(table == code)[0])
        for code in codes[np.argsort(-counts)]
        if (table == code).sum() == 1
    )
    address = find(Op.LOAD, "n0", mem=Mem.TABLE)["ext"] + entry
    program = with_image(healthy().image[address : address + 1] ^ 1, address)
    report = verify(program, level)
    assert_names_place(report, level=level, tensor=HIDDEN)
    assert report.counts[HIDDEN] == (VALUES[HIDDEN] == table[entry]).sum()
