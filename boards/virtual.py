"""A board in Verilator, with models of its UART and its memory chip, offered as a serial port."""

from __future__ import annotations

import contextlib
import os
import subprocess
import threading
from collections.abc import Iterator
from importlib import resources
from pathlib import Path
from types import TracebackType

from intformer.boards.board import QUICK_DIVISOR, Board, FlashMemory, SdramMemory
from intformer.boards.system import System, image_of
from intformer.boards.top import VirtualTop
from intformer.boards.virtual_chips import flash_chip, sdram_chip
from intformer.errors import BuildFailed, IntformerError, UserError
from intformer.hw import verilog
from intformer.program import Program
from intformer.sim.executable import build_executable

__all__ = ["VirtualBoard", "build_virtual_board"]

_PADS = "pads"
_BARE = f"""\
module board (input clk, input rst, input rx, output tx, output busy);
  {_PADS} pads (.clk(clk), .rst(rst), .rx(rx), .tx(tx), .busy(busy));
endmodule
"""


def build_virtual_board(
    board: Board,
    *,
    program: Program | None = None,
    divisor: int = QUICK_DIVISOR,
    optimize: str = "-O3",
) -> Path:
    """The program that simulates ``board``; built once, then kept.

    Parameters
    ----------
    program: in block RAM from the beginning, as in a bitstream made with it.
    divisor: core cycles per bit of the UART; the board's own is slow to simulate.
    optimize: option of the C++ compiler.

    Raises
    ------
    BuildFailed
        If Verilator, or what it needs, is missing or refuses the design.
    UserError
        If ``program`` is not for this board.
    """
    image = image_of(board, program) if program is not None else b""
    system = System(board, image=image, divisor=divisor, simulated=True)
    sources = {f"{_PADS}.sv": verilog.emit(VirtualTop(system), name=_PADS)}
    memory = board.memory
    if isinstance(memory, SdramMemory):
        sources |= sdram_chip(memory, pads=_PADS)
    elif isinstance(memory, FlashMemory):
        sources |= flash_chip(memory, pads=_PADS)
    else:
        sources["board.sv"] = _BARE
    main = resources.files("intformer.sim") / "virtual_board.cpp"
    sources["virtual_board.cpp"] = main.read_text(encoding="utf-8")
    return build_executable(
        sources,
        toplevel="board",
        defines={"DIVISOR": divisor, "HALF_PERIOD": round(5e11 / board.actual_hz)},
        optimize=optimize,
    )


class VirtualBoard:
    """A running virtual board; a context manager.

    Parameters
    ----------
    program: of :func:`build_virtual_board`.
    link: a path that is made a link to the port while it runs.

    Attributes
    ----------
    port: the pseudo-terminal's path.
    cycles: core cycles that were simulated; None while it runs.
    busy_cycles: those of them in which a program ran.

    Raises
    ------
    UserError
        If ``link`` is there and no link.
    IntformerError
        If the simulation does not start, or at the end: if it stopped by itself, with its last
        lines: the memory chip's model stops it when its data sheet is violated.
    """

    def __init__(self, program: Path, *, link: Path | None = None) -> None:
        if link is not None and link.exists() and not link.is_symlink():
            raise UserError(f"cannot make the link {link}: something else is there")
        self.cycles: int | None = None
        self.busy_cycles = 0
        self._link = link
        self._lines: list[str] = []
        self._process = subprocess.Popen(
            [str(program)], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
        )
        assert self._process.stdout is not None
        for line in self._process.stdout:
            if line.startswith("PTY "):
                self.port = line.split()[1]
                break
            self._lines.append(line)
        else:
            raise IntformerError(f"the virtual board does not start: {''.join(self._lines)}")
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()
        if link is not None:
            link.parent.mkdir(parents=True, exist_ok=True)
            link.unlink(missing_ok=True)
            link.symlink_to(self.port)

    def _read(self) -> None:
        assert self._process.stdout is not None
        for line in self._process.stdout:
            if line.startswith("CYCLES "):
                self.cycles, self.busy_cycles = map(int, line.split()[1:])
            else:
                self._lines = [*self._lines[-50:], line]

    def wait(self) -> None:
        """Wait until the simulation ends by itself; raises as :meth:`stop`."""
        self._process.wait()
        self._finish()

    def stop(self) -> None:
        """End the simulation."""
        self._process.terminate()
        self._process.wait()
        self._finish()

    def _finish(self) -> None:
        self._reader.join()
        if self._link is not None:
            with contextlib.suppress(OSError):
                if os.readlink(self._link) == self.port:
                    self._link.unlink()
        if self._process.returncode or self.cycles is None:
            raise BuildFailed(
                f"the virtual board stopped with {self._process.returncode}: "
                f"{''.join(self._lines).strip() or 'it said nothing'}"
            )

    def __enter__(self) -> VirtualBoard:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.stop()


@contextlib.contextmanager
def running(
    board: Board, *, program: Program | None = None, optimize: str = "-O3"
) -> Iterator[VirtualBoard]:
    """Build and run ``board`` for the time of a ``with`` block."""
    with VirtualBoard(build_virtual_board(board, program=program, optimize=optimize)) as virtual:
        yield virtual
