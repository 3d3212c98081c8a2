"""Signatures of the connections between the core's blocks.

Streams are :mod:`amaranth.lib.stream` streams: once ``valid``, a producer holds ``valid`` and
the payload until the transfer, and never waits for ``ready`` before raising ``valid``.
"""

from __future__ import annotations

from amaranth.hdl import signed, unsigned
from amaranth.lib import data, stream, wiring
from amaranth.lib.wiring import In, Out

from intformer.config import CoreConfig
from intformer.isa import HEADER_BITS, OPERATIONS, Op

__all__ = [
    "ACC_LATENCY",
    "BURST_MAX",
    "READ_LATENCY",
    "BurstCommand",
    "BurstPort",
    "NarrowReadPort",
    "ParamReadPort",
    "ReadBurstPort",
    "UnitPort",
    "WidePort",
    "WriteBurstPort",
    "WriteItem",
    "WritePort",
    "operation_layout",
]

READ_LATENCY = 5
"""Cycles from the acceptance of a read request to its data, in every on-chip memory: two registers
before the block RAM (the second among its blocks), the block RAM, the register behind it (its own,
where it has one), and a register of the part of a word that was asked for."""

ACC_LATENCY = READ_LATENCY - 1
"""The same of the accumulators, which give whole rows: who asked takes its part of them."""

BURST_MAX = 16
"""Longest burst, in beats, that the core asks of external memory."""


def operation_layout(op: Op) -> data.StructLayout:
    """Layout of the fields of ``op`` after the header, as units see them."""
    members = {}
    for field in OPERATIONS[op]:
        members[field.name] = signed(field.width) if field.signed else unsigned(field.width)
    return data.StructLayout(members)


BODY_BITS = 256 - HEADER_BITS


class UnitPort(wiring.Signature):
    """Between the sequencer and a unit, seen from the sequencer.

    Members
    -------
    cmd: ``Out(stream)`` of ``{op: 4, body: 232}``; presented when its tokens have been taken.
        The unit may take the next command before the previous one has completed.
    done: ``In(1)``; high for one cycle per completed instruction, in order: everything that
        it writes can be read from the next cycle on.
    stall: ``In(1)``; the unit holds an instruction but waits for a port, a FIFO or memory.
    busy: ``In(1)``; the unit holds an instruction.
    """

    def __init__(self) -> None:
        super().__init__(
            {
                "cmd": Out(stream.Signature(data.StructLayout({"op": 4, "body": BODY_BITS}))),
                "done": In(1),
                "stall": In(1),
                "busy": In(1),
            }
        )


class NarrowReadPort(wiring.Signature):
    """A lane-group read of a scratchpad, seen from the client (initiator).

    Members
    -------
    req: ``Out(stream)`` of ``{word: 18, sub: 4}`` (``sub`` is 0 in the wide scratchpad).
    data: ``In(width)``; valid exactly :data:`READ_LATENCY` cycles after the request was taken,
        for one cycle. Responses cannot be held back.
    """

    def __init__(self, width: int) -> None:
        super().__init__(
            {
                "req": Out(stream.Signature(data.StructLayout({"word": 18, "sub": 4}))),
                "data": In(width),
            }
        )


class WidePort(wiring.Signature):
    """A whole-word read of the activation scratchpad, seen from the client; see
    :class:`NarrowReadPort`.
    """

    def __init__(self, config: CoreConfig) -> None:
        super().__init__(
            {
                "req": Out(stream.Signature(unsigned(18))),
                "data": In(8 * config.rows),
            }
        )


class WriteItem(data.StructLayout):
    """A lane-group write: lane ``i`` of ``data`` is written where bit ``i`` of ``mask`` is 1."""

    def __init__(self, config: CoreConfig, *, bits: int) -> None:
        super().__init__({"word": 18, "sub": 4, "mask": config.lanes, "data": bits * config.lanes})


class WritePort(wiring.Signature):
    """Writes to a scratchpad, seen from the client: a stream ``req`` of :class:`WriteItem`.

    ``bits`` is 8 for the activation scratchpad and 16 for the wide one. A write that is taken
    in cycle ``t`` is seen by reads taken from cycle ``t + 2`` on; what those of cycles ``t`` and
    ``t + 1`` return of the same word is not defined.
    """

    def __init__(self, config: CoreConfig, *, bits: int) -> None:
        super().__init__({"req": Out(stream.Signature(WriteItem(config, bits=bits)))})


class ParamReadPort(wiring.Signature):
    """Read of one parameter group, seen from the client; always taken.

    Members
    -------
    addr: ``Out(12)``.
    data: ``In``; ``lanes`` entries ``{bias: signed(32), mult: signed(16), shift: 8, zero: 8}`` for
        the address of :data:`READ_LATENCY` cycles before.
    """

    def __init__(self, config: CoreConfig) -> None:
        super().__init__({"addr": Out(12), "data": In(64 * config.lanes)})


class BurstPort(wiring.Signature):
    """External memory, seen from the core (initiator). In order, byte lanes little endian.

    Members
    -------
    cmd: ``Out(stream)`` of ``{addr: 32, len: 8, write: 1}``: byte address (a multiple of
        ``bus_bytes``), beats minus one, direction.
    wdata: ``Out(stream)`` of beats for write commands, in the order of the commands.
    rdata: ``In(stream)`` of beats for read commands; the core never asks for more than it can
        take, so ``rdata.ready`` is always 1.
    """

    def __init__(self, config: CoreConfig) -> None:
        beat = unsigned(8 * config.bus_bytes)
        super().__init__(
            {
                "cmd": Out(stream.Signature(data.StructLayout({"addr": 32, "len": 8, "write": 1}))),
                "wdata": Out(stream.Signature(beat)),
                "rdata": In(stream.Signature(beat)),
            }
        )


class BurstCommand(data.StructLayout):
    """``addr``: byte address, a multiple of ``bus_bytes``; ``len``: beats minus one, below
    :data:`BURST_MAX`.
    """

    def __init__(self) -> None:
        super().__init__({"addr": 32, "len": 8})


class ReadBurstPort(wiring.Signature):
    """Read bursts, between a client and the memory arbiter, seen from the client.

    Members
    -------
    cmd: ``Out(stream)`` of :class:`BurstCommand`; several may be outstanding.
    data: ``In``; one beat.
    valid: ``In(1)``; a beat arrives, in the order of the commands. It cannot be held back: the
        client must have room for every beat that it has asked for.
    """

    def __init__(self, config: CoreConfig) -> None:
        super().__init__(
            {
                "cmd": Out(stream.Signature(BurstCommand())),
                "data": In(8 * config.bus_bytes),
                "valid": In(1),
            }
        )


class WriteBurstPort(wiring.Signature):
    """Write bursts, between a client and the memory arbiter, seen from the client.

    Members
    -------
    cmd: ``Out(stream)`` of :class:`BurstCommand`.
    data: ``Out(stream)`` of beats, in the order of the commands; ``len + 1`` for each.
    """

    def __init__(self, config: CoreConfig) -> None:
        super().__init__(
            {
                "cmd": Out(stream.Signature(BurstCommand())),
                "data": Out(stream.Signature(unsigned(8 * config.bus_bytes))),
            }
        )
