"""The RTL of the link, from the controller to a memory, in a simulator.

Bytes go in and come out as they would at the transport, at the simulator's own speed: a list of
them from a file (:meth:`LinkSimulator.play`), or through a pty, where a host finds a device that
behaves as a board does (:meth:`LinkSimulator.device`). In the place of a core stands a small
thing that copies and inverts memory; ``link_tb.sv`` says how it is told to.
"""

from __future__ import annotations

import shutil
import tempfile
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from importlib import resources
from pathlib import Path

from intformer.config import CoreConfig
from intformer.errors import BuildFailed
from intformer.host.identity import Identity
from intformer.hw import verilog
from intformer.hw.link.controller import Controller
from intformer.sim.builds import Bench, build
from intformer.sim.runner import run_module

__all__ = ["LinkSimulator", "Played", "SimulatedDevice", "Stimulus"]

_VERILATOR_ARGS = ("--timing", "--no-public-flat-rw", "-O3")
_PUBLIC = (
    *("finished", "failed", "push", "push_count", "steps", "go"),
    *("went", "pull", "pull_count", "quit"),
)
_VISIBLE = "`verilator_config\n" + "".join(
    f'public_flat_rw -module "link_tb" -var "{name}"\n' for name in _PUBLIC
)
_START_S = 60.0


class Stimulus:
    """What happens on the line, in order."""

    def __init__(self) -> None:
        self._lines: list[str] = []
        self.waits = 0

    def send(self, data: bytes) -> None:
        """Bytes, one after the other."""
        self._lines += [f"b {byte:02x}" for byte in data]

    def wait(self, cycles: int) -> None:
        """Until nothing has been answered for so many cycles; ends a group of answers."""
        self._lines.append(f"w {cycles}")
        self.waits += 1

    def pause(self, cycles: int) -> None:
        """A line that is silent for so many cycles."""
        self._lines.append(f"p {cycles}")

    def line_error(self) -> None:
        """The transport drops a byte."""
        self._lines.append("e 0")

    def memory_dead(self, dead: bool) -> None:
        """Whether memory ignores every command from now on."""
        self._lines.append(f"d {int(dead)}")

    def text(self) -> str:
        """As ``link_tb.sv`` reads it."""
        return "\n".join(self._lines)


@dataclass
class Played:
    """What came of a stimulus.

    ``answers``: bytes up to the end of each wait, and one more group for the rest; ``memory``: at
    the end; ``cycles``: the cycle of the last byte; ``seconds``: of the simulator.
    """

    answers: list[bytes]
    memory: bytes
    cycles: int
    seconds: float


@dataclass
class SimulatedDevice:
    """A device behind a pty.

    ``port``: its name; ``memory``: at the end, once the device has been left.
    """

    port: str
    memory: bytes = field(default=b"", repr=False)


class LinkSimulator:
    """The link's controller for ``config`` with a memory and a copying core.

    Parameters
    ----------
    config: only ``bus_bytes`` matters here.
    identity: of the controller; ``memory_size`` is the memory's.
    latency: cycles from a read command to its data, at least 1.
    stall: share of the cycles in which memory does nothing.
    byte_cycles: cycles from byte to byte on the line, in both directions, at least 10.
    """

    def __init__(
        self,
        config: CoreConfig,
        *,
        identity: Identity,
        latency: int = 3,
        stall: float = 0.0,
        seed: int = 1,
        byte_cycles: int = 40,
        simulator: str = "verilator",
    ) -> None:
        if latency < 1:
            raise ValueError(f"latency must be at least 1, not {latency!r}")
        if not 0 <= stall <= 0.99:
            raise ValueError(f"stall must be from 0 to 0.99, not {stall!r}")
        if byte_cycles < 10:
            raise ValueError(f"byte_cycles must be at least 10, not {byte_cycles!r}")
        self.config = config
        self.identity = identity
        self.controller = Controller(config, identity=identity)
        self._knobs = (latency, round(256 * stall), seed, byte_cycles, byte_cycles)
        self._seed = seed
        folder = resources.files("intformer.sim")
        sources = {"link.sv": verilog.emit(self.controller, name="link")}
        if simulator == "verilator":
            sources["visible.vlt"] = _VISIBLE
        for name in ("burst_memory.sv", "link_tb.sv"):
            sources[name] = (folder / name).read_text(encoding="utf-8")
        self._bench = Bench(
            sources=sources,
            toplevel="link_tb",
            simulator=simulator,
            optimize="-O1",
            parameters={"BUS_BYTES": config.bus_bytes},
            build_args=_VERILATOR_ARGS if simulator == "verilator" else (),
        )

    def play(self, stimulus: Stimulus, *, image: bytes = b"") -> Played:
        """Play ``stimulus``; memory begins as ``image``, zero behind it.

        Raises
        ------
        AssertionError
            If a byte was not taken in time, or a rule of the memory port was broken.
        """
        begun = time.monotonic()
        run_dir = self._job(image)
        (run_dir / "stimulus.txt").write_text(stimulus.text())
        self._run(run_dir, "play")
        groups, cycle = [bytearray()], 0
        for line in (run_dir / "answers.txt").read_text().splitlines():
            if line == "m":
                groups.append(bytearray())
            else:
                number, byte = line.split()
                groups[-1].append(int(byte, 16))
                cycle = int(number)
        memory = self._memory(run_dir)
        shutil.rmtree(run_dir)
        return Played([bytes(group) for group in groups], memory, cycle, time.monotonic() - begun)

    @contextmanager
    def device(self, *, image: bytes = b"") -> Iterator[SimulatedDevice]:
        """A device behind a pty, for as long as the body runs.

        Raises
        ------
        AssertionError
            At the end, if a rule of the memory port was broken.
        """
        run_dir = self._job(image)
        failures: list[BaseException] = []

        def serve() -> None:
            try:
                self._run(run_dir, "converse", plusargs=["+interactive"])
            except BaseException as error:
                failures.append(error)

        thread = threading.Thread(target=serve, daemon=True)
        thread.start()
        deadline = time.monotonic() + _START_S
        name = run_dir / "port.txt"
        while not name.exists():
            if failures:
                raise failures[0]
            if time.monotonic() > deadline:
                raise BuildFailed(f"the simulated device did not start in {run_dir}")
            time.sleep(0.01)
        device = SimulatedDevice(name.read_text())
        try:
            yield device
        finally:
            (run_dir / "quit").touch()
            thread.join()
        if failures:
            raise failures[0]
        device.memory = self._memory(run_dir)
        shutil.rmtree(run_dir)

    def _job(self, image: bytes) -> Path:
        folder = build(self._bench)
        (folder / "runs").mkdir(exist_ok=True)
        run_dir = Path(tempfile.mkdtemp(dir=folder / "runs"))
        size = self.identity.memory_size
        if len(image) > size:
            raise ValueError(f"image must have at most {size} bytes, not {len(image)}")
        (run_dir / "image.bin").write_bytes(image.ljust(size, b"\0"))
        numbers = [size // self.config.bus_bytes, *self._knobs]
        (run_dir / "job.txt").write_text("".join(f"{number}\n" for number in numbers))
        return run_dir

    def _run(self, run_dir: Path, testcase: str, *, plusargs: Sequence[str] = ()) -> None:
        run_module(
            self._bench,
            "intformer.sim.link_bench",
            folder=build(self._bench),
            run_dir=run_dir,
            testcase=testcase,
            plusargs=plusargs,
            seed=self._seed,
        )

    @staticmethod
    def _memory(run_dir: Path) -> bytes:
        lines = (run_dir / "memory.hex").read_text().split()
        return b"".join(bytes.fromhex(line)[::-1] for line in lines)
