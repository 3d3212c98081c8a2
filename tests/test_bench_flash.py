"""The bench of the flash controller: what it measures, says and keeps."""

from __future__ import annotations

import json

import pytest

from intformer import results
from intformer.bench import flash

KINDS = ("linear", "linear_one_at_a_time", "random", "random_beats")


def test_linear_bursts_take_all_of_the_pins():
    figures = flash.measure(flash.CASES["icebreaker"], bursts=6, simulator="icarus")
    assert figures["pin_bytes_per_second"] == 6e6
    assert 0.99 < figures["linear"]["share"] <= 1.01  # the first beat is not counted, its place is
    for kind in KINDS[1:]:
        assert figures[kind]["share"] < figures["linear"]["share"]
    assert figures["latency_cycles"]["least"] <= figures["latency_cycles"]["most"] < 50


@pytest.fixture
def measured(monkeypatch, tmp_path):
    """Figures out of nothing, kept in a folder of their own."""
    monkeypatch.setattr(results, "RESULTS", tmp_path)

    def measure(case, *, bursts, simulator):
        kind = {"beats": 10, "cycles": 40, "share": 0.987, "bytes_per_second": 5.9e6}
        return {
            "chip": case.chip.name,
            "bus_bytes": case.bus_bytes,
            "clock_hz": case.clock_hz,
            "spi_clock_hz": case.clock_hz / 2,
            "pin_bytes_per_second": case.clock_hz / 4,
            "latency_cycles": {"least": 30, "most": 36},
            "start_up_cycles": 400,
            **dict.fromkeys(KINDS, kind),
        }

    monkeypatch.setattr(flash, "measure", measure)
    return tmp_path


def test_figures_are_kept(measured, capsys):
    assert flash.main([]) == 0
    assert set(json.loads((measured / "flash.json").read_text())["cases"]) == set(flash.CASES)
    page = (measured / "flash.md").read_text()
    assert "| icebreaker | W25Q128JV | 1 | 24 / 12 | 6 | 98.7% (5.90) |" in page
    assert "| 30 to 36 | 400 |" in page
    assert page.splitlines()[0] in capsys.readouterr().out


def test_dry_keeps_nothing(measured, capsys):
    assert flash.main(["--dry"]) == 0
    assert not list(measured.iterdir())
