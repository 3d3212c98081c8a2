"""Whether a command can be carried out, and the first step of it."""

from __future__ import annotations

from amaranth.hdl import Module, Mux, Value

from intformer.host.protocol import (
    COUNTERS_MAX,
    CRC_BYTES,
    DATA_MAX,
    SIDE_EFFECTS,
    Command,
    Status,
)
from intformer.hw.link.registers import (
    DATA_AT,
    INFO_AT,
    TALLY_AT,
    TALLY_BYTES,
    Registers,
)

__all__ = ["add_commands"]


def add_commands(m: Module, r: Registers) -> None:
    """States ``SIZE`` to ``DISPATCH``, and ``RESET``."""
    with m.State("SIZE"):
        with m.If(r.command == Command.WRITE):
            m.d.sync += r.left.eq(r.place - (DATA_AT + CRC_BYTES))
        with m.Elif(~_is(r, Command.READ, Command.CHECKSUM, Command.COUNTERS)):
            m.d.sync += r.left.eq(0)
        m.next = "SUM"
    with m.State("SUM"):
        m.next = "COMPARE"
    with m.State("COMPARE"):
        m.next = "DECIDE"
    with m.State("DECIDE"):
        again = r.seen & (r.sequence == r.last_sequence)
        m.d.sync += [
            r.status.eq(_verdict(r)),
            r.repeated.eq(again),
            r.seen.eq(1),
            r.last_sequence.eq(r.sequence),
        ]
        with m.If(again):
            m.d.sync += r.event("repeated").eq(1)
        m.next = "DISPATCH"
    with m.State("DISPATCH"):
        m.d.sync += [
            r.place.eq(DATA_AT),
            r.length.eq(1),
            r.lane.eq(0),
            r.burst.eq(0),
            r.closed.eq(1),
        ]
        m.next = "OPEN"
        with m.If(r.repeated & _is(r, *SIDE_EFFECTS)):
            m.d.sync += r.status.eq(r.last_status)
        with m.Else():
            m.d.sync += r.last_status.eq(r.status)
            with m.If(r.status != Status.OK):
                m.d.sync += r.event("refused").eq(1)
            with m.Else():
                _dispatch(m, r)
    with m.State("RESET"):
        m.d.comb += r.resetting.eq(1)
        m.d.sync += r.burst.eq(r.burst + 1)
        with m.If(r.burst == 15):
            m.next = "OPEN"


def _is(r: Registers, *commands: Command) -> Value:
    """Whether the command is one of these."""
    result = r.command == commands[0]
    for command in commands[1:]:
        result = result | (r.command == command)
    return result


def _verdict(r: Registers) -> Value:
    """The status of a command, from its fields alone."""
    empty = (Command.INFO, Command.STATUS, Command.ERRORS, Command.RESET)
    lone = (Command.RUN, Command.BASE)
    moves = (Command.READ, Command.WRITE, Command.CHECKSUM)
    ranged = (Command.READ, Command.CHECKSUM, Command.COUNTERS)
    some = r.left.any()
    fine = (
        (_is(r, *empty) & (r.length == 0))
        | (_is(r, *lone) & (r.length == 4))
        | (_is(r, Command.CHECKSUM) & (r.length == 8) & some)
        | (_is(r, Command.READ) & (r.length == 8) & some & ~_above(r, DATA_MAX))
        | (_is(r, Command.COUNTERS) & (r.length == 8) & some & ~_above(r, COUNTERS_MAX))
        | (_is(r, Command.WRITE) & (r.length > 4))
    )
    low = r.identity.bus_bytes - 1
    at_memory = _is(r, *moves, *lone)
    crooked = at_memory & ((r.address | r.left) & low).any()
    outside = at_memory & (r.address_far | (_is(r, *ranged) & r.left_far) | ~r.fits)
    return Mux(
        ~_is(r, *Command),
        Status.UNKNOWN,
        Mux(
            ~fine,
            Status.LENGTH,
            Mux(
                r.running & at_memory,
                Status.BUSY,
                Mux(crooked, Status.ALIGN, Mux(outside, Status.RANGE, Status.OK)),
            ),
        ),
    )


def _above(r: Registers, limit: int) -> Value:
    """Whether ``left`` is above ``limit``, a power of two."""
    bit = limit.bit_length() - 1
    far = r.left_far if len(r.left) < 32 else 0
    return far | r.left[bit + 1 :].any() | (r.left[bit] & r.left[:bit].any())


def _dispatch(m: Module, r: Registers) -> None:
    with m.Switch(r.command):
        with m.Case(Command.INFO):
            m.d.sync += [r.place.eq(INFO_AT), r.length.eq(1 + len(r.identity.pack()))]
        with m.Case(Command.ERRORS):
            m.d.sync += [r.place.eq(TALLY_AT), r.length.eq(1 + TALLY_BYTES)]
        with m.Case(Command.READ, Command.WRITE, Command.CHECKSUM):
            m.d.sync += r.want.eq(1)
            m.next = "GRANT"
        with m.Case(Command.COUNTERS):
            m.next = "SETTLE"
        with m.Case(Command.RUN):
            m.d.comb += r.go.eq(1)
        with m.Case(Command.BASE):
            m.d.comb += r.set_base.eq(1)
        with m.Case(Command.RESET):
            m.next = "RESET"
