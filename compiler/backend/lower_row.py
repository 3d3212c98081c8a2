"""SOFTMAX, LAYERNORM and ROWSCALE instructions."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from intformer.compiler.backend.emit import Draft, Lowering
from intformer.compiler.backend.image import parameter_bytes
from intformer.compiler.backend.layout import row_runs, row_words, rows_of
from intformer.compiler.backend.tiling import piece_rows
from intformer.compiler.integer_graph import LayerNorm, RowScale, Softmax
from intformer.errors import DoesNotFit, UserError
from intformer.isa import Mem, Op

__all__ = ["lower_layernorm", "lower_row_scale", "lower_softmax"]

Matrix = NDArray[np.int64]
LENGTH_MAX = 2048
"""Softmax lengths above the longest row mean the same."""
ROW_LATENCY = 80


def _check_row(low: Lowering, name: str, n: int, parameter: str = "row_max") -> None:
    most = getattr(low.config, parameter)
    if n > most:
        raise DoesNotFit(
            f"{name}: the row unit takes rows of {most} elements, this one has {n}; "
            f"raise {parameter} to at least {n}"
        )


def _estimate(low: Lowering, rows: int, n: int, *, masked: bool = False) -> int:
    """Cycles: a mask doubles the reading, and the first row passes the stages of the unit."""
    return (rows * (1 + masked) + 2) * row_words(n, low.config.lanes) + ROW_LATENCY


def lower_softmax(low: Lowering, node: Softmax) -> None:
    """One SOFTMAX per run of rows; causal runs end with the second-last axis."""
    x, *mask = node.inputs
    tensor = low.graph.tensors[x]
    n = tensor.shape[-1]
    _check_row(low, node.name, n)
    if tensor.dtype != "int8":
        raise UserError(f"{node.name}: softmax operand {x!r} must be int8, not {tensor.dtype}")
    operands = {"src": (x, rows_of(low.storage.positions(x)))}
    operands["dst"] = (node.output, rows_of(low.storage.positions(node.output)))
    for name in mask:
        full = np.broadcast_to(low.storage.positions(name), tensor.shape)
        operands["mask"] = (name, rows_of(np.ascontiguousarray(full)))
    table = np.asarray(node.exp_table).astype("<u4").tobytes()
    slot = low.load_table(Mem.EXP, table, node.name)
    m = tensor.shape[-2] if len(tensor.shape) > 1 else 1
    rows = len(operands["src"][1])
    if node.causal:
        length = np.clip(np.arange(rows) % m + 1 + node.causal_offset, 0, LENGTH_MAX)
    else:
        length = np.full(rows, n)
    height = low.config.rows
    starts = [matrix[:, 0] for _, matrix in operands.values()]
    for run in row_runs([*starts, length], [height] * len(starts) + [1], breaks=m):
        step = run.strides[-1]
        fields = {
            "rows": run.count,
            "n": n,
            "table": slot,
            "len0": int(length[run.first]),
            "len_step": step,
            "mask_en": len(mask),
        }
        reads = [("exp", np.array([slot]))]
        for (role, (name, matrix)), stride in zip(operands.items(), run.strides[:-1], strict=True):
            fields |= {role: int(matrix[run.first, 0]) // height, f"{role}_stride": stride}
            if role != "dst":
                reads.append(low.words(name, matrix[run.first : run.end]))
        low.add(
            Draft(
                Op.SOFTMAX,
                fields,
                node.name,
                node.output,
                reads=reads,
                writes=[low.words(node.output, operands["dst"][1][run.first : run.end])],
                cycles=_estimate(low, run.count, n, masked=bool(mask)),
            )
        )


def lower_layernorm(low: Lowering, node: LayerNorm) -> None:
    """One LAYERNORM per run of rows."""
    (x,) = node.inputs
    tensor = low.graph.tensors[x]
    n = tensor.shape[-1]
    _check_row(low, node.name, n)
    if tensor.dtype != "int16":
        raise UserError(f"{node.name}: LayerNorm operand {x!r} must be int16, not {tensor.dtype}")
    arrays = [
        np.broadcast_to(np.asarray(a).reshape(-1), n) for a in (node.beta, node.gamma, node.shift)
    ]
    data = parameter_bytes(*arrays, segments=[(0, n)], lanes=low.config.lanes)
    param = low.load_params(data, node.name)
    groups = np.arange(param, param + row_words(n, low.config.lanes))
    src, dst = (rows_of(low.storage.positions(t)) for t in (x, node.output))
    widths = [low.storage.width(x), low.storage.width(node.output)]
    limit = piece_rows(len(src), n, low.config)
    for run in row_runs([src[:, 0], dst[:, 0]], widths, limit=limit):
        fields = {
            "rows": run.count,
            "n": n,
            "src": int(src[run.first, 0]) // widths[0],
            "src_stride": run.strides[0],
            "dst_mem": int(low.storage.mem(node.output)),
            "dst": int(dst[run.first, 0]) // widths[1],
            "dst_stride": run.strides[1],
            "param": param,
            "eps": int(node.eps),
            "lo": int(node.lo),
            "hi": int(node.hi),
            "zero_point": int(node.zero_point),
        }
        low.add(
            Draft(
                Op.LAYERNORM,
                fields,
                node.name,
                node.output,
                reads=[low.words(x, src[run.first : run.end]), ("param", groups)],
                writes=[low.words(node.output, dst[run.first : run.end])],
                cycles=_estimate(low, run.count, n),
            )
        )


def lower_row_scale(low: Lowering, node: RowScale) -> None:
    """One ROWSCALE per run of rows."""
    (x,) = node.inputs
    tensors = [low.graph.tensors[name] for name in (x, node.output, node.factor)]
    n = tensors[0].shape[-1]
    if not low.config.row_scales:
        raise UserError(
            f"{node.name}: rows of {n} elements with scales of their own, but the core "
            f"{low.config.name!r} cannot find them; set row_scales to at least {max(n, 8)}"
        )
    _check_row(low, node.name, n, "row_scales")
    if [t.dtype for t in tensors] != ["int16", "int8", "int16"]:
        raise UserError(
            f"{node.name}: rows of {tensors[0].dtype} to {tensors[1].dtype} with factors of "
            f"{tensors[2].dtype}; only int16 to int8 with factors of int16 can be had"
        )
    src, dst, factor = (rows_of(low.storage.positions(t.name)) for t in tensors)
    widths = [low.storage.width(t.name) for t in tensors]
    limit = piece_rows(len(src), n, low.config)
    for run in row_runs([src[:, 0], dst[:, 0], factor[:, 0]], widths, limit=limit):
        fields = {"rows": run.count, "n": n}
        for role, matrix, width, stride in zip(
            ("src", "dst", "factor"), (src, dst, factor), widths, run.strides, strict=True
        ):
            fields |= {role: int(matrix[run.first, 0]) // width, f"{role}_stride": stride}
        rows = slice(run.first, run.end)
        low.add(
            Draft(
                Op.ROWSCALE,
                fields,
                node.name,
                node.output,
                node.factor,
                reads=[low.words(x, src[rows])],
                writes=[low.words(node.output, dst[rows]), low.words(node.factor, factor[rows])],
                cycles=_estimate(low, run.count, n),
            )
        )
