"""What can happen to a frame on its way."""

from __future__ import annotations

import random
import struct
import zlib
from collections.abc import Callable
from dataclasses import dataclass

from intformer.host.protocol import (
    ANSWER,
    COUNTERS_MAX,
    DATA_MAX,
    FLAG,
    FRAME_MAX,
    NOTICE,
    Command,
    encode_frame,
    stuff,
)

__all__ = ["FAULTS", "Fault"]

Apply = Callable[[bytes, random.Random, Callable[[], int]], list[bytes]]


@dataclass(frozen=True)
class Fault:
    """A kind of fault.

    Attributes
    ----------
    apply: what arrives instead of a frame: parts, with a wait for answers behind each. Its
        arguments: the frame, randomness, and a function that gives a fresh sequence number.
    certain: always a fault; the others may happen to leave the frame whole.
    silence: the line falls silent behind each part.
    line_error: the transport reports an error.
    """

    name: str
    apply: Apply
    certain: bool = False
    silence: bool = False
    line_error: bool = False


def _flips(frame: bytes, rng: random.Random, _next: Callable[[], int]) -> list[bytes]:
    data = bytearray(frame)
    for _ in range(rng.choice([1, 1, 1, 2, 3, 8])):
        data[rng.randrange(len(data))] ^= 1 << rng.randrange(8)
    return [bytes(data)]


def _cut_tail(frame: bytes, rng: random.Random, _next: Callable[[], int]) -> list[bytes]:
    return [frame[: rng.randrange(2, len(frame))]]


def _cut_head(frame: bytes, rng: random.Random, _next: Callable[[], int]) -> list[bytes]:
    return [frame[rng.randrange(1, len(frame)) :]]


def _hole(frame: bytes, rng: random.Random, _next: Callable[[], int]) -> list[bytes]:
    start = rng.randrange(1, len(frame) - 1)
    return [frame[:start] + frame[rng.randrange(start + 1, len(frame)) :]]


def _insert(frame: bytes, rng: random.Random, _next: Callable[[], int]) -> list[bytes]:
    at = rng.randrange(1, len(frame))
    return [frame[:at] + rng.randbytes(rng.randint(1, 4)) + frame[at:]]


def _garbage(frame: bytes, rng: random.Random, _next: Callable[[], int]) -> list[bytes]:
    return [rng.randbytes(rng.randint(1, 40)) + frame]


def _burst(frame: bytes, rng: random.Random, _next: Callable[[], int]) -> list[bytes]:
    start = rng.randrange(len(frame))
    size = rng.randint(1, min(12, len(frame) - start))
    noise = rng.choice([bytes(size), b"\xff" * size, rng.randbytes(size), bytes([FLAG]) * size])
    return [frame[:start] + noise + frame[start + size :]]


def _merge(frame: bytes, rng: random.Random, next_: Callable[[], int]) -> list[bytes]:
    other = encode_frame(next_(), Command.STATUS)
    return [frame[: rng.randrange(2, len(frame) - 1)] + other]


def _repeat(frame: bytes, _rng: random.Random, _next: Callable[[], int]) -> list[bytes]:
    return [frame, frame]


def _stutter(frame: bytes, _rng: random.Random, _next: Callable[[], int]) -> list[bytes]:
    return [frame + frame]


def _unknown(_frame: bytes, rng: random.Random, next_: Callable[[], int]) -> list[bytes]:
    command = rng.choice([0, *range(max(Command) + 1, NOTICE - ANSWER)])
    return [encode_frame(next_(), command, rng.randbytes(rng.choice([0, 4, 8, 30])))]


def _answer(_frame: bytes, rng: random.Random, next_: Callable[[], int]) -> list[bytes]:
    command = ANSWER | rng.choice([*Command, 0x7F])
    return [encode_frame(next_(), command, rng.randbytes(rng.choice([1, 5, 9])))]


def _refusable(_frame: bytes, rng: random.Random, next_: Callable[[], int]) -> list[bytes]:
    """A whole frame that asks for what no device does."""
    far = rng.choice([1 << 11, 1 << 12, 1 << 24, 1 << 31, (1 << 32) - 16])
    payload = {
        Command.INFO: b"\0",
        Command.STATUS: bytes(8),
        Command.ERRORS: rng.randbytes(3),
        Command.RESET: bytes(4),
        Command.READ: rng.choice(
            [
                struct.pack("<II", far, 16),
                struct.pack("<II", 0, DATA_MAX + 16),
                struct.pack("<II", 64, 0),
                struct.pack("<II", 0, 1 << rng.randint(9, 31)),
                bytes(7),
            ]
        ),
        Command.WRITE: rng.choice(
            [
                struct.pack("<II", far, 16) + bytes(16),
                struct.pack("<II", (1 << 11) - 16, 32) + bytes(32),
                struct.pack("<II", 64, 0),
                struct.pack("<II", 64, 16) + bytes(15),
                struct.pack("<II", 64, 16) + bytes(17),
                struct.pack("<I", 64),
            ]
        ),
        Command.CHECKSUM: struct.pack("<II", far, 256),
        Command.RUN: rng.choice([struct.pack("<II", far, 16), bytes(9)]),
        Command.BASE: struct.pack("<II", far | 16, 0),
        Command.COUNTERS: rng.choice(
            [struct.pack("<II", 0, COUNTERS_MAX + 1), struct.pack("<II", 0, 0), bytes(4)]
        ),
    }
    command = rng.choice(list(payload))
    return [encode_frame(next_(), command, payload[command])]


def _sealed(body: bytes) -> bytes:
    return bytes([FLAG]) + stuff(body + struct.pack("<I", zlib.crc32(body))) + bytes([FLAG])


def _lying_length(_frame: bytes, rng: random.Random, next_: Callable[[], int]) -> list[bytes]:
    """A length field that is not the length, under a right CRC."""
    data = struct.pack("<II", 256, 16) + rng.randbytes(16)
    length = len(data) + rng.choice([-16, -1, 1, 16, 256, 512, 1 << 15])
    return [_sealed(struct.pack("<BBH", next_(), Command.WRITE, length) + data)]


def _too_long(_frame: bytes, rng: random.Random, next_: Callable[[], int]) -> list[bytes]:
    """More than any frame may have, under a right CRC."""
    size = rng.choice([FRAME_MAX - 7, FRAME_MAX, 512, 700])
    data = struct.pack("<II", 256, size - 8) + rng.randbytes(size - 8)
    return [_sealed(struct.pack("<BBH", next_(), Command.WRITE, len(data)) + data)]


def _dropped_byte(frame: bytes, rng: random.Random, _next: Callable[[], int]) -> list[bytes]:
    at = rng.randrange(len(frame))
    return [frame[:at] + frame[at + 1 :]]


FAULTS = (
    Fault("bit flips", _flips),
    Fault("bit flips", _flips),
    Fault("bit flips", _flips),
    Fault("end missing", _cut_tail),
    Fault("end missing, then silence", _cut_tail, silence=True),
    Fault("beginning missing", _cut_head),
    Fault("hole", _hole),
    Fault("bytes inserted", _insert),
    Fault("garbage in front", _garbage),
    Fault("burst", _burst),
    Fault("cut, next frame in it", _merge),
    Fault("repeated", _repeat, certain=True),
    Fault("repeated without waiting", _stutter, certain=True),
    Fault("unknown command", _unknown, certain=True),
    Fault("an answer", _answer, certain=True),
    Fault("not allowed", _refusable, certain=True),
    Fault("wrong length field", _lying_length, certain=True),
    Fault("too long", _too_long, certain=True),
    Fault("byte dropped by the UART", _dropped_byte, certain=True, line_error=True),
)
"""All kinds; those that come more often stand here more often."""
