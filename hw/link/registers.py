"""The registers of the controller, and what lies where in its buffer."""

from __future__ import annotations

from typing import Any

from amaranth.hdl import C, Cat, Mux, Signal, Value

from intformer.host.identity import Identity
from intformer.host.protocol import HEADER_BYTES, LINK_COUNTERS, NOTICE

__all__ = [
    "BUFFER_BYTES",
    "DATA_AT",
    "INFO_AT",
    "NOTICE_AT",
    "TALLY_AT",
    "TALLY_BYTES",
    "Registers",
    "initial_buffer",
]

BUFFER_BYTES = 512
"""One block RAM of 4 kbit: a received frame from 0 on, then constants and counters."""
DATA_AT = HEADER_BYTES + 8
"""Data of a WRITE, and where results are put together."""
INFO_AT = 288
"""Data of the answer to INFO: constant."""
NOTICE_AT = 376
"""Sequence number and command of a notice: constant."""
TALLY_AT = 384
"""Counters of frames and errors, 16 bits each, in the order of LINK_COUNTERS."""
TALLY_BYTES = 2 * len(LINK_COUNTERS)


def initial_buffer(identity: Identity) -> list[int]:
    """What the buffer holds at first."""
    info = identity.pack()
    notice = [0, NOTICE]
    return [*bytes(INFO_AT), *info, *bytes(NOTICE_AT - INFO_AT - len(info)), *notice]


class Registers:
    """State that the parts of the controller's state machine share.

    Attributes
    ----------
    place: position in the buffer; while a frame arrives, the number of its bytes.
    command, length: of the frame, then of the answer; ``length`` counts the payload's bytes.
    bad: too long, or an escape before a flag. silent: the line fell silent in the frame.
    judged, good: the frame has ended; it is whole and right.
    address, left: what the command works on, and how many bytes (or counters) remain.
    far: they were too large for their registers.
    end, fits: sum of both; whether it is inside memory. One and two cycles late.
    read: the byte of the buffer at the place of two cycles before.
    beat, lane, burst: one beat of memory, byte in it (or in a counter), beats to come.
    status, repeated: of the answer. seen, last_sequence, last_status: of the command before.
    running, finished: state of the core. events: counters that must be increased; pick, high:
        which of them now is, and whether its upper byte.
    closed: what arrives is dropped. want: the host wants the memory.
    """

    crc: Any
    deframer: Any
    framer: Any
    share: Any
    write: Any

    def __init__(self, identity: Identity, *, silence: int, memory: int) -> None:
        self.identity = identity
        bus = identity.bus_bytes
        width = 24 if identity.memory_size <= 1 << 24 else 32

        def register(shape: Any, name: str) -> Signal:
            return Signal(shape, name=name, reset_less=True)

        self.place = Signal(range(BUFFER_BYTES), name="place")
        self.command = register(8, "command")
        self.length = register(9, "length")
        self.bad = Signal(name="bad")
        self.silent = Signal(name="silent")
        self.judged = Signal(name="judged")
        self.good = register(1, "good")
        self.address = register(width, "address")
        self.left = register(16, "left")
        self.far = Signal(name="far")
        self.end = register(width + 1, "end")
        self.fits = register(1, "fits")
        self.beat = register(8 * bus, "beat")
        self.lane = register(range(max(bus, 8)), "lane")
        self.burst = register(4, "burst")
        self.status = register(4, "status")
        self.repeated = register(1, "repeated")
        self.seen = Signal(name="seen")
        self.last_sequence = register(8, "last_sequence")
        self.last_status = register(4, "last_status")
        self.running = Signal(name="running")
        self.finished = Signal(name="finished")
        self.events = Signal(len(LINK_COUNTERS), name="events")
        self.high = Signal(name="high")
        self.pick = register(3, "pick")
        self.closed = Signal(name="closed")
        self.want = Signal(name="want")
        self.timer = Signal(memory.bit_length(), name="timer")
        self.silence_over = self.timer[silence.bit_length() - 1]
        self.memory_over = self.timer[memory.bit_length() - 1]
        self.read = register(8, "read")
        # Wires.
        self.tallying = Signal(name="tallying")
        self.waiting = Signal(name="waiting")
        self.go = Signal(name="go")
        self.resetting = Signal(name="resetting")
        self.set_base = Signal(name="set_base")
        self.core_error = Signal(name="core_error")
        self.counter = Signal(32, name="counter")

    def event(self, name: str) -> Value:
        """The bit of ``events`` for the counter ``name``."""
        return self.events[LINK_COUNTERS.index(name)]

    def first_event(self) -> Value:
        """Number of the first event that is set; the last one if there is none."""
        number: Value = C(len(LINK_COUNTERS) - 1, 3)
        for i in reversed(range(len(LINK_COUNTERS) - 1)):
            number = Mux(self.events[i], C(i, 3), number)
        return number

    def tally_address(self) -> Value:
        """Where the byte of the picked counter is that is being increased."""
        return Cat(self.high, self.pick, C(TALLY_AT // TALLY_BYTES, 5))
