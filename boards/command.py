"""The commands ``boards``, ``bitstream`` and ``virtual-board``."""

from __future__ import annotations

import argparse
import signal
from pathlib import Path
from typing import Any

from intformer.boards import all_boards, find_board
from intformer.boards.board import QUICK_DIVISOR, Board
from intformer.errors import UserError
from intformer.fpga.core import by_block, share
from intformer.fpga.tools import Progress
from intformer.program import Program

__all__ = [
    "add_bitstream_arguments",
    "add_virtual_arguments",
    "run_bitstream",
    "run_boards",
    "run_virtual",
]


def add_bitstream_arguments(parser: argparse.ArgumentParser) -> None:
    """The arguments of ``intformer bitstream``."""
    _board_arguments(parser)
    parser.add_argument("-o", "--output", metavar="DIR", required=True, help="folder to write")
    parser.add_argument(
        "--embed", action="store_true", help="put the model OUT into the bitstream (block RAM)"
    )
    parser.add_argument(
        "--seeds", type=int, default=1, metavar="N", help="placements to try; the fastest counts"
    )
    parser.add_argument("--jobs", type=int, metavar="N", help="placements at a time")
    parser.add_argument(
        "--native", action="store_true", help="take yosys and nextpnr from the PATH, not from pip"
    )


def add_virtual_arguments(parser: argparse.ArgumentParser) -> None:
    """The arguments of ``intformer virtual-board``."""
    _board_arguments(parser)
    parser.add_argument("--pty-link", metavar="PATH", help="make PATH a link to the serial port")
    parser.add_argument(
        "--divisor",
        type=int,
        default=QUICK_DIVISOR,
        metavar="N",
        help=f"core cycles per bit of the UART (default: {QUICK_DIVISOR}; boards have more)",
    )
    parser.add_argument(
        "--optimize",
        choices=("0", "1", "2", "3"),
        default="3",
        help="of the C++ compiler: 0 builds in seconds, 3 runs several times as fast (default)",
    )


def _board_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--board", metavar="NAME", required=True, help="see `intformer boards`")
    parser.add_argument(
        "model",
        metavar="OUT",
        nargs="?",
        help="folder of a compiled model, for a board whose memory is in the bitstream",
    )


def _program(args: argparse.Namespace) -> Program | None:
    from intformer import api

    return api.load(args.model).program if args.model else None


def run_boards() -> tuple[dict[str, Any], bool]:
    """Print the table of boards."""
    figures = {name: board_figures(board) for name, board in all_boards().items()}
    for name, board in all_boards().items():
        print(describe_board(board, figures[name]))
    return figures, True


def board_figures(board: Board) -> dict[str, Any]:
    """What ``intformer boards`` says of a board, as plain data."""
    config = board.config
    measured = _measured(board)
    return {
        "title": board.title,
        "device": board.device.name,
        "part": board.device.part,
        "memory": board.memory.describe(),
        "memory_bytes": board.memory.size,
        "peak_bytes_per_second": board.peak_bytes,
        "host": board.host,
        "baud": board.actual_hz / board.divisor,
        "preset": board.preset,
        "rows": config.rows,
        "cols": config.cols,
        "clock_mhz": board.actual_hz / 1e6,
        "fmax_mhz": measured.get("fmax_mhz"),
        "flash": board.flash.format(bitstream=f"{board.name}.BIT"),
    }


def _measured(board: Board) -> dict[str, Any]:
    """The kept figures of a board, if this is a checkout of the project that has them."""
    from intformer.bench.units import kept

    figures: dict[str, Any] = kept("boards").get("boards", {}).get(board.name, {})
    return figures


def describe_board(board: Board, figures: dict[str, Any]) -> str:
    """Readable text of :func:`board_figures`."""
    fmax = figures["fmax_mhz"]
    reached = f", Fmax {fmax:.1f} MHz" if fmax else ""
    rows = (
        ("device", f"{figures['device']} ({figures['part']})"),
        ("memory", f"{figures['memory']}, {figures['peak_bytes_per_second'] / 1e6:.1f} MB/s peak"),
        ("host", f"{figures['host']}, {figures['baud'] / 1e6:g} Mbaud"),
        ("core", f"{board.preset}: {figures['rows']}x{figures['cols']} array"),
        ("clock", f"{figures['clock_mhz']:g} MHz{reached}"),
        ("flash", figures["flash"]),
    )
    lines = [f"{board.name}: {figures['title']}"]
    return "\n".join([*lines, *(f"  {name:<7} {text}" for name, text in rows)])


def run_bitstream(args: argparse.Namespace, progress: Progress) -> tuple[dict[str, Any], bool]:
    """Build a bitstream and print what it takes."""
    from intformer.boards.bitstream import build_bitstream
    from intformer.boards.system import check_program

    board = find_board(args.board)
    if args.seeds < 1:
        raise UserError(f"--seeds must be at least 1, not {args.seeds}")
    if args.embed and not args.model:
        raise UserError("--embed needs the folder OUT of a compiled model")
    out = Path(args.output)
    if out.exists() and not out.is_dir():
        raise UserError(f"cannot write {out}: it is a file")
    program = _program(args)
    if program is not None:
        check_program(board, program)
    figures = build_bitstream(
        board,
        out=out,
        program=program if args.embed else None,
        seeds=range(1, args.seeds + 1),
        native=args.native,
        jobs=args.jobs,
        progress=progress,
    )
    print(describe_bitstream(figures))
    return figures, True


def describe_bitstream(figures: dict[str, Any]) -> str:
    """Readable text of the figures of a build."""
    lines = [f"{figures['board']}: {figures['device']} ({figures['part']}), {figures['preset']}"]
    for name, entry in figures["resources"].items():
        lines.append(f"  {name:<6} {entry['used']:>7} of {entry['available']:>7}  {share(entry)}")
    seeds = ", ".join(f"{mhz:.1f} ({seed})" for seed, mhz in figures["fmax_seeds"].items())
    lines.append(
        f"  Fmax   {figures['fmax_mhz']:.1f} MHz, clock {figures['clock_mhz']:g} MHz; "
        f"by seed: {seeds}"
    )
    if figures["timing_note"]:
        lines.append(f"  note: {figures['timing_note']}")
    if path := figures["critical_path"]:
        lines.append(f"  critical path, {sum(step['delay_ns'] for step in path):.2f} ns:")
        lines += [
            f"    {step['delay_ns']:6.2f}  {step['from']} -> {step['to']}"
            for step in by_block(path)
        ]
    lines.append(f"  {figures['bitstream']}, {figures['bytes']} bytes; to the board with")
    lines.append(f"    {figures['flash']}")
    return "\n".join(lines)


def run_virtual(args: argparse.Namespace, progress: Progress) -> tuple[dict[str, Any], bool]:
    """Run a virtual board until it is interrupted."""
    from intformer.boards.virtual import VirtualBoard, build_virtual_board

    board = find_board(args.board)
    if not 4 <= args.divisor < 1 << 16:
        raise UserError(f"--divisor must be from 4 to 65535, not {args.divisor}")
    program = _program(args)
    progress(f"build {board.name} with Verilator")
    built = build_virtual_board(
        board, program=program, divisor=args.divisor, optimize=f"-O{args.optimize}"
    )
    # A shell starts what it puts in the background with SIGINT ignored.
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.default_int_handler)
    virtual = VirtualBoard(built, link=Path(args.pty_link) if args.pty_link else None)
    print(f"port: {virtual.port}", flush=True)
    try:
        virtual.wait()
    except KeyboardInterrupt:
        virtual.stop()
    print(f"cycles: {virtual.cycles}")
    return {"board": board.name, "port": virtual.port, "cycles": virtual.cycles}, True
