"""The cycle model: constants of the core's pipelines, durations of instructions.

Every constant stands in :class:`TimingParameters`; each is a property of the RTL and is
calibrated against it. Durations that depend on other units (column FIFO, memory port, tokens)
follow from the event simulation in :mod:`intformer.sim.iss`.
"""

from __future__ import annotations

from dataclasses import dataclass

from intformer.config import CoreConfig
from intformer.isa import Instruction, Mem, Op

__all__ = ["BURST_MAX", "StepTiming", "TimingParameters", "duration"]

BURST_MAX = 16
"""Longest burst, in beats."""


@dataclass(frozen=True, kw_only=True)
class TimingParameters:
    """Constants of the cycle model, in cycles unless the name says otherwise.

    Attributes
    ----------
    memory_latency: from a granted read command to its first beat.
    burst_overhead: cycles of the port lost per burst.
    start_latency: from ``start`` to the first instruction fetch.
    fetch_depth: instructions kept ahead by the sequencer.
    queue_latency: from dispatch to the head of a unit's queue.
    token_latency: from an instruction's completion to the token's use.
    in_flight: instructions that a unit may hold.
    end_latency: from the last completion to ``done``.
    fifo_tiles: depth of the column FIFO, in tiles.
    fetch_latency: from a FETCH's command to its first request.
    fetch_act_latency: from the read of a column to its entry in the FIFO.
    matmul_start: from a MATMUL's command to its first word.
    matmul_hazard: least period of tiles that accumulate into the same rows.
    matmul_latency: from the last word fed to ``done``, beyond ``rows + cols``.
    post_latency, move_latency, dma_latency: pipelines' depth, command to ``done``.
    softmax_latency, softmax_serial: pipeline depth; reciprocal's cycles per row.
    norm_latency, norm_serial: the same for LayerNorm.
    row_gap: cycles between rows of one stage.
    gather_latency: from an id's read to the request of its row.
    dma_outstanding: bursts that DMA may have under way.
    """

    memory_latency: int = 8
    burst_overhead: int = 0
    start_latency: int = 2
    fetch_depth: int = 4
    queue_latency: int = 2
    token_latency: int = 2
    in_flight: int = 8
    end_latency: int = 2
    fifo_tiles: int = 2
    fetch_latency: int = 2
    fetch_act_latency: int = 3
    matmul_start: int = 4
    matmul_hazard: int = 6
    matmul_latency: int = 5
    post_latency: int = 12
    move_latency: int = 6
    dma_latency: int = 4
    softmax_latency: int = 20
    softmax_serial: int = 40
    norm_latency: int = 24
    norm_serial: int = 120
    row_gap: int = 1
    gather_latency: int = 4
    dma_outstanding: int = 4


def duration(config: CoreConfig, timing: TimingParameters, ins: Instruction) -> int:
    """Cycles from command to ``done`` of a POST, ROW or MOVE instruction, ports free.

    POST: ``rows * groups * reads + post_latency``, two reads where source and residual both
    lie in ``act``. ROW: the first row passes every stage, further rows follow at the period of
    the slowest stage. MOVE: one element per cycle.
    """
    if ins.op in (Op.POST_ACC, Op.POST_MEM):
        shared = ins.op == Op.POST_MEM and ins["res_en"]
        reads = 2 if shared and ins["src_mem"] == ins["res_mem"] == Mem.ACT else 1
        return ins["rows"] * ins["groups"] * reads + timing.post_latency
    if ins.op == Op.MOVE:
        return ins["n0"] * ins["n1"] * ins["n2"] + timing.move_latency
    groups = -(-ins["n"] // config.lanes)
    reading = groups * (2 if ins["mask_en"] else 1)
    softmax = ins.op == Op.SOFTMAX
    serial = timing.softmax_serial if softmax else timing.norm_serial
    depth = timing.softmax_latency if softmax else timing.norm_latency
    passes = reading + (2 if softmax else 1) * groups
    period = max(reading + timing.row_gap, serial)
    return passes + serial + depth + (ins["rows"] - 1) * period


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
