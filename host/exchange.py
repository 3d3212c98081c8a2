"""One command and its answer at a time, with retries."""

from __future__ import annotations

import random
import time
from typing import Protocol

from intformer.errors import NoAnswer, ProtocolError
from intformer.host.identity import Identity
from intformer.host.protocol import (
    ANSWER,
    DATA_MAX,
    NOTICE,
    Answer,
    Command,
    FrameReader,
    encode_frame,
    parse_answer,
    request,
)

__all__ = ["Exchange", "Line"]

_ANSWER_S = 0.3
"""Until a frame is sent again, besides its time on the line and in memory: drivers and USB."""
_ERASE_S = 0.6
"""The same where a write may have to erase first."""
_CHECKSUM_CYCLES = 100
"""Of the device's clock, per byte, at most."""
_TRIES = 10
_SIMULATED = 100.0


class Line(Protocol):
    """What carries the bytes; see :class:`intformer.host.port.SerialPort`."""

    def write(self, data: bytes) -> None: ...
    def read(self) -> bytes: ...
    def discard(self) -> None: ...
    def close(self) -> None: ...


class Exchange:
    """Stop-and-wait: a frame is sent until its answer comes, at most ten times.

    Parameters
    ----------
    line: to the device. baud: bits per second, for time-outs.
    patience: factor on all time-outs.
    """

    def __init__(self, line: Line, *, baud: int, patience: float = 1.0) -> None:
        if baud < 1:
            raise ValueError(f"baud must be positive, not {baud!r}")
        if patience <= 0:
            raise ValueError(f"patience must be positive, not {patience!r}")
        self._line = line
        self._baud = baud
        self._reader = FrameReader()
        self._identity: Identity | None = None
        # Any number will do: the first command changes nothing, so it may look repeated.
        self._sequence = random.randrange(256)
        self._first = True
        self.patience = patience
        self.retries = 0

    def know(self, identity: Identity) -> None:
        """From now on reckon with this device's clock and memory."""
        self._identity = identity
        if identity.simulated:
            self.patience *= _SIMULATED

    def close(self) -> None:
        """Close the line."""
        self._line.close()

    def ask(
        self, command: Command, *, address: int = 0, count: int = 0, data: bytes = b""
    ) -> Answer:
        """Send a command until it is answered; see :func:`intformer.host.protocol.request`.

        Raises
        ------
        NoAnswer
            If no answer comes after ten tries.
        ProtocolError
            If an answer does not follow the protocol, or somebody else talks to the device.
        PortError
            If the port is lost.
        """
        self._sequence = (self._sequence + 1) % 256
        frame = encode_frame(
            self._sequence, command, request(command, address=address, count=count, data=data)
        )
        limit = self._limit(command, count=count, size=len(frame)) * self.patience
        for attempt in range(_TRIES):
            if attempt:
                self.retries += 1
            else:
                self._line.discard()
                self._reader.reset()
            self._line.write(frame)
            answer = self._await(command, time.monotonic() + limit)
            if answer is None:
                continue
            if answer.repeated and not attempt and not self._first:
                raise ProtocolError(
                    f"the device has seen the number of {command.name} before: "
                    "is another program using the port?"
                )
            self._first = False
            return answer
        raise NoAnswer(
            f"no answer to {command.name} after {_TRIES} tries of {limit:.2g} s; "
            "is the port the right one, and the baud rate the board's?"
        )

    def _await(self, command: Command, deadline: float) -> Answer | None:
        """The answer, or None if it is time to send again."""
        while time.monotonic() < deadline:
            for sequence, got, payload in self._reader.feed(self._line.read()):
                if got == NOTICE:
                    # Ours may have been what was broken; if not, the device sees a repeat.
                    return None
                if sequence == self._sequence and got == command | ANSWER:
                    return parse_answer(payload)
        return None

    def _limit(self, command: Command, *, count: int, size: int) -> float:
        """Seconds after which a frame is sent again."""
        answer = count + 20 if command != Command.CHECKSUM else 20
        if command == Command.COUNTERS:
            answer = 4 * count + 20
        limit = _ANSWER_S + 10 * (size + 2 * answer + DATA_MAX) / self._baud
        identity = self._identity
        if identity is None:
            return limit
        if command == Command.CHECKSUM:
            limit += _CHECKSUM_CYCLES * count / identity.clock_hz
        if command == Command.WRITE and identity.erase_size > 1:
            limit += _ERASE_S
        return limit
