"""What a device on the link must do, in Python: memory, the copying core, and what commands say."""

from __future__ import annotations

import struct
import zlib

from intformer.host.identity import Identity
from intformer.host.protocol import (
    CHECKSUM_MAX,
    COUNTERS_MAX,
    DATA_MAX,
    SIDE_EFFECTS,
    Command,
    Status,
)

__all__ = ["CORE_JOB_BYTES", "LinkModel", "copy_job"]

CORE_JOB_BYTES = 16
_NEAR = 1 << 24  # devices with no more memory keep 24 bits of an address


def copy_job(source: int, target: int, size: int, *, cycles: int = 10) -> bytes:
    """What the copying core of ``sim/link_tb.sv`` reads at its entry."""
    return struct.pack("<IIII", source, target, size, cycles)


class LinkModel:
    """The device of :class:`intformer.sim.link.LinkSimulator`, without time.

    Parameters
    ----------
    identity: of the device.
    memory: at first.
    """

    def __init__(self, identity: Identity, memory: bytes) -> None:
        self.identity = identity
        self.memory = bytearray(memory.ljust(identity.memory_size, b"\0"))
        self._last: tuple[int, Status] | None = None

    def answer(
        self, sequence: int, command: int, payload: bytes
    ) -> tuple[Status, bool, bytes | None]:
        """Carry out a good frame: status, whether it is a repeat, data (None: not known)."""
        repeated = self._last is not None and self._last[0] == sequence
        if repeated and command in SIDE_EFFECTS:
            assert self._last is not None
            return self._last[1], True, b""
        status = self._verdict(command, payload)
        self._last = (sequence, status)
        data = self._carry_out(Command(command), payload) if status == Status.OK else b""
        return status, repeated, data

    def _verdict(self, command: int, payload: bytes) -> Status:
        if command not in list(Command):
            return Status.UNKNOWN
        if command in (Command.INFO, Command.STATUS, Command.ERRORS, Command.RESET):
            return Status.OK if not payload else Status.LENGTH
        if len(payload) < 8:
            return Status.LENGTH
        address, count = struct.unpack_from("<II", payload)
        kept = count & CHECKSUM_MAX  # what fits the device's register
        if len(payload) - 8 != (kept if command == Command.WRITE else 0):
            return Status.LENGTH
        memory = self.identity.memory_size
        far = count > CHECKSUM_MAX or (memory <= _NEAR and address >= _NEAR)
        if command != Command.COUNTERS:
            if (address | kept) % self.identity.bus_bytes:
                return Status.ALIGN
            if far or address + count > memory:
                return Status.RANGE
        most = {
            Command.READ: DATA_MAX,
            Command.WRITE: DATA_MAX,
            Command.COUNTERS: COUNTERS_MAX,
            Command.CHECKSUM: CHECKSUM_MAX,
        }.get(Command(command))
        if most is not None and (far or not 0 < count <= most):
            return Status.RANGE
        return Status.OK

    def _carry_out(self, command: Command, payload: bytes) -> bytes | None:
        if command == Command.INFO:
            return self.identity.pack()
        if command in (Command.ERRORS, Command.COUNTERS):
            return None
        if len(payload) < 8:
            return b""
        address, count = struct.unpack_from("<II", payload)
        if command == Command.READ:
            return bytes(self.memory[address : address + count])
        if command == Command.CHECKSUM:
            return struct.pack("<I", zlib.crc32(self.memory[address : address + count]))
        if command == Command.WRITE:
            self.memory[address : address + count] = payload[8:]
        if command == Command.RUN:
            job = bytes(self.memory[address : address + CORE_JOB_BYTES])
            source, target, size, _ = struct.unpack("<IIII", job)
            for at in range(0, size, self.identity.bus_bytes):
                piece = self.memory[source + at : source + at + self.identity.bus_bytes]
                self.memory[target + at : target + at + len(piece)] = bytes(
                    255 - value for value in piece
                )
        return b""
