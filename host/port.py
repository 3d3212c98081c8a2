"""Opening a serial port."""

from __future__ import annotations

from typing import Any

from intformer.errors import PortError

__all__ = ["SerialPort", "open_port"]

_READ_S = 0.01


class SerialPort:
    """A serial port whose errors name it.

    Parameters
    ----------
    line: of pyserial. name: for errors.
    """

    def __init__(self, line: Any, name: str) -> None:
        self._line = line
        self._name = name

    def write(self, data: bytes) -> None:
        """Send all of ``data``; raises :class:`~intformer.errors.PortError` if the port is lost."""
        try:
            self._line.write(data)
            self._line.flush()
        except OSError as error:  # SerialException is one
            raise PortError(f"{self._name} was lost: {error}") from None

    def read(self) -> bytes:
        """What has come, or comes within some milliseconds; may be nothing."""
        try:
            return self._line.read(max(1, self._line.in_waiting))
        except (OSError, TypeError) as error:  # TypeError: pyserial, of a port closed meanwhile
            raise PortError(f"{self._name} was lost: {error}") from None

    def discard(self) -> None:
        """Forget what has come and was not read."""
        try:
            self._line.reset_input_buffer()
        except OSError as error:
            raise PortError(f"{self._name} was lost: {error}") from None

    def close(self) -> None:
        """Close it."""
        self._line.close()


def open_port(name: str, *, baud: int) -> SerialPort:
    """Open a serial port: 8 data bits, no parity, 1 stop bit, no flow control.

    Raises
    ------
    PortError
        If that is not possible; says why.
    """
    try:
        import serial
    except ImportError:
        raise PortError("pyserial is missing; try `pip install intformer[host]`") from None
    try:
        line = serial.serial_for_url(name, baudrate=baud, timeout=_READ_S, write_timeout=10)
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or error
        raise PortError(f"cannot open {name}: {reason}") from None
    return SerialPort(line, name)
