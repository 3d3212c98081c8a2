"""The proof harness tells right from wrong; reserved FIFOs obey the stream rules for all time."""

from dataclasses import replace
from typing import Any

import pytest
from amaranth.hdl import Assert, Assume, Elaboratable, Module, Signal, ValueLike
from amaranth.lib import stream, wiring
from amaranth.lib.wiring import In, Out
from proofs import Flow, StreamProof, anyconst, anyseq, prove

from intformer.hw.parts.streams import CreditFifo, Skid


class Counter(Elaboratable):
    """Counts an arbitrary input up to ``top``; asserts that it stays below ``limit``."""

    def __init__(self, *, top: int, limit: int) -> None:
        self.top, self.limit = top, limit

    def elaborate(self, _platform: object) -> Module:
        m = Module()
        count = Signal(4)
        with m.If(anyseq(m, 1, name="step") & (count != self.top)):
            m.d.sync += count.eq(count + 1)
        chosen = anyconst(m, 4, name="chosen")
        m.d.comb += [Assume(chosen < self.limit), Assert(count - chosen <= count)]
        with m.If(chosen == self.limit - 1):
            m.d.comb += Assert(count <= chosen)
        return m


class Queue(wiring.Component):
    """Increments through a reserved FIFO; ``fault`` breaks one rule."""

    i: In(stream.Signature(4))
    o: Out(stream.Signature(4))

    def __init__(self, *, fault: str = "", registered: bool = False) -> None:
        self.fault, self.registered = fault, registered
        super().__init__()

    def elaborate(self, _platform: object) -> Module:
        m = Module()
        m.submodules.fifo = fifo = CreditFifo(4, depth=3, registered=self.registered)
        accept = Signal()
        m.d.comb += [
            self.i.ready.eq(fifo.room),
            accept.eq(self.i.valid & self.i.ready),
            fifo.take.eq(accept),
            fifo.push.eq(accept),
            fifo.i.eq(self.i.payload + 1),
        ]
        wiring.connect(m, wiring.flipped(self.o), fifo.o)
        match self.fault:
            case "drop":
                m.d.comb += fifo.push.eq(accept & (self.i.payload != 3))
            case "invent":
                m.d.comb += fifo.push.eq(accept | (self.i.valid & fifo.room))
                m.d.comb += self.i.ready.eq(fifo.room & (self.i.payload != 3))
            case "change":
                m.d.comb += self.o.payload.eq(fifo.o.payload | ~self.o.ready)
            case "retract":
                m.d.comb += self.o.valid.eq(fifo.o.valid & (self.i.payload != 3))
            case "stick":
                m.d.comb += self.i.ready.eq(fifo.room & (self.i.payload != 3))
            case "value":
                m.d.comb += fifo.i.eq(self.i.payload)
        return m


def increment(payload: Any) -> ValueLike:
    return (payload + 1)[:4]


both_solvers = pytest.mark.parametrize("solver", ["z3", "minisat"])
FLOW = Flow(capacity=3, bound=3, expect=increment)


@both_solvers
def test_proves_for_all_time(solver: Any) -> None:
    prove(Counter(top=9, limit=10), depth=4, induction=True, solver=solver)


@both_solvers
def test_finds_what_happens_late(solver: Any) -> None:
    prove(Counter(top=10, limit=10), depth=9, solver=solver)
    with pytest.raises(AssertionError, match="not proven"):
        prove(Counter(top=10, limit=10), depth=12, solver=solver)


def test_wants_assertions() -> None:
    with pytest.raises(AssertionError, match="nothing to prove"):
        prove(Module(), depth=2)


def test_queue_obeys() -> None:
    prove(StreamProof(Queue(), [FLOW]), depth=12, solver="minisat")


def test_queue_with_register_obeys() -> None:
    flow = replace(FLOW, expect=None)  # following a payload is the expensive part
    prove(StreamProof(Queue(registered=True), [flow]), depth=20, solver="minisat")


def test_skid_obeys() -> None:
    flow = Flow(capacity=1, bound=1, expect=lambda payload: payload)
    prove(StreamProof(Skid(4), [flow]), depth=12, solver="minisat")


@pytest.mark.parametrize("fault", ["drop", "invent", "change", "retract", "stick", "value"])
def test_finds_fault(fault: str) -> None:
    with pytest.raises(AssertionError, match="not proven"):
        prove(StreamProof(Queue(fault=fault), [FLOW]), depth=12, solver="minisat")
