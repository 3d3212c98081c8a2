"""Errors that a user can cause; the command line prints them without a traceback."""


class IntformerError(Exception):
    """Base of every error that intformer raises on purpose."""


class UserError(IntformerError):
    """The user's mistake: a bad argument, file or model. Exit status 2."""


class ConfigError(UserError):
    """A core configuration is invalid; the message names the parameter and its range."""


class UnsupportedModel(UserError):
    """A model holds operations that cannot be mapped; the message lists every one."""


class DoesNotFit(UserError):
    """A model exceeds a memory of the configured core; names memory, need and parameter."""


class FormatError(UserError):
    """A file is truncated, foreign or of another version; names the file and the place."""


class BuildFailed(IntformerError):
    """An external tool failed or a generated design did not build. Exit status 1."""


class DeviceTooSmall(BuildFailed):
    """A design needs more of an FPGA's resources than there are; names each, need and supply."""


class Mismatch(IntformerError):
    """Two levels of the same computation disagree. Exit status 1."""


class PortError(UserError):
    """A serial port cannot be opened or was lost; names the port and the reason."""


class NoAnswer(IntformerError):
    """A device did not answer within the time and the retries; names the command. Exit status 1."""


class ProtocolError(IntformerError):
    """A device answered with something that the protocol does not allow there."""


class DeviceRefused(IntformerError):
    """A device refused a command, or its memory failed; names both."""


class WrongDevice(UserError):
    """A device has another core, or less memory, than a program needs."""


class RunError(IntformerError):
    """A program on a device did not end, or ended with the core's error flag."""
