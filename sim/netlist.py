"""Runs programs on a core's gate-level netlist: what is placed and routed, cell by cell."""

from __future__ import annotations

from pathlib import Path
from types import MappingProxyType

from intformer.config import CoreConfig
from intformer.errors import UserError
from intformer.fpga.devices import DEVICES, Device, device
from intformer.fpga.netlist import Netlist, core_netlist
from intformer.sim.cells.models import FAMILIES, cell_models
from intformer.sim.rtl import Progress, RtlSimulator

__all__ = ["NetlistSimulator", "simulated_device"]


class NetlistSimulator(RtlSimulator):
    """The netlist of one core in the bench of :class:`~intformer.sim.rtl.RtlSimulator`.

    The core has the primitives of the device's family and its trace ports; it is synthesized by the
    flow that also makes bitstreams, and kept as Verilog of the family's cells. These come from
    :mod:`intformer.sim.cells.models`. All that has no defined value at the beginning or later
    (memories without an initial value, outputs that a data sheet calls undefined) is random and
    depends on ``seed``.

    It runs in Verilator only. A simulator with undefined values takes 0 times undefined for
    undefined, so codes that no instruction wrote spread from the scratchpads through weights of 0.

    Parameters
    ----------
    config: the core's parameters.
    device: name of a device that has models of its cells.
    netlist: what to simulate as the core; for tests of the bench itself.
    seed: of the undefined values, beside what it does in :class:`~intformer.sim.rtl.RtlSimulator`.
    build_dir, memory_latency, burst_gap, stall, idle_limit: as there.

    Raises
    ------
    UserError
        If there is no such device, or there are no models of its cells.
    """

    level = "netlist"
    _undefined = ("--x-assign", "unique", "--x-initial", "unique")
    # Verilator takes a default value of an input for the initial value of the net that drives it:
    # of `rst`, for example. Netlists connect every input whose default is not 0.
    _defines = MappingProxyType({"NO_ICE40_DEFAULT_ASSIGNMENTS": "1"})

    def __init__(
        self,
        config: CoreConfig,
        *,
        device: str,
        netlist: Netlist | None = None,
        build_dir: Path | None = None,
        memory_latency: int = 8,
        burst_gap: int = 0,
        stall: float = 0.0,
        seed: int = 1,
        idle_limit: int = 100_000,
    ) -> None:
        self.device = simulated_device(device)
        super().__init__(
            config,
            build_dir=build_dir,
            memory_latency=memory_latency,
            burst_gap=burst_gap,
            stall=stall,
            seed=seed,
            idle_limit=idle_limit,
        )
        self._netlist = netlist
        self._plusargs = ("+verilator+rand+reset+2", f"+verilator+seed+{seed}")

    def netlist(self, *, progress: Progress | None = None) -> Netlist:
        """The core's netlist; synthesized unless it is in the cache.

        Raises
        ------
        DeviceTooSmall
            If the device cannot hold the core.
        BuildFailed
            If yosys fails.
        """
        if self._netlist is None:
            if progress:
                progress(f"netlist: {self.config.name} for {self.device.name}, unless in the cache")
            self._netlist = core_netlist(
                self.config, device=self.device, progress=progress or (lambda _line: None)
            )
        return self._netlist

    def _core_sources(self, progress: Progress | None) -> dict[str, str]:
        netlist = self.netlist(progress=progress)
        return cell_models(self.device.target) | {"core.v": netlist.verilog}


def simulated_device(name: str) -> Device:
    """The device of that name; raises :class:`~intformer.errors.UserError` if it has no models."""
    found = device(name)
    if found.target not in FAMILIES:
        names = ", ".join(part.name for part in DEVICES.values() if part.target in FAMILIES)
        raise UserError(f"there are no simulation models of {name}'s cells, only of {names}")
    return found
