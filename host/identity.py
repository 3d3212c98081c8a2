"""What a device says of itself."""

from __future__ import annotations

import hashlib
import json
import struct
from dataclasses import dataclass

from intformer.config import CoreConfig
from intformer.errors import ProtocolError

__all__ = ["DIGEST_BYTES", "NAME_BYTES", "PROTOCOL_VERSION", "Identity", "config_digest"]

PROTOCOL_VERSION = 1
"""Of the protocol in docs/protocol.md; another one needs another client."""
DIGEST_BYTES = 8
NAME_BYTES = 32
"""Longest name of a board."""

_FIXED = struct.Struct(f"<BBBBIIII{DIGEST_BYTES}s")
_SIMULATED = 1


def config_digest(config: CoreConfig) -> bytes:
    """Digest of everything in a configuration but its name.

    Programs run on a core if the digests of the two configurations are equal.
    """
    parameters = {name: value for name, value in config.to_dict().items() if name != "name"}
    text = json.dumps(parameters, sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(text.encode()).digest()[:DIGEST_BYTES]


@dataclass(frozen=True, kw_only=True)
class Identity:
    """What the host can ask of a device, constant while it is powered.

    Attributes
    ----------
    board: its name, up to :data:`NAME_BYTES` printable ASCII characters.
    config_digest: :func:`config_digest` of its core's configuration.
    bus_bytes: of its core: addresses and sizes are multiples of it.
    clock_hz: of core and link. Time-outs of the device follow from it.
    memory_size: bytes that the host can address, from 0 on.
    overlay_size: bytes of the RAM that lies over the memory from ``base`` on, 0 if there is none
        (and all memory can be written at any time).
    erase_size: bytes that the memory erases when the first of them is written, a power of two;
        1 if any byte can be written alone.
    simulated: the device is a simulation: the host waits a hundred times as long.
    version: of the protocol.
    """

    board: str
    config_digest: bytes
    bus_bytes: int
    clock_hz: int
    memory_size: int
    overlay_size: int = 0
    erase_size: int = 1
    simulated: bool = False
    version: int = PROTOCOL_VERSION

    def __post_init__(self) -> None:
        name = self.board
        if not (0 < len(name) <= NAME_BYTES and name.isascii() and name.isprintable()):
            raise ValueError(
                f"board must be 1 to {NAME_BYTES} printable ASCII characters, not {name!r}"
            )
        if len(self.config_digest) != DIGEST_BYTES:
            raise ValueError(
                f"config_digest must have {DIGEST_BYTES} bytes, not {len(self.config_digest)}"
            )
        if not 1 <= self.version <= 255:
            raise ValueError(f"version must be from 1 to 255, not {self.version!r}")
        for field in ("bus_bytes", "erase_size"):
            value = getattr(self, field)
            if value < 1 or value & (value - 1) or value >= 1 << 32:
                raise ValueError(f"{field} must be a power of two, not {value!r}")
        if self.bus_bytes > 128:
            raise ValueError(f"bus_bytes must be at most 128, not {self.bus_bytes!r}")
        for field, low in (("clock_hz", 1), ("memory_size", 1), ("overlay_size", 0)):
            value = getattr(self, field)
            if not (isinstance(value, int) and low <= value < 1 << 32):
                raise ValueError(f"{field} must be an integer of 32 bits, not {value!r}")
        for field in ("memory_size", "overlay_size"):
            value = getattr(self, field)
            if value % self.bus_bytes:
                raise ValueError(f"{field} must be a multiple of {self.bus_bytes}, not {value!r}")

    @classmethod
    def of(
        cls,
        config: CoreConfig,
        *,
        board: str,
        clock_hz: float,
        memory_size: int,
        overlay_size: int = 0,
        erase_size: int = 1,
        simulated: bool = False,
    ) -> Identity:
        """The identity of a board with a core of ``config``."""
        return cls(
            board=board,
            config_digest=config_digest(config),
            bus_bytes=config.bus_bytes,
            clock_hz=round(clock_hz),
            memory_size=memory_size,
            overlay_size=overlay_size,
            erase_size=erase_size,
            simulated=simulated,
        )

    def pack(self) -> bytes:
        """The data of the answer to INFO."""
        fixed = _FIXED.pack(
            self.version,
            _SIMULATED if self.simulated else 0,
            self.bus_bytes,
            len(self.board),
            self.memory_size,
            self.clock_hz,
            self.overlay_size,
            self.erase_size,
            self.config_digest,
        )
        return fixed + self.board.encode("ascii")

    @classmethod
    def unpack(cls, data: bytes) -> Identity:
        """Inverse of :meth:`pack`.

        Raises
        ------
        ProtocolError
            If ``data`` is not the identity of a device with this version of the protocol.
        """
        if data and data[0] != PROTOCOL_VERSION:
            raise ProtocolError(
                f"the device speaks version {data[0]} of the protocol, "
                f"this is a client for version {PROTOCOL_VERSION}"
            )
        if len(data) < _FIXED.size or len(data) != _FIXED.size + data[3]:
            raise ProtocolError(f"an identity of {len(data)} bytes is not whole")
        version, flags, bus, _, memory, clock, overlay, erase, digest = _FIXED.unpack_from(data)
        try:
            return cls(
                board=data[_FIXED.size :].decode("ascii"),
                config_digest=digest,
                bus_bytes=bus,
                clock_hz=clock,
                memory_size=memory,
                overlay_size=overlay,
                erase_size=erase,
                simulated=bool(flags & _SIMULATED),
                version=version,
            )
        except ValueError as error:
            raise ProtocolError(f"the device's identity is not valid: {error}") from None
