"""A worked example of a bench: copy it.

One file holds the component's pytest functions and the cocotb tests that they run in the
simulator. cocotb tests must not be called ``test_...``: pytest would collect them too.
"""

import random

import cocotb
import pytest
import streams
from amaranth.hdl import Module, unsigned
from amaranth.lib import fifo, stream, wiring
from amaranth.lib.wiring import In, Out
from streams import both_simulators

from intformer.sim.runner import bench_options, run_bench


class QueuedIncrement(wiring.Component):
    """Adds one to each value, behind a FIFO."""

    def __init__(self, *, width: int, depth: int) -> None:
        self.depth = depth
        self.width = width
        shape = unsigned(width)
        super().__init__({"i": In(stream.Signature(shape)), "o": Out(stream.Signature(shape))})

    def elaborate(self, platform: object) -> Module:
        m = Module()
        m.submodules.queue = queue = fifo.SyncFIFOBuffered(width=self.width, depth=self.depth)
        wiring.connect(m, queue.r_stream, wiring.flipped(self.o))
        m.d.comb += [
            queue.w_data.eq(self.i.payload + 1),
            queue.w_en.eq(self.i.valid),
            self.i.ready.eq(queue.w_rdy),
        ]
        return m


def reference(values: list[int], *, width: int) -> list[int]:
    return [(value + 1) % (1 << width) for value in values]


@cocotb.test()
async def increments(dut):
    options = bench_options()
    width, seed = options["width"], options["seed"]
    rng = random.Random(seed)
    await streams.start(dut, inputs={"i__valid": 0, "i__payload": 0, "o__ready": 0})
    values = [streams.random_bits(width, rng=rng) for _ in range(options["count"])]
    for stall in (0.0, 0.3, 0.9):
        received = await streams.transact(
            dut, sends={"i": values}, receives={"o": len(values)}, seed=seed, stall=stall
        )
        assert received["o"] == reference(values, width=width)


@both_simulators
@pytest.mark.parametrize("width", [1, 9])
def test_increments(simulator: str, width: int) -> None:
    run_bench(
        QueuedIncrement(width=width, depth=3),
        module="test_example_stream",
        simulator=simulator,
        options={"width": width, "count": 200},
        seed=3,
    )
