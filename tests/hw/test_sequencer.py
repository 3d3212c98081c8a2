"""The sequencer against fake units and a fake memory: order, tokens, END, errors."""

import random

import cocotb
import pytest
import streams
from cocotb.triggers import FallingEdge, ReadOnly
from streams import both_simulators

from intformer.config import CoreConfig
from intformer.hw.sequencer import Sequencer
from intformer.isa import INSTRUCTION_BYTES, Instruction, Op, Unit
from intformer.sim.runner import bench_options, run_bench

ENTRY = 0x40
OPS = {
    Unit.DMA: Op.LOAD,
    Unit.FETCH: Op.FETCH_ACT,
    Unit.MATMUL: Op.MATMUL,
    Unit.POST: Op.POST_ACC,
    Unit.ROW: Op.SOFTMAX,
    Unit.MOVE: Op.MOVE,
}
# The field that carries an instruction's number, so that the units can be checked.
TAG = {Op.LOAD: "addr", Op.FETCH_ACT: "base", Op.MATMUL: "base", Op.POST_ACC: "src"} | {
    Op.SOFTMAX: "src",
    Op.ROWSCALE: "src",
    Op.MOVE: "src",
}


def config(bus_bytes: int, row_scales: int) -> CoreConfig:
    return CoreConfig(
        name="t",
        rows=4,
        cols=4,
        lanes=2,
        bus_bytes=bus_bytes,
        queue_depth=2,
        row_scales=row_scales,
    )


def random_program(rng: random.Random, count: int):
    """Random instructions with matched tokens, and the dependencies that they stand for."""
    ops = OPS | {Unit.ROW: Op.ROWSCALE} if bench_options()["row_scales"] else OPS
    units = [rng.choice(list(Unit)) for _ in range(count)]
    pops, pushes = [0] * count, [0] * count
    depends: list[list[int]] = [[] for _ in range(count)]
    newest: dict[tuple[Unit, Unit], int] = {}
    for j in range(count):
        for i in range(max(0, j - 6), j):
            pair = (units[i], units[j])
            if units[i] == units[j] or rng.random() < 0.6 or i <= newest.get(pair, -1):
                continue
            if pops[j] >> units[i] & 1:
                continue  # one token per producer
            newest[pair] = i
            pops[j] |= 1 << units[i]
            pushes[i] |= 1 << units[j]
            depends[j].append(i)
    program = [
        Instruction(ops[u], {TAG[ops[u]]: i}, pop=pops[i], push=pushes[i])
        for i, u in enumerate(units)
    ]
    return program, units, depends


async def serve_memory(dut, image: bytes, *, bus_bytes: int, rng: random.Random):
    """Answer read bursts in order after random delays."""
    beats: list[int] = []
    dut.mem__valid.value = 0
    while True:
        dut.mem__cmd__ready.value = int(rng.random() < 0.7)
        give = bool(beats) and rng.random() < 0.8
        dut.mem__valid.value = int(give)
        if give:
            dut.mem__data.value = beats.pop(0)
        await ReadOnly()
        if int(dut.mem__cmd__valid.value) and int(dut.mem__cmd__ready.value):
            payload = int(dut.mem__cmd__payload.value)
            address, beat_count = payload & 0xFFFF_FFFF, (payload >> 32 & 0xFF) + 1
            for i in range(beat_count):
                at = address + i * bus_bytes
                chunk = image[at : at + bus_bytes].ljust(bus_bytes, b"\0")
                beats.append(int.from_bytes(chunk, "little"))
        await FallingEdge(dut.clk)


async def serve_unit(dut, unit: Unit, log: list, *, rng: random.Random):
    """Take commands at random times, complete each in order after a random delay."""
    prefix = f"units__{unit.value}__"
    pin = {
        n: getattr(dut, prefix + n) for n in ("cmd__valid", "cmd__ready", "cmd__payload", "done")
    }
    pending: list[int] = []
    while True:
        pin["cmd__ready"].value = int(len(pending) < 2 and rng.random() < 0.4)
        finish = bool(pending) and rng.random() < 0.2
        pin["done"].value = int(finish)
        await ReadOnly()
        if finish:
            log.append(("done", pending.pop(0)))
        if int(pin["cmd__valid"].value) and int(pin["cmd__ready"].value):
            payload = int(pin["cmd__payload"].value)
            op, body = Op(payload & 15), payload >> 4
            offset = next(o for f, o in _body_fields(op) if f == TAG[op])
            tag = body >> offset & 0xFFFF
            log.append(("start", tag))
            pending.append(tag)
        await FallingEdge(dut.clk)


def _body_fields(op: Op):
    from intformer.isa import HEADER_BITS, field_offsets

    return [(f.name, o - HEADER_BITS) for f, o in field_offsets(op) if o >= HEADER_BITS]


async def run(dut, program, *, bus_bytes, rng, raw_tail=b""):
    """Run a program to its end; returns the log of starts and completions."""
    image = bytearray(ENTRY)
    for instruction in program:
        image += instruction.encode()
    image += raw_tail or Instruction(Op.END, {}).encode()
    log: list[tuple[str, int]] = []
    tasks = [cocotb.start_soon(serve_memory(dut, bytes(image), bus_bytes=bus_bytes, rng=rng))]
    tasks += [cocotb.start_soon(serve_unit(dut, unit, log, rng=rng)) for unit in Unit]
    dut.entry.value = ENTRY
    dut.start.value = 1
    await FallingEdge(dut.clk)
    dut.start.value = 0
    for _ in range(40_000):
        await ReadOnly()
        finished = int(dut.done.value)
        await FallingEdge(dut.clk)
        if finished:
            break
    else:
        raise AssertionError(f"no end; log {log[-10:]}")
    for task in tasks:
        task.cancel()
    return log


def _inputs() -> dict[str, int]:
    pins = {"start": 0, "entry": 0, "mem__cmd__ready": 0, "mem__valid": 0, "mem__data": 0}
    for unit in Unit:
        for name in ("cmd__ready", "done", "busy", "stall"):
            pins[f"units__{unit.value}__{name}"] = 0
    return pins


@cocotb.test()
async def random_programs(dut):
    options = bench_options()
    rng = random.Random(options["seed"])
    await streams.start(dut, inputs=_inputs())
    for _ in range(4):
        program, units, depends = random_program(rng, 60)
        log = await run(dut, program, bus_bytes=options["bus_bytes"], rng=rng)
        started = [tag for what, tag in log if what == "start"]
        place = {event: at for at, event in enumerate(log)}
        assert sorted(started) == list(range(60)) and len(log) == 120
        for unit in Unit:
            mine = [tag for tag in started if units[tag] == unit]
            assert mine == sorted(mine), f"{unit.name} ran out of order"
        for j, sources in enumerate(depends):
            for i in sources:
                assert place["done", i] < place["start", j], f"{j} did not wait for {i}"
        # Units run at the same time: a later instruction starts before an earlier one ends
        # (a bus of one byte brings instructions too slowly for that).
        overlap = any(
            place["start", j] < place["done", i] for i in range(60) for j in range(i + 1, 60)
        )
        assert overlap or options["bus_bytes"] == 1
    assert not int(dut.error.value)


@cocotb.test()
async def unknown_operation(dut):
    options = bench_options()
    rng = random.Random(options["seed"])
    await streams.start(dut, inputs=_inputs())
    program, _, _ = random_program(rng, 8)
    code = 15 if options["row_scales"] else Op.ROWSCALE
    bad = code.to_bytes(INSTRUCTION_BYTES, "little")
    log = await run(dut, program, bus_bytes=options["bus_bytes"], rng=rng, raw_tail=bad)
    assert int(dut.error.value) and len(log) == 16
    log = await run(dut, program, bus_bytes=options["bus_bytes"], rng=rng)
    assert not int(dut.error.value) and len(log) == 16


@both_simulators
@pytest.mark.parametrize(("bus_bytes", "row_scales"), [(1, 0), (4, 64), (16, 0)])
def test_sequencer(simulator: str, bus_bytes: int, row_scales: int) -> None:
    run_bench(
        Sequencer(config(bus_bytes, row_scales)),
        module="test_sequencer",
        simulator=simulator,
        options={"bus_bytes": bus_bytes, "row_scales": row_scales},
        seed=bus_bytes,
    )
