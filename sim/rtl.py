"""Runs programs on the core's RTL: the slowest level, and the one that is built."""

from __future__ import annotations

import math
import shutil
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from importlib import resources
from pathlib import Path
from types import MappingProxyType
from typing import Any

import numpy as np
from amaranth.hdl import Elaboratable
from numpy.typing import NDArray

from intformer.config import CoreConfig
from intformer.errors import IntformerError
from intformer.hw import verilog
from intformer.isa import COUNTERS, INSTRUCTION_BYTES, PREFETCH, Unit
from intformer.program import ExternalTensor, Program, RunResult
from intformer.sim.builds import Bench, build
from intformer.sim.runner import run_module
from intformer.sim.trace import read_trace

__all__ = ["RtlError", "RtlSimulator"]

Progress = Callable[[str], None]

_VERILATOR_ARGS = (
    "--timing",
    # cocotb's default makes every signal of the core visible, which costs most of the speed.
    "--no-public-flat-rw",
    "-O3",
)
_VISIBLE = """\
`verilator_config
public_flat_rw -module "core_tb" -var "finished"
public_flat_rw -module "core_tb" -var "failed"
public_flat_rw -module "core_tb" -var "sample"
"""


class RtlError(IntformerError):
    """The core hung, stopped with an error, or broke a rule of its memory port."""


class RtlSimulator:
    """The RTL of one core with an external memory, in a simulator.

    One build (made at the first run, then kept) serves every program for the configuration.

    Parameters
    ----------
    config: the core's parameters.
    simulator: one of :data:`intformer.sim.simulators.SIMULATORS`.
    build_dir: where to build; a folder in the cache if not given.
    memory_latency: cycles from a read command's acceptance to its first beat, at least 1.
    burst_gap: cycles without data between bursts.
    stall: probability of a lost cycle on the memory port, up to 0.99; ``seed`` makes it random.
    idle_limit: cycles without a completed instruction, a scratchpad write or a beat of external
        memory after which the core counts as hung.
    core: what to simulate as the core; for tests of the bench itself.
    """

    level = "rtl"
    """Name of the level, for messages."""
    _undefined: tuple[str, ...] = ("--x-assign", "fast", "--x-initial", "fast")
    """What Verilator, which knows only 0 and 1, makes of undefined values."""
    _plusargs: tuple[str, ...] = ()
    _defines: Mapping[str, str] = MappingProxyType({})

    def __init__(
        self,
        config: CoreConfig,
        *,
        simulator: str = "verilator",
        build_dir: Path | None = None,
        memory_latency: int = 8,
        burst_gap: int = 0,
        stall: float = 0.0,
        seed: int = 1,
        idle_limit: int = 100_000,
        core: Elaboratable | None = None,
    ) -> None:
        if memory_latency < 1:
            raise ValueError(f"memory_latency must be at least 1, not {memory_latency!r}")
        if not 0 <= stall <= 0.99:
            raise ValueError(f"stall must be from 0 to 0.99, not {stall!r}")
        self.config = config
        self.simulator = simulator
        self._build_dir = build_dir
        self._core = core
        self._seed = seed
        self._knobs = (memory_latency, burst_gap, round(256 * stall), seed, idle_limit)
        self._bench: Bench | None = None
        self.seconds = 0.0
        """Wall-clock time of the last run, start of the simulator included, without the build."""
        self.cycles_per_second = 0.0
        """Core cycles of the last run, divided by its time."""

    def build(self, *, progress: Progress | None = None) -> Path:
        """Make the simulation unless it is there; return its folder.

        Raises
        ------
        BuildFailed
            If the simulator is missing or refuses the core.
        """
        if self._bench is None:
            self._bench = self._make_bench(progress)
        if progress:
            name = self.config.name
            progress(f"{self.level}: building {name} for {self.simulator} unless in the cache")
        return build(self._bench, build_dir=self._build_dir)

    def _core_sources(self, progress: Progress | None) -> dict[str, str]:
        """File name to text of module ``core`` and what it needs."""
        if progress:
            progress(f"rtl: generating the Verilog of {self.config.name}")
        core = self._core
        if core is None:
            from intformer.hw.core import Core

            core = Core(self.config, trace=True)
        return {"core.sv": verilog.emit(core, name="core")}

    def _make_bench(self, progress: Progress | None) -> Bench:
        folder = resources.files("intformer.sim")
        sources = self._core_sources(progress)
        if self.simulator == "verilator":
            sources["visible.vlt"] = _VISIBLE
        for name in ("burst_memory.sv", "core_tb.sv"):
            sources[name] = (folder / name).read_text(encoding="utf-8")
        return Bench(
            sources=sources,
            toplevel="core_tb",
            simulator=self.simulator,
            # Compiles in two thirds of the time of -O3 and runs a tenth slower.
            optimize="-O1",
            parameters={
                "BUS_BYTES": self.config.bus_bytes,
                "LANES": self.config.lanes,
                "COUNTERS": len(COUNTERS),
            },
            defines=dict(self._defines),
            build_args=(*_VERILATOR_ARGS, *self._undefined)
            if self.simulator == "verilator"
            else (),
        )

    def run(
        self,
        program: Program,
        samples: Sequence[Mapping[str, NDArray[Any]]],
        *,
        progress: Progress | None = None,
    ) -> list[RunResult]:
        """Run ``program`` once for each of ``samples``, which map input names to codes.

        The external memory starts as the program's image and is kept between the runs; only the
        inputs change.

        Raises
        ------
        RtlError
            If the core does not finish; the message names the sample, the cycle, and the
            instruction that each busy unit is at.
        BuildFailed
            See :meth:`build`.
        """
        if program.config != self.config:
            raise ValueError(
                f"the program is for configuration {program.config.name!r}, "
                f"the core is {self.config.name!r}"
            )
        folder = self.build(progress=progress)
        assert self._bench is not None
        (folder / "runs").mkdir(exist_ok=True)
        run_dir = Path(tempfile.mkdtemp(dir=folder / "runs"))
        self._write_job(run_dir, program, samples)
        begun = time.monotonic()
        with _watch(run_dir / "samples.txt", self.level, total=len(samples), progress=progress):
            try:
                run_module(
                    self._bench,
                    "intformer.sim.core_bench",
                    folder=folder,
                    run_dir=run_dir,
                    plusargs=self._plusargs,
                    seed=self._seed,
                )
            except AssertionError as error:
                raise RtlError(self._explain(run_dir, program, error)) from None
        self.seconds = time.monotonic() - begun
        results = self._read_results(run_dir, program, len(samples))
        self.cycles_per_second = sum(result.cycles for result in results) / self.seconds
        shutil.rmtree(run_dir)
        return results

    def _beats(self, tensor: ExternalTensor) -> tuple[int, int]:
        """First beat of ``tensor`` in external memory, and number of beats."""
        bus = self.config.bus_bytes
        if tensor.address % bus:
            raise ValueError(f"address {tensor.address} of {tensor.name!r} is not at a beat")
        return tensor.address // bus, math.ceil(tensor.size / bus)

    def _write_job(
        self, run_dir: Path, program: Program, samples: Sequence[Mapping[str, NDArray[Any]]]
    ) -> None:
        """The files that ``core_tb.sv`` reads."""
        bus = self.config.bus_bytes
        used = max(program.memory_bytes, len(program.image))
        beats = math.ceil((used + PREFETCH * INSTRUCTION_BYTES) / bus)
        image = np.zeros(beats * bus, dtype=np.uint8)
        image[: len(program.image)] = program.image
        image.tofile(run_dir / "image.bin")
        with (run_dir / "inputs.bin").open("wb") as inputs:
            for sample in samples:
                for tensor in program.inputs:
                    first, count = self._beats(tensor)
                    beats_now = image[first * bus : (first + count) * bus].copy()
                    beats_now[: tensor.size] = np.frombuffer(
                        tensor.pack(sample[tensor.name]), dtype=np.uint8
                    )
                    inputs.write(beats_now.tobytes())
        numbers = [beats, program.entry, len(samples), *self._knobs]
        for tensors in (program.inputs, program.outputs):
            numbers.append(len(tensors))
            for tensor in tensors:
                numbers.extend(self._beats(tensor))
        (run_dir / "job.txt").write_text("".join(f"{number}\n" for number in numbers))

    def _read_results(self, run_dir: Path, program: Program, samples: int) -> list[RunResult]:
        """The files that ``core_tb.sv`` wrote."""
        bus = self.config.bus_bytes
        text = (run_dir / "outputs.hex").read_text().split()
        memory = np.array([list(bytes.fromhex(beat))[::-1] for beat in text], dtype=np.uint8)
        memory = memory.reshape(samples, -1)
        figures = [
            [int(number) for number in line.split()]
            for line in (run_dir / "samples.txt").read_text().splitlines()
        ]
        logs = read_trace(
            run_dir / "trace.hex", config=self.config, steps=program.steps, samples=samples
        )
        results = []
        for data, (cycles, *counts), log in zip(memory, figures, logs, strict=True):
            outputs = {}
            at = 0
            for tensor in program.outputs:
                outputs[tensor.name] = tensor.unpack(data[at : at + tensor.size])
                at += bus * self._beats(tensor)[1]
            counters = dict(zip(COUNTERS, counts, strict=True))
            results.append(RunResult(outputs, log, cycles, counters))
        return results

    def _explain(self, run_dir: Path, program: Program, error: AssertionError) -> str:
        """What the bench says went wrong, with the names of instructions."""
        path = run_dir / "status.txt"
        status = path.read_text().split() if path.exists() else []
        if len(status) != 4 + len(Unit):
            return str(error)
        kind, sample, cycle, busy, *counts = status
        what = self.level.upper() if self.level == "rtl" else self.level.capitalize()
        lines = [
            f"{what} of {self.config.name}: {kind} in sample {sample}, cycle {cycle} ({run_dir})"
        ]
        for unit in Unit:
            steps = [
                (i, step)
                for i, step in enumerate(program.steps)
                if step.instruction.op.unit == unit
            ]
            done = int(counts[unit])
            state = "busy" if busy[-1 - unit] == "1" else "idle"
            line = f"  {unit.name}: {state}, {done} of {len(steps)} instructions done"
            if done < len(steps):
                i, step = steps[done]
                line += f"; next is {i}, {step.instruction.op.name} of {step.node}"
            lines.append(line)
        lines += [line for line in str(error).splitlines() if line.startswith("burst port")]
        return "\n".join(lines)


@contextmanager
def _watch(path: Path, level: str, *, total: int, progress: Progress | None) -> Iterator[None]:
    """Report the lines of ``path`` as they come, while the body runs."""
    ended = threading.Event()

    def follow() -> None:
        seen = 0
        while not ended.wait(0.5):
            count = len(path.read_text().splitlines()) if path.exists() else 0
            if count > seen and progress:
                progress(f"{level}: run {count} of {total}")
            seen = count

    thread = threading.Thread(target=follow, daemon=True)
    if progress:
        thread.start()
    try:
        yield
    finally:
        ended.set()
        if progress:
            thread.join()
