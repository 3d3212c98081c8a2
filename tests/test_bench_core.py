"""Whole cores: what is said and kept of them. The tools do not run here."""

from __future__ import annotations

import json

import pytest

from intformer import results
from intformer.bench import core as bench_core
from intformer.bench import units
from intformer.cli import main
from intformer.fpga import core as fpga_core
from intformer.fpga.measure import Cost

PATH = [
    {"delay_ns": 0.5, "type": "clk-to-q", "from": "post.sum", "to": "post.sum"},
    {"delay_ns": 3.5, "type": "routing", "from": "post.sum", "to": "post.shift"},
]


@pytest.fixture
def kept(tmp_path, monkeypatch):
    """A folder of results of its own."""
    monkeypatch.setattr(units, "RESULTS", tmp_path)
    monkeypatch.setattr(results, "RESULTS", tmp_path)
    return tmp_path


@pytest.fixture
def measured(monkeypatch):
    """The options of every measurement; each gives a cost."""
    calls = []

    def measure(component, **options):
        calls.append(options)
        device = options["device"]
        if device.name == "iCE40UP5K":
            return Cost(device=device.name, target_mhz=50, router=None, too_small="DSP 9 of 8")
        return Cost(
            device=device.name,
            target_mhz=options["target_mhz"],
            router=options["router"],
            resources={"LUT4": {"used": 500, "available": 1000}},
            fmax={seed: 100.0 + seed for seed in options["seeds"]},
            path=PATH,
        )

    monkeypatch.setattr(fpga_core, "measure", measure)
    return calls


def test_synth_prints_area_median_and_path(measured, capsys):
    assert main(["synth", "--config", "tiny", "--seed", "1", "2", "3", "--mhz", "120"]) == 0
    out = capsys.readouterr().out
    assert "core tiny on LFE5U-85F (CABGA381, speed grade 6)" in out
    assert "LUT4       500 of    1000   50.0 %" in out
    assert "Fmax   102.0 MHz, routed, asked for 120 MHz; by seed: 101.0 (1), 102.0 (2)" in out
    assert "critical path, 4.00 ns:" in out and "post.sum -> post.shift" in out
    assert measured[0]["router"] == "router1"


def test_synth_estimates_without_routing(measured, capsys):
    assert main(["synth", "--config", "tiny", "--router", "none", "--device", "GW2A-18"]) == 0
    out = capsys.readouterr().out
    assert "estimated, not routed" in out
    assert "note: paths through DSPs are not in nextpnr's timing" in out


def test_synth_fails_where_the_core_does_not_fit(measured, capsys):
    assert main(["synth", "--config", "tiny", "--device", "iCE40UP5K"]) == 1
    assert "does not fit: DSP 9 of 8" in capsys.readouterr().out


def test_synth_lists_the_devices(capsys):
    assert main(["synth", "--config", "tiny", "--device", "XC7A35T"]) == 2
    assert "device must be one of LFE5U-25F, " in capsys.readouterr().err


def test_one_core_replaces_its_own_figures_only(kept, measured, capsys):
    assert bench_core.main(["--only", "gowin", "--seeds", "1"]) == 0
    assert bench_core.main(["--only", "lfe5u-85f", "--seeds", "1", "2", "3"]) == 0
    cores = json.loads((kept / "core.json").read_text())["cores"]
    assert list(cores) == ["gowin", "lfe5u-85f"]
    assert cores["lfe5u-85f"]["fmax_mhz"] == 102.0
    page = (kept / "core.md").read_text()
    assert "| lfe5u-85f | LFE5U-85F | 500 (50.0 %) | 102.0 MHz | 101.0 / 102.0 / 103.0 |" in page
    assert "Note: paths through DSPs are not in nextpnr's timing." in page
    assert "Critical path, 4.00 ns:" in page


def test_a_core_that_does_not_fit_is_kept_and_fails(kept, measured, capsys):
    assert bench_core.main(["--only", "ice40"]) == 1
    assert "Does not fit: DSP 9 of 8." in (kept / "core.md").read_text()


def test_dry_keeps_nothing(kept, measured, capsys):
    assert bench_core.main(["--only", "gowin", "--dry"]) == 0
    assert not list(kept.iterdir())
