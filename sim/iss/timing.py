"""The cycle model: constants of the core's pipelines, durations of instructions.

Every constant stands in :class:`TimingParameters`; each is a property of the RTL and is
calibrated against it. Durations that depend on other units (column FIFO, memory port, tokens)
follow from the event simulation in :mod:`intformer.sim.iss.simulator`.
"""

from __future__ import annotations

from dataclasses import dataclass

from intformer.config import CoreConfig
from intformer.hw.matmul.accumulator import ACCUMULATE_SPACING
from intformer.hw.ports import READ_LATENCY
from intformer.hw.post.unit import PostUnit
from intformer.hw.row.unit import RowUnit
from intformer.isa import Instruction, Mem, Op

__all__ = ["BURST_MAX", "StepTiming", "TimingParameters", "duration"]

BURST_MAX = 16
"""Longest burst, in beats."""


@dataclass(frozen=True, kw_only=True)
class TimingParameters:
    """Constants of the cycle model, in cycles unless the name says otherwise.

    Attributes
    ----------
    memory_latency: from external memory's taking a read command to its first beat.
    port_latency: registers on the way to external memory and back.
    memory_outstanding: commands that memory holds.
    burst_overhead: cycles of the port lost per burst.
    start_latency: from ``start`` to the first instruction fetch.
    fetch_depth: instructions kept ahead by the sequencer.
    queue_latency: from dispatch to the head of a unit's queue.
    token_latency: from an instruction's completion to the token's use.
    in_flight: instructions that a unit may hold.
    end_latency: from the last completion to ``done``.
    fifo_tiles: depth of the column FIFO, in tiles.
    fetch_beats: beats that FETCH has under way or stored.
    fetch_in_flight: instructions that FETCH holds.
    fetch_latency: from a FETCH's command to its first request.
    fetch_column_latency: from the last beat of a column to its place in the FIFO.
    fetch_act_latency: the same from the read of a column in ``act``.
    matmul_start: from a MATMUL's command to its first word, if the unit was idle.
    matmul_hazard: least period of tiles that accumulate into the same rows.
    move_latency, load_latency, store_latency: pipelines' depth, command to ``done``.
    gather_latency: per row of a GATHER, beside its beats.
    grant_latency: from the first request for a scratchpad's port to its grant.
    dma_outstanding: bursts that DMA may have under way.
    """

    memory_latency: int = 8
    port_latency: int = 5
    burst_overhead: int = 0
    memory_outstanding: int = 8
    start_latency: int = 6
    fetch_depth: int = 4
    queue_latency: int = 4
    token_latency: int = 4
    in_flight: int = 8
    end_latency: int = 5
    fifo_tiles: int = 2
    fetch_beats: int = 64
    fetch_in_flight: int = 3
    fetch_latency: int = 5
    fetch_column_latency: int = 4
    fetch_act_latency: int = READ_LATENCY + 1
    matmul_start: int = 2
    matmul_hazard: int = ACCUMULATE_SPACING
    move_latency: int = READ_LATENCY + 7
    load_latency: int = 21
    store_latency: int = READ_LATENCY + 11
    gather_latency: int = 4
    grant_latency: int = 1
    dma_outstanding: int = 4

    @property
    def read_latency(self) -> int:
        """From the grant of a read to its first beat at the client."""
        return self.memory_latency + self.port_latency


def duration(config: CoreConfig, timing: TimingParameters, ins: Instruction) -> int:
    """Cycles from command to ``done`` of a POST, ROW or MOVE instruction that has its ports alone.

    POST and ROW: ``instruction_cycles`` of :class:`intformer.hw.post.unit.PostUnit` (each group
    counts twice where source and residual both lie in ``act``) and of
    :class:`intformer.hw.row.unit.RowUnit`. MOVE: one element per cycle.
    """
    grants = 2 * timing.grant_latency  # of the first read and the first write
    if ins.op in (Op.POST_ACC, Op.POST_MEM):
        shared = ins.op == Op.POST_MEM and ins["res_en"]
        reads = 2 if shared and ins["src_mem"] == ins["res_mem"] == Mem.ACT else 1
        groups = ins["rows"] * ins["groups"] * reads
        factors = config.row_scales > 0 and ins.op == Op.POST_ACC and ins["src_mem"] == Mem.WIDE
        return grants + PostUnit.instruction_cycles(
            config, ins.op, groups=groups, residual=bool(ins["res_en"]), factors=factors
        )
    if ins.op == Op.MOVE:
        return grants + ins["n0"] * ins["n1"] * ins["n2"] + timing.move_latency
    return grants + RowUnit.instruction_cycles(
        config, ins.op, rows=ins["rows"], n=ins["n"], masked=bool(ins["mask_en"])
    )


@dataclass
class StepTiming:
    """When one instruction ran: dispatched, handed to its unit, and completed.

    ``wait``: cycles at the head of its queue without its tokens; ``stall``: cycles in the unit
    without data, room or memory.
    """

    index: int
    op: Op
    node: str
    queued: int
    wait: int = 0
    start: int = 0
    end: int = 0
    stall: int = 0
