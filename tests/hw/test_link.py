"""The link's controller, byte by byte, in front of a memory and a copying core."""

import re
import zlib

import pytest

from intformer.bench.link import fuzz
from intformer.bench.link_model import copy_job
from intformer.config import CoreConfig
from intformer.host.identity import Identity
from intformer.host.protocol import (
    FLAG,
    LINK_COUNTERS,
    NOTICE,
    Answer,
    Command,
    FrameReader,
    Status,
    encode_frame,
    parse_answer,
    request,
)
from intformer.hw.link.controller import Controller
from intformer.hw.link.crc import Crc32
from intformer.sim.link import LinkSimulator, Played, Stimulus

CONFIG = CoreConfig(name="link", rows=4, cols=4, lanes=2, bus_bytes=4)
IDENTITY = Identity.of(CONFIG, board="fuzz", clock_hz=20_000, memory_size=2048)


@pytest.fixture(scope="module")
def simulator() -> LinkSimulator:
    """The build is that of the fuzz, too."""
    return LinkSimulator(CONFIG, identity=IDENTITY, byte_cycles=12)


class Talk:
    """A stimulus of questions, and their answers."""

    def __init__(self) -> None:
        self.stimulus = Stimulus()
        self.stimulus.send(bytes([FLAG]))
        self.stimulus.wait(10)
        self.sequence = 0

    def ask(self, command: int, *, quiet: int = 2000, again: bool = False, **fields) -> int:
        """Send a command; returns the number of its group of answers."""
        self.sequence += not again
        payload = request(Command(command), **fields)
        self.stimulus.send(encode_frame(self.sequence, command, payload))
        self.stimulus.wait(quiet)
        return self.stimulus.waits - 1

    def raw(self, data: bytes) -> int:
        self.stimulus.send(data)
        self.stimulus.wait(2000)
        return self.stimulus.waits - 1


def only(played: Played, group: int) -> Answer:
    reader = FrameReader()
    frames = list(reader.feed(played.answers[group]))
    assert len(frames) == 1 and not reader.broken, frames
    return parse_answer(frames[0][2])


def errors(played: Played, group: int) -> dict[str, int]:
    data = only(played, group).data
    return {
        name: int.from_bytes(data[2 * i : 2 * i + 2], "little")
        for i, name in enumerate(LINK_COUNTERS)
    }


def test_run_owns_the_memory(simulator):
    talk = Talk()
    started = talk.ask(Command.RUN, address=0)
    kinds = {"address": 64, "count": 16}
    busy = [talk.ask(c, **kinds) for c in (Command.READ, Command.CHECKSUM, Command.BASE)]
    busy += [talk.ask(Command.WRITE, address=64, data=bytes(16)), talk.ask(Command.RUN, address=0)]
    again = talk.ask(Command.RUN, address=0, again=True)
    counters = talk.ask(Command.COUNTERS, address=0, count=2)
    status = talk.ask(Command.STATUS)
    ended = talk.ask(Command.STATUS, quiet=60_000)
    ended = talk.ask(Command.STATUS)
    read = talk.ask(Command.READ, address=512, count=64)
    image = copy_job(256, 512, 64, cycles=40_000).ljust(256, b"\0") + bytes(range(64))
    played = simulator.play(talk.stimulus, image=image)
    assert only(played, started).status == Status.OK
    assert {only(played, group).status for group in busy} == {Status.BUSY}
    assert (only(played, again).status, only(played, again).repeated) == (Status.BUSY, True)
    assert only(played, counters).data[4:] == b"\x01\xee\xff\xc0"
    assert only(played, status).running and not only(played, status).finished
    assert only(played, ended).finished and not only(played, ended).running
    assert only(played, read).data == bytes(255 - i for i in range(64))
    assert played.memory[64:80] == bytes(16)


def test_repeated_run_starts_once(simulator):
    """A copy onto itself, twice, would be the original."""
    talk = Talk()
    talk.ask(Command.RUN, address=0)
    again = talk.ask(Command.RUN, address=0, again=True)
    counted = talk.ask(Command.ERRORS)
    image = copy_job(256, 256, 64).ljust(256, b"\0") + bytes(range(64))
    played = simulator.play(talk.stimulus, image=image)
    assert (only(played, again).status, only(played, again).repeated) == (Status.OK, True)
    assert errors(played, counted)["repeated"] == 1
    assert played.memory[256:320] == bytes(255 - i for i in range(64))


def test_error_and_reset(simulator):
    talk = Talk()
    talk.ask(Command.RUN, address=0)
    failed = talk.ask(Command.STATUS)
    talk.ask(Command.RUN, address=16)
    endless = talk.ask(Command.STATUS)
    reset = talk.ask(Command.RESET)
    rest = talk.ask(Command.STATUS)
    read = talk.ask(Command.READ, address=0, count=16)
    image = copy_job(0xFFFFFFFF, 512, 64) + copy_job(256, 512, 0xFFFFFFFF)
    played = simulator.play(talk.stimulus, image=image)
    assert only(played, failed).error and not only(played, failed).running
    assert only(played, endless).running and not only(played, endless).error
    assert only(played, reset).status == Status.OK
    state = only(played, rest)
    assert not (state.running or state.finished or state.error)
    assert only(played, read).data == image[:16]


@pytest.mark.parametrize("command", [Command.READ, Command.WRITE, Command.CHECKSUM])
def test_memory_that_does_not_answer(simulator, command):
    wait = 2 * simulator.controller.memory_cycles
    fields = {"data": b"12345678"} if command == Command.WRITE else {"count": 8}
    talk = Talk()
    talk.stimulus.memory_dead(True)
    dead = talk.ask(command, quiet=wait, address=64, **fields)
    again = talk.ask(command, quiet=wait, again=True, address=64, **fields)
    talk.stimulus.memory_dead(False)
    alive = talk.ask(command, address=64, **fields)
    counted = talk.ask(Command.ERRORS)
    played = simulator.play(talk.stimulus)
    assert only(played, dead).status == Status.MEMORY
    assert only(played, again).status == Status.MEMORY and only(played, again).repeated
    assert only(played, alive).status == Status.OK
    assert errors(played, counted)["memory"] == (1 if command == Command.WRITE else 2)
    if command == Command.WRITE:
        assert played.memory[64:72] == b"12345678"
    if command == Command.CHECKSUM:
        assert only(played, alive).data == zlib.crc32(bytes(8)).to_bytes(4, "little")


def test_line_errors_and_silence(simulator):
    talk = Talk()
    frame = encode_frame(99, Command.STATUS)
    talk.stimulus.line_error()
    talk.stimulus.send(frame[:5])
    talk.stimulus.pause(2 * simulator.controller.silence_cycles)
    silent = talk.raw(b"")
    junk = talk.raw(frame[5:])  # up to its flag: seven bytes nobody waits for
    talk.stimulus.line_error()
    counted = talk.ask(Command.ERRORS)
    played = simulator.play(talk.stimulus)
    assert only(played, silent).status == Status.SHORT
    assert played.answers[junk] == b""
    found = errors(played, counted)
    assert (found["short"], found["line"], found["frames"]) == (1, 2, 1)
    assert found["lost"] == len(frame) - 6


def test_own_answers_that_come_back(simulator):
    """An echo must not be answered for ever."""
    talk = Talk()
    echo = talk.raw(
        encode_frame(1, Command.STATUS | 0x80, b"\0") + encode_frame(0, NOTICE, b"\x08")
    )
    counted = talk.ask(Command.ERRORS)
    played = simulator.play(talk.stimulus)
    assert played.answers[echo] == b""
    assert errors(played, counted)["broken"] == 2


@pytest.mark.parametrize(("bus_bytes", "stall", "seed"), [(1, 0.0, 11), (4, 0.3, 12)])
def test_broken_frames(bus_bytes: int, stall: float, seed: int) -> None:
    """The whole of it is ``make bench-link``."""
    result = fuzz(250, seed=seed, bus_bytes=bus_bytes, stall=stall)
    assert sum(result.frames.values()) == 250
    assert result.answers > 250


def test_identity_must_be_the_cores():
    other = CoreConfig(name="other", rows=8, cols=4, lanes=2, bus_bytes=4)
    with pytest.raises(ValueError, match="identity is not of configuration 'other'"):
        Controller(other, identity=IDENTITY)


def test_times_follow_the_clock():
    for clock in (24e6, 50e6, 100e6):
        identity = Identity.of(CONFIG, board="x", clock_hz=clock, memory_size=4096)
        controller = Controller(CONFIG, identity=identity)
        assert 0.05 <= controller.silence_cycles / clock <= 0.1
        assert 2 <= controller.memory_cycles / clock <= 4


def test_step_is_checked():
    with pytest.raises(ValueError, match=re.escape("step must be 1, 2, 4 or 8, not 3")):
        Crc32(step=3)
