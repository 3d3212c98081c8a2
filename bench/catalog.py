"""The catalogue: what `intformer units` measures."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from functools import partial
from typing import Any

from amaranth.lib import wiring

from intformer import hw
from intformer.bench import (
    errors_norm,
    errors_rescale,
    errors_rivals,
    errors_rows,
    errors_softmax,
    errors_table,
    oracle_requantize,
    oracle_tosa,
    rival_ibert,
    rival_ita,
    rival_ivit,
    rival_softermax,
)
from intformer.bench.cases import ALL_DEVICES, CostCase, ErrorCase, OracleCase

__all__ = ["COSTS", "ERRORS", "ORACLES"]

LARGE, ICE40, GOWIN = ALL_DEVICES
ROW_MAX = 256


def _builder(unit: str, arguments: dict[str, Any]) -> Callable[[str], wiring.Component]:
    """Make the unit for a family, if it knows families."""

    def build(target: str) -> wiring.Component:
        kind = getattr(hw, unit)
        knows = "target" in inspect.signature(kind).parameters
        return kind(**arguments, **({"target": target} if knows else {}))

    return build


def _costs(
    unit: str, configuration: str = "", *, small: int = 1, large: int = 4, **arguments: Any
) -> list[CostCase]:
    """A unit with few lanes on every device, and with more on the largest."""
    text = f"{configuration}, " if configuration else ""
    return [
        CostCase(
            unit=unit,
            configuration=f"{text}{lanes} {'lane' if lanes == 1 else 'lanes'}",
            build=_builder(unit, {"lanes": lanes} | arguments),
            devices=devices,
        )
        for lanes, devices in ((small, ALL_DEVICES), (large, (LARGE,)))
    ]


def _array(
    format: str, rows: int, cols: int, *devices: str, note: str = "", **arguments: Any
) -> CostCase:
    """An array of one size."""
    return CostCase(
        unit="SystolicArray",
        configuration=f"{format} {rows}x{cols}{note}",
        build=_builder("SystolicArray", {"format": format, "rows": rows, "cols": cols} | arguments),
        devices=devices,
    )


def _rival_cost(kind: Callable[..., wiring.Component]) -> CostCase:
    return CostCase(
        unit=kind.__name__,
        configuration="int8, 4 lanes",
        build=lambda _target: kind(lanes=4, row_max=ROW_MAX),
        devices=(LARGE,),
        rival=True,
    )


_GELU16: dict[str, Any] = {
    "x_scale": 1 / 4096,
    "y_scale": 1 / 4096,
    "x_type": "int16",
    "y_type": "int16",
}

COSTS: tuple[CostCase, ...] = (
    _array("int8", 8, 8, LARGE, GOWIN),
    _array("int8", 12, 12, LARGE),
    _array("int8", 4, 2, ICE40),
    _array("int8_packed", 16, 16, LARGE),
    _array("int8_packed", 16, 16, LARGE, note=", no uint8", activation_bits=8),
    _array("int8_packed", 8, 8, LARGE, GOWIN),
    _array("int8_packed", 4, 4, ICE40),
    _array("w4a8_packed", 16, 16, LARGE),
    _array("w4a8_packed", 8, 8, LARGE, GOWIN),
    _array("w4a4_packed", 8, 8, LARGE, GOWIN),
    _array("int8_luts", 4, 4, *ALL_DEVICES),
    _array("int4_luts", 4, 4, *ALL_DEVICES),
    *_costs("Softmax", "int8", row_max=ROW_MAX, scale=1 / 16),
    *_costs("Softmax", "int16", row_max=ROW_MAX, scale=1 / 2048, input="int16"),
    *_costs("LayerNorm", "int8 and int16", row_max=ROW_MAX),
    *_costs("RMSNorm", "int8 and int16", row_max=ROW_MAX),
    *_costs("TableFunction", "GELU int8", function="gelu", x_scale=1 / 16, y_scale=1 / 32),
    *_costs("TableFunction", "GELU int16", function="gelu", **_GELU16),
    *_costs("RotaryEmbedding", "int8", small=2, dim=64, positions=64, x_type="int8"),
    *_costs("RotaryEmbedding", "int16", small=2, dim=64, positions=64, fraction=20),
    *_costs("Requantize", "int8"),
    *_costs("Requantize", "int8 per channel", channels=256),
    *_costs("Requantize", "int16", o_type="int16"),
    *_costs("Requantize", "int32, 32-bit multiplier", o_type="int32", mult_bits=32),
    *_costs("ElementwiseAdd", "int8"),
    *_costs("ElementwiseMultiply", "int8"),
    *_costs("GroupScale", "16-bit scales"),
    *_costs("RowMaximum", "int8"),
    *_costs("ArgMax", "int8", row_max=ROW_MAX),
    *_costs("RowScale", "int16 to int8", row_max=ROW_MAX),
    _rival_cost(rival_ibert.IBertSoftmax),
    _rival_cost(rival_ivit.IVitSoftmax),
    _rival_cost(rival_ita.ItaSoftmax),
    _rival_cost(rival_softermax.SoftermaxLike),
)
"""Components to place and route."""


def _tables(bits: int) -> list[ErrorCase]:
    names = ("gelu", "gelu_tanh", "silu", "sigmoid", "tanh", "exp", "hard_swish")
    return [
        ErrorCase(
            unit="TableFunction",
            configuration=f"{name}, int{bits}, all inputs",
            measure=partial(errors_table.errors, function=name, bits=bits),
            quick=None,
            full=None,
        )
        for name in names
    ]


def _norms() -> list[ErrorCase]:
    return [
        ErrorCase(
            unit=unit,
            configuration=f"int16 to {output}",
            measure=_rows(partial(errors_norm.errors, unit=unit, output=output)),
        )
        for unit in ("LayerNorm", "RMSNorm")
        for output in ("int8", "int16")
    ]


def _rows(function: Callable[[int, int], dict[str, Any]]) -> Callable[..., dict[str, Any]]:
    """For functions that need a number of rows."""
    return lambda rows, seed: function(rows or 1_000_000, seed)


_RIVALS = {
    "I-BERT": rival_ibert,
    "I-ViT": rival_ivit,
    "ITA": rival_ita,
    "Softermax-like": rival_softermax,
}


def _our_softmax(x: Any, *, scale: float) -> Any:
    return errors_softmax.reference.softmax(x, exp_table=errors_softmax.exp_tables(scale, d_bits=8))


def _rivals() -> list[ErrorCase]:
    """Rivals, and ours on the same rows where they differ from those above."""
    kinds: list[tuple[str, str, Any, Any]] = []
    for name, module in _RIVALS.items():
        kinds.append((f"{name} softmax", "int8", errors_rivals.softmax, module.softmax))
        kinds.append(
            (f"{name} softmax", "int8, 64 normal", errors_rivals.softmax_of_64, module.softmax)
        )
        if hasattr(module, "gelu"):
            kinds.append((f"{name} GELU", "int8, all inputs", errors_rivals.gelu, module.gelu))
            kinds.append(
                (f"{name} LayerNorm", "int8, normal", errors_rivals.layernorm, module.layernorm)
            )
    cases = [
        ErrorCase(unit=unit, configuration=text, measure=partial(measure, function), rival=True)
        for unit, text, measure, function in kinds
    ]
    return [
        ErrorCase(
            unit="Softmax",
            configuration="int8, 64 normal",
            measure=partial(errors_rivals.softmax_of_64, _our_softmax),
        ),
        ErrorCase(
            unit="LayerNorm",
            configuration="int8, normal",
            measure=partial(errors_rivals.layernorm, errors_rivals.our_layernorm),
        ),
        *cases,
    ]


ERRORS: tuple[ErrorCase, ...] = (
    *(
        ErrorCase(
            unit="Softmax",
            configuration=f"{code}",
            measure=_rows(partial(errors_softmax.errors, input=code, scale=scale)),
        )
        for code, scale in (("int8", 1 / 16), ("int16", 1 / 2048), ("int32", 1e-5))
    ),
    *_norms(),
    *_tables(8),
    *_tables(16),
    *(
        ErrorCase(
            unit="Requantize",
            configuration=f"to {output}",
            measure=partial(errors_rescale.requantize, output=output),
        )
        for output in ("int4", "int8", "int16", "int32")
    ),
    ErrorCase(unit="ElementwiseAdd", configuration="int8", measure=errors_rescale.add),
    ErrorCase(unit="ElementwiseMultiply", configuration="int8", measure=errors_rescale.multiply),
    ErrorCase(unit="RowScale", configuration="int16 to int8", measure=errors_rows.row_scale),
    *(
        ErrorCase(
            unit="RotaryEmbedding",
            configuration=f"{code}, {fraction} fraction bits",
            measure=partial(errors_rows.rotary, x_type=code, fraction=fraction),
        )
        for code, fraction in (("int8", 16), ("int16", 16), ("int16", 20))
    ),
    *_rivals(),
)
"""Functions to compare with float64 mathematics."""

ORACLES: tuple[OracleCase, ...] = (
    OracleCase(
        name="Softmax int8: ONNX Runtime QLinearSoftmax",
        compare=errors_softmax.compare_with_onnxruntime,
    ),
    OracleCase(
        name="Requantize to int8, no ties possible: ONNX Runtime QLinearMatMul",
        compare=oracle_requantize.compare,
    ),
    OracleCase(
        name="Requantize to int8, many ties (theirs to even): ONNX Runtime QLinearMatMul",
        compare=partial(oracle_requantize.compare, ties=True),
    ),
    OracleCase(name="Requantize: RESCALE of tosa-tools", compare=oracle_tosa.compare),
)
"""Comparisons with others' software."""
