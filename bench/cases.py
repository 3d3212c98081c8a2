"""The kinds of entries in the catalogue."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from amaranth.lib import wiring

__all__ = ["ALL_DEVICES", "CostCase", "ErrorCase", "OracleCase"]

ALL_DEVICES = ("LFE5U-85F", "iCE40UP5K", "GW2A-18")


@dataclass(frozen=True, kw_only=True)
class CostCase:
    """A component whose area and clock are measured.

    Attributes
    ----------
    unit: name of the class.
    configuration: what distinguishes this case, as text; unique among the unit's cases.
    build: makes the component for a target (``ecp5``, ``ice40``, ``gowin``).
    devices: where it is placed and routed.
    rival: whether it is here for comparison only.
    """

    unit: str
    configuration: str
    build: Callable[[str], wiring.Component]
    devices: tuple[str, ...] = ALL_DEVICES
    rival: bool = False

    @property
    def name(self) -> str:
        """Unit and configuration."""
        return f"{self.unit} {self.configuration}".strip()


@dataclass(frozen=True, kw_only=True)
class ErrorCase:
    """A function whose distance from float64 mathematics is measured.

    Attributes
    ----------
    unit: name of the class that computes it.
    configuration: formats and distribution; unique among the unit's cases.
    measure: takes a number of cases and a seed; gives at least ``cases``, ``worst_steps`` (of
        the output's code) and ``correctly_rounded`` (0 to 1).
    quick, full: how many cases; ``None`` where the function tries all inputs.
    rival: whether it is here for comparison only.
    """

    unit: str
    configuration: str
    measure: Callable[[int | None, int], dict[str, Any]]
    quick: int | None = 2_000
    full: int | None = 1_000_000
    rival: bool = False

    @property
    def name(self) -> str:
        """Unit and configuration."""
        return f"{self.unit} {self.configuration}".strip()


@dataclass(frozen=True, kw_only=True)
class OracleCase:
    """A comparison with software that somebody else wrote.

    Attributes
    ----------
    name: what is compared with what.
    compare: gives at least ``values`` and ``differences``; raises
        :class:`~intformer.errors.UserError` where the oracle is not installed.
    """

    name: str
    compare: Callable[[], dict[str, Any]]
