"""Frames and identities, without a device."""

import dataclasses
import random
import re
import zlib
from pathlib import Path

import pytest

from intformer.config import CoreConfig, load_config
from intformer.errors import ProtocolError
from intformer.host.identity import Identity, config_digest
from intformer.host.protocol import (
    ESCAPE,
    FLAG,
    FRAME_MAX,
    Command,
    FrameReader,
    Status,
    encode_frame,
    parse_answer,
    request,
    stuff,
)

CONFIG = CoreConfig(name="a", rows=4, cols=4, lanes=2, bus_bytes=4)
IDENTITY = Identity.of(CONFIG, board="ulx3s-85f", clock_hz=50e6, memory_size=1 << 25)
PAGE = Path(__file__).parents[2] / "docs" / "protocol.md"


def read(data: bytes) -> list[tuple[int, int, bytes]]:
    return list(FrameReader().feed(data))


def test_frames_come_back_whole_or_not_at_all():
    rng = random.Random(1)
    for _ in range(300):
        payload = bytes(
            rng.choice([FLAG, ESCAPE, 0x5D, 0x5E, rng.randrange(256)]) for _ in range(9)
        )
        frame = encode_frame(7, 0x81, payload)
        assert FLAG not in frame[1:-1]
        assert read(frame) == [(7, 0x81, payload)]
        assert read(rng.randbytes(5) + frame + frame[1:])[-2:] == [(7, 0x81, payload)] * 2
        damaged = bytearray(frame)
        damaged[rng.randrange(len(frame))] ^= 1 << rng.randrange(8)
        assert read(bytes(damaged)) in ([], [(7, 0x81, payload)])
        assert read(frame[:-2] + frame) == [(7, 0x81, payload)]


def test_reader_takes_bytes_as_they_come():
    frame = encode_frame(1, 2, b"\x7e\x7d")
    reader = FrameReader()
    found = [item for byte in frame for item in reader.feed(bytes([byte]))]
    assert found == [(1, 2, b"\x7e\x7d")]
    list(reader.feed(frame[:5]))
    reader.reset()
    assert list(reader.feed(frame)) == found
    assert reader.broken == 0
    list(reader.feed(bytes([ESCAPE, FLAG])))
    assert reader.broken == 1


def test_length_field_is_checked():
    body = b"\x01\x02\x05\x00abcd"
    sealed = bytes([FLAG]) + stuff(body + zlib.crc32(body).to_bytes(4, "little")) + bytes([FLAG])
    assert read(sealed) == []


def test_longest_frame():
    frame = encode_frame(0, Command.WRITE, request(Command.WRITE, data=bytes(256)))
    assert len(frame) == FRAME_MAX + 2


@pytest.mark.parametrize("command", list(Command))
def test_requests_have_documented_lengths(command):
    payload = request(command, address=0x12345678, count=4, data=b"abcd")
    expected = 0 if command.name in ("INFO", "STATUS", "ERRORS", "RESET") else 12
    assert len(payload) == expected
    if payload:
        assert payload[:8] == b"\x78\x56\x34\x12\x04\0\0\0"


def test_answers():
    answer = parse_answer(b"\xa5abc")
    assert (answer.status, answer.data) == (Status.BUSY, b"abc")
    assert (answer.repeated, answer.finished) == (True, True)
    assert (answer.running, answer.error) == (False, False)
    for payload in (b"", b"\x07"):
        with pytest.raises(ProtocolError):
            parse_answer(payload)


def test_identity_comes_back():
    assert Identity.unpack(IDENTITY.pack()) == IDENTITY
    other = dataclasses.replace(IDENTITY, simulated=True, erase_size=4096, overlay_size=512)
    assert Identity.unpack(other.pack()) == other


@pytest.mark.parametrize("cut", [0, 5, -1])
def test_identity_that_is_not_whole(cut):
    with pytest.raises(ProtocolError, match="is not whole"):
        Identity.unpack(IDENTITY.pack()[:cut])


def test_identity_of_another_version():
    with pytest.raises(ProtocolError, match="version 2 of the protocol"):
        Identity.unpack(b"\x02" + IDENTITY.pack()[1:])


@pytest.mark.parametrize(
    ("field", "value", "message"),
    [
        ("board", "", "board must be 1 to 32 printable ASCII characters, not ''"),
        ("board", "x" * 33, "board must be"),
        ("config_digest", b"1", "config_digest must have 8 bytes, not 1"),
        ("bus_bytes", 3, "bus_bytes must be a power of two, not 3"),
        ("erase_size", 100, "erase_size must be a power of two, not 100"),
        ("clock_hz", 0, "clock_hz must be an integer of 32 bits, not 0"),
        ("memory_size", 1 << 32, "memory_size must be an integer of 32 bits"),
        ("memory_size", 6, "memory_size must be a multiple of 4, not 6"),
        ("version", 0, "version must be from 1 to 255, not 0"),
    ],
)
def test_identity_is_checked(field, value, message):
    with pytest.raises(ValueError, match=re.escape(message)):
        dataclasses.replace(IDENTITY, **{field: value})


def test_digest_ignores_the_name_only():
    same = dataclasses.replace(CONFIG, name="b")
    assert config_digest(same) == config_digest(CONFIG)
    for field, value in (("rows", 8), ("bus_bytes", 1), ("act_words", 128), ("array", "luts")):
        assert config_digest(dataclasses.replace(CONFIG, **{field: value})) != config_digest(CONFIG)
    presets = [config_digest(load_config(name)) for name in ("tiny", "8x8", "16x8", "16x16")]
    assert len(set(presets)) == len(presets)
