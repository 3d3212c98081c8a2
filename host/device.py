"""A device on a serial port: connect, load a program, run it."""

from __future__ import annotations

import math
import time
import zlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from types import TracebackType
from typing import Any

from numpy.typing import NDArray

from intformer.errors import (
    DeviceRefused,
    DoesNotFit,
    RunError,
    UserError,
    WrongDevice,
)
from intformer.host.exchange import Exchange
from intformer.host.identity import Identity, config_digest
from intformer.host.port import open_port
from intformer.host.protocol import (
    COUNTERS_MAX,
    DATA_MAX,
    LINK_COUNTERS,
    Answer,
    Command,
    Status,
)
from intformer.isa import COUNTERS
from intformer.program import Program

__all__ = ["BAUD", "Device", "DeviceRun", "Loaded"]

BAUD = 1_000_000
"""Unless a board says otherwise."""
_SPAN = 1 << 15  # bytes compared at once
_PIECE = 1 << 12  # bytes written again when one of them differs, or more where memory erases more
_PASSES = 3
_POLL_S = (0.001, 0.05)

Array = NDArray[Any]
Progress = Callable[[str], None]


@dataclass(frozen=True)
class Loaded:
    """What :meth:`Device.load` did: bytes of the image, bytes that had to be sent, seconds."""

    size: int
    sent: int
    seconds: float


@dataclass(frozen=True)
class DeviceRun:
    """One run: outputs (codes), core cycles, all counters, seconds with the transfers."""

    outputs: dict[str, Array]
    cycles: int
    counters: dict[str, int]
    seconds: float


class Device:
    """A board, or what behaves like one, on a serial port.

    A context manager; closes the port at the end.

    Parameters
    ----------
    port: a serial port (``/dev/ttyUSB0``, ``COM3``, a pty), or a URL that pyserial knows.
    baud: bits per second; the board's.
    patience: factor on all time-outs.

    Raises
    ------
    PortError
        If the port cannot be opened, or pyserial is missing.
    NoAnswer
        If nothing that speaks the protocol is there.
    """

    def __init__(self, port: str, *, baud: int = BAUD, patience: float = 1.0) -> None:
        self._exchange = Exchange(open_port(port, baud=baud), baud=baud, patience=patience)
        self._program: Program | None = None
        try:
            self._identity = Identity.unpack(self._ask(Command.INFO).data)
        except BaseException:
            self.close()
            raise
        self._exchange.know(self._identity)

    def __enter__(self) -> Device:
        return self

    def __exit__(
        self,
        _kind: type[BaseException] | None,
        _error: BaseException | None,
        _trace: TracebackType | None,
    ) -> None:
        self.close()

    def close(self) -> None:
        """Close the port. The device keeps what it has."""
        self._exchange.close()

    @property
    def retries(self) -> int:
        """Frames that were sent again."""
        return self._exchange.retries

    def info(self) -> Identity:
        """What the device said of itself."""
        return self._identity

    def status(self) -> Answer:
        """The state of the core."""
        return self._ask(Command.STATUS)

    def reset(self) -> None:
        """Reset the core and the memory's adapter; a program that runs is given up."""
        self._ask(Command.RESET)

    def errors(self) -> dict[str, int]:
        """The device's counters of frames and errors, since it was powered, modulo 65,536."""
        data = self._ask(Command.ERRORS).data
        return {
            name: int.from_bytes(data[2 * i : 2 * i + 2], "little")
            for i, name in enumerate(LINK_COUNTERS)
        }

    def counters(self) -> dict[str, int]:
        """The core's counters of the last run, by the names in :data:`intformer.isa.COUNTERS`."""
        data = b""
        for first in range(0, len(COUNTERS), COUNTERS_MAX):
            count = min(COUNTERS_MAX, len(COUNTERS) - first)
            data += self._ask(Command.COUNTERS, address=first, count=count).data
        return {
            name: int.from_bytes(data[4 * i : 4 * i + 4], "little")
            for i, name in enumerate(COUNTERS)
        }

    def read(self, address: int, size: int) -> bytes:
        """Bytes of memory; both numbers are multiples of ``bus_bytes``."""
        data = b""
        while len(data) < size:
            count = min(DATA_MAX, size - len(data))
            data += self._ask(Command.READ, address=address + len(data), count=count).data
        return data

    def write(self, address: int, data: bytes) -> None:
        """Write memory; address and length are multiples of ``bus_bytes``."""
        for at in range(0, len(data), DATA_MAX):
            self._ask(Command.WRITE, address=address + at, data=data[at : at + DATA_MAX])

    def checksum(self, address: int, size: int) -> int:
        """CRC-32 of memory, made by the device."""
        answer = self._ask(Command.CHECKSUM, address=address, count=size)
        return int.from_bytes(answer.data, "little")

    def load(self, program: Program, *, progress: Progress | None = None) -> Loaded:
        """Bring the image of ``program`` into memory, as far as it is not there yet.

        The device's checksums decide what is sent, and whether it arrived. A program that still
        runs is given up.

        Raises
        ------
        WrongDevice
            If the device has a core of another configuration.
        DoesNotFit
            If the device has less memory than the program needs.
        DeviceRefused
            If memory does not hold what was written.
        """
        begun = time.monotonic()
        self._program = None
        base = self._check_fit(program)
        state = self.status()
        if state.running or state.error:
            self.reset()
        if self._identity.overlay_size:
            self._ask(Command.BASE, address=base)
        image = program.image.tobytes()
        image += bytes(-len(image) % self._identity.bus_bytes)
        sent = 0
        wrong = self._differences(image)
        for attempt in range(_PASSES):
            if not wrong:
                break
            if attempt and progress:
                progress(f"{len(wrong)} pieces are not right: once more")
            total = sum(len(image[at : at + size]) for at, size in wrong)
            if progress:
                progress(f"sending {total:,} of {len(image):,} bytes")
            done, shown = 0, 0
            for at, size in wrong:
                self.write(at, image[at : at + size])
                done += len(image[at : at + size])
                if progress and 10 * done // total > shown:
                    shown = 10 * done // total
                    progress(f"sent {done:,} of {total:,} bytes")
            sent += total
            wrong = self._differences(image)
        if wrong:
            raise DeviceRefused(
                f"memory of {self._identity.board} does not hold what was written at "
                f"address {wrong[0][0]:#x}, after {_PASSES} attempts"
            )
        self._program = program
        return Loaded(len(image), sent, time.monotonic() - begun)

    def run(self, codes: Mapping[str, Array], *, limit_s: float = 60.0) -> DeviceRun:
        """Run the loaded program on integer codes, by input name.

        Raises
        ------
        UserError
            If no program is loaded, or the inputs are not those of the program.
        RunError
            If the program does not end within ``limit_s`` (times the patience), or the core
            reports an error. The core is reset then.
        """
        program = self._program
        if program is None:
            raise UserError("no program is loaded")
        names = [tensor.name for tensor in program.inputs]
        if set(codes) != set(names):
            raise UserError(
                f"codes must hold exactly the inputs {', '.join(names)}, not {', '.join(codes)}"
            )
        begun = time.monotonic()
        bus = self._identity.bus_bytes
        for tensor in program.inputs:
            data = tensor.pack(codes[tensor.name])
            self.write(tensor.address, data + bytes(-len(data) % bus))
        self._ask(Command.RUN, address=program.entry)
        self._wait(limit_s * self._exchange.patience)
        outputs = {}
        for tensor in program.outputs:
            data = self.read(tensor.address, math.ceil(tensor.size / bus) * bus)
            outputs[tensor.name] = tensor.unpack(data[: tensor.size])
        counters = self.counters()
        return DeviceRun(outputs, counters["cycles"], counters, time.monotonic() - begun)

    def _wait(self, limit_s: float) -> None:
        """Ask for the state until the program has ended."""
        deadline = time.monotonic() + limit_s
        pause, longest = _POLL_S
        while True:
            state = self.status()
            if state.error:
                self.reset()
                raise RunError("the core met an unknown operation in the program")
            if not state.running:
                break
            if time.monotonic() > deadline:
                self.reset()
                raise RunError(f"the program did not end within {limit_s:g} s")
            time.sleep(pause)
            pause = min(2 * pause, longest)
        if not state.finished:
            raise RunError("the device was reset while the program ran")

    def _check_fit(self, program: Program) -> int:
        """Refuse a program of another core, or too large; return where the overlay begins."""
        own = self._identity
        if own.config_digest != config_digest(program.config):
            raise WrongDevice(
                f"{own.board} has another core than the program was compiled for "
                f"(configuration {program.config.name!r}, digest "
                f"{config_digest(program.config).hex()}; the device says {own.config_digest.hex()})"
            )
        needed = max(program.memory_bytes, len(program.image))
        if needed > own.memory_size:
            raise DoesNotFit(
                f"the program needs {needed:,} bytes of memory, {own.board} has {own.memory_size:,}"
            )
        base = math.ceil(len(program.image) / own.bus_bytes) * own.bus_bytes
        if own.overlay_size:
            below = [t.name for t in (*program.inputs, *program.outputs) if t.address < base]
            if below:
                raise DoesNotFit(f"{below[0]} lies in the image, which {own.board} cannot change")
            if needed - base > own.overlay_size:
                raise DoesNotFit(
                    f"inputs and outputs need {needed - base:,} bytes of RAM, "
                    f"{own.board} has {own.overlay_size:,}"
                )
        return base

    def _differences(self, image: bytes) -> list[tuple[int, int]]:
        """Address and size of every piece of ``image`` that memory does not hold."""
        piece = max(_PIECE, self._identity.erase_size)
        span = max(_SPAN, piece)
        wrong = []
        for start in range(0, len(image), span):
            if self._holds(start, image[start : start + span]):
                continue
            for at in range(start, min(start + span, len(image)), piece):
                if not self._holds(at, image[at : min(at + piece, start + span)]):
                    wrong.append((at, piece))
        return wrong

    def _holds(self, address: int, data: bytes) -> bool:
        return self.checksum(address, len(data)) == zlib.crc32(data)

    def _ask(self, command: Command, **fields: Any) -> Answer:
        answer = self._exchange.ask(command, **fields)
        if answer.status != Status.OK:
            raise DeviceRefused(_refusal(command, answer, **fields))
        return answer


def _refusal(command: Command, answer: Answer, **fields: Any) -> str:
    what = ", ".join(
        f"{len(value)} bytes" if isinstance(value, bytes) else f"{name} {value:#x}"
        for name, value in fields.items()
    )
    why = {
        Status.UNKNOWN: "it does not know this command",
        Status.LENGTH: "the payload has a wrong length, or too much is asked for",
        Status.ALIGN: "address and size must be multiples of its bus's bytes",
        Status.RANGE: "this is outside of its memory",
        Status.BUSY: "a program runs",
        Status.MEMORY: "its memory did not answer",
    }.get(answer.status, f"status {answer.status.name}")
    return (
        f"the device refused {command.name} ({what}): {why}"
        if what
        else (f"the device refused {command.name}: {why}")
    )
