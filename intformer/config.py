"""Core configurations: the parameters that make one core out of the one source.

A configuration is a frozen :class:`CoreConfig`. It comes from a preset (a TOML file in
``intformer/presets``), from a user's TOML file, or from Python.
"""

from __future__ import annotations

import dataclasses
import tomllib
from dataclasses import dataclass
from importlib import resources
from pathlib import Path

from intformer.errors import ConfigError
from intformer.isa import Op

__all__ = ["CoreConfig", "load_config", "preset_names"]


CHOICES = {
    "array": ("dsp", "dsp_packed", "luts"),
    "multipliers": ("dsp", "luts"),
    "structure": ("parallel", "serial"),
}
"""Parameters that are one of a few words."""

SERIAL_LIMITS = {
    "rows": (4, 4),
    "cols": (4, 4),
    "lanes": (1, 1),
    "bus_bytes": (1, 1),
    "act_words": (16, 1 << 14),
    "wide_words": (16, 1 << 15),
    "acc_depth": (16, 255),
    "param_groups": (4, 256),
    "exp_tables": (1, 2),
    "act_tables": (1, 2),
    "row_max": (8, 128),
    "functions": (0, 0),
    "group_scales": (False, False),
    "row_scales": (0, 0),
}
"""Least and largest values with ``structure = "serial"``."""


_OPTIONAL = ("functions", "group_scales", "row_scales")
"""Parameters of units that a core need not have."""


def _is_power_of_two(value: int) -> bool:
    return value > 0 and value & (value - 1) == 0


@dataclass(frozen=True, kw_only=True)
class CoreConfig:
    """Parameters of one core.

    Attributes
    ----------
    name:
        Identifier, used in file names and reports.
    rows, cols:
        Systolic array height (contraction, K) and width (outputs, N). Any multiple of
        ``lanes``; they need not be equal, nor powers of two. ``rows`` is at most ``16*lanes``.
    lanes:
        Elements that the epilogue, the row unit and the scratchpads' narrow ports handle per
        cycle. A power of two, 1 to 16.
    bus_bytes:
        Width of the external memory port in bytes: a power of two, 1 to 16.
    act_words:
        Depth of the activation scratchpad (int8/uint8 codes), in words of ``rows`` bytes.
    wide_words:
        Depth of the wide scratchpad (int16 codes), in words of ``lanes`` 16-bit values.
    acc_depth:
        Rows of the accumulator memory; a row holds ``cols`` 32-bit sums.
    param_groups:
        Depth of the parameter memory, in groups of ``lanes`` channels (bias, multiplier, shift).
    exp_tables, act_tables:
        256-entry tables held at once for softmax and for activations.
    functions:
        Tables of functions of int16 codes (GELU and such, 512 quadratic segments each) that the
        epilogue holds at once, 0 to 4; with 0 it has no hardware for them.
    row_max:
        Longest row, in elements, that softmax and LayerNorm take.
    queue_depth:
        Instructions that wait in front of each unit.
    array:
        How the array multiplies: ``dsp`` (one product per DSP), ``dsp_packed`` (two INT8 products
        per DSP, weights from -127), ``luts`` (no DSP).
    multipliers:
        What the epilogue and the row unit multiply narrow operands with: ``dsp`` or ``luts``.
        Products wider than 18 bits take DSPs: per lane two in the epilogue, four in LayerNorm.
    group_scales:
        Whether weights can be quantized in groups along the contraction, with an integer scale
        for each group: a multiplier of 8 bits behind every column of the array. Needs ``cols`` of
        at most ``rows``.
    row_scales:
        Longest row, in elements, that can have a scale of its own as the moving operand of a
        product (per-token dynamic quantization), 8 to 4096; with 0 there is no hardware for it.
        The row unit finds the scale, and the epilogue multiplies the row's sums by it, with two
        more DSPs per lane each.
    structure:
        ``parallel`` (a unit per kind of work, all at once) or ``serial`` (one small shared unit,
        for devices of a few thousand cells).
    """

    name: str
    rows: int
    cols: int
    lanes: int
    bus_bytes: int = 4
    act_words: int = 4096
    wide_words: int = 8192
    acc_depth: int = 512
    param_groups: int = 512
    exp_tables: int = 2
    act_tables: int = 2
    functions: int = 0
    row_max: int = 256
    queue_depth: int = 4
    array: str = "dsp"
    multipliers: str = "dsp"
    group_scales: bool = False
    row_scales: int = 0
    structure: str = "parallel"

    def __post_init__(self) -> None:
        for field in dataclasses.fields(self):
            value = getattr(self, field.name)
            if field.name == "name":
                if not isinstance(value, str) or not value:
                    raise ConfigError(f"name must be a non-empty string, not {value!r}")
            elif field.name in CHOICES:
                if value not in CHOICES[field.name]:
                    raise ConfigError(
                        f"{field.name} must be one of {', '.join(CHOICES[field.name])}, "
                        f"not {value!r}"
                    )
            elif isinstance(field.default, bool):
                if not isinstance(value, bool):
                    raise ConfigError(f"{field.name} must be true or false, not {value!r}")
            elif not isinstance(value, int) or isinstance(value, bool):
                raise ConfigError(f"{field.name} must be an integer, not {value!r}")
        for field_name, high in (("lanes", 16), ("bus_bytes", 16)):
            value = getattr(self, field_name)
            if not _is_power_of_two(value) or value > high:
                raise ConfigError(
                    f"{field_name} must be a power of two from 1 to {high}, not {value!r}"
                )
        for field_name in ("rows", "cols"):
            value = getattr(self, field_name)
            if value < 2 or value > 64 or value % self.lanes:
                raise ConfigError(
                    f"{field_name} must be a multiple of lanes ({self.lanes}) from 2 to 64, "
                    f"not {value!r}"
                )
        if self.array == "dsp_packed" and self.cols % 2:
            raise ConfigError(f"cols must be even with array dsp_packed, not {self.cols!r}")
        if self.rows > 16 * self.lanes:
            raise ConfigError(
                f"rows must be at most 16 lane groups ({16 * self.lanes}), not {self.rows!r}"
            )
        for field_name, low, high in (
            ("act_words", 16, 1 << 18),
            ("wide_words", 16, 1 << 18),
            ("acc_depth", 16, 4096),
            ("param_groups", 4, 4096),
            ("exp_tables", 1, 4),
            ("act_tables", 1, 4),
            ("functions", 0, 4),
            ("row_max", 8, 1024),
            ("queue_depth", 1, 64),
        ):
            value = getattr(self, field_name)
            if not low <= value <= high:
                raise ConfigError(f"{field_name} must be from {low} to {high}, not {value!r}")
        most = min(4096, 1024 * self.lanes)
        if self.row_scales and not 8 <= self.row_scales <= most:
            raise ConfigError(f"row_scales must be 0, or from 8 to {most}, not {self.row_scales!r}")
        if self.group_scales and self.cols > self.rows:
            raise ConfigError(
                f"group_scales needs cols of at most rows ({self.rows}), not {self.cols!r}"
            )
        if self.structure == "serial":
            self._check_serial()

    def _check_serial(self) -> None:
        for field_name, (low, high) in SERIAL_LIMITS.items():
            value = getattr(self, field_name)
            if not low <= value <= high:
                allowed = str(low) if low == high else f"from {low} to {high}"
                raise ConfigError(f"{field_name} of a serial core must be {allowed}, not {value!r}")

    @property
    def macs_per_cycle(self) -> int:
        """Multiply-accumulates per cycle at the array's peak."""
        return self.rows * self.cols

    @property
    def operations(self) -> tuple[Op, ...]:
        """The operations that the core has; any other one is an error."""
        return tuple(op for op in Op if op is not Op.ROWSCALE or self.row_scales)

    @property
    def weight_min(self) -> int:
        """Least code that the array takes as a weight, or as the stationary operand."""
        return -127 if self.array == "dsp_packed" else -128

    @property
    def external_bytes(self) -> int:
        """External memory that the core can address."""
        return 1 << (24 if self.structure == "serial" else 32)

    @property
    def groups_per_word(self) -> int:
        """Lane groups in one word of the activation scratchpad."""
        return self.rows // self.lanes

    def to_dict(self) -> dict[str, int | str]:
        """Plain dictionary, as written to manifests; without optional units that are off."""
        values = dataclasses.asdict(self)
        return {name: v for name, v in values.items() if name not in _OPTIONAL or v}

    @classmethod
    def from_dict(cls, data: dict[str, object], *, source: str = "configuration") -> CoreConfig:
        """Build from a plain dictionary; unknown or missing keys raise :class:`ConfigError`."""
        known = {field.name: field for field in dataclasses.fields(cls)}
        unknown = sorted(set(data) - set(known))
        if unknown:
            raise ConfigError(
                f"{source}: unknown parameter {unknown[0]!r}; allowed are {', '.join(known)}"
            )
        required = [n for n, f in known.items() if f.default is dataclasses.MISSING]
        missing = [n for n in required if n not in data]
        if missing:
            raise ConfigError(f"{source}: parameter {missing[0]!r} is missing")
        try:
            return cls(**data)  # type: ignore[arg-type]
        except ConfigError as error:
            raise ConfigError(f"{source}: {error}") from None


def preset_names() -> list[str]:
    """Names of the presets that come with the package."""
    folder = resources.files("intformer") / "presets"
    return sorted(
        p.name.removesuffix(".toml") for p in folder.iterdir() if p.name.endswith(".toml")
    )


def load_config(source: str | Path | CoreConfig) -> CoreConfig:
    """Return the configuration of a preset name, a TOML file, or a ready :class:`CoreConfig`.

    Raises
    ------
    ConfigError
        If there is no such preset or file, or a parameter is invalid.
    """
    if isinstance(source, CoreConfig):
        return source
    text_source = str(source)
    if text_source.endswith(".toml"):
        path = Path(text_source)
        try:
            text = path.read_text(encoding="utf-8")
        except (OSError, UnicodeDecodeError) as error:
            reason = getattr(error, "strerror", None) or error
            raise ConfigError(f"cannot read configuration {text_source}: {reason}") from None
        default_name = path.stem
    else:
        if text_source not in preset_names():
            raise ConfigError(
                f"no configuration preset {text_source!r}; presets are "
                f"{', '.join(preset_names())}, or give a FILE.toml"
            )
        preset = resources.files("intformer") / "presets" / f"{text_source}.toml"
        text = preset.read_text(encoding="utf-8")
        default_name = text_source
    try:
        data = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise ConfigError(f"{text_source}: not valid TOML: {error}") from None
    data.setdefault("name", default_name)
    return CoreConfig.from_dict(data, source=text_source)
