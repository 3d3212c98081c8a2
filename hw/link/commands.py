"""Whether a command can be carried out, and the first step of it."""

from __future__ import annotations

from amaranth.hdl import Module, Mux, Value

from intformer.host.protocol import (
    COUNTERS_MAX,
    DATA_MAX,
    SIDE_EFFECTS,
    Command,
    Status,
)
from intformer.hw.link.registers import (
    DATA_AT,
    TALLY_BYTES,
    Registers,
)

__all__ = ["add_commands"]

_RESET_BIT = 4  # of the timer: 16 cycles


def add_commands(m: Module, r: Registers) -> None:
    """States ``SUM`` to ``DISPATCH``, and ``RESET``."""
    with m.State("SUM"):
        m.d.sync += r.place.eq(0)
        m.next = "COMPARE"
    with m.State("COMPARE"):
        m.next = "DECIDE"
    with m.State("DECIDE"):
        m.d.sync += [r.status.eq(_verdict(r)), r.seen.eq(1)]
        with m.If(r.repeated):
            m.d.sync += r.event("repeated").eq(1)
        m.next = "DISPATCH"
    with m.State("DISPATCH"):
        m.d.sync += [
            r.place.eq(DATA_AT),
            r.length.eq(1),
            r.lane.eq(0),
            r.closed.eq(1),
            r.last_sequence.eq(r.read),
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
        # The timer begins at zero, or where it was when time was over: there its low bits are zero.
        m.d.comb += [r.resetting.eq(1), r.waiting.eq(1)]
        with m.If(r.timer[_RESET_BIT]):
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
    counted = (Command.READ, Command.WRITE, Command.CHECKSUM, Command.COUNTERS)
    at_memory = _is(r, Command.READ, Command.WRITE, Command.CHECKSUM, Command.RUN, Command.BASE)
    expected = Mux(
        _is(r, *empty), r.length == 0, r.length == 8 + Mux(_is(r, Command.WRITE), r.left, 0)
    )
    low = r.identity.bus_bytes - 1
    crooked = at_memory & ((r.address | r.left) & low).any()
    outside = (
        (_is(r, *counted) & ~r.left.any())
        | (_is(r, Command.READ) & _above(r, DATA_MAX))
        | (_is(r, Command.COUNTERS) & (r.far | _above(r, COUNTERS_MAX)))
        | (at_memory & (r.far | ~r.fits))
    )
    return Mux(
        ~_is(r, *Command),
        Status.UNKNOWN,
        Mux(
            ~expected,
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
    return r.left[bit + 1 :].any() | (r.left[bit] & r.left[:bit].any())


def _dispatch(m: Module, r: Registers) -> None:
    with m.Switch(r.command):
        with m.Case(Command.INFO):
            m.d.sync += r.length.eq(1 + len(r.identity.pack()))
        with m.Case(Command.ERRORS):
            m.d.sync += r.length.eq(1 + TALLY_BYTES)
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
