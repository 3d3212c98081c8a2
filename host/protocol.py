"""Frames and commands of the link, as docs/protocol.md has them; no input or output here."""

from __future__ import annotations

import struct
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from enum import IntEnum

from intformer.errors import ProtocolError

__all__ = [
    "ANSWER",
    "CHECKSUM_MAX",
    "COUNTERS_MAX",
    "CRC_BYTES",
    "DATA_MAX",
    "ESCAPE",
    "ESCAPE_XOR",
    "FLAG",
    "FRAME_MAX",
    "HEADER_BYTES",
    "LINK_COUNTERS",
    "NOTICE",
    "SIDE_EFFECTS",
    "Answer",
    "Command",
    "FrameReader",
    "State",
    "Status",
    "encode_frame",
    "parse_answer",
    "request",
    "stuff",
]

FLAG, ESCAPE, ESCAPE_XOR = 0x7E, 0x7D, 0x20
HEADER_BYTES = 4
"""Sequence number, command, length of the payload in two bytes."""
CRC_BYTES = 4
DATA_MAX = 256
"""Most bytes of memory in one frame."""
COUNTERS_MAX = 64
"""Most counters in one answer."""
CHECKSUM_MAX = (1 << 16) - 1
"""Most bytes under one CHECKSUM."""
FRAME_MAX = HEADER_BYTES + 8 + DATA_MAX + CRC_BYTES
"""Bytes of the longest frame to the device, between the flags and before stuffing."""
ANSWER = 0x80
"""Set in the command byte of an answer."""
NOTICE = 0xFF
"""Command byte of a notice: the device drops a broken frame, and says so unasked."""


class Command(IntEnum):
    """What the host can ask."""

    INFO = 1
    STATUS = 2
    ERRORS = 3
    READ = 4
    WRITE = 5
    CHECKSUM = 6
    RUN = 7
    COUNTERS = 8
    BASE = 9
    RESET = 10


SIDE_EFFECTS = frozenset({Command.WRITE, Command.RUN, Command.BASE, Command.RESET})
"""Commands that a device does not execute again when a frame is repeated."""


class Status(IntEnum):
    """Bits 3:0 of an answer's first byte."""

    OK = 0
    UNKNOWN = 1
    LENGTH = 2
    ALIGN = 3
    RANGE = 4
    BUSY = 5
    MEMORY = 6
    BROKEN = 8
    SHORT = 9


class State(IntEnum):
    """Bits 7:4 of an answer's first byte."""

    RUNNING = 0x10
    FINISHED = 0x20
    ERROR = 0x40
    REPEATED = 0x80


LINK_COUNTERS = (
    "frames",
    "broken",
    "short",
    "refused",
    "repeated",
    "lost",
    "line",
    "memory",
)
"""Counters of 16 bits in the answer to ERRORS, in their order."""


def stuff(data: bytes) -> bytes:
    """``data`` without a FLAG: each FLAG or ESCAPE becomes ESCAPE and the byte XOR 0x20."""
    data = data.replace(bytes([ESCAPE]), bytes([ESCAPE, ESCAPE ^ ESCAPE_XOR]))
    return data.replace(bytes([FLAG]), bytes([ESCAPE, FLAG ^ ESCAPE_XOR]))


def encode_frame(sequence: int, command: int, payload: bytes = b"") -> bytes:
    """The bytes of one frame on the line, from flag to flag."""
    body = struct.pack("<BBH", sequence, command, len(payload)) + payload
    body += struct.pack("<I", zlib.crc32(body))
    return bytes([FLAG]) + stuff(body) + bytes([FLAG])


def request(command: Command, *, address: int = 0, count: int = 0, data: bytes = b"") -> bytes:
    """The payload of a command.

    ``address``: of READ, WRITE, CHECKSUM, RUN (the entry) and BASE, or the first counter;
    ``count``: bytes of READ, CHECKSUM and RUN, or counters; ``data``: of WRITE.
    """
    if command in (Command.INFO, Command.STATUS, Command.ERRORS, Command.RESET):
        return b""
    return struct.pack("<II", address, len(data) if command == Command.WRITE else count) + data


class FrameReader:
    """Finds frames in a stream of bytes.

    ``broken`` counts what was between two flags and is no whole frame.
    """

    def __init__(self) -> None:
        self.broken = 0
        self._body = bytearray()
        self._escape = False

    def feed(self, data: bytes) -> Iterator[tuple[int, int, bytes]]:
        """Sequence number, command and payload of every good frame that ends in ``data``."""
        for byte in data:
            if byte == FLAG:
                body, cut = bytes(self._body), self._escape
                self._body.clear()
                self._escape = False
                if not body and not cut:
                    continue
                frame = None if cut else _split(body)
                if frame is None:
                    self.broken += 1
                else:
                    yield frame
            elif byte == ESCAPE and not self._escape:
                self._escape = True
            else:
                self._body.append(byte ^ (ESCAPE_XOR if self._escape else 0))
                self._escape = False

    def reset(self) -> None:
        """Forget a frame that has begun."""
        self._body.clear()
        self._escape = False


def _split(body: bytes) -> tuple[int, int, bytes] | None:
    if len(body) < HEADER_BYTES + CRC_BYTES:
        return None
    sequence, command, length = struct.unpack_from("<BBH", body)
    content = body[:-CRC_BYTES]
    (crc,) = struct.unpack("<I", body[-CRC_BYTES:])
    if crc != zlib.crc32(content) or length != len(content) - HEADER_BYTES:
        return None
    return sequence, command, content[HEADER_BYTES:]


@dataclass(frozen=True)
class Answer:
    """The payload of an answer.

    ``status``; ``running``, ``finished``, ``error``: the state of the core; ``repeated``: the
    frame had the number of the one before, and was not executed again if it would change
    anything; ``data``: what was asked for, empty unless ``status`` is OK.
    """

    status: Status
    running: bool
    finished: bool
    error: bool
    repeated: bool
    data: bytes


def parse_answer(payload: bytes) -> Answer:
    """Raises :class:`~intformer.errors.ProtocolError` if this is no answer of this protocol."""
    if not payload:
        raise ProtocolError("an answer without a status")
    first = payload[0]
    try:
        status = Status(first & 0x0F)
    except ValueError:
        raise ProtocolError(f"unknown status {first & 0x0F} in an answer") from None
    return Answer(
        status=status,
        running=bool(first & State.RUNNING),
        finished=bool(first & State.FINISHED),
        error=bool(first & State.ERROR),
        repeated=bool(first & State.REPEATED),
        data=payload[1:],
    )
