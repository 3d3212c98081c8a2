"""SDR SDRAM chips: geometry and data-sheet timing, in cycles of a clock, and their pins."""

from __future__ import annotations

import math
from dataclasses import dataclass

from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out

__all__ = ["CHIPS", "SdramChip", "SdramPins", "SdramTiming"]


@dataclass(frozen=True, kw_only=True)
class SdramTiming:
    """A chip's timing in cycles of one clock.

    Attributes
    ----------
    cas: CAS latency.
    rcd, rp, ras, rc, rfc, wr, rrd, mrd: least distances between commands.
    refresh: cycles from one refresh to the next, on average.
    power_up: cycles from stable power and clock to the first command.
    """

    cas: int
    rcd: int
    rp: int
    ras: int
    rc: int
    rfc: int
    wr: int
    rrd: int
    mrd: int
    refresh: int
    power_up: int


@dataclass(frozen=True, kw_only=True)
class SdramChip:
    """A chip with four banks.

    Attributes
    ----------
    name: of the part.
    data_bits: width, 16 or 32.
    row_bits, col_bits: a bank has ``2 ** row_bits`` rows of ``2 ** col_bits`` words.
    t_rcd: ns from the activation of a row to a column command.
    t_rp: ns from precharge to activation or refresh.
    t_ras, t_ras_max: ns from activation to precharge, at least and at most.
    t_rc: ns from activation to activation, same bank.
    t_rfc: ns from a refresh to the next command.
    t_wr, wr_clocks: ns, and clocks, from the last written word to precharge: the longer counts.
    t_rrd: ns from activation to activation, different banks.
    t_mrd, mrd_clocks: ns, and clocks, from a mode register set to the next command.
    t_ck: shortest clock period in ns by CAS latency.
    t_hz: ns from the clock until the outputs have let go of the bus.
    refresh_ms, refresh_rows: so many refreshes in that time.
    power_up_us: pause after power-up.
    source: where the figures come from.
    """

    name: str
    data_bits: int
    row_bits: int
    col_bits: int
    t_rcd: float
    t_rp: float
    t_ras: float
    t_ras_max: float
    t_rc: float
    t_rfc: float
    t_wr: float
    wr_clocks: int
    t_rrd: float
    t_mrd: float
    mrd_clocks: int
    t_ck: tuple[tuple[int, float], ...]
    t_hz: float
    refresh_ms: float = 64.0
    refresh_rows: int
    power_up_us: float = 200.0
    source: str

    def __post_init__(self) -> None:
        if self.data_bits not in (16, 32):
            raise ValueError(f"data_bits must be 16 or 32, not {self.data_bits!r}")
        for name, low, high in (("row_bits", 11, 13), ("col_bits", 8, 10)):
            value = getattr(self, name)
            if not low <= value <= high:
                raise ValueError(f"{name} must be from {low} to {high}, not {value!r}")
        if not self.t_ck or any(cas not in (2, 3) for cas, _ in self.t_ck):
            raise ValueError(f"t_ck must be of CAS latencies 2 and 3, not {self.t_ck!r}")

    @property
    def data_bytes(self) -> int:
        """Bytes of a word."""
        return self.data_bits // 8

    @property
    def page_bytes(self) -> int:
        """Bytes of a row of one bank."""
        return self.data_bytes << self.col_bits

    @property
    def size(self) -> int:
        """Bytes of the chip."""
        return 4 * self.page_bytes << self.row_bits

    @property
    def t_refi(self) -> float:
        """ns from one refresh to the next, on average."""
        return self.refresh_ms * 1e6 / self.refresh_rows

    def timing(self, clock_hz: float) -> SdramTiming:
        """The timing at ``clock_hz``, with the smallest CAS latency that it allows.

        Raises
        ------
        ValueError
            If the clock is too fast for the chip, or too slow to refresh it.
        """
        period = 1e9 / clock_hz

        def cycles(ns: float, least: int = 1) -> int:
            return max(least, math.ceil(ns / period - 1e-6))

        allowed = [cas for cas, least in sorted(self.t_ck) if period >= least - 1e-6]
        if not allowed:
            fastest = 1e3 / min(least for _, least in self.t_ck)
            raise ValueError(
                f"clock_hz must be at most {fastest:.1f} MHz for {self.name}, not {clock_hz!r}"
            )
        # Half a cycle less, at least, which adds up to over a thousand until a row's turn comes
        # again: a refresh may be late by the length of the transfers that it waits for.
        refresh = math.floor(self.t_refi / period - 0.5 + 1e-6)
        if refresh < 64:
            slowest = 64e3 / self.t_refi
            raise ValueError(
                f"clock_hz must be at least {slowest:.1f} MHz for {self.name}, not {clock_hz!r}"
            )
        return SdramTiming(
            cas=allowed[0],
            rcd=cycles(self.t_rcd),
            rp=cycles(self.t_rp),
            ras=cycles(self.t_ras),
            rc=cycles(self.t_rc),
            rfc=cycles(self.t_rfc),
            wr=cycles(self.t_wr, self.wr_clocks),
            rrd=cycles(self.t_rrd),
            mrd=cycles(self.t_mrd, self.mrd_clocks),
            refresh=refresh,
            power_up=cycles(self.power_up_us * 1e3),
        )


class SdramPins(wiring.Signature):
    """The chip's pins as the controller drives them: active high, without the clock.

    Members
    -------
    clk_en, cs, ras, cas, we: ``Out(1)``; the board inverts all but ``clk_en``.
    ba: ``Out(2)``; a: ``Out(row_bits)``.
    dqm: ``Out(data_bits / 8)``; 1 masks a byte.
    dq_o, dq_i: ``Out``, ``In``, of ``data_bits``; dq_oe: ``Out(1)``.
    """

    def __init__(self, chip: SdramChip) -> None:
        super().__init__(
            {
                "clk_en": Out(1),
                "cs": Out(1),
                "ras": Out(1),
                "cas": Out(1),
                "we": Out(1),
                "ba": Out(2),
                "a": Out(chip.row_bits),
                "dqm": Out(chip.data_bytes),
                "dq_o": Out(chip.data_bits),
                "dq_oe": Out(1),
                "dq_i": In(chip.data_bits),
            }
        )


def _64_mbit(name: str, *, source: str) -> SdramChip:
    """2 M x 32 bits of speed grade -7."""
    return SdramChip(
        name=name,
        data_bits=32,
        row_bits=11,
        col_bits=8,
        t_rcd=21.0,
        t_rp=21.0,
        t_ras=49.0,
        t_ras_max=100e3,
        t_rc=70.0,
        t_rfc=70.0,
        t_wr=14.0,
        wr_clocks=2,
        t_rrd=14.0,
        t_mrd=14.0,
        mrd_clocks=2,
        t_ck=((2, 10.0), (3, 7.0)),
        t_hz=6.0,
        refresh_rows=4096,
        source=source,
    )


CHIPS = {
    chip.name: chip
    for chip in (
        SdramChip(
            name="AS4C16M16SA-7",
            data_bits=16,
            row_bits=13,
            col_bits=9,
            t_rcd=21.0,
            t_rp=21.0,
            t_ras=42.0,
            t_ras_max=120e3,
            t_rc=63.0,
            t_rfc=63.0,
            t_wr=14.0,
            wr_clocks=2,
            t_rrd=14.0,
            t_mrd=14.0,
            mrd_clocks=2,
            t_ck=((2, 10.0), (3, 7.0)),
            t_hz=5.4,
            refresh_rows=8192,
            source="Alliance Memory AS4C16M16SA-C&I, rev. 3.0 (March 2015), table 16, column -7; "
            "two clocks at least for tWR and tMRD, as other makers of this part ask",
        ),
        _64_mbit(
            "EM638325-7",
            source="Etron EM638325, grade -7, for boards that carry the faster EM638325BK-6H or "
            "ESMT's M12L64322A-6; tRAS and tRC are 49 and 70 ns as in that maker's later -7 parts "
            "(EM639325, EM638165), where the EM638325 has 42 and 63",
        ),
        _64_mbit(
            "GW2AR-18",
            source="Gowin publishes organization (2,048 rows x 256 columns x 4 banks x 32 bits) "
            "and clock, but no AC table, of the 64 Mbit SDRAM in the GW2AR-18's package; the "
            "figures are those of EM638325-7, a part of that organization",
        ),
    )
}
"""Chips by name: of the ULX3S (32 MB), Colorlight i5 and i9 (8 MB), Tang Nano 20K (8 MB)."""
