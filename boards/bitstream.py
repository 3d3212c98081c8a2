"""From a board to its bitstream: generate, synthesize, place, route, check the clock, pack.

Every seed's result is kept in ``~/.cache/intformer/boards`` under a digest of the design, the pins,
the device, the clock and the versions of the tools.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict
from importlib import metadata
from pathlib import Path
from typing import Any

from intformer.boards.board import Board, OnChipMemory
from intformer.boards.embed import filler, replace_content
from intformer.boards.system import System, image_of
from intformer.errors import BuildFailed, UserError
from intformer.fpga.flow import TOP, Placement, place_and_route, placed_file, synthesize
from intformer.fpga.harness import count_flip_flops
from intformer.fpga.tools import Progress, on_path, run_tool, tool_versions
from intformer.hw.verilog import cache_dir
from intformer.program import Program

__all__ = ["STEPS", "build_bitstream", "design"]

STEPS = 5
"""Steps that are told as progress."""

SUFFIX = {"ecp5": "bit", "ice40": "bin", "gowin": "fs"}
"""Ending of a bitstream, by family."""

_PINS = {"ecp5": "top.lpf", "ice40": "top.pcf", "gowin": "top.cst"}
"""Amaranth's file of the pins' places, by family."""


def design(board: Board, *, image: bytes = b"") -> tuple[str, str]:
    """The RTLIL of ``board``'s whole design, module ``top``, and its pins for nextpnr.

    ``image``: what block RAM holds from configuration on.

    Raises
    ------
    UserError
        If the boards' pins are not installed.
    """
    from intformer.boards.top import BoardTop

    system = System(board, image=image, target=board.device.target)
    try:
        platform = board.platform()
    except ModuleNotFoundError as error:
        raise UserError(
            f"{error.name} is not installed; try `pip install intformer[fpga]`"
        ) from None
    plan = platform.prepare(BoardTop(system), "top", emit_src=False)
    return _text(plan.files["top.il"]), _text(plan.files[_PINS[board.device.target]])


def _text(content: str | bytes) -> str:
    return content if isinstance(content, str) else content.decode()


def build_bitstream(
    board: Board,
    *,
    out: Path,
    program: Program | None = None,
    seeds: Sequence[int] = (1,),
    native: bool = False,
    jobs: int | None = None,
    progress: Progress,
) -> dict[str, Any]:
    """Build the bitstream of ``board`` into the folder ``out``; return its figures.

    Parameters
    ----------
    program: put its image into block RAM. On an ECP5, all programs share one placement.
    seeds: placements to try, ``jobs`` at a time (as many as there are cores, if None); the fastest
        is packed.
    native: run yosys and nextpnr from the ``PATH``.

    Returns
    -------
    dict
        ``board``, ``device``, ``part``, ``clock_mhz``, ``fmax_mhz``, ``seed``, ``fmax_seeds``,
        ``resources``, ``critical_path``, ``versions``, ``seconds`` (that synthesis and the
        seed took when they were built), ``bitstream`` (its path), ``flash`` (the command).

    Raises
    ------
    UserError
        If ``program`` is not for this board.
    DeviceTooSmall
        If the design does not fit.
    BuildFailed
        If a tool fails, or no seed meets the clock; the message says by how much.
    """
    if not seeds:
        raise UserError("give at least one seed")
    progress(f"[1/{STEPS}] generate {board.name}: core {board.preset}, {board.memory.describe()}")
    image = image_of(board, program) if program is not None else b""
    # One placement for every program, if its content can be replaced afterwards.
    replaces = bool(image) and board.device.target == "ecp5"
    content = filler(board.memory.size) if replaces else image
    source, pins = design(board, image=content)
    versions = _versions(board, native=native)
    cache = cache_dir() / "boards" / _digest(board, source, pins, versions)
    missing = [seed for seed in seeds if not (cache / f"{seed}.json").exists()]
    if missing:
        cache.mkdir(parents=True, exist_ok=True)
        _build_seeds(
            board, source, pins, missing, cache=cache, native=native, jobs=jobs, progress=progress
        )
    else:
        progress(f"[2-3/{STEPS}] unchanged since it was built: {cache}")
    results = {seed: json.loads((cache / f"{seed}.json").read_text()) for seed in seeds}
    best = max(results, key=lambda seed: results[seed]["fmax_mhz"])
    figures = _figures(board, results, best=best, versions=versions, program=program)
    progress(
        f"[4/{STEPS}] timing: {figures['fmax_mhz']:.1f} MHz, asked for "
        f"{figures['clock_mhz']:.2f} MHz"
    )
    if figures["fmax_mhz"] < figures["clock_mhz"]:
        raise BuildFailed(_too_slow(board, figures))
    bitstream = out / f"{board.name}.{SUFFIX[board.device.target]}"
    placed = cache / f"placed-{best}.{board.device.placed[1]}"
    name = f"{best}-{hashlib.sha256(image).hexdigest()[:24]}"
    packed = cache / f"{name}.{SUFFIX[board.device.target]}"
    if not packed.exists():
        progress(f"[5/{STEPS}] pack")
        if replaces:
            filled = cache / f"{name}.{os.getpid()}.config"
            replace_content(
                placed,
                filled,
                old=content,
                new=image,
                word_bytes=board.config.bus_bytes,
                ecpbram=on_path("ecpbram") if native else None,
            )
            _pack(board, filled, packed, native=native)
            filled.unlink()
        else:
            _pack(board, placed, packed, native=native)
    out.mkdir(parents=True, exist_ok=True)
    shutil.copyfile(packed, bitstream)
    figures |= {
        "bitstream": str(bitstream),
        "bytes": bitstream.stat().st_size,
        "flash": board.flash.format(bitstream=bitstream),
    }
    progress(f"[5/{STEPS}] {bitstream}: {figures['bytes']} bytes")
    return figures


def _versions(board: Board, *, native: bool) -> dict[str, str]:
    names = ["amaranth-boards"] + (["apycula"] if board.device.target == "gowin" else [])
    versions = tool_versions([board.device], native=native)
    return versions | {name: metadata.version(name) for name in names}


def _digest(board: Board, source: str, pins: str, versions: dict[str, str]) -> str:
    device = board.device
    steps = [*device.steps, device.arguments, board.pack]
    what = [source, pins, steps, board.actual_hz, sorted(versions.items())]
    return hashlib.sha256(json.dumps(what).encode()).hexdigest()[:32]


def _build_seeds(
    board: Board,
    source: str,
    pins: str,
    seeds: Sequence[int],
    *,
    cache: Path,
    native: bool,
    jobs: int | None,
    progress: Progress,
) -> None:
    """Synthesize once, place and route every seed; keep results, leave logs in the cache."""
    start = time.monotonic()
    where = cache / f"build.{os.getpid()}"
    progress(f"[2/{STEPS}] synthesize for {board.device.name}")
    netlist = synthesize(source, device=board.device, build=where, progress=progress, native=native)
    synthesis_s = time.monotonic() - start
    flip_flops = count_flip_flops(netlist, top=TOP)

    def one(seed: int) -> None:
        begun = time.monotonic()
        (placement,) = place_and_route(
            netlist,
            device=board.device,
            seeds=[seed],
            target_mhz=board.actual_hz / 1e6,
            pins=pins,
            native=native,
            progress=progress if len(seeds) == 1 else lambda text: progress(f"{seed}: {text}"),
        )
        result = _result(placement) | {
            "seconds": {"synthesis": synthesis_s, "placement": time.monotonic() - begun}
        }
        # Where a cell holds a LUT and a flip-flop, nextpnr counts cells only.
        cells = result["resources"]["LUT4"]["available"]
        result["resources"].setdefault("FF", {"used": flip_flops, "available": cells})
        placed = placed_file(netlist, device=board.device, seed=seed)
        placed.replace(cache / placed.name)
        partial = cache / f"{seed}.{os.getpid()}"
        partial.write_text(json.dumps(result))
        partial.replace(cache / f"{seed}.json")

    progress(f"[3/{STEPS}] place and route, seed {', '.join(map(str, seeds))}")
    with ThreadPoolExecutor(max_workers=jobs or os.cpu_count() or 1) as pool:
        for done in [pool.submit(one, seed) for seed in seeds]:
            done.result()
    shutil.rmtree(where)


def _result(placement: Placement) -> dict[str, Any]:
    result = asdict(placement)
    del result["router"]
    return result


def _figures(
    board: Board,
    results: dict[int, dict[str, Any]],
    *,
    best: int,
    versions: dict[str, str],
    program: Program | None,
) -> dict[str, Any]:
    result = results[best]
    return {
        "board": board.name,
        "title": board.title,
        "device": board.device.name,
        "part": board.device.part,
        "timing_note": board.device.timing_note,
        "preset": board.preset,
        "memory": board.memory.describe(),
        "embedded": program is not None and isinstance(board.memory, OnChipMemory),
        "clock_mhz": board.actual_hz / 1e6,
        "fmax_mhz": result["fmax_mhz"],
        "seed": best,
        "fmax_seeds": {str(seed): each["fmax_mhz"] for seed, each in results.items()},
        "resources": result["resources"],
        "critical_path": result["path"],
        "versions": versions,
        "seconds": result["seconds"],
    }


def _too_slow(board: Board, figures: dict[str, Any]) -> str:
    """Why the build fails: by how much, and on which way."""
    clock, fmax = figures["clock_mhz"], figures["fmax_mhz"]
    short = 1e3 / fmax - 1e3 / clock if fmax else 0.0
    blocks: list[str] = []
    for step in figures["critical_path"]:
        blocks += [block for block in (step["from"], step["to"]) if block not in blocks[-1:]]
    seeds = ", ".join(f"{mhz:.1f} ({seed})" for seed, mhz in figures["fmax_seeds"].items())
    return (
        f"{board.name} misses its clock of {clock:.2f} MHz: {fmax:.2f} MHz, "
        f"{short:.2f} ns too slow; MHz by seed: {seeds}; "
        f"critical path: {' -> '.join(blocks)}; try --seeds N"
    )


def _pack(board: Board, placed: Path, bitstream: Path, *, native: bool) -> None:
    """Make the bitstream of a placed and routed design."""
    options = list(board.pack)
    part = f"{bitstream.name}.{os.getpid()}"
    files = [placed.name, part]
    if board.device.target == "ecp5":
        tool, module, arguments = "ecppack", board.device.nextpnr, [*options, *files]
    elif board.device.target == "ice40":
        tool, module, arguments = "icepack", board.device.nextpnr, [*options, *files]
    else:
        tool, module, arguments = (
            "gowin_pack",
            "apycula.gowin_pack",
            [*options, "-o", part, files[0]],
        )
    run_tool(
        module,
        tool,
        arguments,
        build=placed.parent,
        log=f"{tool}.log",
        native=native,
        entry="main" if tool == "gowin_pack" else None,
    )
    (placed.parent / part).replace(bitstream)
