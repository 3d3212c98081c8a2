"""Broken frames by the thousand through the link's RTL: none obeyed, none uncounted, no hang.

``python -m intformer.bench.link`` plays 10,000 of them and keeps the figures in
``docs/results/link.{json,md}``.
"""

from __future__ import annotations

import argparse
import random
import sys
from collections import Counter
from dataclasses import dataclass, field
from typing import Any

from intformer.bench.link_faults import FAULTS, Fault
from intformer.bench.link_model import LinkModel, copy_job
from intformer.config import CoreConfig
from intformer.errors import Mismatch
from intformer.host.identity import Identity
from intformer.host.protocol import (
    ANSWER,
    FLAG,
    LINK_COUNTERS,
    NOTICE,
    SIDE_EFFECTS,
    Command,
    FrameReader,
    Status,
    encode_frame,
    parse_answer,
    request,
)
from intformer.results import markdown_table, record
from intformer.sim.link import LinkSimulator, Played, Stimulus

__all__ = ["Fuzz", "fuzz", "main"]

MEMORY_BYTES = 2048
_JOBS = 4  # jobs of the core at the bottom of memory, which no frame overwrites
_QUIET = 500  # cycles without an answer after which none will come
_CLOCK_HZ = 20_000  # slow, so that the silence time-out is short in cycles
_BYTE_CYCLES = 12
_ERRORS = ("broken", "short", "refused", "repeated", "lost", "line")


@dataclass
class _Step:
    """One broken frame: bytes between waits, and the probe that asks for the counters after it."""

    fault: Fault
    parts: list[bytes]
    first_group: int
    probe: int


@dataclass
class Fuzz:
    """Figures of a run: frames by kind, the device's counters, answers, cycles, seconds."""

    frames: Counter[str] = field(default_factory=Counter)
    harmless: int = 0
    counters: dict[str, int] = field(default_factory=dict)
    answers: int = 0
    notices: int = 0
    cycles: int = 0
    seconds: float = 0.0


def fuzz(
    count: int, *, seed: int = 1, bus_bytes: int = 4, stall: float = 0.0, per_run: int = 2500
) -> Fuzz:
    """Play ``count`` broken frames, each followed by a question that must be answered.

    Raises
    ------
    Mismatch
        If an answer or memory is wrong, a fault went uncounted, or the device fell silent; says
        which frame.
    """
    config = CoreConfig(name="link", rows=4, cols=4, lanes=2, bus_bytes=bus_bytes)
    identity = Identity.of(config, board="fuzz", clock_hz=_CLOCK_HZ, memory_size=MEMORY_BYTES)
    simulator = LinkSimulator(
        config, identity=identity, byte_cycles=_BYTE_CYCLES, stall=stall, seed=seed
    )
    result = Fuzz()
    for number, first in enumerate(range(0, count, per_run)):
        rng = random.Random(f"{seed} {number}")
        player = _Player(simulator, rng, min(per_run, count - first))
        player.run(result)
    return result


class _Player:
    """One simulation: makes the stimulus, plays it, checks what came back."""

    def __init__(self, simulator: LinkSimulator, rng: random.Random, count: int) -> None:
        self._simulator = simulator
        self._identity = simulator.identity
        self._rng = rng
        self._count = count
        self._sequence = rng.randrange(256)
        image = bytearray(rng.randbytes(MEMORY_BYTES))
        for job in range(_JOBS):
            # Everything that can be written lies above the jobs.
            # Half of them work in place: twice would be once too often.
            source = self._place(32)
            target = self._place(32) if job % 2 else source
            image[16 * job : 16 * job + 16] = copy_job(source, target, 32)
        self._image = bytes(image)
        self._stimulus = Stimulus()
        self._steps: list[_Step] = []

    def run(self, result: Fuzz) -> None:
        """Play all steps; add the figures to ``result``."""
        # A flag first: until then the device drops what it hears.
        self._send(bytes([FLAG]))
        while len(self._steps) < self._count:
            step = self._make()
            if step is None:
                result.harmless += 1
            else:
                self._steps.append(step)
                result.frames[step.fault.name] += 1
        played = self._simulator.play(self._stimulus, image=self._image)
        self._check(played, result)
        result.cycles += played.cycles
        result.seconds += played.seconds

    def _send(self, data: bytes, *, silence: bool = False) -> None:
        self._stimulus.send(data)
        if silence:
            self._stimulus.pause(2 * self._simulator.controller.silence_cycles)
        self._stimulus.wait(_QUIET)

    def _place(self, size: int) -> int:
        bus = self._identity.bus_bytes
        return self._rng.randrange(16 * _JOBS, MEMORY_BYTES - size, bus)

    def _next(self) -> int:
        self._sequence = (self._sequence + 1) % 256
        return self._sequence

    def _frame(self) -> bytes:
        """A good frame."""
        rng, bus = self._rng, self._identity.bus_bytes
        size = bus * rng.randint(1, 64 // bus)
        command = rng.choice(
            [Command.WRITE] * 4
            + [Command.READ, Command.CHECKSUM, Command.RUN, Command.INFO, Command.STATUS]
        )
        match command:
            case Command.WRITE:
                payload = request(command, address=self._place(size), data=rng.randbytes(size))
            case Command.RUN:
                payload = request(command, address=16 * rng.randrange(_JOBS))
            case _:
                payload = request(command, address=self._place(size), count=size)
        return encode_frame(self._next(), command, payload)

    def _make(self) -> _Step | None:
        """The next step; None if what was done to the frame does not matter."""
        fault = self._rng.choice(FAULTS)
        parts = fault.apply(self._frame(), self._rng, self._next)
        if not fault.certain and _is_whole(parts):
            return None
        first = self._stimulus.waits
        for part in parts:
            if fault.line_error:
                self._stimulus.line_error()
            self._send(part, silence=fault.silence)
        # Whatever is left half done ends here.
        self._send(bytes([FLAG]))
        probe = self._next()
        self._send(encode_frame(probe, Command.ERRORS))
        return _Step(fault, parts, first, probe)

    def _check(self, played: Played, result: Fuzz) -> None:
        model = LinkModel(self._identity, self._image)
        before = dict.fromkeys(LINK_COUNTERS, 0)
        frames = refused = repeated = notices = silent = 0
        for number, step in enumerate(self._steps):
            where = f"frame {number}, {step.fault.name}, {[p.hex() for p in step.parts]}"
            sent = _frames(bytes([FLAG]) + b"".join(step.parts) + bytes([FLAG]))
            end = step.first_group + len(step.parts) + 2
            counters = None
            for sequence, command, payload in _answers(
                played.answers[step.first_group : end], where
            ):
                if command == NOTICE:
                    notices += 1
                    continue
                answer = parse_answer(payload)
                frames += 1
                repeated += answer.repeated
                if (sequence, command) == (step.probe, Command.ERRORS | ANSWER):
                    expected = model.answer(step.probe, Command.ERRORS, b"")
                    counters = _counters(answer.data)
                else:
                    asked = [f for f in sent if (f[0], f[1] | ANSWER) == (sequence, command)]
                    if not asked:
                        raise Mismatch(f"{where}: an answer to a frame that was never sent whole")
                    sent.remove(asked[0])
                    expected = model.answer(*asked[0])
                status, again, data = expected
                unchanged = again and command & ~ANSWER in SIDE_EFFECTS
                refused += status != Status.OK and not unchanged
                if (answer.status, answer.repeated) != (status, again):
                    raise Mismatch(f"{where}: answered {answer}, not {expected}")
                if data is not None and answer.data != data:
                    raise Mismatch(f"{where}: answered {answer.data.hex()}, not {data.hex()}")
            if counters is None:
                raise Mismatch(f"{where}: no answer afterwards")
            if not any(counters[name] != before[name] for name in _ERRORS):
                raise Mismatch(f"{where}: not counted")
            before = counters
            silent += step.fault.name == "an answer"  # never answered
            seen = {
                "frames": frames,
                "repeated": repeated,
                "refused": refused,
                "broken and short": notices + silent,
            }
            counted = counters | {"broken and short": counters["broken"] + counters["short"]}
            for name, value in seen.items():
                if counted[name] != value:
                    raise Mismatch(f"{where}: {counted[name]} {name} counted, {value} seen")
        if played.memory != bytes(model.memory):
            raise Mismatch("memory does not hold what was written")
        for name in LINK_COUNTERS:
            result.counters[name] = result.counters.get(name, 0) + before[name]
        result.answers += frames
        result.notices += notices


def _is_whole(parts: list[bytes]) -> bool:
    """Whether nothing but whole frames is there."""
    reader = FrameReader()
    list(reader.feed(bytes([FLAG]) + b"".join(parts) + bytes([FLAG])))
    return reader.broken == 0


def _frames(data: bytes) -> list[tuple[int, int, bytes]]:
    return list(FrameReader().feed(data))


def _answers(groups: list[bytes], where: str) -> list[tuple[int, int, bytes]]:
    reader = FrameReader()
    answers = list(reader.feed(b"".join(groups)))
    if reader.broken:
        raise Mismatch(f"{where}: an answer that is no whole frame")
    return answers


def _counters(data: bytes) -> dict[str, int]:
    return {
        name: int.from_bytes(data[2 * i : 2 * i + 2], "little")
        for i, name in enumerate(LINK_COUNTERS)
    }


def markdown(figures: dict[str, Any]) -> str:
    """The figures as a page."""
    kinds = markdown_table(["What happened", "Frames"], sorted(figures["frames"].items()))
    counters = markdown_table(["Counter of the device", "Count"], figures["counters"].items())
    return f"""# Broken frames on the link

`make bench-link`: {figures["count"]:,} frames with something wrong, seeds
{figures["seeds"]}, through the RTL of the controller in Verilator, with buses of
{figures["bus_bytes"]} bytes. After each the device is asked for its counters, and must answer.
Every answer and all of memory are compared with a Python model; answers, notices and counters must
agree to the last one.

- hangs: 0, wrong answers: 0, wrong bytes in memory: 0, faults that were not counted: 0
- {figures["answers"]:,} answers, {figures["notices"]:,} notices; {figures["cycles"]:,} cycles
- {figures["harmless"]:,} more were not counted as faults, since nothing but whole frames was left

{kinds}

{counters}
"""


def main(argv: list[str] | None = None) -> int:
    """Play, print, keep."""
    parser = argparse.ArgumentParser(prog="python -m intformer.bench.link", description=__doc__)
    parser.add_argument("--frames", type=int, default=10_000, help="broken frames (10,000)")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--no-record", action="store_true", help="keep nothing in docs/results")
    args = parser.parse_args(argv)
    runs = [(1, 0.0), (4, 0.3)]
    total = Fuzz()
    for number, (bus_bytes, stall) in enumerate(runs):
        share = args.frames * (number + 1) // len(runs) - args.frames * number // len(runs)
        try:
            part = fuzz(share, seed=args.seed + number, bus_bytes=bus_bytes, stall=stall)
        except Mismatch as error:
            print(error, file=sys.stderr)
            return 1
        print(
            f"bus of {bus_bytes} bytes: {share} frames, {part.cycles} cycles, {part.seconds:.0f} s"
        )
        total.frames += part.frames
        for name, value in part.counters.items():
            total.counters[name] = total.counters.get(name, 0) + value
        for name in ("harmless", "answers", "notices", "cycles", "seconds"):
            setattr(total, name, getattr(total, name) + getattr(part, name))
    figures = {
        "count": args.frames,
        "seeds": ", ".join(str(args.seed + i) for i in range(len(runs))),
        "bus_bytes": " and ".join(str(bus) for bus, _ in runs),
        "frames": dict(total.frames),
        "counters": total.counters,
        "answers": total.answers,
        "notices": total.notices,
        "harmless": total.harmless,
        "cycles": total.cycles,
        "seconds": round(total.seconds, 1),
    }
    print(markdown(figures))
    if not args.no_record:
        record("link", figures, markdown(figures))
    return 0


if __name__ == "__main__":
    sys.exit(main())
