"""What the user asks of the quantizer: weights, a named scheme of activations, overrides."""

from __future__ import annotations

import dataclasses
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any

from intformer.compiler import graph as fg
from intformer.errors import UserError

__all__ = [
    "ACTIVATIONS",
    "WEIGHTS",
    "Layer",
    "Settings",
    "WeightFormat",
    "module_path",
    "read_overrides",
]


@dataclass(frozen=True)
class WeightFormat:
    """Static weights: ``bits`` 8 or 4; ``group`` elements of the contraction share a scale.

    ``group`` 0: one scale per output channel.
    """

    bits: int
    group: int = 0

    @property
    def top(self) -> int:
        """The largest code; the smallest is its negative."""
        return 127 if self.bits == 8 else 7


WEIGHTS = {
    "int8": WeightFormat(8),
    "int4": WeightFormat(4),
    "int4-g32": WeightFormat(4, 32),
    "int4-g128": WeightFormat(4, 128),
}
"""Formats of static weights by name."""


@dataclass(frozen=True)
class Layer:
    """Settings of one layer (a module of the model).

    Attributes
    ----------
    weights: one of :data:`WEIGHTS`.
    solver: ``"round"`` to the nearest code, ``"gptq"``, or ``"auto"``: GPTQ for int4.
    operand: the codes of a linear layer's input: ``"int8"``; ``"int16"`` (two passes through the
        array); or ``"auto"``: int16 behind an activation function that is not ReLU.
    scales: ``"static"``: the codes of a linear layer's input have the scale that the samples set;
        ``"token"``: int8 codes, each row with a scale of its own, found as the model runs.
    smoothing: exponent of SmoothQuant for the input of linear layers, 0 (none) to 1, or
        ``"search"``. Read at the layer that makes the input.
    norm: ``"shared"``: one LayerNorm, its int8 codes are made from its int16 codes;
        ``"dual"``: one for each.
    function: ``"int8"``: activation functions by 256 entries; ``"int16"``: from int16 codes.
    ranges: int8 inputs of linear layers hold the ``"minmax"`` of the samples, or what gives the
        least squared error, ``"mse"``.
    headroom: int16 codes reach this many times as far as the samples.
    """

    weights: str = "int8"
    solver: str = "round"
    operand: str = "int8"
    scales: str = "static"
    smoothing: float | str = 0.0
    norm: str = "shared"
    function: str = "int8"
    ranges: str = "minmax"
    headroom: float = 2.0

    @property
    def format(self) -> WeightFormat:
        """The format of the weights."""
        return WEIGHTS[self.weights]


ACTIVATIONS: dict[str, dict[str, Any]] = {
    "int8": {},
    "mixed": {
        "solver": "auto",
        "operand": "auto",
        "smoothing": "search",
        "norm": "dual",
        "function": "int16",
    },
    "token": {
        "solver": "auto",
        "operand": "int8",
        "scales": "token",
        "smoothing": "search",
        "norm": "dual",
        "function": "int16",
    },
}
"""Schemes by name: settings that differ from those of :class:`Layer`."""

_CHOICES = {
    "weights": tuple(WEIGHTS),
    "solver": ("round", "gptq", "auto"),
    "operand": ("int8", "int16", "auto"),
    "scales": ("static", "token"),
    "norm": ("shared", "dual"),
    "function": ("int8", "int16"),
    "ranges": ("minmax", "mse"),
}


class Settings:
    """Settings of every layer.

    Parameters
    ----------
    weights: one of :data:`WEIGHTS`; groups are solved by GPTQ.
    activations: one of :data:`ACTIVATIONS`.
    overrides: glob patterns of module paths (``"encoder.layer.*.output.dense"``), each with the
        settings of :class:`Layer` to change there. Of several patterns that match, later ones
        win.

    Raises
    ------
    UserError
        If a name or a value is unknown; the message lists what is allowed.
    """

    def __init__(
        self,
        weights: str = "int8",
        activations: str = "int8",
        overrides: Mapping[str, Mapping[str, Any]] | None = None,
    ) -> None:
        if weights not in WEIGHTS:
            raise UserError(f"weights must be one of {', '.join(WEIGHTS)}, not {weights!r}")
        if activations not in ACTIVATIONS:
            allowed = ", ".join(ACTIVATIONS)
            raise UserError(f"activations must be one of {allowed}, not {activations!r}")
        self.weights, self.activations = weights, activations
        self.overrides = {
            str(p): _checked(str(p), v, activations) for p, v in (overrides or {}).items()
        }
        base = Layer(weights=weights, **ACTIVATIONS[activations])
        if base.format.group:
            base = dataclasses.replace(base, solver="auto")
        self.base = base
        self._used: set[str] = set()

    def at(self, node: fg.Node) -> Layer:
        """The settings of a node."""
        layer = self.base
        names = (module_path(node), node.name)
        for pattern, changes in self.overrides.items():
            if any(fnmatchcase(name, pattern) for name in names):
                self._used.add(pattern)
                layer = dataclasses.replace(layer, **changes)
        return _resolved(layer)

    @property
    def needs_rows(self) -> bool:
        """Whether anything is fitted to the samples themselves, not only to their ranges."""
        layers = [self.base] + [
            dataclasses.replace(self.base, **changes) for changes in self.overrides.values()
        ]
        return any(
            _resolved(x).solver == "gptq" or x.smoothing or x.ranges == "mse" for x in layers
        )

    def check_used(self, graph: fg.Graph) -> None:
        """Check that every pattern matches a node of ``graph``.

        Raises
        ------
        UserError
            Otherwise; the message names the pattern and some paths.
        """
        for node in graph.nodes:
            self.at(node)
        for pattern in self.overrides:
            if pattern not in self._used:
                paths = sorted({module_path(n) for n in graph.nodes} - {""})
                raise UserError(
                    f"no layer matches the override {pattern!r}; modules of the model: "
                    f"{', '.join(paths[:8]) or 'none'}{', ...' if len(paths) > 8 else ''}"
                )


def module_path(node: fg.Node) -> str:
    """The path of the module that a node comes from; empty for the top module."""
    return node.source.rpartition(" ")[0]


def read_overrides(path: str | Path) -> dict[str, dict[str, Any]]:
    """Overrides from a TOML file: a table for each pattern.

    ::

        ["encoder.layer.0.*"]
        weights = "int8"

    Raises
    ------
    UserError
        If the file cannot be read, or holds anything else than tables.
    """
    try:
        data = tomllib.loads(Path(path).read_text("utf-8"))
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(f"cannot read {path}: {error}") from None
    except tomllib.TOMLDecodeError as error:
        raise UserError(f"{path} is not TOML: {error}") from None
    for pattern, changes in data.items():
        if not isinstance(changes, dict):
            raise UserError(f'{path}: {pattern!r} must be a table ["{pattern}"], not {changes!r}')
    return data


def _checked(pattern: str, changes: Mapping[str, Any], activations: str) -> dict[str, Any]:
    allowed = [f.name for f in dataclasses.fields(Layer)]
    result = dict(changes)
    if "activations" in result:
        name = result.pop("activations")
        if name not in ACTIVATIONS:
            allowed_names = ", ".join(ACTIVATIONS)
            raise UserError(
                f"override {pattern!r}: activations must be one of {allowed_names}, not {name!r}"
            )
        plain = dataclasses.asdict(Layer())
        scheme = {key: plain[key] for key in ACTIVATIONS[activations]} | ACTIVATIONS[name]
        result = scheme | result
    _settle_operand(pattern, changes, result)
    for key, value in result.items():
        if key not in allowed:
            raise UserError(
                f"override {pattern!r}: unknown setting {key!r}; settings: activations, "
                f"{', '.join(allowed)}"
            )
        if key in _CHOICES and value not in _CHOICES[key]:
            raise UserError(
                f"override {pattern!r}: {key} must be one of {', '.join(_CHOICES[key])}, "
                f"not {value!r}"
            )
        number = isinstance(value, int | float) and not isinstance(value, bool)
        if key == "smoothing" and value != "search" and not (number and 0 <= value <= 1):
            raise UserError(
                f"override {pattern!r}: smoothing must be 0 to 1, or search, not {value!r}"
            )
        if key == "headroom" and not (number and 1 <= value <= 1024):
            raise UserError(f"override {pattern!r}: headroom must be 1 to 1024, not {value!r}")
    if WEIGHTS[result.get("weights", "int8")].group:
        result.setdefault("solver", "auto")
    return result


def _settle_operand(pattern: str, changes: Mapping[str, Any], result: dict[str, Any]) -> None:
    """An int16 operand has one scale, rows with their own are int8: what is asked for wins."""
    if changes.get("scales") == "token":
        if changes.get("operand") == "int16":
            raise UserError(
                f'override {pattern!r}: with scales = "token" the operand is int8; an int16 '
                'operand needs scales = "static"'
            )
        result.setdefault("operand", "int8")
    elif changes.get("operand") == "int16":
        result["scales"] = "static"


def _resolved(layer: Layer) -> Layer:
    """``layer`` with the solver and the operand that ``"auto"`` stands for, if it is known."""
    if layer.scales == "token":
        layer = dataclasses.replace(layer, operand="int8")
    if layer.solver != "auto":
        return layer
    return dataclasses.replace(layer, solver="gptq" if layer.format.bits == 4 else "round")
