"""The bench around the core, with a toy in the place of the core."""

from dataclasses import replace

import numpy as np
import pytest
import toy_core

from intformer.config import load_config
from intformer.isa import Instruction, Op
from intformer.program import ExternalTensor, Program, Step
from intformer.sim.rtl import RtlError, RtlSimulator
from intformer.sim.simulators import SIMULATORS

CONFIG = replace(load_config("tiny"), bus_bytes=4, lanes=2, rows=4, cols=4)
SOURCE, DESTINATION, BEATS, MEMORY = 64, 128, 16, 256


def tensor(name: str, address: int) -> ExternalTensor:
    return ExternalTensor(name, address, (BEATS, 3), "uint8", 4, 1.0, 0)


def program(mode: int) -> Program:
    image = np.full(MEMORY - 16, 7, dtype=np.uint8)
    image[32:48] = np.frombuffer(
        np.array([SOURCE, DESTINATION, BEATS, mode], dtype="<u4").tobytes(), dtype=np.uint8
    )
    end = Step(Instruction(Op.END, {}), "end")
    moves = [Step(Instruction(Op.MOVE, {}), f"move {i}") for i in range(BEATS)]
    loads = [Step(Instruction(Op.LOAD, {}), f"load {i}") for i in range(BEATS)]
    steps = [step for pair in zip(loads, moves, strict=True) for step in pair]
    return Program(
        config=CONFIG,
        steps=[*steps, end],
        image=image,
        memory_bytes=MEMORY,
        entry=32,
        regions=[],
        inputs=[tensor("x", SOURCE)],
        outputs=[tensor("y", DESTINATION)],
        productions={},
    )


def simulator(name: str, **knobs: object) -> RtlSimulator:
    return RtlSimulator(CONFIG, simulator=name, core=toy_core.ToyCore(CONFIG), **knobs)


def samples(count: int) -> list[dict[str, np.ndarray]]:
    rng = np.random.default_rng(5)
    return [{"x": rng.integers(0, 255, (BEATS, 3), dtype=np.uint8)} for _ in range(count)]


@pytest.mark.parametrize("name", SIMULATORS)
def test_outputs_counters_and_log(name: str) -> None:
    inputs = samples(3)
    said: list[str] = []
    results = simulator(name).run(program(toy_core.NORMAL), inputs, progress=said.append)
    assert len(results) == 3
    assert said
    for codes, result in zip(inputs, results, strict=True):
        beats = np.zeros((BEATS, 4), dtype=np.int64)
        beats[:, :3] = codes["x"]
        total = beats @ [1, 1 << 8, 1 << 16, 1 << 24] + 1
        wrote = (total[:, None] >> np.array([0, 8, 16, 24])) & 0xFF
        np.testing.assert_array_equal(result.outputs["y"], wrote[:, :3])
        assert list(np.diff(list(result.counters.values()))) == [4] * (len(result.counters) - 1)

        log = result.log
        act, wide = log.mem == 0, log.mem == 1
        # Each beat is a MOVE; loads stand between them.
        np.testing.assert_array_equal(log.step[act], 2 * np.arange(BEATS) + 1)
        np.testing.assert_array_equal(log.position[act], 4 * np.arange(BEATS) + 2)
        np.testing.assert_array_equal(log.value[act], wrote[:, 0])
        np.testing.assert_array_equal(log.position[wide], np.arange(2 * BEATS))
        np.testing.assert_array_equal(
            log.value[wide], np.stack([total & 0xFFFF, total >> 16], axis=1).ravel()
        )
        assert log.cycle[-1] == result.cycles - 1
        assert (np.diff(log.cycle[act]) == 1).all()


def test_cycles_follow_the_memory() -> None:
    """The toy waits for two reads and a write, one after the other."""
    run = program(toy_core.NORMAL)
    (base,) = simulator("verilator", memory_latency=1).run(run, samples(1))
    for latency, gap in ((2, 0), (8, 0), (8, 5), (30, 40)):
        (result,) = simulator("verilator", memory_latency=latency, burst_gap=gap).run(
            run, samples(1)
        )
        # The gap before the first read of data passes while the read waits for its latency.
        begun = [latency + extra for extra in (0, 0)]
        late = max(0, gap - latency), max(0, gap - 1)
        assert result.cycles - base.cycles == sum(begun) - 2 + sum(late), (latency, gap)


def test_simulators_agree_under_stalls() -> None:
    first, second = (
        simulator(name, stall=0.4, seed=9).run(program(toy_core.NORMAL), samples(2))
        for name in SIMULATORS
    )
    for a, b in zip(first, second, strict=True):
        assert a.cycles == b.cycles
        assert a.counters == b.counters
        np.testing.assert_array_equal(a.outputs["y"], b.outputs["y"])
        np.testing.assert_array_equal(a.log.cycle, b.log.cycle)
    assert first[0].cycles != first[1].cycles


@pytest.mark.parametrize(
    ("mode", "message"),
    [
        (toy_core.HANG, "hang in sample 0.*\n(.*\n)*.*MOVE: busy, 0 of 16.*MOVE of move 0"),
        (toy_core.ERROR, "unknown-operation in sample 0"),
        (toy_core.ASTRAY, "memory-fault in sample 0(.*\n)*.*past the memory's end"),
    ],
)
def test_failures_are_explained(mode: int, message: str) -> None:
    with pytest.raises(RtlError, match=message):
        simulator("verilator", idle_limit=500).run(program(mode), samples(1))


def test_arguments_are_checked() -> None:
    with pytest.raises(ValueError, match="memory_latency must be at least 1, not 0"):
        RtlSimulator(CONFIG, memory_latency=0)
    with pytest.raises(ValueError, match=r"stall must be from 0 to 0\.99, not 1"):
        RtlSimulator(CONFIG, stall=1)
    with pytest.raises(ValueError, match="program is for configuration 'tiny'"):
        RtlSimulator(load_config("8x8")).run(program(toy_core.NORMAL), samples(1))
