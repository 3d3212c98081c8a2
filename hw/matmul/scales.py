"""Scales of groups of weights: a multiplier at the foot of every column of the array."""

from __future__ import annotations

from amaranth.hdl import Const, Module, Mux, Shape, Signal, signed, unsigned
from amaranth.lib import data, wiring
from amaranth.lib.memory import Memory
from amaranth.lib.wiring import In, Out

from intformer.config import CoreConfig
from intformer.hw.parts.lut_product import LutProduct
from intformer.hw.parts.product import Product
from intformer.hw.parts.streams import delay
from intformer.reference.groups import GROUP_SCALE_BITS

__all__ = ["SLOTS", "GroupScales", "ScaleSlot"]

SLOTS = 16
"""Groups whose scales are held at once: as many as one primitive of distributed RAM has."""


class ScaleSlot(data.StructLayout):
    """Which scales a tile has: those in ``slot`` if ``scaled``, else 1."""

    def __init__(self) -> None:
        super().__init__({"slot": range(SLOTS), "scaled": 1})


class GroupScales(wiring.Component):
    """Multiplies the sums that leave the array by the scales of their tile's group.

    Parameters
    ----------
    config: the core; its ``multipliers`` says what multiplies.
    psum: shape of the array's sums.
    together: columns whose sums leave the array in the same cycle.
    target: family whose multiplier blocks to use; see :class:`intformer.hw.parts.mul18.Mul18`.

    Members
    -------
    write: ``In(1)``, slot: ``In``, scales: ``In``; put the scales of all columns into a slot.
    tile: ``In(ScaleSlot)``; of the tile whose sum leaves column 0 one cycle later.
    psum: ``In``; the sums at the foot of the array, column ``c`` ``c // together`` cycles late.
    o: ``Out``; the products, as late as the sums and :attr:`latency` cycles more.
    """

    def __init__(
        self, config: CoreConfig, *, psum: Shape, together: int = 1, target: str | None = None
    ) -> None:
        self._config, self._psum = config, Shape.cast(psum)
        self._together, self._target = together, target
        cols = config.cols
        super().__init__(
            {
                "write": In(1),
                "slot": In(range(SLOTS)),
                "scales": In(data.ArrayLayout(unsigned(GROUP_SCALE_BITS), cols)),
                "tile": In(ScaleSlot()),
                "psum": In(data.ArrayLayout(psum, cols)),
                "o": Out(data.ArrayLayout(self.shape_of(psum), cols)),
            }
        )

    @staticmethod
    def shape_of(psum: Shape) -> Shape:
        """Shape of a scaled sum."""
        return signed(Shape.cast(psum).width + GROUP_SCALE_BITS)

    @staticmethod
    def latency_of(config: CoreConfig, psum: Shape) -> int:
        """:attr:`latency` for sums of this shape."""
        width = Shape.cast(psum).width
        if config.multipliers == "luts":
            return LutProduct.latency_of(width, GROUP_SCALE_BITS)
        return Product.latency_of(width, GROUP_SCALE_BITS + 1)

    @property
    def latency(self) -> int:
        """Cycles from a sum to its product."""
        return self.latency_of(self._config, self._psum)

    def elaborate(self, _platform: object) -> Module:
        m = Module()
        # One more register: the memories lie all along the foot of the array.
        write, slot, scales = Signal(), Signal.like(self.slot), Signal.like(self.scales)
        m.d.sync += [write.eq(self.write), slot.eq(self.slot), scales.eq(self.scales)]
        tile = self.tile
        for column in range(self._config.cols):
            if column and column % self._together == 0:
                tile = delay(m, tile, 1, name=f"tile_{column}", reset_less=True)
            memory = Memory(
                shape=GROUP_SCALE_BITS,
                depth=SLOTS,
                init=[],
                attrs={"no_rw_check": 1, "ram_style": "distributed"},
            )
            m.submodules[f"memory_{column}"] = memory
            port, read = memory.write_port(), memory.read_port(domain="comb")
            scale = Signal(GROUP_SCALE_BITS, name=f"scale_{column}", reset_less=True)
            m.d.comb += [
                port.en.eq(write),
                port.addr.eq(slot),
                port.data.eq(scales[column]),
                read.addr.eq(tile.slot),
            ]
            m.d.sync += scale.eq(Mux(tile.scaled, read.data, Const(1, GROUP_SCALE_BITS)))
            self._multiply(m, column, scale)
        return m

    def _multiply(self, m: Module, column: int, scale: Signal) -> None:
        if self._config.multipliers == "luts":
            product = LutProduct(a=self._psum, b=unsigned(GROUP_SCALE_BITS), target=self._target)
        else:
            product = Product(
                a_bits=self._psum.width, b_bits=GROUP_SCALE_BITS + 1, target=self._target
            )
        m.submodules[f"product_{column}"] = product
        m.d.comb += [
            product.a.eq(self.psum[column]),
            product.b.eq(scale),
            self.o[column].eq(product.o),
        ]
