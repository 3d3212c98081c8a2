"""Cycles of the row pipelines as plain numbers, for the components and the cycle model alike."""

from __future__ import annotations

from dataclasses import dataclass

from intformer.hw.parts.streams import row_beats

__all__ = ["RowTiming"]


@dataclass(frozen=True, kw_only=True)
class RowTiming:
    """How long a row pipeline takes.

    Attributes
    ----------
    lanes: elements per beat.
    latency_of_beat: cycles from a row of one beat to its result.
    passes: times that a row is gone through, one after the other.
    serial_cycles: least cycles from one row to the next, whatever their length.
    """

    lanes: int
    latency_of_beat: int
    passes: int
    serial_cycles: int

    def latency(self, n: int) -> int:
        """Cycles from the first beat of a row of ``n`` elements to the last of its result.

        For a row alone, without stalls from outside.
        """
        return self.latency_of_beat + self.passes * (row_beats(n, self.lanes) - 1)

    def row_cycles(self, n: int) -> int:
        """Cycles from one row of ``n`` elements to the next, without stalls from outside."""
        return max(row_beats(n, self.lanes), self.serial_cycles)
